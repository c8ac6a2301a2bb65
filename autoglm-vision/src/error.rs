//! What can go wrong between a picture's bytes and its embedding rows, as facts.

/// Shorthand for a result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong in decoding, resizing and encoding pictures.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no byte at all.
    #[error("the file is empty")]
    Empty,
    /// The first bytes are those of none of the formats that are read.
    #[error("not a PNG, JPEG or WebP file")]
    UnknownFormat,
    /// A picture beyond one of the [`Limits`](crate::Limits).
    #[error("the picture has {got} {what}, at most {limit} are read")]
    TooLarge {
        /// What there is too much of: bytes, pixels, columns or rows.
        what: &'static str,
        /// How much the file announces.
        got: u64,
        /// The limit.
        limit: u64,
    },
    /// The file ends before the picture does.
    #[error("the {format} file is truncated")]
    Truncated {
        /// The file's format.
        format: &'static str,
    },
    /// The file contradicts its format, or uses a part of it that is not read.
    #[error("cannot decode the {format} file")]
    Undecodable {
        /// The file's format.
        format: &'static str,
        /// The decoder's reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The pixels given do not fill the sides given.
    #[error("a picture of {width}x{height} pixels has {expected} bytes of RGB, not {got}")]
    Pixels {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
        /// 3 · width · height, saturating.
        expected: usize,
        /// Bytes given.
        got: usize,
    },
    /// A picture without a pixel.
    #[error("a picture of {width}x{height} has no pixels")]
    NoPixels {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// A picture too long for its width.
    #[error("a picture of {width}x{height} is more than {limit} times as long as wide")]
    Aspect {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
        /// The steepest ratio of sides.
        limit: u32,
    },
    /// Patches that were cut for another tower.
    #[error(
        "patches of {got} numbers in squares of {got_merge}x{got_merge} do not fit a tower for {expected} numbers and {expected_merge}x{expected_merge}"
    )]
    Patches {
        /// Numbers in a patch of the tower.
        expected: usize,
        /// Side of its squares of patches.
        expected_merge: u32,
        /// Numbers in a given patch.
        got: usize,
        /// Side of the given squares.
        got_merge: u32,
    },
    /// Configurations, checkpoints and shapes.
    #[error(transparent)]
    Core(#[from] autoglm_core::Error),
    /// The tensor library refused an operation.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}
