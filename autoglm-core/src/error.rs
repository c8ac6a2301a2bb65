//! What can go wrong below the models, as facts.

use std::path::PathBuf;

use crate::checkpoint::{Dtype, FileError, HeaderError, IndexError, JsonError, Mismatch};
use crate::{Grid, Modality, TokenId};

/// Shorthand for a result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong below the models.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system would not give a file's contents.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file of a checkpoint is not one that may be opened, or its directory is none.
    #[error("cannot use {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: FileError,
    },
    /// A directory without weights.
    #[error("{} holds neither `model.safetensors` nor `model.safetensors.index.json`", .path.display())]
    NoWeights {
        /// The directory.
        path: PathBuf,
    },
    /// A safetensors file that contradicts itself.
    #[error("{} is no valid safetensors file", .path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: HeaderError,
    },
    /// An index that contradicts itself or the shards.
    #[error("{} is no valid index of shards", .path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: IndexError,
    },
    /// A JSON file that does not say what its readers need.
    #[error("cannot understand {}", .path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: JsonError,
    },
    /// The checkpoint has no tensor of this name.
    #[error("checkpoint has no tensor `{name}`")]
    MissingTensor {
        /// The name.
        name: String,
    },
    /// A tensor in a format that weights are not read in.
    #[error("tensor `{name}` is stored as {dtype}; weights are read from F32, F16 and BF16")]
    NotFloat {
        /// The tensor.
        name: String,
        /// Its format.
        dtype: Dtype,
    },
    /// The checkpoint and the model do not fit.
    #[error(transparent)]
    Mismatch(Box<Mismatch>),
    /// A tensor, an input or an answer has another shape than its reader needs.
    #[error("`{name}` has shape {got:?}, expected {expected:?}")]
    Shape {
        /// The tensor or the value.
        name: String,
        /// What its reader needs.
        expected: Vec<usize>,
        /// What it is.
        got: Vec<usize>,
    },
    /// A configuration value no model of this family can have.
    #[error("config field `{field}` is {got}: {why}")]
    Config {
        /// The field's name in the file.
        field: &'static str,
        /// Its value, printed.
        got: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Two lists that must be of equal length are not.
    #[error("{what}: expected {expected}, got {got}")]
    Rows {
        /// The list.
        what: &'static str,
        /// The length that fits.
        expected: usize,
        /// Its length.
        got: usize,
    },
    /// A patch grid that the merger cannot fold.
    #[error("a grid of {}x{}x{} patches does not fold into squares of {merge}x{merge}", .grid.t, .grid.h, .grid.w)]
    Grid {
        /// The grid.
        grid: Grid,
        /// Patches per side of a square.
        merge: u32,
    },
    /// A number that is no share of a picture's rows.
    #[error("{got} is no share of a picture's rows: that is above 0 and at most 1")]
    Share {
        /// The number.
        got: f64,
    },
    /// Rows that are to be thinned are not those of one whole picture.
    #[error("{rows} rows of a {modality} are no whole picture of {}x{}, of which some could be left out", .extent[1], .extent[2])]
    NoPicture {
        /// Rows there are.
        rows: usize,
        /// Which encoder made them.
        modality: Modality,
        /// Size of their space of coordinates.
        extent: [u32; 3],
    },
    /// Arithmetic on sizes left its type.
    #[error("{what} overflows")]
    Overflow {
        /// The quantity.
        what: &'static str,
    },
    /// A token id beyond the embedding table.
    #[error("token id {} is beyond the vocabulary of {vocab_size}", .id.0)]
    TokenOutOfRange {
        /// The id.
        id: TokenId,
        /// Rows of the table.
        vocab_size: usize,
    },
    /// More rows than the cache was made for.
    #[error("{needed} positions do not fit into a context of {limit}")]
    ContextFull {
        /// Rows that this step would bring the cache to.
        needed: usize,
        /// Rows the cache may hold.
        limit: usize,
    },
    /// Keys and values do not fit their budget, whatever is given up for them.
    #[error("{needed} bytes of keys and values do not fit beside the {used} in use: the budget is {budget}")]
    CacheFull {
        /// Bytes of the block that is needed.
        needed: u64,
        /// Bytes in use.
        used: u64,
        /// Bytes there may be.
        budget: u64,
    },
    /// A cache cannot return to a length it never had.
    #[error("cannot truncate a cache of {len} rows to {to}")]
    Truncate {
        /// Rows it holds.
        len: usize,
        /// Rows it was asked to keep.
        to: usize,
    },
    /// The system has not the memory for a converted tensor or for keys and values.
    #[error("no memory for the {bytes} bytes of `{name}`")]
    Memory {
        /// The tensor.
        name: String,
        /// Bytes asked for.
        bytes: usize,
        /// The allocator's reason.
        source: std::collections::TryReserveError,
    },
    /// A tensor does not go into the number format of its source.
    #[error("`{name}` does not go into the wanted number format")]
    Format {
        /// The tensor, or the module it belongs to.
        name: String,
        /// The source's reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The worker threads did not start.
    #[error("cannot start {threads} worker threads")]
    Workers {
        /// Threads asked for.
        threads: usize,
        /// The system's reason; none when zero threads were asked for.
        source: Option<std::io::Error>,
    },
    /// A kernel's operands do not fit each other.
    #[error(transparent)]
    Kernel(#[from] autoglm_kernels::Error),
    /// The tensor library refused an operation.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}
