//! The threads a forward pass may use, handed down instead of found.

use rayon::prelude::*;

use crate::{Error, Result};

/// A pool of worker threads. The facade's model handle owns one; nothing below it starts threads.
#[derive(Debug)]
pub struct Workers {
    pool: rayon::ThreadPool,
}

impl Workers {
    /// Starts `threads` workers.
    ///
    /// # Errors
    /// [`Error::Workers`] when `threads` is zero or the system refuses them.
    pub fn new(threads: usize) -> Result<Self> {
        if threads == 0 {
            return Err(Error::Workers { threads, source: None });
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("autoglm-{i}"))
            .build()
            .map_err(|source| Error::Workers { threads, source: Some(source) })?;
        Ok(Self { pool })
    }

    /// Number of threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }
}

/// What a forward pass runs on.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    workers: &'a Workers,
}

impl<'a> Run<'a> {
    /// A run on these workers.
    #[must_use]
    pub fn new(workers: &'a Workers) -> Self {
        Self { workers }
    }

    /// Runs `work` inside the pool: rayon's iterators in it, and candle's matrix product, use these
    /// workers and no others.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.workers.pool.install(work)
    }

    /// Does `work` to each item, whichever worker is free next taking the next one, and returns when
    /// all are done. One item, or one worker, costs no handing over.
    pub fn for_each<T: Send>(&self, items: Vec<T>, work: impl Fn(T) + Sync + Send) {
        if items.len() <= 1 || self.threads() == 1 {
            items.into_iter().for_each(work);
        } else {
            self.install(|| items.into_par_iter().with_max_len(1).for_each(work));
        }
    }

    /// Number of threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.threads()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_workers_at_all_is_an_error() {
        assert!(matches!(Workers::new(0), Err(Error::Workers { threads: 0, .. })));
    }

    #[test]
    fn work_runs_inside_the_pool_it_was_given() {
        let workers = Workers::new(3).unwrap();
        assert_eq!(Run::new(&workers).install(rayon::current_num_threads), 3);
    }

    #[test]
    fn each_item_is_worked_on_once() {
        for threads in [1, 3] {
            let workers = Workers::new(threads).unwrap();
            let mut done = vec![0; 100];
            Run::new(&workers).for_each(done.iter_mut().enumerate().collect(), |(i, done)| *done += i);
            assert!(done.iter().enumerate().all(|(i, done)| i == *done));
        }
    }
}
