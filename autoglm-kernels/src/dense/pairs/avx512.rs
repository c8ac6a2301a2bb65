//! `vdpbf16ps`.
//!
//! A tile of M rows by N columns has its sums in registers for a stretch of k, and between
//! stretches in a scratch that stays in the first-level cache, as the stretches of the N weights do.
//! So the second-level cache gives only the M rows, four lines per 24 products. Setting sums aside
//! changes none of their bits.

use std::arch::x86_64::*;

use half::bf16;

use super::{Job, STEP};
use crate::Block;
use crate::isa::Avx512Bf16;

/// Rows and columns of a register tile: 24 sums, six weights and one input.
const M: usize = 4;
const N: usize = 6;

/// Rows whose sums are set aside together, so that a stretch of weights is laid side by side rarely.
const ROWS: usize = 128;

/// Numbers in a stretch of k: six weights take 12 KiB of the first-level cache, and the rows, which are
/// often a power of two apart, share a few lines of what is left.
const STRETCH: usize = 1024;

/// Bytes of a line of the caches.
const LINE: usize = 64;

/// From this many rows on, a stretch of the weights is first laid side by side: rows of a matrix are
/// often a power of two apart, and six of them then share the few lines that the first-level cache has
/// for such addresses.
const MANY: usize = 8;

/// What is set aside, on lines of the cache: a load that straddles two costs two.
#[repr(align(64))]
struct Room {
    /// Sixteen sums of each row and column.
    sums: [[[f32; 16]; N]; ROWS],
    /// A stretch of N weights, step by step.
    weights: [[[i16; STEP]; N]; STRETCH / STEP],
}

pub(super) fn product(_: Avx512Bf16, job: Job<'_>, mut out: Block<'_>) {
    // SAFETY: the proof says that the processor has the instructions.
    unsafe { blocks(job, &mut out) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c")]
fn blocks(job: Job<'_>, out: &mut Block<'_>) {
    let (m, n) = (out.rows(), out.columns());
    let mut room = Room { sums: [[[0.0; 16]; N]; ROWS], weights: [[[0; STEP]; N]; STRETCH / STEP] };
    for first in (0..m).step_by(ROWS) {
        let rows = first..m.min(first + ROWS);
        for column in (0..n).step_by(N) {
            match n - column {
                1 => columns::<1>(job, rows.clone(), column, &mut room, out),
                2 => columns::<2>(job, rows.clone(), column, &mut room, out),
                3 => columns::<3>(job, rows.clone(), column, &mut room, out),
                4 => columns::<4>(job, rows.clone(), column, &mut room, out),
                5 => columns::<5>(job, rows.clone(), column, &mut room, out),
                _ => columns::<N>(job, rows.clone(), column, &mut room, out),
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c")]
fn columns<const C: usize>(
    job: Job<'_>,
    rows: std::ops::Range<usize>,
    column: usize,
    room: &mut Room,
    out: &mut Block<'_>,
) {
    let k = job.weights.columns;
    // Few rows pass weights by once, where they lie: to stop and begin anew would only confuse the
    // processor's own fetching.
    let stretch = if rows.len() < MANY { k.max(1) } else { STRETCH };
    for from in (0..k).step_by(stretch) {
        let len = (k - from).min(stretch);
        let in_place = &job.weights.bytes[(column * k + from) * 2..][..((C - 1) * k + len) * 2];
        let weights = if rows.len() < MANY {
            Strided { first: in_place.as_ptr().cast(), row: k, step: STEP, ragged: true }
        } else {
            for (j, row) in in_place.chunks(k * 2).enumerate() {
                let (steps, rest) = row[..len * 2].as_chunks::<{ 2 * STEP }>();
                for (to, step) in room.weights.iter_mut().zip(steps) {
                    // SAFETY: a step has the 64 bytes that are moved, here and there.
                    unsafe {
                        let numbers = _mm512_loadu_si512(step.as_ptr().cast());
                        _mm512_storeu_si512(to[j].as_mut_ptr().cast(), numbers);
                    }
                }
                if !rest.is_empty() {
                    let to = &mut room.weights[steps.len()][j];
                    to.fill(0);
                    let (rest, _) = rest.as_chunks::<2>();
                    to.iter_mut().zip(rest).for_each(|(to, from)| *to = i16::from_le_bytes(*from));
                }
            }
            Strided { first: room.weights.as_ptr().cast(), row: STEP, step: N * STEP, ragged: false }
        };
        // The next columns are fetched while these are multiplied: to lay them side by side would
        // otherwise wait for memory, an eighth of the time.
        let next = job.weights.bytes.as_ptr().wrapping_add(((column + C) * k + from) * 2);
        let lines = (len * 2).div_ceil(LINE);
        let per_tile = if rows.len() < MANY { 0 } else { (C * lines).div_ceil(rows.len().div_ceil(M)) };
        let mut row = 0;
        while row < rows.len() {
            for line in (row / M * per_tile..).take(per_tile) {
                let at = line / lines * k * 2 + line % lines * LINE;
                _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add(at).cast());
            }
            let x = &job.x[(rows.start + row) * k + from..];
            let tile = &mut room.sums[row..];
            match rows.len() - row {
                1 => row += add::<1, C>(x, k, weights, len, from == 0, tile),
                2 => row += add::<2, C>(x, k, weights, len, from == 0, tile),
                3 => row += add::<3, C>(x, k, weights, len, from == 0, tile),
                _ => row += add::<M, C>(x, k, weights, len, from == 0, tile),
            }
        }
    }
    for (row, sums) in rows.zip(&room.sums) {
        let out = &mut out.row(row)[column..column + C];
        for (j, (out, total)) in out.iter_mut().zip(totals(sums)).enumerate() {
            *out = job.finish(total, column + j);
        }
    }
}

/// The lanes of six sums added up, as [`crate::lanes::Lanes::sum`] adds those of one: l to l + 8, l to
/// l + 4, l to l + 2, 0 to 1. Two sums share a register after the first step, four after the second.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c")]
#[inline]
fn totals(sums: &[[f32; 16]; N]) -> [f32; N] {
    // SAFETY: an array of sixteen numbers is what is read.
    let v: [__m512; N] = std::array::from_fn(|j| unsafe { _mm512_loadu_ps(sums[j].as_ptr()) });
    let eights = |a, b| _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
    let fours = |a, b| _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
    let (first, last) = (fours(eights(v[0], v[1]), eights(v[2], v[3])), eights(v[4], v[5]));
    let last = fours(last, last);
    let twos = _mm512_add_ps(_mm512_shuffle_ps::<0x44>(first, last), _mm512_shuffle_ps::<0xee>(first, last));
    let ones = _mm512_add_ps(twos, _mm512_permute_ps::<0xb1>(twos));
    let mut lanes = [0f32; 16];
    // SAFETY: an array of sixteen numbers is what is written.
    unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), ones) };
    [lanes[0], lanes[4], lanes[8], lanes[12], lanes[2], lanes[6]]
}

/// A stretch of some rows of weights: in the file, or side by side.
#[derive(Clone, Copy)]
struct Strided {
    first: *const i16,
    /// From one row to the next, and from one step of a row to the next, in numbers.
    row: usize,
    step: usize,
    /// Whether what is behind the last number belongs to somebody else.
    ragged: bool,
}

/// Adds the products of `len` numbers of R rows of x, which are k apart, and C weights. → R.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c")]
#[inline]
fn add<const R: usize, const C: usize>(
    x: &[bf16],
    k: usize,
    weights: Strided,
    len: usize,
    begin: bool,
    tile: &mut [[[f32; 16]; N]],
) -> usize {
    let x = x[..(R - 1) * k + len].as_ptr().cast::<i16>();
    // Arrays that only constants index stay in registers.
    let set_aside = |i: usize, j: usize| {
        // SAFETY: an array of sixteen numbers is what is read.
        if begin { _mm512_setzero_ps() } else { unsafe { _mm512_loadu_ps(tile[i][j].as_ptr()) } }
    };
    let mut sums: [[__m512; C]; R] = std::array::from_fn(|i| std::array::from_fn(|j| set_aside(i, j)));
    for at in (0..len / STEP).map(|step| step * STEP) {
        // SAFETY: `at` and the 31 numbers behind it are among the `len` of each row.
        let load = |from: *const i16| -> __m512bh { unsafe { std::mem::transmute(_mm512_loadu_epi16(from)) } };
        let stored: [__m512bh; C] =
            std::array::from_fn(|j| load(weights.first.wrapping_add(j * weights.row + at / STEP * weights.step)));
        // Where rows lie in the file, those of the next tile are asked for as these go by.
        if weights.ragged {
            for j in 0..C {
                _mm_prefetch::<_MM_HINT_T1>(weights.first.wrapping_add((C + j) * weights.row + at).cast());
            }
        }
        for (i, sums) in sums.iter_mut().enumerate() {
            let x = load(x.wrapping_add(i * k + at));
            for j in 0..C {
                sums[j] = _mm512_dpbf16_ps(sums[j], x, stored[j]);
            }
        }
    }
    if !len.is_multiple_of(STEP) {
        let at = len / STEP * STEP;
        let mask = u32::MAX >> (STEP - (len - at));
        let load = |from: *const i16, mask: u32| -> __m512bh {
            // SAFETY: the mask lets through the numbers below `len`.
            unsafe { std::mem::transmute(_mm512_maskz_loadu_epi16(mask, from)) }
        };
        let all = if weights.ragged { mask } else { u32::MAX };
        let stored: [__m512bh; C] =
            std::array::from_fn(|j| load(weights.first.wrapping_add(j * weights.row + at / STEP * weights.step), all));
        for (i, sums) in sums.iter_mut().enumerate() {
            let x = load(x.wrapping_add(i * k + at), mask);
            for j in 0..C {
                sums[j] = _mm512_dpbf16_ps(sums[j], x, stored[j]);
            }
        }
    }
    for i in 0..R {
        for j in 0..C {
            // SAFETY: an array of sixteen numbers is what is written.
            unsafe { _mm512_storeu_ps(tile[i][j].as_mut_ptr(), sums[i][j]) };
        }
    }
    R
}
