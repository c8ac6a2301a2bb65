//! What can go wrong with a pool, as facts.

/// Shorthand for a result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong with a pool of keys and values.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Keys and values that nothing can hold.
    #[error("a pool for {layers} layers of {kv_heads} heads of width {head_dim} is empty or beyond all memory")]
    Shape {
        /// Layers.
        layers: usize,
        /// Key heads.
        kv_heads: usize,
        /// Width of a head.
        head_dim: usize,
    },
    /// A budget in which not even one block fits.
    #[error("a budget of {budget} bytes does not hold one block of {block}")]
    Budget {
        /// The budget.
        budget: u64,
        /// Bytes of the largest block.
        block: u64,
    },
    /// A cache and the units it is said to hold do not fit.
    #[error("{units} units are {rows} rows, the cache holds {held}")]
    Units {
        /// How many units.
        units: usize,
        /// Their rows.
        rows: usize,
        /// Rows of the cache.
        held: usize,
    },
    /// Nothing is held of what should be pinned.
    #[error("nothing to pin as `{name}`: no whole unit of it is in the pool")]
    Unknown {
        /// The name of the pin.
        name: String,
    },
    /// A snapshot of nothing.
    #[error("nothing was computed that could be saved")]
    Nothing,
    /// A snapshot that cannot be written or may not be used.
    #[error("the snapshot {}", .path.display())]
    Snapshot {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        source: crate::SnapshotError,
    },
    /// A file of a checkpoint cannot be digested.
    #[error("cannot read {} for its digest", .path.display())]
    Digest {
        /// The file.
        path: std::path::PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file of a checkpoint is another one than when it was opened.
    #[error("{} has changed since it was opened", .path.display())]
    Changed {
        /// The file.
        path: std::path::PathBuf,
    },
    /// Blocks and attention.
    #[error(transparent)]
    Core(#[from] autoglm_core::Error),
}
