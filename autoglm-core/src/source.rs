//! Where a model's parameters come from, and what it gets: linear maps of an unknown number format.

use std::fmt;
use std::sync::Arc;

use candle_core::Tensor;

use crate::{Result, Run, TensorBytes, TokenId};

/// A linear map whose weights may be stored in any format.
pub trait Projection: fmt::Debug + Send + Sync {
    /// `x` is (n, in) in f32; the answer is (n, out) in f32, the members' outputs side by side.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] when `x` has another width.
    fn forward(&self, run: &Run<'_>, x: &Tensor) -> Result<Tensor>;

    /// Width of the input the map is given, before what happens to it first.
    fn width_in(&self) -> usize;

    /// Width of the answer.
    fn width_out(&self) -> usize;

    /// Bytes that a product reads of the weights, scales and biases.
    fn bytes(&self) -> u64;
}

/// A table of token embeddings, read row by row.
pub trait Embedding: fmt::Debug + Send + Sync {
    /// The rows of `ids`, (n, c) in f32.
    ///
    /// # Errors
    /// [`crate::Error::TokenOutOfRange`] for an id the table has no row for.
    fn rows(&self, ids: &[TokenId]) -> Result<Tensor>;

    /// Number of rows.
    fn vocab_size(&self) -> usize;

    /// Width of a row.
    fn width(&self) -> usize;
}

/// One checkpoint module with a `.weight` (out, in) and, perhaps, a `.bias` (out).
///
/// A weight with more than two dimensions is read as (out, everything else): a convolution whose
/// stride equals its kernel is a linear map over flattened patches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Module path, as in the checkpoint, without `.weight`.
    pub name: String,
    /// Rows of the weight.
    pub out: usize,
    /// Columns of the weight.
    pub inp: usize,
    /// Whether the module has a bias.
    pub bias: bool,
}

impl Member {
    /// A member without bias.
    #[must_use]
    pub fn new(name: impl Into<String>, out: usize, inp: usize) -> Self {
        Self { name: name.into(), out, inp, bias: false }
    }

    /// The same member, with a bias if `bias` is true.
    #[must_use]
    pub fn with_bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }
}

/// What happens to the input before the linear map. It is fixed at load, so that integer formats
/// can fuse it with their own quantisation of the input.
#[derive(Debug, Clone, PartialEq)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// x · weight / sqrt(mean(x²) + eps), with the tensor of this full name.
    RmsNorm {
        /// Full tensor name of the norm's weight.
        weight: String,
        /// Added to the mean square.
        eps: f32,
    },
    /// (x − m) / sqrt(mean((x − m)²) + eps) · weight + bias with m = mean(x), with the tensors of these full
    /// names.
    LayerNorm {
        /// Full tensor name of the norm's weight.
        weight: String,
        /// Full tensor name of the norm's bias.
        bias: String,
        /// Added to the variance.
        eps: f32,
    },
    /// The input is (n, 2·in), gate and up side by side; the map sees silu(gate) · up.
    SiluMul,
    /// x · Φ(x), with the normal distribution itself.
    Gelu,
}

/// A checkpoint in some number format.
pub trait Source: Send + Sync {
    /// The map of `members`, which share one input, behind `before`.
    ///
    /// # Errors
    /// Names the tensor that is missing or has another shape or type.
    fn projection(&self, members: &[Member], before: &Before) -> Result<Arc<dyn Projection>>;

    /// The embedding table `name` (a full tensor name), (vocab, c).
    ///
    /// # Errors
    /// Names the tensor that is missing or has another shape or type.
    fn embedding(&self, name: &str, vocab_size: usize, width: usize) -> Result<Arc<dyn Embedding>>;

    /// A small tensor, in f32: norm weights, position tables.
    ///
    /// # Errors
    /// Names the tensor that is missing or has another shape or type.
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor>;

    /// The bytes of a tensor as they lie in the file; they keep the file mapped.
    ///
    /// # Errors
    /// Names the tensor that is missing.
    fn bytes(&self, name: &str) -> Result<TensorBytes>;
}
