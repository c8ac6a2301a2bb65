//! What bodies on 256-bit registers share: a panel of 64 outputs is eight registers.
//!
//! Sixteen registers hold a panel's sums for one row. For several rows a body sweeps the panel, a few
//! registers at a time, over [`SWEEP`] inputs, whose codes stay in the first-level cache between
//! sweeps; the sums of the others wait in memory.

use std::arch::x86_64::*;

use super::panel::{Panel, Part};
use crate::Block;

/// Inputs of a sweep: 64 · 256 codes are 16 KiB.
pub(super) const SWEEP: usize = 256;

/// How far ahead of the multiplication codes are fetched, in bytes.
pub(super) const AHEAD: usize = 2048;

/// The sums of a panel for M rows.
pub(super) type Sums<const M: usize> = [[__m256i; 8]; M];

/// The totals of a panel for M rows.
pub(super) type Totals<const M: usize> = [[__m256; 8]; M];

/// Sums that begin with what the offset of the codes adds to each product, taken back.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn begin<const M: usize>(part: &Part<'_>, group: usize, offset: i32) -> Sums<M> {
    std::array::from_fn(|m| [_mm256_set1_epi32(part.sum(m, group).wrapping_mul(-offset)); 8])
}

/// Adds the sums of a group to the totals, or makes them the totals where there are no groups.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn add<const M: usize>(panel: &Panel<'_>, group: usize, sums: &Sums<M>, totals: &mut Totals<M>) {
    if !panel.grouped() {
        *totals = sums.map(|sums| sums.map(|sums| _mm256_cvtepi32_ps(sums)));
        return;
    }
    let factors: &[_; 64] = panel.factors(group);
    for j in 0..8 {
        let factors = &factors[j * 8..][..8];
        // SAFETY: eight factors of 16 bits are the 16 bytes that are read.
        let factors = _mm256_cvtph_ps(unsafe { _mm_loadu_si128(factors.as_ptr().cast()) });
        for m in 0..M {
            totals[m][j] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[m][j]), factors, totals[m][j]);
        }
    }
}

/// Writes the outputs of a tile.
pub(super) fn finish<const M: usize>(panel: &Panel<'_>, part: &Part<'_>, totals: &Totals<M>, out: &mut Block<'_>) {
    for (m, totals) in totals.iter().enumerate() {
        // SAFETY: eight registers are 64 floats, and any bits are floats.
        let totals: &[f32; 64] = unsafe { &*std::ptr::from_ref(totals).cast() };
        panel.finish(totals, part.scales[m], part.row + m, out);
    }
}
