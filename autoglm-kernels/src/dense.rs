//! Products with dense weights that stay where they are stored.
//!
//! ```text
//! out[i][j] = Σ_k x[i][k] · w[j][k] + bias[j]
//! ```
//!
//! The order of the sum is fixed. Both rows are padded with zeros to a whole number of sixteens; lane
//! l of sixteen sums the products at k ≡ l (mod 16) in ascending k, each by a fused multiply-add that
//! starts from zero; the lanes are added as (l, l + 8), (l, l + 4), (l, l + 2), (0, 1); the bias comes
//! last. So a result depends on its two rows alone, and is the same on every instruction set.
//!
//! Weights are read in place and widened in registers. The loops go, from the outside in, over blocks
//! of input rows that fit the second-level cache, over the weight rows of a register tile, and over the
//! input rows of the block, so that a weight is fetched from memory once per block. One input row runs
//! through the same loops with several weight rows in flight, which is what reaches memory bandwidth.

pub mod pairs;
mod tile;

use crate::isa::Isa;
use crate::{Block, Error, Result};

/// How a weight is stored, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Float {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
}

impl Float {
    /// Bytes per number.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// Rows of a stored row-major matrix, at any address.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    bytes: &'a [u8],
    kind: Float,
    rows: usize,
    columns: usize,
}

impl<'a> Rows<'a> {
    /// `rows` rows of `columns` numbers.
    ///
    /// # Errors
    /// [`Error::Length`] when `bytes` has not exactly their size.
    pub fn new(bytes: &'a [u8], kind: Float, rows: usize, columns: usize) -> Result<Self> {
        let expected = rows.checked_mul(columns).and_then(|n| n.checked_mul(kind.size())).unwrap_or(usize::MAX);
        if bytes.len() != expected {
            return Err(Error::Length { what: "stored matrix", expected, got: bytes.len() });
        }
        Ok(Self { bytes, kind, rows, columns })
    }

    /// `count` rows from `first` on.
    ///
    /// # Panics
    /// When there are fewer.
    #[must_use]
    pub fn slice(self, first: usize, count: usize) -> Self {
        let stride = self.columns * self.kind.size();
        Self { bytes: &self.bytes[first * stride..][..count * stride], rows: count, ..self }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(self) -> usize {
        self.rows
    }

    /// Numbers per row.
    #[must_use]
    pub fn columns(self) -> usize {
        self.columns
    }
}

/// out (m, n) = x (m, k) · weightsᵀ + bias, for weights (n, k).
///
/// # Errors
/// [`Error::Length`] when `x`, `bias` or `out` do not have these shapes.
pub fn gemm(isa: Isa, x: &[f32], weights: Rows<'_>, bias: Option<&[f32]>, out: Block<'_>) -> Result<()> {
    check(x.len(), weights, bias, &out)?;
    tile::multiply(isa, tile::Job { x, weights, bias }, out);
    Ok(())
}

/// Holds the operands' lengths against each other.
fn check(x: usize, weights: Rows<'_>, bias: Option<&[f32]>, out: &Block<'_>) -> Result<()> {
    let length = |what, expected: Option<usize>, got| match expected {
        Some(expected) if expected == got => Ok(()),
        other => Err(Error::Length { what, expected: other.unwrap_or(usize::MAX), got }),
    };
    length("input of a product", out.rows().checked_mul(weights.columns), x)?;
    length("columns of a product", Some(weights.rows), out.columns())?;
    if let Some(bias) = bias {
        length("bias of a product", Some(weights.rows), bias.len())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
