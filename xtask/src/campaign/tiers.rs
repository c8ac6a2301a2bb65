//! What a tier or a limit of thought costs and saves, on screens that the tiny checkpoint never saw.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use autoglm::{Generate, Model, OpenOptions, Part, Precision, Tier};

use super::taps::{CHECKPOINT, precision, read_set, taps_inside};
use crate::error::{Error, Result};

/// Tokens, seconds and taps inside the icon for each tier, for limits of thought, and for answers cut short
///
/// The proposal of a fast tier of one attention head per group and few steps is its last lines on a checkpoint that
/// `cargo xtask prune --heads` made (`--model`).
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How weights are stored [default: as the checkpoint has them]
    #[arg(long, value_parser = precision)]
    precision: Option<Precision>,
    /// Another checkpoint of the same kind, such as a pruned one [default: models/autoglm-tiny]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// A directory with an `eval.json` and the screens it names [default: models/autoglm-tiny/eval]
    #[arg(long, value_name = "DIR")]
    screens: Option<PathBuf>,
}

/// Tokens of a whole answer with its thought; none of the tiny checkpoint's takes as many.
const WHOLE: usize = 60;

/// One way to ask.
struct Way {
    name: String,
    /// What pictures get.
    shown: Tier,
    how: Generate,
}

impl Way {
    fn new(name: impl Into<String>, shown: Tier, how: Generate) -> Self {
        Self { name: name.into(), shown, how }
    }

    /// As many as there are worth comparing.
    fn all() -> Vec<Self> {
        let how = || Generate::default().max_new_tokens(WHOLE);
        let mut all = vec![Self::new("deep", Tier::Deep, how())];
        all.extend(
            [16, 8, 4, 2].map(|n| Self::new(format!("deep, {n} to think"), Tier::Deep, how().thinking_budget(n))),
        );
        all.push(Self::new("fast, whole picture", Tier::Deep, how().tier(Tier::Fast)));
        all.push(Self::new("fast", Tier::Fast, how()));
        let cut = |name: &str, tier, n| Self::new(format!("{name}, {n} steps"), tier, how().max_new_tokens(n));
        all.extend([32, 24, 16].map(|n| cut("deep", Tier::Deep, n)));
        all.extend([16, 12, 8].map(|n| cut("fast", Tier::Fast, n)));
        all
    }
}

/// What a way to ask took.
#[derive(Debug, Default)]
struct Taken {
    screens: usize,
    hits: usize,
    prompt_rows: usize,
    /// Steps of the decoder: forced tokens take none.
    steps: usize,
    time: Duration,
}

/// Asks on the first `count` of the screens in `folder`.
fn ask(model: &Model, folder: &Path, way: &Way, count: usize) -> Result<Taken> {
    let set = read_set(&folder.join("eval.json"))?;
    let mut taken = Taken::default();
    for screen in set.screens.iter().take(count) {
        let path = folder.join(&screen.file);
        let picture = std::fs::read(&path).map_err(Error::file("read", &path))?;
        let start = Instant::now();
        let mut session = model.session();
        session.tier(way.shown);
        session.push(Part::image(picture))?;
        session.push(Part::text(&screen.prompt))?;
        let mut reply = session.reply(way.how.clone())?;
        let text = reply.by_ref().map(|piece| piece.map(|piece| piece.text)).collect::<autoglm::Result<String>>()?;
        let stats = reply.stats();
        taken.time += start.elapsed();
        taken.screens += 1;
        taken.hits += usize::from(taps_inside(&text, screen.icon));
        taken.prompt_rows += stats.prompt_tokens;
        taken.steps += stats.decode_tokens - stats.forced_tokens;
    }
    Ok(taken)
}

/// The long form: every screen, every way.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let checkpoint = root.join(CHECKPOINT);
    let folder = arguments.screens.clone().unwrap_or_else(|| checkpoint.join("eval"));
    let options = OpenOptions::default().precision(arguments.precision);
    let path = arguments.model.as_ref().unwrap_or(&checkpoint);
    println!("way                    inside the icon   prompt rows   steps   ms");
    let ways = Way::all();
    // Each on a model of its own, which remembers nothing of what others computed.
    for way in &ways {
        let model = Model::open_with(path, &options)?;
        let Taken { screens, hits, prompt_rows, steps, time } = ask(&model, &folder, way, usize::MAX)?;
        let mean = |sum: f64| sum / screens.max(1) as f64;
        println!(
            "{:22} {hits:8} of {screens:3} {:13.1} {:7.1} {:4.0}",
            way.name,
            mean(prompt_rows as f64),
            mean(steps as f64),
            mean(time.as_secs_f64() * 1e3)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A twentieth of the set.
    const SCREENS: usize = 5;

    #[test]
    fn the_fast_tier_taps_as_well_with_fewer_rows_and_steps_and_cut_thoughts_and_answers_do_not() {
        let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(CHECKPOINT);
        let model = Model::open_with(&checkpoint, &OpenOptions::default()).unwrap();
        let ways = Way::all();
        let taken = |name: &str| {
            let way = ways.iter().find(|way| way.name == name).unwrap();
            ask(&model, &checkpoint.join("eval"), way, SCREENS).unwrap()
        };
        let [deep, limited, fast] = ["deep", "deep, 8 to think", "fast"].map(taken);
        assert_eq!([deep.hits, limited.hits, fast.hits], [SCREENS; 3]);
        assert!(fast.prompt_rows < deep.prompt_rows && fast.steps < deep.steps);
        for cut in ["deep, 2 to think", "fast, 8 steps"] {
            assert_eq!(taken(cut).hits, 0, "{cut}");
        }
    }
}
