//! What can go wrong when weights are quantised, as facts.

use autoglm_core::checkpoint::Dtype;

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
    /// What inputs are to one another cannot be that.
    #[error("{numbers} numbers are no triangular factor for {width} inputs, with a positive diagonal")]
    Feedback {
        /// Inputs.
        width: usize,
        /// Numbers that there were.
        numbers: usize,
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
    /// A scale in a packed file is an infinity or no number: the file is damaged.
    #[error("number {index} of `{tensor}` is {value}")]
    Scale {
        /// The tensor.
        tensor: String,
        /// Which one, from 0.
        index: usize,
        /// What is stored.
        value: f32,
    },
    /// A tensor of a packed file starts where no packed file has it.
    #[error("`{tensor}` starts at byte {offset} of its file, which is no multiple of {align}")]
    Misaligned {
        /// The tensor.
        tensor: String,
        /// Its first byte.
        offset: usize,
        /// What it should be a multiple of.
        align: usize,
    },
    /// A tensor of a packed file is stored in another format.
    #[error("`{tensor}` is stored as {got}, not as {expected}")]
    Stored {
        /// The tensor.
        tensor: String,
        /// What it should be.
        expected: Dtype,
        /// What it is.
        got: Dtype,
    },
    /// A packed file has maps together that a model asks for apart, or the other way round.
    #[error("the file packs {} together, and the model asks for {}", .stored.join(" + "), .asked.join(" + "))]
    Together {
        /// The maps that lie together.
        stored: Vec<String>,
        /// The maps that share an input in the model.
        asked: Vec<String>,
    },
    /// A width that a format without padding cannot have.
    #[error("`{tensor}` has {width} columns, which groups of {group} do not divide")]
    Ragged {
        /// The tensor.
        tensor: String,
        /// Its columns.
        width: usize,
        /// Columns that share a step.
        group: usize,
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
