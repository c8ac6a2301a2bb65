//! What a model needs to compute, and gives up while it sleeps.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use autoglm_core::{Embeds, Keep, KvFormat, Run, Workers};
use autoglm_text::Decoder;

use crate::ears::Ears;
use crate::eyes::Eyes;
use crate::past::Past;
use crate::{Part, Result};

/// Weights, worker threads and the pool of keys and values: everything that is large. Whoever computes holds a lease on it
/// from the model's gate.
#[derive(Debug)]
pub(crate) struct Awake {
    pub(crate) workers: Workers,
    pub(crate) decode_threads: usize,
    /// Threads that a conductor allows, 0 for all.
    pub(crate) allowed: AtomicUsize,
    pub(crate) attention: KvFormat,
    /// Whether activations may be rounded to the halves of the weights.
    pub(crate) rounds: bool,
    pub(crate) decoder: Decoder,
    /// What the model's sessions computed.
    pub(crate) past: Past,
    pub(crate) eyes: Eyes,
    pub(crate) ears: Ears,
}

/// Holds a model's weights in memory.
pub(crate) type Lease = crate::gate::Lease<Awake>;

impl Awake {
    /// Positions of a context.
    fn context(&self) -> usize {
        self.decoder.config().max_position_embeddings
    }

    pub(crate) fn run(&self) -> Run<'_> {
        let run = Run::new(&self.workers).with_attention(self.attention).with_rounding(self.rounds);
        // Bits do not depend on how many there are, so that it may change between any two steps.
        match self.allowed.load(Ordering::Relaxed) {
            0 => run,
            allowed => run.with_threads(allowed),
        }
    }

    /// What a step of `rows` rows runs on.
    pub(crate) fn run_for(&self, rows: usize) -> Run<'_> {
        let run = self.run();
        if rows == 1 { run.with_threads(self.decode_threads.min(run.threads())) } else { run }
    }

    /// The rows of a picture that stay, for the tenant of this salt, beside `taken` others, and how long they took.
    pub(crate) fn see(&self, salt: [u8; 32], picture: &Part, keep: Keep, taken: usize) -> Result<(Embeds, Duration)> {
        let start = Instant::now();
        let embeds = self.eyes.see(&self.run(), salt, picture, keep, taken, self.context())?;
        Ok((embeds, start.elapsed()))
    }

    /// The rows of a sound, for the tenant of this salt, beside `taken` others, and how long they took.
    pub(crate) fn hear(&self, salt: [u8; 32], sound: &Part, taken: usize) -> Result<(Embeds, Duration)> {
        let start = Instant::now();
        let embeds = self.ears.hear(&self.run(), salt, sound, taken, self.context())?;
        Ok((embeds, start.elapsed()))
    }
}

/// As many workers as asked for, or as the machine has cores.
pub(crate) fn start_workers(threads: Option<usize>) -> Result<Workers> {
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    Ok(Workers::new(threads)?)
}
