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
    /// Rows of another width than the sums are of.
    #[error("rows of {got} numbers where {expected} were expected")]
    Rows {
        /// Numbers in a row.
        expected: usize,
        /// Numbers that there were.
        got: usize,
    },
    /// No row was seen.
    #[error("there is nothing to go by: no row went through the network")]
    NothingSeen,
    /// A number that is none went through the network, or came of its weights.
    #[error("an activation, its weight or what was made of them is {value}")]
    NotFinite {
        /// What it was.
        value: f32,
    },
    /// The sums are not those of any rows, or too small for any numbers to tell apart.
    #[error("the sums of activations cannot be inverted: neuron {neuron} is not told from the others")]
    Singular {
        /// The first one.
        neuron: usize,
    },
    /// The system has not the memory for the sums.
    #[error("no memory for the {bytes} bytes that the sums of {width} neurons take")]
    Memory {
        /// Neurons.
        width: usize,
        /// Bytes asked for.
        bytes: usize,
        /// The system's reason.
        source: std::collections::TryReserveError,
    },
}
