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
}
