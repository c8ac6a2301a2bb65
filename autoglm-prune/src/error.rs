//! What can go wrong when a checkpoint is made smaller, as facts.

/// Shorthand for a result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong when a checkpoint is made smaller.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A width that the network cannot be brought to.
    #[error("a feed-forward network of {width} neurons cannot have {to}")]
    Width {
        /// Neurons that there are.
        width: usize,
        /// Neurons that were asked for.
        to: usize,
    },
    /// Heads that an attention cannot be brought to.
    #[error("an attention of {heads} heads in {groups} groups cannot have {to}")]
    Heads {
        /// Heads that there are.
        heads: usize,
        /// Groups that share keys and values, each of equally many heads.
        groups: usize,
        /// Heads that were asked for.
        to: usize,
    },
    /// Rows of another width than the sums are of.
    #[error("rows of {got} numbers where {expected} were expected")]
    Rows {
        /// Numbers in a row.
        expected: usize,
        /// Numbers that there were.
        got: usize,
    },
    /// No row was seen.
    #[error("there is nothing to go by: no row went through the map")]
    NothingSeen,
    /// A number that is none went through the map, or came of its weights.
    #[error("an activation, its weight or what was made of them is {value}")]
    NotFinite {
        /// What it was.
        value: f32,
    },
    /// The sums are not those of any rows, or too small for any numbers to tell apart.
    #[error("the sums of activations cannot be inverted: activation {column} is not told from the others")]
    Singular {
        /// The first one.
        column: usize,
    },
    /// The system has not the memory for the sums.
    #[error("no memory for the {bytes} bytes that the sums of {width} activations take")]
    Memory {
        /// Activations in a row.
        width: usize,
        /// Bytes asked for.
        bytes: usize,
        /// The system's reason.
        source: std::collections::TryReserveError,
    },
}
