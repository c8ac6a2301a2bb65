//! What can go wrong when parts are joined, as facts.

use autoglm_core::Modality;

/// Shorthand for a result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong when parts are joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A placeholder stands in the ids and no media of its kind were given at all.
    #[error("token {index} stands for a {modality}, but the prompt brings none")]
    LonePlaceholder {
        /// What it stands for.
        modality: Modality,
        /// Index of the token among the appended ids.
        index: usize,
    },
    /// The ids hold another number of placeholders than there are media.
    #[error("the prompt has {placeholders} placeholders of the kind `{modality}` for {media} media")]
    CountMismatch {
        /// What they stand for.
        modality: Modality,
        /// Placeholders among the appended ids.
        placeholders: usize,
        /// Media given.
        media: usize,
    },
    /// Media stand in another order than their placeholders.
    #[error("medium {index} is a {got} where the prompt has a placeholder for a {expected}")]
    Order {
        /// Which medium, from 0.
        index: usize,
        /// What the placeholder stands for.
        expected: Modality,
        /// What was given.
        got: Modality,
    },
    /// The rows would not fit into the context.
    #[error("the prompt needs {rows} rows, the context holds {limit}")]
    Oversize {
        /// Rows after appending.
        rows: usize,
        /// Rows the context holds.
        limit: usize,
    },
    /// Media rows are not as wide as the decoder's.
    #[error("media rows are {got} wide, the decoder's are {expected}")]
    Width {
        /// Width of the embedding table.
        expected: usize,
        /// Width of the media rows.
        got: usize,
    },
    /// A range of rows that the assembly does not have.
    #[error("rows {start}..{end} of an assembly of {rows}")]
    Range {
        /// First row asked for.
        start: usize,
        /// One past the last row asked for.
        end: usize,
        /// Rows there are.
        rows: usize,
    },
    /// Rows, positions and embedding tables.
    #[error(transparent)]
    Core(#[from] autoglm_core::Error),
    /// The tensor library refused an operation.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}
