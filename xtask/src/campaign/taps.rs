//! Does the tiny checkpoint tap inside the named icon, on screens it never saw?
//!
//! The screens, the questions and transformers' greedy answers to them are in
//! `models/autoglm-tiny/eval`, made by `evaluate.py` from a seed that training never used; with
//! `--out` it makes as many more as one likes, elsewhere.

use std::path::{Path, PathBuf};

use autoglm::{Action, Answer, Generate, Keep, KvFormat, Model, OpenOptions, Part, Precision, Session, Thinking};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::prune::vocab::Map;

/// Screens that the tiny checkpoint never saw: taps inside the named icon, with thinking and without
///
/// More screens than the 100 committed ones come from
/// `python models/autoglm-tiny/evaluate.py --count 500 --seed 5000 --out DIR`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How weights are stored [default: as the checkpoint has them]
    #[arg(long, value_parser = precision)]
    precision: Option<Precision>,
    /// How keys and values are held [default: as the precision has it]
    #[arg(long, value_parser = kv)]
    kv: Option<KvFormat>,
    /// Another checkpoint of the same kind, such as a pruned one [default: models/autoglm-tiny]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// A directory with an `eval.json` and the screens it names [default: models/autoglm-tiny/eval]
    #[arg(long, value_name = "DIR")]
    screens: Option<PathBuf>,
    /// Shares of the pictures' rows that go into the prompt, as 1,0.75,0.5,0.25: a table of them instead, with the rows that
    /// differ and with as many that are spread evenly
    #[arg(long, value_name = "SHARES", value_delimiter = ',')]
    keep: Vec<f64>,
}

pub(crate) fn precision(name: &str) -> std::result::Result<Precision, String> {
    let names = || Precision::ALL.iter().map(|precision| precision.name()).collect::<Vec<_>>().join(", ");
    Precision::named(name).ok_or_else(|| format!("it is one of {}", names()))
}

fn kv(name: &str) -> std::result::Result<KvFormat, String> {
    match name {
        "f32" => Ok(KvFormat::F32),
        "bf16" => Ok(KvFormat::Bf16),
        "int8" => Ok(KvFormat::Int8),
        _ => Err("it is one of f32, bf16, int8".into()),
    }
}

/// The evaluation set and what transformers answered.
#[derive(Debug, Deserialize)]
pub(super) struct Set {
    seed: u64,
    pub(super) screens: Vec<Screen>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Screen {
    pub(super) file: PathBuf,
    pub(super) prompt: String,
    #[serde(rename = "box")]
    pub(super) icon: [f64; 4],
    think: Expected,
    no_think: Expected,
}

/// What transformers answered, greedily.
#[derive(Debug, Deserialize)]
pub(crate) struct Expected {
    ids: Vec<u32>,
    text: String,
}

impl Expected {
    /// Whether a reply is this one, token by token.
    pub(crate) fn is(&self, (ids, text): &(Vec<u32>, String)) -> bool {
        *ids == self.ids && *text == self.text
    }
}

pub(crate) const CHECKPOINT: &str = "models/autoglm-tiny";

/// How many of the answers were right, in one mode.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Score {
    pub(crate) screens: usize,
    /// Taps inside the named icon.
    pub(crate) hits: usize,
    /// Answers whose tokens are those of transformers, one by one.
    pub(crate) agree: usize,
}

/// Runs the first `count` of the screens in `folder` in one mode. `map` is that of a smaller vocabulary.
pub(crate) fn score(
    model: &Model,
    map: Option<&Map>,
    folder: &Path,
    thinking: Thinking,
    count: usize,
) -> Result<Score> {
    thinned(model, map, folder, thinking, (Keep::ALL, count))
}

/// As [`score`], with some of the pictures' rows.
fn thinned(
    model: &Model,
    map: Option<&Map>,
    folder: &Path,
    thinking: Thinking,
    (keep, count): (Keep, usize),
) -> Result<Score> {
    let set = read_set(&folder.join("eval.json"))?;
    let mut score = Score::default();
    for screen in set.screens.iter().take(count) {
        let path = folder.join(&screen.file);
        let picture = std::fs::read(&path).map_err(Error::file("read", &path))?;
        let mut session = model.session();
        session.keep(keep);
        session.push(Part::image(picture))?;
        session.push(Part::text(&screen.prompt))?;
        let mut answer = answer(session, thinking)?;
        if let Some(map) = map {
            answer.0.iter_mut().for_each(|id| *id = map.old(*id));
        }
        let expected = match thinking {
            Thinking::Free => &screen.think,
            Thinking::Skipped => &screen.no_think,
        };
        score.screens += 1;
        score.hits += usize::from(taps_inside(&answer.1, screen.icon));
        score.agree += usize::from(expected.is(&answer));
    }
    Ok(score)
}

/// The long form: every screen, both modes.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let checkpoint = root.join(CHECKPOINT);
    let folder = arguments.screens.clone().unwrap_or_else(|| checkpoint.join("eval"));
    let set = read_set(&folder.join("eval.json"))?;
    let options = OpenOptions::default().precision(arguments.precision).kv_format(arguments.kv);
    if let Some(share) = arguments.keep.iter().find(|share| Keep::share(**share).is_err()) {
        return Err(Error::Usage(format!("--keep {share}: a share is above 0 and at most 1")));
    }
    let path = arguments.model.as_ref().unwrap_or(&checkpoint);
    let (model, map) = (Model::open_with(path, &options)?, Map::of(path)?);
    let stored = arguments.precision.map_or("as stored", Precision::name);
    println!("autoglm-tiny ({stored}) on {} unseen screens (seed {}), greedy:", set.screens.len(), set.seed);
    if !arguments.keep.is_empty() {
        return shares(&model, map.as_ref(), &folder, &arguments.keep);
    }
    for (name, thinking) in [("with thinking", Thinking::Free), ("without", Thinking::Skipped)] {
        let Score { screens, hits, agree } = score(&model, map.as_ref(), &folder, thinking, usize::MAX)?;
        println!(
            "{name:>14}: {hits} of {screens} taps inside the icon, {agree} of {screens} answers equal to transformers'"
        );
    }
    Ok(())
}

/// A table of taps inside the icon, for shares of the pictures' rows.
fn shares(model: &Model, map: Option<&Map>, folder: &Path, shares: &[f64]) -> Result<()> {
    let rows = |share: &f64| Ok([Keep::share(*share)?, Keep::evenly(*share)?]);
    let rows = shares.iter().map(rows).collect::<std::result::Result<Vec<_>, autoglm_core::Error>>();
    println!("share   with thinking: differing, even   without: differing, even");
    for (share, [differing, even]) in shares.iter().zip(rows.map_err(autoglm::Error::from)?) {
        let hits = |thinking, keep| Ok::<_, Error>(thinned(model, map, folder, thinking, (keep, usize::MAX))?.hits);
        println!(
            "{share:5} {:25} {:6} {:20} {:6}",
            hits(Thinking::Free, differing)?,
            hits(Thinking::Free, even)?,
            hits(Thinking::Skipped, differing)?,
            hits(Thinking::Skipped, even)?
        );
    }
    Ok(())
}

/// What is asked on the first `count` of the screens in `folder`, and the screen.
pub(crate) fn questions(folder: &Path, count: usize) -> Result<Vec<(String, PathBuf)>> {
    let set = read_set(&folder.join("eval.json"))?;
    Ok(set.screens.into_iter().take(count).map(|screen| (screen.prompt, folder.join(screen.file))).collect())
}

pub(super) fn read_set(path: &Path) -> Result<Set> {
    let text = std::fs::read(path).map_err(Error::file("read", path))?;
    serde_json::from_slice(&text).map_err(|source| Error::Json { path: path.to_owned(), source })
}

/// The greedy reply to what was pushed: its tokens and its text.
pub(crate) fn answer(mut session: Session, thinking: Thinking) -> Result<(Vec<u32>, String)> {
    let mut reply = session.reply(Generate::default().thinking(thinking).max_new_tokens(60))?;
    let mut text = String::new();
    for piece in reply.by_ref() {
        text += &piece?.text;
    }
    Ok((reply.tokens().iter().map(|id| id.0).collect(), text))
}

/// Whether the answer taps inside `icon`, in pixels of the 168 × 336 screen.
pub(crate) fn taps_inside(text: &str, [left, top, right, bottom]: [f64; 4]) -> bool {
    let Ok(Answer { action: Action::Tap { at, .. }, .. }) = Answer::parse(text) else {
        return false;
    };
    let (x, y) = (f64::from(at.x) / 1000.0 * 168.0, f64::from(at.y) / 1000.0 * 336.0);
    (left..=right).contains(&x) && (top..=bottom).contains(&y)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A twentieth of the set.
    const SCREENS: usize = 5;

    #[test]
    fn unseen_screens_are_tapped_inside_the_icon_as_transformers_does() {
        let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(CHECKPOINT);
        let model = Model::open_with(&checkpoint, &OpenOptions::default()).unwrap();
        for thinking in [Thinking::Free, Thinking::Skipped] {
            let score = score(&model, None, &checkpoint.join("eval"), thinking, SCREENS).unwrap();
            assert_eq!(score, Score { screens: SCREENS, hits: SCREENS, agree: SCREENS }, "{thinking:?}");
        }
    }

    #[test]
    fn half_of_the_rows_is_enough_where_the_background_goes_and_not_where_icons_may() {
        let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(CHECKPOINT);
        let model = Model::open_with(&checkpoint, &OpenOptions::default()).unwrap();
        let hits = |keep| {
            let score = thinned(&model, None, &checkpoint.join("eval"), Thinking::Skipped, (keep, SCREENS)).unwrap();
            score.hits
        };
        assert_eq!(hits(Keep::share(0.5).unwrap()), SCREENS);
        assert!(hits(Keep::evenly(0.5).unwrap()) < SCREENS);
    }

    #[test]
    fn a_tap_beside_the_icon_is_no_hit() {
        let icon = [50.0, 100.0, 80.0, 130.0];
        assert!(taps_inside("do(action=\"Tap\", element=[387,342])", icon));
        assert!(!taps_inside("do(action=\"Tap\", element=[600,342])", icon));
        assert!(!taps_inside("do(action=\"Back\")", icon));
        assert!(!taps_inside("no action", icon));
    }
}
