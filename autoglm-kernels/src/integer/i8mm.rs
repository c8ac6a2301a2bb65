//! `smmla` on 128-bit registers, and `sdot` on the same codes for a row alone.
//!
//! ```text
//! for each panel of 8 outputs:                        4 registers of 2 outputs
//!   for each tile of up to 12 rows, in pairs:         24 accumulators of 2 rows by 2 outputs
//!     for each group:
//!       for each step of 8 inputs:
//!         acc[pair][·] += a[pair][step] (2 rows × 8) · codes[step][·] (2 outputs × 8)
//!       total[row][·] += acc[row][·] · factor[group][·]
//!     out[row][·] = total[row][·] · (scale[row] · channel[·]) + bias[·]
//!
//! for a row alone:                                    16 accumulators of 2 outputs by 2 halves
//!   acc[panel][·] += codes[step][·] · (a[step], a[step])
//!   the halves are added behind the group
//! ```
//!
//! A row without a partner is paired with itself. 4-bit codes are multiplied sixteen times as large,
//! which 32 bits hold: 65 536 · 16 · 8 · 127 < 2³¹.
//!
//! The instructions are written out, because their intrinsics are not stable in the Rust we promise.

use std::arch::aarch64::*;
use std::arch::asm;

use super::dotprod::sdot;
use super::panel::{Panel, Part};
use super::quad::{ABREAST, Cell, column, nibbles, row, sixteenth, tiles};
use super::{Rows, Weights};
use crate::Block;
use crate::isa::NeonI8mm;
use crate::layout::{Bits, Layout};

/// Rows of a tile.
const TILE: usize = 12;

/// Rows of a tile, and panels that a row alone goes through at once, where 4-bit codes need registers
/// to be unpacked in.
const FOUR: (usize, usize) = (8, 2);

/// As [`super::gemm`].
pub(super) fn gemm(_: NeonI8mm, weights: &Weights<'_>, rows: Rows<'_>, first_panel: usize, out: &mut Block<'_>) {
    assert_eq!(weights.layout, Layout::I8mm, "weights are packed for this instruction set");
    // SAFETY: the proof says that the processor has the instructions.
    unsafe {
        match weights.bits {
            Bits::Eight => all::<8>(weights, rows, first_panel, out),
            Bits::Four => all::<4>(weights, rows, first_panel, out),
        }
    }
}

#[target_feature(enable = "neon,dotprod,i8mm")]
fn all<const BITS: usize>(weights: &Weights<'_>, rows: Rows<'_>, first_panel: usize, out: &mut Block<'_>) {
    let (most, abreast) = if BITS == 8 { (TILE, ABREAST) } else { FOUR };
    let many = |panel: &Panel<'_>, part: &Part<'_>, out: &mut Block<'_>| match part.len().div_ceil(2) {
        1 => tile::<2, 1, BITS>(panel, part, out),
        2 => tile::<4, 2, BITS>(panel, part, out),
        3 => tile::<6, 3, BITS>(panel, part, out),
        4 => tile::<8, 4, BITS>(panel, part, out),
        5 => tile::<10, 5, BITS>(panel, part, out),
        _ => tile::<TILE, 6, BITS>(panel, part, out),
    };
    let one = |panels: &[Panel<'_>], part: &Part<'_>, out: &mut Block<'_>| {
        for panels in panels.chunks(abreast) {
            if let Some(panels) = panels.first_chunk::<ABREAST>() {
                vector::<ABREAST, BITS>(panels, part, out);
            } else if let Some(panels) = panels.first_chunk::<{ FOUR.1 }>() {
                vector::<{ FOUR.1 }, BITS>(panels, part, out);
            } else {
                panels.iter().for_each(|panel| vector::<1, BITS>(std::array::from_ref(panel), part, out));
            }
        }
    };
    tiles((weights, rows), (first_panel, most), out, many, one);
}

/// M rows, the last of which may be missing, in PAIRS.
#[target_feature(enable = "neon,dotprod,i8mm")]
fn tile<const M: usize, const PAIRS: usize, const BITS: usize>(
    panel: &Panel<'_>,
    part: &Part<'_>,
    out: &mut Block<'_>,
) {
    const { assert!(M == 2 * PAIRS) };
    let (k, many) = (panel.k(), part.len());
    assert!(many == M || many == M - 1, "rows of this tile");
    assert!(part.codes.len() == many * k && panel.codes.len() == k * BITS, "codes of whole tiles");
    let rows: [_; PAIRS] = std::array::from_fn(|pair| {
        [2 * pair, (2 * pair + 1).min(many - 1)].map(|row| part.codes[row * k..][..k].as_ptr())
    });
    column::<M>(panel, part, out, |inputs| {
        let mut acc = [[vdupq_n_s32(0); 4]; PAIRS];
        for input in inputs.step_by(64 / BITS) {
            for half in 0..8 / BITS {
                // SAFETY: the inputs lie within the k of the lengths that were checked above.
                let w: [_; 4] = std::array::from_fn(|j| unsafe {
                    half_of::<BITS>(vld1q_s8(panel.codes.as_ptr().add(input * BITS + 16 * j).cast()), half)
                });
                for (acc, rows) in acc.iter_mut().zip(&rows) {
                    // SAFETY: as above, 8 activations of each of the two rows.
                    let [first, second] = rows.map(|row| unsafe { vld1_s8(row.add(input + 8 * half)) });
                    let a = vcombine_s8(first, second);
                    for j in 0..4 {
                        acc[j] = smmla(acc[j], a, w[j]);
                    }
                }
            }
        }
        let mut cells = [[vdupq_n_s32(0); 2]; M];
        for (cells, acc) in cells.chunks_exact_mut(2).zip(&acc) {
            for j in 0..2 {
                let [a, b] = [acc[2 * j], acc[2 * j + 1]].map(|acc| vreinterpretq_s64_s32(acc));
                cells[0][j] = vreinterpretq_s32_s64(vtrn1q_s64(a, b));
                cells[1][j] = vreinterpretq_s32_s64(vtrn2q_s64(a, b));
            }
        }
        if BITS == 4 { sixteenth(cells) } else { cells }
    });
}

#[target_feature(enable = "neon,dotprod,i8mm")]
fn vector<const P: usize, const BITS: usize>(panels: &[Panel<'_>; P], part: &Part<'_>, out: &mut Block<'_>) {
    let k = panels[0].k();
    assert!(part.codes.len() == k && panels.iter().all(|panel| panel.codes.len() == k * BITS), "codes of whole tiles");
    row::<P>(panels, part, out, |inputs| {
        let mut acc = [[vdupq_n_s32(0); 4]; P];
        for input in inputs.step_by(64 / BITS) {
            let a = |half: usize| {
                // SAFETY: the inputs lie within the k of the lengths that were checked above.
                let a = unsafe { part.codes.as_ptr().add(input + 8 * half).cast::<i64>().read_unaligned() };
                vreinterpretq_s8_s64(vdupq_n_s64(a))
            };
            for half in 0..8 / BITS {
                let a = a(half);
                for (acc, panel) in acc.iter_mut().zip(panels) {
                    for j in 0..4 {
                        // SAFETY: as above.
                        let w = unsafe { vld1q_s8(panel.codes.as_ptr().add(input * BITS + 16 * j).cast()) };
                        acc[j] = sdot(acc[j], half_of::<BITS>(w, half), a);
                    }
                }
            }
        }
        let cells = acc.map(|acc| -> Cell { [vpaddq_s32(acc[0], acc[1]), vpaddq_s32(acc[2], acc[3])] });
        if BITS == 4 { sixteenth(cells) } else { cells }
    });
}

/// 8-bit codes as they are; of 4-bit codes the low or the high ones.
#[inline(always)]
fn half_of<const BITS: usize>(codes: int8x16_t, half: usize) -> int8x16_t {
    if BITS == 8 { codes } else { nibbles(codes)[half] }
}

/// The products of two rows of eight with two rows of eight: `acc[2i + j] += a[i] · w[j]`.
#[target_feature(enable = "neon,i8mm")]
#[inline]
fn smmla(mut acc: int32x4_t, a: int8x16_t, w: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction only computes, and the function's feature says that it exists.
    unsafe {
        asm!(
            "smmla {acc:v}.4s, {a:v}.16b, {w:v}.16b",
            acc = inout(vreg) acc,
            a = in(vreg) a,
            w = in(vreg) w,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    acc
}
