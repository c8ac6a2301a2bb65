//! Who holds how many bytes, and what is free to be used again.

use autoglm_kernels::attention::Line;

use crate::sync::{Mutex, lock};

/// Buffers that are kept when they are given back, so that a new token need not ask the system for
/// memory; the others are returned to it at once.
const SPARE: usize = 4;

/// Counts bytes against a budget. Spare buffers count as well, so the budget is what the process holds.
#[derive(Debug)]
pub(crate) struct Ledger {
    budget: u64,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    /// Bytes of buffers that are out.
    used: u64,
    /// The most there ever were.
    peak: u64,
    spare: Vec<Vec<Line>>,
}

impl Books {
    fn held(&self) -> u64 {
        self.used + self.spare.iter().map(|lines| bytes(lines.len())).sum::<u64>()
    }
}

fn bytes(lines: usize) -> u64 {
    (lines * size_of::<Line>()) as u64
}

impl Ledger {
    pub(crate) fn new(budget: u64) -> Self {
        Self { budget, books: Mutex::new(Books::default()) }
    }

    pub(crate) fn budget(&self) -> u64 {
        self.budget
    }

    /// Bytes that are out.
    pub(crate) fn used(&self) -> u64 {
        lock(&self.books).used
    }

    /// The most bytes that were ever held, spare ones included.
    pub(crate) fn peak(&self) -> u64 {
        lock(&self.books).peak
    }

    /// `lines` lines of zeros: what a buffer held for somebody else is gone. None where they would not
    /// fit the budget.
    ///
    /// # Errors
    /// [`autoglm_core::Error::Memory`] when the system has not the memory.
    pub(crate) fn take(&self, lines: usize) -> autoglm_core::Result<Option<Vec<Line>>> {
        let mut books = lock(&self.books);
        if let Some(at) = books.spare.iter().position(|spare| spare.len() == lines) {
            let mut buffer = books.spare.swap_remove(at);
            books.used += bytes(lines);
            drop(books);
            buffer.fill(Line::ZERO);
            return Ok(Some(buffer));
        }
        if books.used.saturating_add(bytes(lines)) > self.budget {
            return Ok(None);
        }
        // Spare buffers of another size make room.
        while books.held().saturating_add(bytes(lines)) > self.budget {
            books.spare.pop();
        }
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(lines).map_err(|source| autoglm_core::Error::Memory {
            name: "keys and values".into(),
            bytes: lines.saturating_mul(size_of::<Line>()),
            source,
        })?;
        books.used += bytes(lines);
        books.peak = books.peak.max(books.held());
        drop(books);
        buffer.resize(lines, Line::ZERO);
        Ok(Some(buffer))
    }

    /// Takes a buffer back.
    pub(crate) fn give(&self, buffer: Vec<Line>) {
        let mut books = lock(&self.books);
        books.used -= bytes(buffer.len());
        if books.spare.len() < SPARE {
            books.spare.push(buffer);
        }
    }
}
