//! The threads a forward pass may use, handed down instead of found.

use autoglm_kernels::Isa;

use crate::{Error, KvFormat, Result};

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
    isa: Isa,
    attention: KvFormat,
}

impl<'a> Run<'a> {
    /// A run on these workers, with the best instructions of this processor and exact attention.
    #[must_use]
    pub fn new(workers: &'a Workers) -> Self {
        Self { workers, isa: Isa::best(), attention: KvFormat::F32 }
    }

    /// The same run on another instruction set. Results keep their bits.
    #[must_use]
    pub fn with_isa(self, isa: Isa) -> Self {
        Self { isa, ..self }
    }

    /// The same run with encoders attending in another format. A cache has a format of its own.
    #[must_use]
    pub fn with_attention(self, attention: KvFormat) -> Self {
        Self { attention, ..self }
    }

    /// The instruction set that kernels run on.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The format that encoders attend in.
    #[must_use]
    pub fn attention(&self) -> KvFormat {
        self.attention
    }

    /// Runs `work` inside the pool: rayon's iterators in it use these workers and no others.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.workers.pool.install(work)
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
}
