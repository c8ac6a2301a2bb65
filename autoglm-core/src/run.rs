//! What a forward pass runs on, handed down instead of found.

use autoglm_kernels::Isa;

use crate::{KvFormat, Workers};

/// The threads and the instruction set of a forward pass.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    workers: &'a Workers,
    threads: usize,
    isa: Isa,
    attention: KvFormat,
    rounds: bool,
}

impl<'a> Run<'a> {
    /// A run on all of these workers, with the processor's best instructions and exact attention.
    #[must_use]
    pub fn new(workers: &'a Workers) -> Self {
        Self { workers, threads: workers.threads(), isa: Isa::best(), attention: KvFormat::F32, rounds: false }
    }

    /// The same run on at most `threads` threads: reading weights for one row saturates memory with
    /// fewer threads than many rows need.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = threads.clamp(1, self.workers.threads());
        self
    }

    /// The same run with other instructions, which give the same results.
    #[must_use]
    pub fn with_isa(mut self, isa: Isa) -> Self {
        self.isa = isa;
        self
    }

    /// The same run with encoders attending in another format. A cache has a format of its own.
    #[must_use]
    pub fn with_attention(mut self, attention: KvFormat) -> Self {
        self.attention = attention;
        self
    }

    /// The same run in which activations may be rounded to bf16 before they meet bf16 weights, where the
    /// processor multiplies pairs of those: twice as fast, and less exact by what that rounding costs.
    #[must_use]
    pub fn with_rounding(mut self, rounds: bool) -> Self {
        self.rounds = rounds;
        self
    }

    /// Whether activations may be rounded to the format of the weights.
    #[must_use]
    pub fn rounds(&self) -> bool {
        self.rounds
    }

    /// The format that encoders attend in.
    #[must_use]
    pub fn attention(&self) -> KvFormat {
        self.attention
    }

    /// Number of threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The instruction set that kernels are to use.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Calls `work` with each index below `count`, in parallel, and returns when all calls have. A
    /// call from inside `work` runs on its own thread.
    pub fn each(&self, count: usize, work: impl Fn(usize) + Sync) {
        self.workers.each(self.threads, count, &work);
    }

    /// `len` zeros for an answer to be written over.
    #[must_use]
    pub fn zeros(&self, len: usize) -> Vec<f32> {
        crate::workers::zeros(self, len)
    }

    /// Calls `work` with each item, in parallel, and returns when all calls have.
    pub fn for_each<T: Send>(&self, items: Vec<T>, work: impl Fn(T) + Sync + Send) {
        let slots: Vec<std::sync::Mutex<Option<T>>> =
            items.into_iter().map(|item| std::sync::Mutex::new(Some(item))).collect();
        self.each(slots.len(), |i| {
            // Each index is claimed once, so the lock is free and the item is there.
            let item = slots[i].lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            item.into_iter().for_each(&work);
        });
    }

    /// As [`Run::for_each`], for work that can fail: an error of one of the items, where there is any.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn try_for_each<T: Send, E: Send>(
        &self,
        items: Vec<T>,
        work: impl Fn(T) -> std::result::Result<(), E> + Sync + Send,
    ) -> std::result::Result<(), E> {
        let failed = std::sync::Mutex::new(None);
        self.for_each(items, |item| {
            if let Err(error) = work(item) {
                failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(error);
            }
        });
        failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// Calls `work` with the index and the rows of each of several stretches of `data`, in parallel;
    /// a stretch has at least `least` rows of `width` numbers, so that handing it out pays.
    pub fn for_rows<T: Send>(
        &self,
        data: &mut [T],
        width: usize,
        least: usize,
        work: impl Fn(usize, &mut [T]) + Sync + Send,
    ) {
        if width == 0 || data.is_empty() {
            return;
        }
        let rows = data.len().div_ceil(width);
        // A few stretches per thread let a fast core take more of them.
        let stretch = rows.div_ceil(4 * self.threads).max(least).max(1);
        let items = data.chunks_mut(stretch * width).enumerate().map(|(i, rows)| (i * stretch, rows)).collect();
        self.for_each(items, |(first, rows)| work(first, rows));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_and_every_row_is_worked_on_once() {
        let workers = Workers::new(3).unwrap();
        let run = Run::new(&workers);
        let mut data = vec![0usize; 7 * 5];
        run.for_each(data.chunks_mut(4).collect(), |part| part.iter_mut().for_each(|x| *x += 1));
        run.for_rows(&mut data, 5, 1, |first, rows| {
            for (i, row) in rows.chunks_mut(5).enumerate() {
                row.iter_mut().for_each(|x| *x += first + i);
            }
        });
        for (i, x) in data.iter().enumerate() {
            assert_eq!(*x, 1 + i / 5);
        }
    }

    #[test]
    fn a_run_has_at_least_one_thread_and_no_more_than_there_are() {
        let workers = Workers::new(2).unwrap();
        assert_eq!(Run::new(&workers).with_threads(0).threads(), 1);
        assert_eq!(Run::new(&workers).with_threads(9).threads(), 2);
    }
}
