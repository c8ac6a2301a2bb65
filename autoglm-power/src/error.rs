//! What can go wrong around readings, levers and the device model, as facts.

use std::path::PathBuf;

/// Shorthand for a result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong around readings, levers and the device model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that is there but cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file that cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// Which one.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file with something else in it than it should have.
    #[error("{}: {got:?} {why}", .path.display())]
    Content {
        /// Which one.
        path: PathBuf,
        /// The beginning of what it holds.
        got: String,
        /// What is wrong with that.
        why: &'static str,
    },
    /// A device profile with something in it that no device has.
    #[cfg(feature = "model")]
    #[error("device {name}: {why}")]
    Profile {
        /// Which one.
        name: String,
        /// What is wrong, with the key.
        why: String,
    },
    /// A trace with something in it that cannot happen.
    #[cfg(feature = "model")]
    #[error("trace {name}, line {line}: {why}")]
    Trace {
        /// Which one.
        name: String,
        /// Which line, from 1.
        line: u64,
        /// What is wrong.
        why: String,
    },
    /// Another process that lives has files of the kernel changed.
    #[error("{} is held by another process", .path.display())]
    Busy {
        /// The file by whose lock that shows.
        path: PathBuf,
    },
    /// A journal of changed files that cannot be relied on. Nothing in it is written anywhere, and nothing is changed
    /// as long as it is there: what the files held before is known to nobody else.
    #[error("line {line} of the journal {}, {got:?}, {why}; it has to be removed by hand", .path.display())]
    Journal {
        /// The journal.
        path: PathBuf,
        /// Which line, counted from 1.
        line: usize,
        /// The beginning of the line.
        got: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A value that is not written to a file of the kernel.
    #[error("{value:?} is not written to {}: {why}", .path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// The value.
        value: String,
        /// Why not.
        why: &'static str,
    },
    /// Signals that cannot be listened to.
    #[error("cannot listen to the signals that end a process")]
    Signals {
        /// The system's reason.
        source: std::io::Error,
    },
    /// A pace that nobody can keep.
    #[error("a pace of {got} is outside of {lowest} to {highest}")]
    Pace {
        /// The pace.
        got: f64,
        /// The slowest there is.
        lowest: f64,
        /// The fastest there is.
        highest: f64,
    },
}
