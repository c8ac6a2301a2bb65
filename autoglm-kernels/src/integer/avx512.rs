//! `vpdpbusd` on 512-bit registers.
//!
//! ```text
//! for each panel of 64 outputs:                       4 registers wide
//!   for each tile of up to 6 rows:                    24 accumulators
//!     for each group:
//!       acc[row][·] = −offset · sum[row][group]
//!       for each step of 4 inputs:
//!         acc[row][·] += codes[step][·] (u8) · a[row][step] (s8, broadcast)
//!       total[row][·] += acc[row][·] · factor[group][·]
//!     out[row][·] = total[row][·] · (scale[row] · channel[·]) + bias[·]
//! ```
//!
//! Six rows by four registers leave room for the four of the weights and one for the activations.
//! Without groups the totals are the accumulators, once. With groups the totals live in memory that
//! stays in the first-level cache, because 48 accumulators do not fit 32 registers.

use std::arch::x86_64::*;

use super::panel::{Panel, Part, panels, parts};
use super::{Rows, Weights};
use crate::Block;
use crate::isa::Avx512Vnni;
use crate::layout::{Bits, Layout};

/// Rows of a tile on codes of so many bits: to unpack 4-bit codes takes the registers of one row.
const fn tile_rows(bits: usize) -> usize {
    if bits == 8 { 6 } else { 5 }
}

/// How far ahead of the multiplication codes are fetched, in bytes.
const AHEAD: usize = 4096;

/// As [`AHEAD`] for one row on 4-bit codes: eight steps of a group wait for their sum, so fewer loads are
/// on their way than with 8-bit codes, and nothing but codes wants the first-level cache.
const AHEAD_ONE: usize = 16384;

/// As [`super::gemm`].
pub(super) fn gemm(_: Avx512Vnni, weights: &Weights<'_>, rows: Rows<'_>, first_panel: usize, out: &mut Block<'_>) {
    assert_eq!(weights.layout, Layout::X86, "weights are packed for this instruction set");
    // SAFETY: the proof says that the processor has the instructions.
    unsafe {
        match (weights.bits, weights.groups) {
            (Bits::Eight, None) => all::<8, false>(weights, rows, first_panel, out),
            (Bits::Eight, Some(_)) => all::<8, true>(weights, rows, first_panel, out),
            (Bits::Four, _) => all::<4, true>(weights, rows, first_panel, out),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn all<const BITS: usize, const GROUPED: bool>(
    weights: &Weights<'_>,
    rows: Rows<'_>,
    first_panel: usize,
    out: &mut Block<'_>,
) {
    for panel in panels(weights, first_panel, out.columns()) {
        for part in parts(rows, tile_rows(BITS)) {
            match part.len() {
                1 => tile::<1, BITS, GROUPED>(&panel, &part, out),
                2 => tile::<2, BITS, GROUPED>(&panel, &part, out),
                3 => tile::<3, BITS, GROUPED>(&panel, &part, out),
                4 => tile::<4, BITS, GROUPED>(&panel, &part, out),
                5 => tile::<5, BITS, GROUPED>(&panel, &part, out),
                _ => tile::<6, BITS, GROUPED>(&panel, &part, out),
            }
        }
    }
}

type Tile<const M: usize> = [[__m512i; 4]; M];

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
#[inline]
fn tile<const M: usize, const BITS: usize, const GROUPED: bool>(
    panel: &Panel<'_>,
    part: &Part<'_>,
    out: &mut Block<'_>,
) {
    let k = panel.k();
    assert!(part.codes.len() == M * k && panel.codes.len() * 8 == 64 * k * BITS, "codes of whole tiles");
    let offset = if BITS == 8 { 128 } else { 8 };
    let begin = |group: usize| -> Tile<M> {
        std::array::from_fn(|m| [_mm512_set1_epi32(part.sum(m, group).wrapping_mul(-offset)); 4])
    };
    let mut totals = [[_mm512_setzero_ps(); 4]; M];
    if GROUPED {
        for (group, inputs) in panel.groups().enumerate() {
            let (from, to) = (inputs.start, inputs.end);
            // SAFETY: `from..to` lies within the k columns that were checked above.
            let sums = unsafe { multiply::<M, BITS>(panel.codes, part.codes, k, from, to, begin(group)) };
            let factors: &[_; 64] = panel.factors(group);
            let factors: [__m512; 4] = std::array::from_fn(|j| {
                let factors = &factors[j * 16..][..16];
                // SAFETY: 16 factors of 16 bits are the 32 bytes that are read.
                _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(factors.as_ptr().cast()) })
            });
            for m in 0..M {
                for j in 0..4 {
                    totals[m][j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[m][j]), factors[j], totals[m][j]);
                }
            }
        }
    } else {
        // SAFETY: `0..k` are the columns that were checked above.
        let sums = unsafe { multiply::<M, BITS>(panel.codes, part.codes, k, 0, k, begin(0)) };
        for m in 0..M {
            for j in 0..4 {
                totals[m][j] = _mm512_cvtepi32_ps(sums[m][j]);
            }
        }
    }
    for (m, totals) in totals.iter().enumerate() {
        let scale = _mm512_set1_ps(part.scales[m]);
        let row = &mut out.row(part.row + m)[panel.columns.clone()];
        for (j, out) in row.chunks_mut(16).enumerate() {
            let mask = (u32::MAX >> (32 - out.len())) as __mmask16;
            let at = j * 16;
            // SAFETY: the mask lets through as many elements as `out` has, and `channel` and `bias`
            // have as many from `at` on, since the columns end with the last output.
            unsafe {
                let channel = _mm512_maskz_loadu_ps(mask, panel.channel[at..][..out.len()].as_ptr());
                let mut value = _mm512_mul_ps(totals[j], _mm512_mul_ps(scale, channel));
                if let Some(bias) = panel.bias {
                    value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, bias[at..][..out.len()].as_ptr()));
                }
                _mm512_mask_storeu_ps(out.as_mut_ptr(), mask, value);
            }
        }
    }
}

/// Adds the products of inputs `from..to`, which are multiples of 8.
///
/// # Safety
/// `codes` has 64 · k codes and `a` M rows of k, and `to` ≤ k.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
#[inline]
unsafe fn multiply<const M: usize, const BITS: usize>(
    codes: &[u8],
    a: &[i8],
    k: usize,
    from: usize,
    to: usize,
    mut acc: Tile<M>,
) -> Tile<M> {
    let a = a.as_ptr();
    // SAFETY: the caller's promise; prefetching an address reads nothing.
    unsafe {
        let row: [*const i8; M] = std::array::from_fn(|m| a.add(m * k));
        if BITS == 8 {
            let mut at = codes.as_ptr().add(from * 64);
            let mut step = from;
            while step < to {
                let w: [__m512i; 4] = std::array::from_fn(|j| _mm512_loadu_si512(at.add(64 * j).cast()));
                for j in 0..4 {
                    _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD + 64 * j).cast());
                }
                for m in 0..M {
                    let a = _mm512_set1_epi32(row[m].add(step).cast::<i32>().read_unaligned());
                    for j in 0..4 {
                        acc[m][j] = _mm512_dpbusd_epi32(acc[m][j], w[j], a);
                    }
                }
                at = at.add(256);
                step += 4;
            }
        } else if M == 1 {
            // One row leaves registers for sums of their own for the high nibbles, sixteen times as large,
            // which saves the shift of each code.
            let (low, high) = (_mm512_set1_epi8(0x0f), _mm512_set1_epi8(0xf0u8 as i8));
            let mut sixteenfold = [_mm512_setzero_si512(); 4];
            let mut at = codes.as_ptr().add(from * 32);
            let mut step = from;
            while step < to {
                let a = row[0].add(step).cast::<i32>();
                let first = _mm512_set1_epi32(a.read_unaligned());
                let second = _mm512_set1_epi32(a.add(1).read_unaligned());
                for j in 0..4 {
                    let w = _mm512_loadu_si512(at.add(64 * j).cast());
                    _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD_ONE + 64 * j).cast());
                    acc[0][j] = _mm512_dpbusd_epi32(acc[0][j], _mm512_and_si512(w, low), first);
                    sixteenfold[j] = _mm512_dpbusd_epi32(sixteenfold[j], _mm512_and_si512(w, high), second);
                }
                at = at.add(256);
                step += 8;
            }
            for j in 0..4 {
                acc[0][j] = _mm512_add_epi32(acc[0][j], _mm512_srai_epi32::<4>(sixteenfold[j]));
            }
        } else {
            let nibble = _mm512_set1_epi8(0x0f);
            let mut at = codes.as_ptr().add(from * 32);
            let mut step = from;
            while step < to {
                let w: [__m512i; 4] = std::array::from_fn(|j| _mm512_loadu_si512(at.add(64 * j).cast()));
                for j in 0..4 {
                    _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD + 64 * j).cast());
                }
                let low = w.map(|w| _mm512_and_si512(w, nibble));
                for m in 0..M {
                    let a = _mm512_set1_epi32(row[m].add(step).cast::<i32>().read_unaligned());
                    for j in 0..4 {
                        acc[m][j] = _mm512_dpbusd_epi32(acc[m][j], low[j], a);
                    }
                }
                let high = w.map(|w| _mm512_and_si512(_mm512_srli_epi16::<4>(w), nibble));
                for m in 0..M {
                    let a = _mm512_set1_epi32(row[m].add(step + 4).cast::<i32>().read_unaligned());
                    for j in 0..4 {
                        acc[m][j] = _mm512_dpbusd_epi32(acc[m][j], high[j], a);
                    }
                }
                at = at.add(256);
                step += 8;
            }
        }
    }
    acc
}
