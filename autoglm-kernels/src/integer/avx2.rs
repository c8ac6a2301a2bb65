//! `vpmaddwd` and `vpmaddubsw` on 256-bit registers.
//!
//! ```text
//! for each panel of 64 outputs:                       8 registers wide
//!   for each tile of up to 4 rows:
//!     for each group:
//!       sum[row][·] = −offset · sum[row][group]
//!       for each sweep of 256 inputs, two registers at a time (eight for a single row):
//!         8 bit, for each step of 4 inputs:
//!           even, odd = codes[step][·] as 16 bits, inputs 0 2 and 1 3
//!           sum[row][·] += even · a[row][0 2] + odd · a[row][1 3]
//!         4 bit, for each step of 8 inputs:
//!           low, high = codes[step][·] as bytes, inputs 0..4 and 4..8
//!           sum[row][·] += pairs of (low · a[row][0..4] + high · a[row][4..8])
//!       total[row][·] += sum[row][·] · factor[group][·]
//!     out[row][·] = total[row][·] · (scale[row] · channel[·]) + bias[·]
//! ```
//!
//! `vpmaddubsw` saturates at 16 bits. Two products of 8-bit codes reach 2 · 255 · 127 and would; four
//! of 4-bit codes reach 4 · 15 · 127 = 7620 and do not. So 8-bit codes are widened, and the activations
//! with them, once for all sweeps.

use std::arch::x86_64::*;
use std::ops::Range;

use super::panel::{Panel, Part, panels, parts};
use super::ymm::{AHEAD, SWEEP, Sums, Totals, add, begin, finish};
use super::{Rows, Weights};
use crate::Block;
use crate::isa::Avx2;
use crate::layout::{Bits, Layout};

/// Rows of a tile: with two registers of outputs eight sums, which leave room for the codes' halves.
const TILE: usize = 4;

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
        for part in parts(rows, TILE) {
            match part.len() {
                1 => tile::<1, 8, BITS>(&panel, &part, out),
                2 => tile::<2, 2, BITS>(&panel, &part, out),
                3 => tile::<3, 2, BITS>(&panel, &part, out),
                _ => tile::<TILE, 2, BITS>(&panel, &part, out),
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
        let mut sums = begin(part, group, if BITS == 8 { 128 } else { 8 });
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

/// Adds the products of inputs, which are a multiple of 8 and at most [`SWEEP`].
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
    // Activations 0 2 and 1 3 of each step, as pairs of 16 bits.
    let (mut evens, mut odds) = ([[0i32; M]; SWEEP / 4], [[0i32; M]; SWEEP / 4]);
    let steps = inputs.len() / 4;
    let (evens, odds) = (&mut evens[..steps], &mut odds[..steps]);
    for (m, a) in a.chunks_exact(k).enumerate() {
        for ((even, odd), a) in evens.iter_mut().zip(odds.iter_mut()).zip(a[inputs.clone()].chunks_exact(4)) {
            let both = |low: i8, high: i8| i32::from(low) & 0xffff | i32::from(high) << 16;
            (even[m], odd[m]) = (both(a[0], a[2]), both(a[1], a[3]));
        }
    }
    let byte = _mm256_set1_epi16(0x00ff);
    for first in (0..8).step_by(W) {
        let mut acc: [[__m256i; W]; M] = std::array::from_fn(|m| std::array::from_fn(|j| sums[m][first + j]));
        // SAFETY: the caller's promise; a step has 256 bytes of codes, of which these are W registers.
        let mut at = unsafe { codes.as_ptr().add(inputs.start * 64 + first * 32) };
        for (a_even, a_odd) in evens.iter().zip(odds.iter()) {
            // SAFETY: as above; prefetching an address reads nothing.
            let w: [__m256i; W] = std::array::from_fn(|j| unsafe { _mm256_loadu_si256(at.add(32 * j).cast()) });
            for j in (0..W).step_by(2) {
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD + 32 * j).cast());
            }
            let a_even = a_even.map(|pair| _mm256_set1_epi32(pair));
            let a_odd = a_odd.map(|pair| _mm256_set1_epi32(pair));
            for j in 0..W {
                let (even, odd) = (_mm256_and_si256(w[j], byte), _mm256_srli_epi16::<8>(w[j]));
                for m in 0..M {
                    acc[m][j] = _mm256_add_epi32(acc[m][j], _mm256_madd_epi16(even, a_even[m]));
                    acc[m][j] = _mm256_add_epi32(acc[m][j], _mm256_madd_epi16(odd, a_odd[m]));
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
