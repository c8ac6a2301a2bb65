//! What can go wrong when weights are quantised, as facts.

/// Shorthand for a result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong when weights are quantised.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A weight is an infinity or no number: the checkpoint is damaged.
    #[error("weight [{row}, {column}] of `{tensor}` is {value}")]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// Row of the weight, from 0.
        row: usize,
        /// Column of the weight, all dimensions but the first counted as one.
        column: usize,
        /// What is stored.
        value: f32,
    },
    /// Weights whose sums leave the range of f32.
    #[error("row {row} of `{tensor}` is too large to be rotated")]
    TooLarge {
        /// The tensor.
        tensor: String,
        /// Row of the weight, from 0.
        row: usize,
    },
    /// The system has not the memory for a packed matrix.
    #[error("no memory for the {bytes} bytes that `{tensor}` packs into")]
    Memory {
        /// The first of the tensors that are packed together.
        tensor: String,
        /// Bytes asked for.
        bytes: usize,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Members of one map have inputs of different widths.
    #[error("`{tensor}` has {got} columns, the maps beside it have {expected}")]
    Width {
        /// The odd one.
        tensor: String,
        /// Columns of the first.
        expected: usize,
        /// Its columns.
        got: usize,
    },
    /// A map of nothing.
    #[error("a linear map has at least one member")]
    NoMembers,
    /// Sizes that no packed matrix has.
    #[error("`{tensor}` cannot be packed")]
    Kernel {
        /// The first of the tensors that are packed together.
        tensor: String,
        /// What does not fit.
        source: autoglm_kernels::Error,
    },
}
