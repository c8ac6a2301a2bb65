//! Products of quantised activations with packed integer weights.
//!
//! ```text
//! out[i][j] = (scale[i] · channel[j]) · Σ_g factor[g][j] · Σ_{k in g} a[i][k] · w[j][k]  +  bias[j]
//! ```
//!
//! The inner sums are exact in 32-bit integers. Weights without groups have one inner sum and no
//! factor. With groups, g runs upwards and each term is added by one fused multiply-add to a sum that
//! begins at zero. The outer product and the bias are a multiplication and an addition, not fused. So
//! all instruction sets give the same bits.

use half::f16;

use crate::layout::{self, Bits, K_ALIGN, Layout, padded_inputs};
use crate::{Block, Error, Isa, Result};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx_vnni;
#[cfg(target_arch = "aarch64")]
mod dotprod;
mod fastest;
#[cfg(target_arch = "aarch64")]
mod i8mm;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod panel;
#[cfg(target_arch = "aarch64")]
mod quad;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod ymm;

pub use fastest::fastest;

/// Packed weights (n, k).
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a> {
    bits: Bits,
    layout: Layout,
    n: usize,
    k: usize,
    codes: &'a [u8],
    channel: &'a [f32],
    groups: Option<Groups<'a>>,
    bias: Option<&'a [f32]>,
}

/// Factors of groups of inputs.
#[derive(Debug, Clone, Copy)]
pub struct Groups<'a> {
    /// Inputs in a group: a multiple of 32. The last group of an output may be shorter.
    pub size: usize,
    /// `[n / panel][groups][panel]`: the factors of one group of one panel lie together.
    pub factors: &'a [f16],
}

impl Groups<'_> {
    /// Groups of k inputs.
    #[must_use]
    pub fn count(size: usize, k: usize) -> usize {
        padded_inputs(k).div_ceil(size)
    }

    /// Length of the factors of (n, k) weights.
    #[must_use]
    pub fn len(layout: Layout, size: usize, n: usize, k: usize) -> usize {
        layout.padded_outputs(n) * Self::count(size, k)
    }

    /// Where the factor of group `group` of output `n` lies.
    #[must_use]
    pub fn place(layout: Layout, count: usize, n: usize, group: usize) -> usize {
        let panel = layout.panel();
        ((n / panel) * count + group) * panel + n % panel
    }
}

impl<'a> Weights<'a> {
    /// Joins codes, packed in the order of `layout`, with the scale of each output.
    ///
    /// # Errors
    /// - [`Error::Size`] for a k that no sum holds, a group that is no multiple of 32, and 4-bit
    ///   weights without groups.
    /// - [`Error::Length`] for a slice of another length than the sizes say.
    pub fn new(
        (bits, layout): (Bits, Layout),
        (n, k): (usize, usize),
        codes: &'a [u8],
        channel: &'a [f32],
        groups: Option<Groups<'a>>,
    ) -> Result<Self> {
        same("codes of integer weights", layout.bytes(bits, n, k)?, codes.len())?;
        same("scales of integer weights", n, channel.len())?;
        match groups {
            None if bits == Bits::Four => {
                return Err(Error::Size { what: "the group of 4-bit weights", got: 0, why: "they need groups" });
            }
            Some(groups) if groups.size == 0 || !groups.size.is_multiple_of(32) => {
                return Err(Error::Size { what: "a group of weights", got: groups.size, why: "multiples of 32" });
            }
            Some(groups) => {
                same("factors of groups", Groups::len(layout, groups.size, n, k), groups.factors.len())?;
            }
            None => {}
        }
        Ok(Self { bits, layout, n, k, codes, channel, groups, bias: None })
    }

    /// The same weights with a bias (n).
    ///
    /// # Errors
    /// [`Error::Length`] when there is not one per output.
    pub fn with_bias(mut self, bias: Option<&'a [f32]>) -> Result<Self> {
        if let Some(bias) = bias {
            same("biases of integer weights", self.n, bias.len())?;
        }
        self.bias = bias;
        Ok(self)
    }

    /// Outputs.
    #[must_use]
    pub fn n(&self) -> usize {
        self.n
    }

    /// Inputs.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// Panels, the last of which may be partly padding.
    #[must_use]
    pub fn panels(&self) -> usize {
        self.n.div_ceil(self.layout.panel())
    }

    /// Outputs in a panel.
    #[must_use]
    pub fn panel(&self) -> usize {
        self.layout.panel()
    }

    /// Inputs that share a sum of activations: the group, or all of them.
    #[must_use]
    pub fn sum_width(&self) -> usize {
        self.groups.map_or(padded_inputs(self.k), |groups| groups.size)
    }

    /// The dense weight that output `n` and input `k` stand for.
    ///
    /// # Panics
    /// When there is no such weight.
    #[must_use]
    pub fn value(&self, n: usize, k: usize) -> f32 {
        let code = layout::code(self.layout, self.bits, self.codes, padded_inputs(self.k), n, k) as f32;
        let factor = self.groups.map_or(1.0, |groups| {
            let count = Groups::count(groups.size, self.k);
            groups.factors[Groups::place(self.layout, count, n, k / groups.size)].to_f32()
        });
        code * factor * self.channel[n]
    }

    /// Bytes of one panel's codes.
    fn panel_bytes(&self) -> usize {
        let codes = self.layout.panel() * padded_inputs(self.k);
        match self.bits {
            Bits::Eight => codes,
            Bits::Four => codes / 2,
        }
    }
}

/// Quantised activations (m, k): each row has one scale.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    codes: &'a [i8],
    scales: &'a [f32],
    sums: &'a [i32],
}

impl<'a> Rows<'a> {
    /// Joins the codes of rows, (m, [`padded_inputs`]\(k)) in −127..=127 with zeros behind k, with a
    /// scale per row and the sums of each row's codes over [`Weights::sum_width`] inputs. With −128 among the
    /// codes instruction sets give different answers, so it may stand in a row only whose scale is no number.
    ///
    /// # Errors
    /// [`Error::Length`] when the slices are not whole rows of the weights that they are for.
    pub fn new(weights: &Weights<'_>, codes: &'a [i8], scales: &'a [f32], sums: &'a [i32]) -> Result<Self> {
        same("codes of activations", scales.len() * padded_inputs(weights.k), codes.len())?;
        same("sums of activations", scales.len() * Groups::count(weights.sum_width(), weights.k), sums.len())?;
        Ok(Self { codes, scales, sums })
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.scales.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.scales.is_empty()
    }
}

/// The outputs of panels from `first_panel` on, as many as `out` has columns: (m, columns).
///
/// # Panics
/// When `out` has another number of rows than there are, or columns that are neither whole panels nor
/// the last outputs; or when the weights lie in another order than `isa` reads. All are bugs of the
/// caller.
pub fn gemm(isa: Isa, weights: &Weights<'_>, rows: Rows<'_>, first_panel: usize, mut out: Block<'_>) {
    let start = first_panel * weights.panel();
    let end = start + out.columns();
    assert_eq!(out.rows(), rows.len(), "a row of output for each row of input");
    assert!(end <= weights.n && (end == weights.n || end.is_multiple_of(weights.panel())), "whole panels");
    assert_eq!(rows.codes.len(), rows.len() * padded_inputs(weights.k), "rows were made for these weights");
    assert_eq!(rows.sums.len(), rows.len() * Groups::count(weights.sum_width(), weights.k), "sums likewise");
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(proof) => avx2::gemm(proof, weights, rows, first_panel, &mut out),
        #[cfg(target_arch = "x86_64")]
        Isa::AvxVnni(proof) => avx_vnni::vex::gemm(proof, weights, rows, first_panel, &mut out),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni256(proof) => avx_vnni::evex::gemm(proof, weights, rows, first_panel, &mut out),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni(proof) => avx512::gemm(proof, weights, rows, first_panel, &mut out),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Bf16(proof) => avx512::gemm(proof.vnni(), weights, rows, first_panel, &mut out),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(proof) => neon::gemm(proof, weights, rows, first_panel, &mut out),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonDotprod(proof) => dotprod::gemm(proof, weights, rows, first_panel, &mut out),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonI8mm(proof) => i8mm::gemm(proof, weights, rows, first_panel, &mut out),
        _ => scalar::gemm(weights, rows, first_panel, &mut out),
    }
}

fn same(what: &'static str, expected: usize, got: usize) -> Result<()> {
    if expected == got { Ok(()) } else { Err(Error::Length { what, expected, got }) }
}

const _: () = assert!(K_ALIGN.is_multiple_of(32), "a group of 32 ends where padding may begin");

#[cfg(test)]
mod tests;
