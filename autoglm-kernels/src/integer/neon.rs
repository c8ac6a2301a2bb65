//! `smull`, `smlal` and `sadalp` on 128-bit registers, which every 64-bit Arm has.
//!
//! ```text
//! for each panel of 8 outputs:                        4 registers of 2 outputs by 2 halves
//!   for each tile of up to 4 rows:                    16 accumulators
//!     for each group:
//!       for each two steps of 4 inputs:
//!         pairs = codes[0][·] · a[row][0] + codes[1][·] · a[row][1]     16 bits
//!         acc[row][·] += each two neighbours of pairs                   32 bits
//!       the halves are added
//!       total[row][·] += acc[row][·] · factor[group][·]
//!     out[row][·] = total[row][·] · (scale[row] · channel[·]) + bias[·]
//! ```
//!
//! Two products fit 16 bits: 2 · 128 · 127 < 2¹⁵. 4-bit codes are multiplied sixteen times as large,
//! which are 8-bit codes; 32 bits hold the sum: 65 536 · 16 · 8 · 127 < 2³¹.

use std::arch::aarch64::*;

use super::panel::{Panel, Part};
use super::quad::{ABREAST, Cell, column, row, sixteenth, tiles};
use super::{Rows, Weights};
use crate::Block;
use crate::isa::Neon;
use crate::layout::{Bits, Layout};

/// Rows of a tile: a fourth would fit, but the compiler moves sums about for it.
const TILE: usize = 3;

/// As [`super::gemm`].
pub(super) fn gemm(_: Neon, weights: &Weights<'_>, rows: Rows<'_>, first_panel: usize, out: &mut Block<'_>) {
    assert_eq!(weights.layout, Layout::Dotprod, "weights are packed for this instruction set");
    // SAFETY: the proof says that the processor has the instructions.
    unsafe {
        match weights.bits {
            Bits::Eight => all::<8>(weights, rows, first_panel, out),
            Bits::Four => all::<4>(weights, rows, first_panel, out),
        }
    }
}

#[target_feature(enable = "neon")]
fn all<const BITS: usize>(weights: &Weights<'_>, rows: Rows<'_>, first_panel: usize, out: &mut Block<'_>) {
    let many = |panel: &Panel<'_>, part: &Part<'_>, out: &mut Block<'_>| match part.len() {
        1 => tile::<1, BITS>(panel, part, out),
        2 => tile::<2, BITS>(panel, part, out),
        _ => tile::<TILE, BITS>(panel, part, out),
    };
    let one =
        |panels: &[Panel<'_>], part: &Part<'_>, out: &mut Block<'_>| match <&[Panel<'_>; ABREAST]>::try_from(panels) {
            Ok(panels) => vector::<ABREAST, BITS>(panels, part, out),
            Err(_) => panels.iter().for_each(|panel| vector::<1, BITS>(std::array::from_ref(panel), part, out)),
        };
    tiles((weights, rows), (first_panel, TILE), out, many, one);
}

#[target_feature(enable = "neon")]
fn tile<const M: usize, const BITS: usize>(panel: &Panel<'_>, part: &Part<'_>, out: &mut Block<'_>) {
    let k = panel.k();
    assert!(part.codes.len() == M * k && panel.codes.len() == k * BITS, "codes of whole tiles");
    column::<M>(panel, part, out, |inputs| {
        let mut acc = [[vdupq_n_s32(0); 4]; M];
        for input in inputs.step_by(8) {
            // SAFETY: the inputs lie within the k of the lengths that were checked above, 8 at a time.
            unsafe {
                let w = codes::<BITS>(panel.codes.as_ptr().add(input * BITS));
                for (m, acc) in acc.iter_mut().enumerate() {
                    multiply(acc, w, activations(part.codes.as_ptr().add(m * k + input)));
                }
            }
        }
        cells::<M, BITS>(acc)
    });
}

#[target_feature(enable = "neon")]
fn vector<const P: usize, const BITS: usize>(panels: &[Panel<'_>; P], part: &Part<'_>, out: &mut Block<'_>) {
    let k = panels[0].k();
    assert!(part.codes.len() == k && panels.iter().all(|panel| panel.codes.len() == k * BITS), "codes of whole tiles");
    row::<P>(panels, part, out, |inputs| {
        let mut acc = [[vdupq_n_s32(0); 4]; P];
        for input in inputs.step_by(8) {
            // SAFETY: as in `tile`.
            unsafe {
                let a = activations(part.codes.as_ptr().add(input));
                for (acc, panel) in acc.iter_mut().zip(panels) {
                    multiply(acc, codes::<BITS>(panel.codes.as_ptr().add(input * BITS)), a);
                }
            }
        }
        cells::<P, BITS>(acc)
    });
}

/// The codes of 8 inputs, by steps of 4: registers of 2 outputs.
///
/// # Safety
/// 8 · `BITS` bytes can be read from `at`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn codes<const BITS: usize>(at: *const u8) -> [[int8x8_t; 4]; 2] {
    // SAFETY: the caller's promise, with which 4 · `step` < BITS agrees.
    let load = |step: usize| std::array::from_fn(|j| unsafe { vld1_s8(at.add(32 * step + 8 * j).cast()) });
    match BITS {
        8 => [load(0), load(1)],
        _ => {
            let both = load(0);
            [both.map(|both| vshl_n_s8::<4>(both)), both.map(|both| vand_s8(both, vdup_n_s8(-16)))]
        }
    }
}

/// Two steps of 4 activations, each twice.
///
/// # Safety
/// 8 activations can be read from `at`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn activations(at: *const i8) -> [int8x8_t; 2] {
    // SAFETY: the caller's promise.
    [0, 1].map(|step| vreinterpret_s8_s32(vdup_n_s32(unsafe { at.cast::<i32>().add(step).read_unaligned() })))
}

#[target_feature(enable = "neon")]
#[inline]
fn multiply(acc: &mut [int32x4_t; 4], w: [[int8x8_t; 4]; 2], a: [int8x8_t; 2]) {
    for (j, acc) in acc.iter_mut().enumerate() {
        let pairs = vmlal_s8(vmull_s8(w[0][j], a[0]), w[1][j], a[1]);
        *acc = vpadalq_s16(*acc, pairs);
    }
}

/// Adds the halves.
#[target_feature(enable = "neon")]
#[inline]
fn cells<const C: usize, const BITS: usize>(acc: [[int32x4_t; 4]; C]) -> [Cell; C] {
    let cells = acc.map(|acc| [vpaddq_s32(acc[0], acc[1]), vpaddq_s32(acc[2], acc[3])]);
    if BITS == 4 { sixteenth(cells) } else { cells }
}
