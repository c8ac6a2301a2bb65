//! `sdot` on 128-bit registers.
//!
//! ```text
//! for each panel of 8 outputs:                        2 registers wide
//!   for each tile of up to 10 rows:                   20 accumulators
//!     for each group:
//!       for each 16 inputs:
//!         w[0..4][·] = codes of 4 steps of 4 inputs   8 registers
//!         acc[row][·] += w[step][·] · a[row][step]    lane `step` of 16 activations
//!       total[row][·] += acc[row][·] · factor[group][·]
//!     out[row][·] = total[row][·] · (scale[row] · channel[·]) + bias[·]
//! ```
//!
//! Ten rows are what 32 registers hold beside eight of codes: twelve would reread the activations of
//! each step, or want them packed. Rows go in pairs, so that four sums are in flight on a core that
//! issues in order. 4-bit codes are multiplied sixteen times as large, which 32 bits hold:
//! 65 536 · 16 · 8 · 127 < 2³¹.
//!
//! The instructions are written out, because their intrinsics are not stable in the Rust we promise.

use std::arch::aarch64::*;
use std::arch::asm;

use super::panel::{Panel, Part};
use super::quad::{ABREAST, Cell, column, nibbles, row, sixteenth, tiles};
use super::{Rows, Weights};
use crate::Block;
use crate::isa::NeonDotprod;
use crate::layout::{Bits, Layout};

/// Rows of a tile.
const TILE: usize = 10;

/// As [`super::gemm`].
pub(super) fn gemm(_: NeonDotprod, weights: &Weights<'_>, rows: Rows<'_>, first_panel: usize, out: &mut Block<'_>) {
    assert_eq!(weights.layout, Layout::Dotprod, "weights are packed for this instruction set");
    // SAFETY: the proof says that the processor has the instructions.
    unsafe {
        match weights.bits {
            Bits::Eight => all::<8>(weights, rows, first_panel, out),
            Bits::Four => all::<4>(weights, rows, first_panel, out),
        }
    }
}

#[target_feature(enable = "neon,dotprod")]
fn all<const BITS: usize>(weights: &Weights<'_>, rows: Rows<'_>, first_panel: usize, out: &mut Block<'_>) {
    let many = |panel: &Panel<'_>, part: &Part<'_>, out: &mut Block<'_>| match part.len() {
        1 => tile::<1, BITS>(panel, part, out),
        2 => tile::<2, BITS>(panel, part, out),
        3 => tile::<3, BITS>(panel, part, out),
        4 => tile::<4, BITS>(panel, part, out),
        5 => tile::<5, BITS>(panel, part, out),
        6 => tile::<6, BITS>(panel, part, out),
        7 => tile::<7, BITS>(panel, part, out),
        8 => tile::<8, BITS>(panel, part, out),
        9 => tile::<9, BITS>(panel, part, out),
        _ => tile::<TILE, BITS>(panel, part, out),
    };
    let one =
        |panels: &[Panel<'_>], part: &Part<'_>, out: &mut Block<'_>| match <&[Panel<'_>; ABREAST]>::try_from(panels) {
            Ok(panels) => vector::<ABREAST, BITS>(panels, part, out),
            Err(_) => panels.iter().for_each(|panel| vector::<1, BITS>(std::array::from_ref(panel), part, out)),
        };
    tiles((weights, rows), (first_panel, TILE), out, many, one);
}

#[target_feature(enable = "neon,dotprod")]
fn tile<const M: usize, const BITS: usize>(panel: &Panel<'_>, part: &Part<'_>, out: &mut Block<'_>) {
    let k = panel.k();
    assert!(part.codes.len() == M * k && panel.codes.len() == k * BITS, "codes of whole tiles");
    column::<M>(panel, part, out, |inputs| {
        let mut acc = [[vdupq_n_s32(0); 2]; M];
        for input in inputs.step_by(16) {
            // SAFETY: the inputs lie within the k of the lengths that were checked above, 16 at a time.
            unsafe {
                let w = codes::<BITS>(panel.codes.as_ptr().add(input * BITS));
                let a = part.codes.as_ptr().add(input);
                four_rows::<M, 0>(&mut acc, &w, a, k);
                four_rows::<M, 4>(&mut acc, &w, a, k);
                four_rows::<M, 8>(&mut acc, &w, a, k);
            }
        }
        if BITS == 4 { sixteenth(acc) } else { acc }
    });
}

#[target_feature(enable = "neon,dotprod")]
fn vector<const P: usize, const BITS: usize>(panels: &[Panel<'_>; P], part: &Part<'_>, out: &mut Block<'_>) {
    let k = panels[0].k();
    assert!(part.codes.len() == k && panels.iter().all(|panel| panel.codes.len() == k * BITS), "codes of whole tiles");
    row::<P>(panels, part, out, |inputs| {
        let mut acc = [[vdupq_n_s32(0); 2]; P];
        for input in inputs.step_by(16) {
            // SAFETY: as in `tile`.
            unsafe {
                let a = [vld1q_s8(part.codes.as_ptr().add(input))];
                let w: [_; P] = std::array::from_fn(|p| codes::<BITS>(panels[p].codes.as_ptr().add(input * BITS)));
                (0..P).for_each(|p| step::<0>(&mut acc[p..=p], w[p][0], &a));
                (0..P).for_each(|p| step::<1>(&mut acc[p..=p], w[p][1], &a));
                (0..P).for_each(|p| step::<2>(&mut acc[p..=p], w[p][2], &a));
                (0..P).for_each(|p| step::<3>(&mut acc[p..=p], w[p][3], &a));
            }
        }
        if BITS == 4 { sixteenth(acc) } else { acc }
    });
}

/// Adds the products of 16 inputs for rows `FIRST` to `FIRST + 4`, as far as there are M. Loops of this
/// length are unrolled, so that the sums stay in registers; ten rows in one loop are not.
///
/// # Safety
/// `a` is where row 0 of the inputs begins, and each of M rows, `k` apart, has 16.
#[target_feature(enable = "neon,dotprod")]
#[inline]
unsafe fn four_rows<const M: usize, const FIRST: usize>(
    acc: &mut [Cell; M],
    w: &[[int8x16_t; 2]; 4],
    a: *const i8,
    k: usize,
) {
    for first in (FIRST..M.min(FIRST + 4)).step_by(2) {
        // SAFETY: the caller's promise.
        let a = [first, (first + 1).min(M - 1)].map(|m| unsafe { vld1q_s8(a.add(m * k)) });
        let acc = &mut acc[first..(first + 2).min(M)];
        step::<0>(acc, w[0], &a);
        step::<1>(acc, w[1], &a);
        step::<2>(acc, w[2], &a);
        step::<3>(acc, w[3], &a);
    }
}

/// The codes of 16 inputs, by steps of 4.
///
/// # Safety
/// 16 · `BITS` bytes can be read from `at`.
#[target_feature(enable = "neon,dotprod")]
#[inline]
unsafe fn codes<const BITS: usize>(at: *const u8) -> [[int8x16_t; 2]; 4] {
    // SAFETY: the caller's promise, with which `i` < BITS agrees.
    let load = |i: usize| unsafe { vld1q_s8(at.add(16 * i).cast()) };
    if BITS == 8 {
        return std::array::from_fn(|step| [load(2 * step), load(2 * step + 1)]);
    }
    let [a, b, c, d] = std::array::from_fn(|i| nibbles(load(i)));
    [[a[0], b[0]], [a[1], b[1]], [c[0], d[0]], [c[1], d[1]]]
}

/// Adds the products of step `STEP` of each row's 16 activations.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn step<const STEP: i32>(acc: &mut [Cell], w: [int8x16_t; 2], a: &[int8x16_t]) {
    for (acc, a) in acc.iter_mut().zip(a) {
        for j in 0..2 {
            acc[j] = sdot_lane::<STEP>(acc[j], w[j], *a);
        }
    }
}

/// In each of four lanes, the sum of four products with lane `LANE` of `a`.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn sdot_lane<const LANE: i32>(mut acc: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction only computes, and the function's feature says that it exists.
    unsafe {
        asm!(
            "sdot {acc:v}.4s, {w:v}.16b, {a:v}.4b[{lane}]",
            acc = inout(vreg) acc,
            w = in(vreg) w,
            a = in(vreg) a,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    acc
}

/// In each of four lanes, the sum of four products.
#[target_feature(enable = "neon,dotprod")]
#[inline]
pub(super) fn sdot(mut acc: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
    // SAFETY: as in `sdot_lane`.
    unsafe {
        asm!(
            "sdot {acc:v}.4s, {w:v}.16b, {a:v}.16b",
            acc = inout(vreg) acc,
            w = in(vreg) w,
            a = in(vreg) a,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    acc
}
