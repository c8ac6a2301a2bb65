//! `vpmaddubsw` and `vpmaddwd` on 256-bit registers.
//!
//! ```text
//! for each panel of 64 outputs:                       8 registers wide
//!   for each tile of up to 5 rows, 4 on 4-bit codes:
//!     for each group:
//!       sum[row][·] = −offset · sum[row][group]         4 bit; the offset of 8-bit codes is taken off the codes
//!       for each sweep of 256 inputs, two registers at a time (eight for a single row):
//!         8 bit, for each step of 4 inputs:
//!           w = codes[step][·] − 128
//!           sum[row][·] += pairs of |w| · (a[row][step] with the sign of w)
//!         4 bit, for each step of 8 inputs:
//!           low, high = codes[step][·] as bytes, inputs 0..4 and 4..8
//!           sum[row][·] += pairs of (low · a[row][0..4] + high · a[row][4..8])
//!       total[row][·] += sum[row][·] · factor[group][·]
//!     out[row][·] = total[row][·] · (scale[row] · channel[·]) + bias[·]
//! ```
//!
//! `vpmaddubsw` multiplies unsigned bytes by signed ones and saturates at 16 bits. Two products of 8-bit
//! codes with their offset reach 2 · 255 · 127 and would; of their sizes they reach 2 · 128 · 127 = 32 512
//! and do not, so the sign goes to the activation. Four of 4-bit codes reach 4 · 15 · 127 = 7620.

use std::arch::x86_64::*;
use std::ops::Range;

use super::panel::{Panel, Part, panels, parts};
use super::ymm::{AHEAD, SWEEP, Sums, Totals, add, begin, finish};
use super::{Rows, Weights};
use crate::Block;
use crate::isa::Avx2;
use crate::layout::{Bits, Layout};

/// Rows of a tile: with two registers of outputs ten sums, which leave room for codes, their sizes, an
/// activation and a product. To unpack 4-bit codes takes the registers of one row.
const fn tile_rows(bits: usize) -> usize {
    if bits == 8 { 5 } else { 4 }
}

/// As [`super::gemm`].
pub(super) fn gemm(_: Avx2, weights: &Weights<'_>, rows: Rows<'_>, first_panel: usize, out: &mut Block<'_>) {
    assert_eq!(weights.layout, Layout::X86, "weights are packed for this instruction set");
    // SAFETY: the proof says that the processor has the instructions.
    unsafe {
        match weights.bits {
            Bits::Eight => all::<8>(weights, rows, first_panel, out),
            Bits::Four => all::<4>(weights, rows, first_panel, out),
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn all<const BITS: usize>(weights: &Weights<'_>, rows: Rows<'_>, first_panel: usize, out: &mut Block<'_>) {
    for panel in panels(weights, first_panel, out.columns()) {
        for part in parts(rows, tile_rows(BITS)) {
            match part.len() {
                1 => tile::<1, 8, BITS>(&panel, &part, out),
                2 => tile::<2, 2, BITS>(&panel, &part, out),
                3 => tile::<3, 2, BITS>(&panel, &part, out),
                4 => tile::<4, 2, BITS>(&panel, &part, out),
                _ => tile::<5, 2, BITS>(&panel, &part, out),
            }
        }
    }
}

/// M rows, W registers at a time.
#[target_feature(enable = "avx2,fma,f16c")]
fn tile<const M: usize, const W: usize, const BITS: usize>(panel: &Panel<'_>, part: &Part<'_>, out: &mut Block<'_>) {
    let k = panel.k();
    assert!(part.codes.len() == M * k && panel.codes.len() * 8 == 64 * k * BITS, "codes of whole tiles");
    let mut totals: Totals<M> = [[_mm256_setzero_ps(); 8]; M];
    for (group, inputs) in panel.groups().enumerate() {
        let mut sums = begin(part, group, if BITS == 8 { 0 } else { 8 });
        for from in inputs.clone().step_by(SWEEP) {
            let inputs = from..(from + SWEEP).min(inputs.end);
            // SAFETY: the inputs lie within the k that were checked above.
            unsafe {
                match BITS {
                    8 => eight::<M, W>(panel.codes, part.codes, k, inputs, &mut sums),
                    _ => four::<M, W>(panel.codes, part.codes, k, inputs, &mut sums),
                }
            }
        }
        add(panel, group, &sums, &mut totals);
    }
    finish(panel, part, &totals, out);
}

/// Adds the products of inputs, which are a multiple of 8.
///
/// # Safety
/// `codes` has 64 · k codes of 8 bits and `a` M rows of k, and the inputs end by k.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn eight<const M: usize, const W: usize>(
    codes: &[u8],
    a: &[i8],
    k: usize,
    inputs: Range<usize>,
    sums: &mut Sums<M>,
) {
    let (offset, ones) = (_mm256_set1_epi8(-128), _mm256_set1_epi16(1));
    for first in (0..8).step_by(W) {
        let mut acc: [[__m256i; W]; M] = std::array::from_fn(|m| std::array::from_fn(|j| sums[m][first + j]));
        // SAFETY: the caller's promise; a step has 256 bytes of codes, of which these are W registers.
        let mut at = unsafe { codes.as_ptr().add(inputs.start * 64 + first * 32) };
        for step in inputs.clone().step_by(4) {
            // SAFETY: as above.
            let w = |j: usize| _mm256_xor_si256(unsafe { _mm256_loadu_si256(at.add(32 * j).cast()) }, offset);
            // SAFETY: the caller's promise; four activations from an input that has four after it.
            let a =
                |m: usize| unsafe { _mm256_set1_epi32(a.as_ptr().add(m * k + step).cast::<i32>().read_unaligned()) };
            let products = |size, w, a| _mm256_madd_epi16(_mm256_maddubs_epi16(size, _mm256_sign_epi8(a, w)), ones);
            for j in (0..W).step_by(2) {
                // Prefetching an address reads nothing.
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD + 32 * j).cast());
            }
            if M == 1 {
                let a = a(0);
                for (j, acc) in acc[0].iter_mut().enumerate() {
                    let w = w(j);
                    *acc = _mm256_add_epi32(*acc, products(_mm256_abs_epi8(w), w, a));
                }
            } else {
                let w: [__m256i; W] = std::array::from_fn(w);
                let size = w.map(|w| _mm256_abs_epi8(w));
                for (m, acc) in acc.iter_mut().enumerate() {
                    let a = a(m);
                    for j in 0..W {
                        acc[j] = _mm256_add_epi32(acc[j], products(size[j], w[j], a));
                    }
                }
            }
            at = at.wrapping_add(256);
        }
        for m in 0..M {
            sums[m][first..first + W].copy_from_slice(&acc[m]);
        }
    }
}

/// As [`eight`].
///
/// # Safety
/// As for [`eight`], with codes of 4 bits.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn four<const M: usize, const W: usize>(
    codes: &[u8],
    a: &[i8],
    k: usize,
    inputs: Range<usize>,
    sums: &mut Sums<M>,
) {
    let (nibble, ones) = (_mm256_set1_epi8(0x0f), _mm256_set1_epi16(1));
    for first in (0..8).step_by(W) {
        let mut acc: [[__m256i; W]; M] = std::array::from_fn(|m| std::array::from_fn(|j| sums[m][first + j]));
        // SAFETY: the caller's promise; a step has 256 bytes of codes, of which these are W registers.
        let mut at = unsafe { codes.as_ptr().add(inputs.start * 32 + first * 32) };
        for step in inputs.clone().step_by(8) {
            // SAFETY: as above.
            let w: [__m256i; W] = std::array::from_fn(|j| unsafe { _mm256_loadu_si256(at.add(32 * j).cast()) });
            for j in (0..W).step_by(2) {
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD + 32 * j).cast());
            }
            let low = w.map(|w| _mm256_and_si256(w, nibble));
            let high = w.map(|w| _mm256_and_si256(_mm256_srli_epi16::<4>(w), nibble));
            for (m, acc) in acc.iter_mut().enumerate() {
                // SAFETY: the caller's promise; eight activations from an input that has eight after it.
                let a: [__m256i; 2] = std::array::from_fn(|half| unsafe {
                    _mm256_set1_epi32(a.as_ptr().add(m * k + step + 4 * half).cast::<i32>().read_unaligned())
                });
                for j in 0..W {
                    let pairs =
                        _mm256_add_epi16(_mm256_maddubs_epi16(low[j], a[0]), _mm256_maddubs_epi16(high[j], a[1]));
                    acc[j] = _mm256_add_epi32(acc[j], _mm256_madd_epi16(pairs, ones));
                }
            }
            at = at.wrapping_add(256);
        }
        for m in 0..M {
            sums[m][first..first + W].copy_from_slice(&acc[m]);
        }
    }
}
