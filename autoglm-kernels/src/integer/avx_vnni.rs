//! `vpdpbusd` on 256-bit registers, in both of its encodings.
//!
//! ```text
//! for each panel of 64 outputs:                       8 registers wide
//!   for each tile of up to 6 rows:
//!     for each group:
//!       sum[row][·] = −offset · sum[row][group]
//!       for each sweep of 256 inputs, a few registers at a time:
//!         for each step of 4 inputs:
//!           sum[row][·] += codes[step][·] (u8) · a[row][step] (s8, broadcast)
//!       total[row][·] += sum[row][·] · factor[group][·]
//!     out[row][·] = total[row][·] · (scale[row] · channel[·]) + bias[·]
//! ```
//!
//! AVX-VNNI has sixteen registers: six rows by two leave room for the codes and an activation. AVX-512
//! has 32 of 256 bits too: six rows by four. It is a body of its own there, because a processor may
//! issue two of these where it issues one of 512 bits, or clock down for the wider ones.

use std::arch::x86_64::*;
use std::ops::Range;

use super::panel::{Panel, Part, panels, parts};
use super::ymm::{AHEAD, SWEEP, Sums, Totals, add, begin, finish};
use super::{Rows, Weights};
use crate::Block;
use crate::layout::{Bits, Layout};

/// Rows of a tile on codes of so many bits: to unpack 4-bit codes takes the registers of one row.
const fn tile_rows(bits: usize) -> usize {
    if bits == 8 { 6 } else { 5 }
}

/// Stamps the body for one encoding, whose tile of several rows is `$wide` registers wide.
macro_rules! body {
    ($name:ident, $proof:ident, $features:literal, $dpbusd:ident, $wide:literal) => {
        pub(super) mod $name {
            use super::*;
            use crate::isa::$proof;

            /// As [`super::super::gemm`].
            pub(in super::super) fn gemm(
                _: $proof,
                weights: &Weights<'_>,
                rows: Rows<'_>,
                first_panel: usize,
                out: &mut Block<'_>,
            ) {
                assert_eq!(weights.layout, Layout::X86, "weights are packed for this instruction set");
                // SAFETY: the proof says that the processor has the instructions.
                unsafe {
                    match weights.bits {
                        Bits::Eight => all::<8>(weights, rows, first_panel, out),
                        Bits::Four => all::<4>(weights, rows, first_panel, out),
                    }
                }
            }

            #[target_feature(enable = $features)]
            fn all<const BITS: usize>(
                weights: &Weights<'_>,
                rows: Rows<'_>,
                first_panel: usize,
                out: &mut Block<'_>,
            ) {
                for panel in panels(weights, first_panel, out.columns()) {
                    for part in parts(rows, tile_rows(BITS)) {
                        match part.len() {
                            1 if BITS == 8 => tile::<1, 8, BITS>(&panel, &part, out),
                            1 => tile::<1, 4, BITS>(&panel, &part, out),
                            2 => tile::<2, $wide, BITS>(&panel, &part, out),
                            3 => tile::<3, $wide, BITS>(&panel, &part, out),
                            4 => tile::<4, $wide, BITS>(&panel, &part, out),
                            5 => tile::<5, $wide, BITS>(&panel, &part, out),
                            _ => tile::<6, $wide, BITS>(&panel, &part, out),
                        }
                    }
                }
            }

            /// M rows, W registers at a time.
            #[target_feature(enable = $features)]
            fn tile<const M: usize, const W: usize, const BITS: usize>(
                panel: &Panel<'_>,
                part: &Part<'_>,
                out: &mut Block<'_>,
            ) {
                let k = panel.k();
                assert!(part.codes.len() == M * k && panel.codes.len() * 8 == 64 * k * BITS, "codes of whole tiles");
                let mut totals: Totals<M> = [[_mm256_setzero_ps(); 8]; M];
                for (group, inputs) in panel.groups().enumerate() {
                    let mut sums = begin(part, group, if BITS == 8 { 128 } else { 8 });
                    for from in inputs.clone().step_by(SWEEP) {
                        let inputs = from..(from + SWEEP).min(inputs.end);
                        // SAFETY: the inputs lie within the k that were checked above.
                        unsafe { multiply::<M, W, BITS>(panel.codes, part.codes, k, inputs, &mut sums) };
                    }
                    add(panel, group, &sums, &mut totals);
                }
                finish(panel, part, &totals, out);
            }

            /// Adds the products of inputs, which are a multiple of 8.
            ///
            /// # Safety
            /// `codes` has 64 · k codes and `a` M rows of k, and the inputs end by k.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn multiply<const M: usize, const W: usize, const BITS: usize>(
                codes: &[u8],
                a: &[i8],
                k: usize,
                inputs: Range<usize>,
                sums: &mut Sums<M>,
            ) {
                let nibble = _mm256_set1_epi8(0x0f);
                for first in (0..8).step_by(W) {
                    let mut acc: [[__m256i; W]; M] =
                        std::array::from_fn(|m| std::array::from_fn(|j| sums[m][first + j]));
                    // SAFETY: the caller's promise; a step has 256 bytes, of which these are W registers.
                    let mut at = unsafe { codes.as_ptr().add(inputs.start * 8 * BITS + first * 32) };
                    for step in inputs.clone().step_by(32 / BITS) {
                        let w: [__m256i; W] =
                            // SAFETY: as above.
                            std::array::from_fn(|j| unsafe { _mm256_loadu_si256(at.add(32 * j).cast()) });
                        for j in (0..W).step_by(2) {
                            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD + 32 * j).cast());
                        }
                        for half in 0..8 / BITS {
                            let w = w.map(|w| match (BITS, half) {
                                (8, _) => w,
                                (_, 0) => _mm256_and_si256(w, nibble),
                                _ => _mm256_and_si256(_mm256_srli_epi16::<4>(w), nibble),
                            });
                            for (m, acc) in acc.iter_mut().enumerate() {
                                let a = a.as_ptr().wrapping_add(m * k + step + 4 * half);
                                // SAFETY: the caller's promise: four activations of row m.
                                let a = _mm256_set1_epi32(unsafe { a.cast::<i32>().read_unaligned() });
                                for j in 0..W {
                                    acc[j] = $dpbusd(acc[j], w[j], a);
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
        }
    };
}

body!(vex, AvxVnni, "avxvnni,avx2,fma,f16c", _mm256_dpbusd_avx_epi32, 2);
body!(evex, Avx512Vnni, "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c", _mm256_dpbusd_epi32, 4);
