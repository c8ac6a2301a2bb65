//! What can be wrong with the operands of a kernel.

use std::fmt;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Operands that do not fit each other.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A slice has another length than the shapes say.
    Length {
        /// Which slice.
        what: &'static str,
        /// The length the shapes give.
        expected: usize,
        /// Its length.
        got: usize,
    },
    /// A size that the format cannot hold.
    Size {
        /// Which size.
        what: &'static str,
        /// Its value.
        got: usize,
        /// What would be allowed.
        why: &'static str,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { what, expected, got } => write!(f, "{what} has {got} elements, expected {expected}"),
            Self::Size { what, got, why } => write!(f, "{what} is {got}: {why}"),
        }
    }
}

impl std::error::Error for Error {}
