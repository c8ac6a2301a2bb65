//! What this machine could do at most: the limits that a measurement is held against.

use std::hint::black_box;
use std::time::Instant;

use autoglm_core::Run;
use autoglm_core::checkpoint::Buffer;
use autoglm_kernels::peak;

use crate::Result;
use crate::awake::start_workers;

/// Measured limits of this machine, on the threads of a model.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Machine {
    /// 10⁹ operations per second of the integer dot product in registers alone, a multiplication and
    /// an addition counting as two; nothing where the processor has no such instruction.
    pub dot_peak_gops: Option<f64>,
    /// 10⁹ bytes per second of a sequential read of more than any cache holds.
    pub read_gbs: f64,
}

/// Bytes of the buffer that is read.
const READ: usize = 1 << 30;

/// Rounds of the register-only loop: some 50 ms.
const ROUNDS: u64 = 10_000_000;

/// Tries of each. A limit is what was reached once, so the best counts.
const TRIES: usize = 5;

impl Machine {
    /// Measures on `threads` threads, or as many as the machine has. Takes a second, and a gigabyte of
    /// memory that is given back.
    ///
    /// # Errors
    /// [`crate::Error::Memory`] when there is no room, [`crate::Error::Core`] when there are no threads.
    pub fn measure(threads: Option<usize>) -> Result<Self> {
        let workers = start_workers(threads)?;
        let run = Run::new(&workers);
        Ok(Self { dot_peak_gops: dot_peak(&run), read_gbs: read(&run)? })
    }

    /// The better of two measurements, limit by limit.
    #[must_use]
    pub fn best(self, other: Self) -> Self {
        let dot_peak_gops = self.dot_peak_gops.into_iter().chain(other.dot_peak_gops).reduce(f64::max);
        Self { dot_peak_gops, read_gbs: self.read_gbs.max(other.read_gbs) }
    }
}

fn dot_peak(run: &Run<'_>) -> Option<f64> {
    let per_round = peak::dot_peak(run.isa(), 1)? as f64;
    let rates = (0..TRIES).map(|_| {
        let start = Instant::now();
        run.each(run.threads(), |_| {
            black_box(peak::dot_peak(run.isa(), ROUNDS));
        });
        per_round * ROUNDS as f64 * run.threads() as f64 / start.elapsed().as_secs_f64() / 1e9
    });
    rates.reduce(f64::max)
}

/// The best of some tries.
fn read(run: &Run<'_>) -> Result<f64> {
    let reading = Reading::new(run)?;
    Ok((0..TRIES).map(|_| reading.gbs(run)).fold(0.0, f64::max))
}

/// More memory than any cache holds, to be read from.
pub(crate) struct Reading {
    buffer: Buffer,
}

impl Reading {
    /// # Errors
    /// [`crate::Error::Memory`] when there is no room.
    pub(crate) fn new(run: &Run<'_>) -> Result<Self> {
        let mut buffer = Buffer::zeroed(READ).map_err(|source| crate::Error::Memory { bytes: READ, source })?;
        // A page that was never written to is not memory yet.
        run.for_rows(&mut buffer, 1 << 21, 1, |_, part| part.fill(1));
        Ok(Self { buffer })
    }

    /// Reads everything once, on all threads. → 10⁹ bytes per second.
    pub(crate) fn gbs(&self, run: &Run<'_>) -> f64 {
        let share = self.buffer.len() / run.threads();
        let start = Instant::now();
        run.each(run.threads(), |i| {
            black_box(peak::read(run.isa(), &self.buffer[i * share..][..share]));
        });
        (share * run.threads()) as f64 / start.elapsed().as_secs_f64() / 1e9
    }
}
