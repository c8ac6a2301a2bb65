//! Does the tiny checkpoint tap inside the icon that it is told of, by voices it never heard, on screens it never
//! saw? And does it need both?
//!
//! The spoken commands, the screens and transformers' greedy answers are in `models/autoglm-tiny/eval`, made by
//! `hear.py` from voices and speeds that training never used.

use std::path::{Path, PathBuf};

use autoglm::{Model, OpenOptions, Part, Precision, Thinking};
use serde::Deserialize;

use super::taps::{CHECKPOINT, Expected, answer, precision, taps_inside};
use crate::error::{Error, Result};

/// Spoken commands in voices that the tiny checkpoint never heard: taps inside the named icon, with both, with a
/// grey screen, and with silence
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How weights are stored [default: as the checkpoint has them]
    #[arg(long, value_parser = precision)]
    precision: Option<Precision>,
}

/// The evaluation set and what transformers answered.
#[derive(Debug, Deserialize)]
struct Set {
    questions: Vec<Question>,
}

#[derive(Debug, Deserialize)]
struct Question {
    file: PathBuf,
    voice: PathBuf,
    #[serde(rename = "box")]
    icon: [f64; 4],
    think: Expected,
    no_think: Expected,
}

/// What is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ablation {
    Nothing,
    /// A grey picture in place of the screen.
    Screen,
    /// Silence in place of the voice.
    Voice,
    /// Nothing but what rows of a window lose that ends where the voice does.
    Exactness,
}

/// How many of the answers were right.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Score {
    pub(crate) pairs: usize,
    /// Taps inside the named icon.
    pub(crate) hits: usize,
    /// Answers whose tokens are those of transformers, one by one.
    pub(crate) agree: usize,
}

/// Samples of silence, a second and a half: as long as most commands.
const SILENCE: usize = 24_000;

/// Width and height of a screen.
const SCREEN: (u32, u32) = (168, 336);

/// Runs the first `count` pairs.
pub(crate) fn score(model: &Model, root: &Path, thinking: Thinking, without: Ablation, count: usize) -> Result<Score> {
    let folder = root.join(CHECKPOINT).join("eval");
    let set: Set = serde_json::from_slice(&read(&folder.join("voice.json"))?)
        .map_err(|source| Error::Json { path: folder.join("voice.json"), source })?;
    let mut score = Score::default();
    for question in set.questions.iter().take(count) {
        let mut session = model.session();
        session.push(match without {
            Ablation::Screen => Part::pixels(SCREEN.0, SCREEN.1, vec![128; (SCREEN.0 * SCREEN.1 * 3) as usize]),
            _ => Part::image(read(&folder.join(&question.file))?),
        })?;
        let voice = read(&folder.join("voice").join(&question.voice))?;
        match without {
            Ablation::Voice => session.push(Part::samples(16_000, vec![0.0; SILENCE]))?,
            Ablation::Exactness => {
                let mut recording = model.record()?;
                recording.push_audio(&voice)?;
                session.say_approximately(recording)?;
            }
            Ablation::Nothing | Ablation::Screen => session.push(Part::audio(voice))?,
        }
        let answer = answer(session, thinking)?;
        let expected = match thinking {
            Thinking::Free => &question.think,
            Thinking::Skipped => &question.no_think,
        };
        score.pairs += 1;
        score.hits += usize::from(taps_inside(&answer.1, question.icon));
        score.agree += usize::from(expected.is(&answer));
    }
    Ok(score)
}

/// The long form: every pair, both modes, and both ablations.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let model = Model::open_with(root.join(CHECKPOINT), &OpenOptions::default().precision(arguments.precision))?;
    let stored = arguments.precision.map_or("as stored", Precision::name);
    println!("autoglm-tiny ({stored}), unseen screens and spoken commands in unseen voices, greedy:");
    let kinds = [
        ("both", Ablation::Nothing),
        ("approximate", Ablation::Exactness),
        ("grey screen", Ablation::Screen),
        ("silence", Ablation::Voice),
    ];
    for (name, without) in kinds {
        for (mode, thinking) in [("with thinking", Thinking::Free), ("without", Thinking::Skipped)] {
            let Score { pairs, hits, agree } = score(&model, root, thinking, without, usize::MAX)?;
            let equal = if without == Ablation::Nothing {
                format!(", {agree} answers equal to transformers'")
            } else {
                String::new()
            };
            println!("{name:>12} {mode:>14}: {hits} of {pairs} taps inside the icon{equal}");
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(Error::file("read", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A twentieth of the set.
    const PAIRS: usize = 10;

    #[test]
    fn a_spoken_command_taps_where_transformers_does_and_needs_both_screen_and_voice() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let model = Model::open_with(root.join(CHECKPOINT), &OpenOptions::default()).unwrap();
        let scored = |thinking, without| score(&model, &root, thinking, without, PAIRS).unwrap();
        for thinking in [Thinking::Free, Thinking::Skipped] {
            let both = scored(thinking, Ablation::Nothing);
            assert_eq!((both.pairs, both.agree), (PAIRS, PAIRS), "{thinking:?}: {both:?}");
            assert!(both.hits >= PAIRS - 1, "{thinking:?}: {both:?}");
        }
        for without in [Ablation::Screen, Ablation::Voice] {
            let blind = scored(Thinking::Skipped, without);
            assert!(blind.hits <= PAIRS / 2, "{without:?}: {blind:?}");
        }
    }
}
