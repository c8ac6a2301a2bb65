//! `autoglm bench --sleep`: what a checkpoint leaves in memory while it sleeps, and how soon it answers again.

use std::path::Path;
use std::time::{Duration, Instant};

use autoglm::{Generate, Model, OpenOptions, Part, Thinking};
use serde_json::json;

use crate::bench::median;
use crate::error::Error;
use crate::stats::resident_bytes;

/// What is asked each time: a short command.
const QUESTION: &str = "open the camera";

/// Puts the checkpoint in `dir` to sleep and wakes it, `repeat` times, each beside an opening of the same files from the
/// page cache. → one JSON object.
pub(crate) fn measure(dir: &Path, options: &OpenOptions, repeat: u16) -> Result<String, Error> {
    let before = resident_bytes();
    let model = Model::open_with(dir, options)?;
    // Reads what an answer needs, so that the first of the openings is as warm as the others.
    let cold = first_token(&model)?;
    // Memory first, and alone: what other models leave behind in the heap is not this one's.
    let (mut awake, mut asleep, mut sleeps) = (None, None, Vec::new());
    for _ in 0..repeat {
        awake = awake.max(resident_bytes());
        sleeps.push(sleep(&model)?);
        asleep = asleep.max(resident_bytes());
        first_token(&model)?;
    }
    let woken = resident_bytes();
    // In turn, so that a busy machine is busy for both.
    let (mut opens, mut wakes) = (Vec::new(), Vec::new());
    for _ in 0..repeat {
        sleep(&model)?;
        let start = Instant::now();
        let other = Model::open_with(dir, options)?;
        first_token(&other)?;
        opens.push(start.elapsed());
        drop(other);
        wakes.push(first_token(&model)?);
    }
    let weights = model.weights_bytes();
    let above = |bytes: Option<u64>| Some(bytes?.saturating_sub(before?));
    let (open, wake) = (median(opens).as_secs_f64(), median(wakes).as_secs_f64());
    let object = json!({
        "weights_bytes": weights,
        "rss_before_bytes": before,
        "rss_awake_bytes": awake,
        "rss_asleep_bytes": asleep,
        "rss_woken_bytes": woken,
        "asleep_of_weights": above(asleep).map(|left| left as f64 / weights as f64),
        "sleep_s": median(sleeps).as_secs_f64(),
        "first_s": cold.as_secs_f64(),
        "wake_to_first_token_s": wake,
        "open_to_first_token_s": open,
        "wake_of_open": wake / open,
        "repeat": repeat,
        "isa": model.isa(),
        "threads": model.threads(),
    });
    Ok(format!("{object}\n"))
}

/// How long going to sleep takes.
fn sleep(model: &Model) -> Result<Duration, Error> {
    let start = Instant::now();
    if model.sleep()? { Ok(start.elapsed()) } else { Err(Error::Awake) }
}

/// How long the first token of an answer takes in a new conversation.
fn first_token(model: &Model) -> Result<Duration, Error> {
    let start = Instant::now();
    let mut session = model.session();
    session.push(Part::text(QUESTION))?;
    // Tokens of random weights need not be whole characters, so pieces are not waited for.
    for piece in session.reply(Generate::default().thinking(Thinking::Free).max_new_tokens(1))? {
        piece?;
    }
    Ok(start.elapsed())
}
