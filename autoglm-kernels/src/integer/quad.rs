//! What bodies on Arm's 128-bit registers share: a panel of 8 outputs is two registers.
//!
//! ```text
//! cells:  up to 12 rows of one panel, or one row of 4 panels
//!   for each group:
//!     sums[cell] = a body's own part
//!     total[cell] += sums[cell] · factor[group]
//!   out[cell] = total[cell] · (scale · channel) + bias
//! ```
//!
//! One row alone goes through several panels at once, because two sums would wait for each other and
//! one stream of codes stops at each page; several rows go through one panel, whose codes they share.

use std::arch::aarch64::*;
use std::arch::asm;
use std::ops::Range;

use half::f16;

use super::panel::{Panel, Part, panels, parts};
use super::{Rows, Weights};
use crate::Block;

/// Sums of one cell: 8 outputs of one row.
pub(super) type Cell = [int32x4_t; 2];

/// Panels that one row goes through at once.
pub(super) const ABREAST: usize = 4;

/// Calls `many` for each tile of up to `most` rows of each panel, or, for a row alone, `one` for as
/// many panels as remain, at most [`ABREAST`].
#[inline]
pub(super) fn tiles(
    (weights, rows): (&Weights<'_>, Rows<'_>),
    (first_panel, most): (usize, usize),
    out: &mut Block<'_>,
    many: impl Fn(&Panel<'_>, &Part<'_>, &mut Block<'_>),
    one: impl Fn(&[Panel<'_>], &Part<'_>, &mut Block<'_>),
) {
    let mut panels = panels(weights, first_panel, out.columns());
    if rows.len() != 1 {
        for panel in panels {
            parts(rows, most).for_each(|part| many(&panel, &part, out));
        }
        return;
    }
    let Some(part) = parts(rows, 1).next() else { return };
    while let Some(first) = panels.next() {
        match (panels.next(), panels.next(), panels.next()) {
            (Some(second), Some(third), Some(fourth)) => one(&[first, second, third, fourth], &part, out),
            (second, third, _) => {
                for panel in [Some(first), second, third].into_iter().flatten() {
                    one(&[panel], &part, out);
                }
            }
        }
    }
}

/// Outputs of the rows of a tile in one panel. Cells beyond the rows are left out.
#[inline(always)]
pub(super) fn column<const M: usize>(
    panel: &Panel<'_>,
    part: &Part<'_>,
    out: &mut Block<'_>,
    sums: impl Fn(Range<usize>) -> [Cell; M],
) {
    let mut totals = [zero(); M];
    for (group, inputs) in panel.groups().enumerate() {
        let sums = sums(inputs);
        let factors = factors(panel, group);
        for (total, sums) in totals.iter_mut().zip(&sums) {
            add(total, sums, &factors);
        }
    }
    for (m, (totals, scale)) in totals.iter().zip(part.scales).enumerate() {
        panel.finish(&floats(totals), *scale, part.row + m, out);
    }
}

/// Outputs of one row in some panels.
#[inline(always)]
pub(super) fn row<const P: usize>(
    panels: &[Panel<'_>; P],
    part: &Part<'_>,
    out: &mut Block<'_>,
    sums: impl Fn(Range<usize>) -> [Cell; P],
) {
    let mut totals = [zero(); P];
    for (group, inputs) in panels[0].groups().enumerate() {
        let sums = sums(inputs);
        for (p, total) in totals.iter_mut().enumerate() {
            add(total, &sums[p], &factors(&panels[p], group));
        }
    }
    for (panel, totals) in panels.iter().zip(&totals) {
        panel.finish(&floats(totals), part.scales[0], part.row, out);
    }
}

#[inline(always)]
fn zero() -> [float32x4_t; 2] {
    // SAFETY: every 64-bit Arm has these instructions, here and below.
    unsafe { [vdupq_n_f32(0.0); 2] }
}

/// The factors of one group; where there are no groups, ones, with which a sum from zero is exact.
#[inline(always)]
fn factors(panel: &Panel<'_>, group: usize) -> [float32x4_t; 2] {
    if !panel.grouped() {
        // SAFETY: as in `zero`.
        return unsafe { [vdupq_n_f32(1.0); 2] };
    }
    let factors: &[f16; 8] = panel.factors(group);
    let (low, high);
    // SAFETY: eight factors of 16 bits are the register that is read; both instructions only compute.
    unsafe {
        let factors = vld1q_u16(factors.as_ptr().cast());
        asm!(
            "fcvtl {low:v}.4s, {factors:v}.4h",
            "fcvtl2 {high:v}.4s, {factors:v}.8h",
            low = out(vreg) low,
            high = lateout(vreg) high,
            factors = in(vreg) factors,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    [low, high]
}

#[inline(always)]
fn add(total: &mut [float32x4_t; 2], sums: &Cell, factors: &[float32x4_t; 2]) {
    for j in 0..2 {
        // SAFETY: as in `zero`.
        total[j] = unsafe { vfmaq_f32(total[j], vcvtq_f32_s32(sums[j]), factors[j]) };
    }
}

fn floats(totals: &[float32x4_t; 2]) -> [f32; 8] {
    let mut floats = [0.0; 8];
    for (floats, totals) in floats.chunks_exact_mut(4).zip(totals) {
        // SAFETY: the chunk has the four floats that are written.
        unsafe { vst1q_f32(floats.as_mut_ptr(), *totals) };
    }
    floats
}

/// Two registers of 4-bit codes as 8-bit ones, sixteen times as large: those of the low nibbles, then
/// those of the high ones.
#[inline(always)]
pub(super) fn nibbles(codes: int8x16_t) -> [int8x16_t; 2] {
    // SAFETY: as in `zero`.
    unsafe { [vshlq_n_s8::<4>(codes), vandq_s8(codes, vdupq_n_s8(-16))] }
}

/// Sums of codes that were sixteen times as large, exactly.
#[inline(always)]
pub(super) fn sixteenth<const C: usize>(sums: [Cell; C]) -> [Cell; C] {
    // SAFETY: as in `zero`.
    sums.map(|sums| sums.map(|sums| unsafe { vshrq_n_s32::<4>(sums) }))
}
