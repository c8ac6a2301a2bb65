//! Does the surgeon choose better neurons than the others, on the tiny trained checkpoint?

use std::collections::BTreeMap;
use std::path::Path;

use autoglm::{Model, OpenOptions, Thinking};
use autoglm_prune::Criterion;
use serde_json::{Value, json};

use super::taps;
use crate::error::{Error, Result};
use crate::prune;

/// The tiny checkpoint with 5, 10, 20 and 30 % fewer neurons, chosen by each criterion: taps, KL divergence, bytes, speed
///
/// Calibration lines are drawn from the set that ships, by as many seeds as are asked for; the screens were never seen.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Draws of calibration lines
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=20))]
    seeds: u64,
    /// Screens to tap on
    #[arg(long, value_name = "N", default_value_t = 100)]
    screens: usize,
}

/// Neurons of the tiny checkpoint, and those that stay: multiples of eight near 95, 90, 80 and 70 %.
const WIDTH: usize = 384;
const WIDTHS: [usize; 4] = [368, 344, 304, 272];

/// Calibration lines of a draw.
const LINES: u32 = 50;

/// What one narrowed checkpoint did.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) hits: usize,
    pub(crate) kl: f64,
    agreement: f64,
    bytes: u64,
    /// Decoding, as a multiple of the original's speed.
    speed: f64,
}

/// Narrows the tiny checkpoint and lets it tap, directly, on the first `screens` of those it never saw.
pub(crate) fn cell(root: &Path, to: usize, criterion: Criterion, seed: u64, screens: usize) -> Result<Cell> {
    let folder = tempfile::tempdir().map_err(Error::file("create a directory in", std::env::temp_dir()))?;
    let (eval, out) = (folder.path().join("held-out.jsonl"), folder.path().join("narrow"));
    let shown = root.join(taps::CHECKPOINT).join("eval");
    let lines = taps::questions(&shown, screens.min(40))?;
    let line = |(text, image): &(String, std::path::PathBuf)| format!("{}\n", json!({ "text": text, "image": image }));
    std::fs::write(&eval, lines.iter().map(line).collect::<String>()).map_err(Error::file("write", &eval))?;
    let arguments =
        prune::Arguments::narrower(root.join(taps::CHECKPOINT), out.clone(), to, criterion, (seed, LINES), eval);
    let report = prune::make(&arguments)?;
    let number = |key: &str| report["eval"].get(key).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let model = Model::open_with(&out, &OpenOptions::default())?;
    let taps = taps::score(&model, None, &shown, Thinking::Skipped, screens)?;
    Ok(Cell {
        hits: taps.hits,
        kl: number("kl"),
        agreement: number("greedy_agreement"),
        bytes: report["bytes_after"].as_u64().unwrap_or_default(),
        speed: number("decode_tok_s_after") / number("decode_tok_s_before"),
    })
}

/// The long form: every width, criterion and seed.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    println!("autoglm-tiny, {LINES} calibration lines, {} unseen screens, tapping at once:", arguments.screens);
    println!(
        "{:>5} {:>4} {:>10} {:>5} {:>9} {:>7} {:>9} {:>6}",
        "width", "seed", "criterion", "taps", "KL", "same", "bytes", "speed"
    );
    let (mut cells, mut ahead) = (0, [0, 0]);
    for to in WIDTHS {
        for seed in 0..arguments.seeds {
            let mut all = BTreeMap::new();
            for criterion in Criterion::ALL {
                let cell = cell(root, to, criterion, seed, arguments.screens)?;
                println!(
                    "{to:>5} {seed:>4} {:>10} {:>5} {:>9.5} {:>5.1} % {:>9} {:>6.2}",
                    criterion.name(),
                    cell.hits,
                    cell.kl,
                    100.0 * cell.agreement,
                    cell.bytes,
                    cell.speed,
                );
                all.insert(criterion.name(), cell);
            }
            let own = &all[Criterion::Obs.name()];
            cells += 1;
            ahead[0] += usize::from(all.values().all(|cell| cell.hits <= own.hits));
            ahead[1] += usize::from(all.values().all(|cell| cell.kl >= own.kl));
        }
    }
    println!("of {WIDTH} neurons; obs is best or tied in {} of {cells} cells by taps, in {} by KL", ahead[0], ahead[1]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn a_fifth_of_the_neurons_costs_no_tap_and_chance_costs_more() {
        let [own, chance] =
            [Criterion::Obs, Criterion::Random].map(|criterion| cell(workspace::root(), 304, criterion, 0, 5).unwrap());
        assert_eq!(own.hits, 5);
        assert!(own.kl < chance.kl, "{own:?} {chance:?}");
    }
}
