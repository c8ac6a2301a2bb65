//! Products with bf16 weights of rows that are rounded to bf16 as well.
//!
//! ```text
//! out[i][j] = Σ_k bf16(x[i][k]) · w[j][k] + bias[j]
//! ```
//!
//! Twice as fast as the exact product where the processor multiplies pairs of bf16, and less exact by
//! what rounding x to 8 bits costs: 2^-9 of each number at most.
//!
//! Rows are padded with zeros to a whole number of thirty-twos. Lane l of sixteen sums the products at
//! k ≡ 2l + 1 and then at k ≡ 2l (mod 32), each by a fused multiply-add, in ascending steps of 32: what
//! `vdpbf16ps` does. Lanes and bias are added as in [`super::gemm`]. Every instruction set gives the same
//! bits, except where a sum gets below 2^-126, which the instruction flushes to zero.

#[cfg(target_arch = "x86_64")]
mod avx512;

use half::bf16;

use super::{Float, Rows};
use crate::isa::Isa;
use crate::lanes::Lanes;
use crate::lanes::scalar::Plain;
use crate::multiversion::{Work, on};
use crate::{Block, Error, Result};

/// Numbers that one step multiplies.
const STEP: usize = 32;

/// Rounds `x` to nearest even.
///
/// # Panics
/// When the slices differ in length.
pub fn round(isa: Isa, x: &[f32], rounded: &mut [bf16]) {
    assert_eq!(x.len(), rounded.len(), "a place for each number");
    on(isa, Round { x, rounded });
}

struct Round<'a> {
    x: &'a [f32],
    rounded: &'a mut [bf16],
}

impl Work for Round<'_> {
    type Answer = ();

    #[inline(always)]
    fn run(self) {
        for (r, x) in self.rounded.iter_mut().zip(self.x) {
            let bits = x.to_bits();
            // Half of the last place, and one less where that place is even, carries into it. A NaN
            // would be carried to infinity, so it keeps its upper half and gets a bit that stays.
            let carried = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
            let upper = if x.is_nan() { (bits >> 16) | 0x40 } else { carried };
            *r = bf16::from_bits(upper as u16);
        }
    }
}

/// out (m, n) = x (m, k) · weightsᵀ + bias, for bf16 weights (n, k).
///
/// # Errors
/// - [`Error::Size`] when the weights are not bf16.
/// - [`Error::Length`] when `x`, `bias` or `out` do not have these shapes.
pub fn gemm(isa: Isa, x: &[bf16], weights: Rows<'_>, bias: Option<&[f32]>, out: Block<'_>) -> Result<()> {
    if weights.kind != Float::Bf16 {
        let got = weights.kind.size();
        return Err(Error::Size { what: "the size of a weight", got, why: "only bf16 is multiplied in pairs" });
    }
    super::check(x.len(), weights, bias, &out)?;
    let job = Job { x, weights, bias };
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Bf16(proof) => avx512::product(proof, job, out),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni256(proof) | Isa::Avx512Vnni(proof) => {
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
            fn body(proof: crate::isa::Avx512Vnni, job: Job<'_>, out: Block<'_>) {
                product::<crate::lanes::avx512::Zmm>(proof, job, out);
            }
            // SAFETY: `proof` says that the processor has all of these.
            unsafe { body(proof, job, out) }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(proof) => avx2(proof, job, out),
        #[cfg(target_arch = "x86_64")]
        Isa::AvxVnni(proof) => avx2(proof.avx2(), job, out),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(proof) => product::<crate::lanes::neon::Quads>(proof, job, out),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonDotprod(proof) => product::<crate::lanes::neon::Quads>(proof.neon(), job, out),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonI8mm(proof) => product::<crate::lanes::neon::Quads>(proof.dotprod().neon(), job, out),
        _ => product::<Plain>((), job, out),
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Job<'a> {
    x: &'a [bf16],
    weights: Rows<'a>,
    bias: Option<&'a [f32]>,
}

impl Job<'_> {
    fn finish(&self, sum: f32, j: usize) -> f32 {
        self.bias.map_or(sum, |bias| sum + bias[j])
    }
}

#[cfg(target_arch = "x86_64")]
fn avx2(proof: crate::isa::Avx2, job: Job<'_>, out: Block<'_>) {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn body(proof: crate::isa::Avx2, job: Job<'_>, out: Block<'_>) {
        product::<crate::lanes::avx2::Ymm>(proof, job, out);
    }
    // SAFETY: `proof` says that the processor has all of these.
    unsafe { body(proof, job, out) }
}

/// The product in two steps per pair, one output after the other: these processors would be as fast
/// with the exact product, so this need only be right.
#[inline(always)]
fn product<V: Lanes>(proof: V::Proof, job: Job<'_>, mut out: Block<'_>) {
    let k = job.weights.columns;
    for (i, x) in job.x.chunks_exact(k.max(1)).enumerate() {
        for (j, out) in out.row(i).iter_mut().enumerate() {
            let w = &job.weights.bytes[j * k * 2..][..k * 2];
            let mut sum = V::splat(proof, 0.0);
            for (x, w) in x.chunks(STEP).zip(w.chunks(2 * STEP)) {
                let word = |low: Option<u16>, high: Option<u16>| {
                    u32::from(low.unwrap_or(0)) | u32::from(high.unwrap_or(0)) << 16
                };
                let x_at = |at: usize| x.get(at).map(|x| x.to_bits());
                let w_at = |at: usize| w.get(2 * at..2 * at + 2).map(|w| u16::from_le_bytes([w[0], w[1]]));
                let x = V::words(proof, &std::array::from_fn(|l| word(x_at(2 * l), x_at(2 * l + 1))));
                let w = V::words(proof, &std::array::from_fn(|l| word(w_at(2 * l), w_at(2 * l + 1))));
                sum = V::high_bf16(x).mul_add(V::high_bf16(w), sum);
                sum = V::low_bf16(x).mul_add(V::low_bf16(w), sum);
            }
            *out = job.finish(sum.sum(), j);
        }
    }
}

#[cfg(test)]
mod tests;
