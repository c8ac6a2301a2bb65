//! Products with bf16 weights of rows that are rounded to bf16 as well.
//!
//! ```text
//! out[i][j] = Σ_k bf16(x[i][k]) · w[j][k] + bias[j]
//! ```
//!
//! Twice as fast as the exact product where the processor multiplies pairs of bf16, and less exact by
//! what rounding x to 8 bits costs: 2^-9 of each number at most.
//!
//! Rows are padded with zeros to a whole number of thirty-twos. Lane l of sixteen sums the products at
//! k ≡ 2l + 1 and then at k ≡ 2l (mod 32), each by a fused multiply-add, in ascending steps of 32: what
//! `vdpbf16ps` does. Lanes and bias are added as in [`super::gemm`]. Every instruction set gives the same
//! bits, except where a sum gets below 2^-126, which the instruction flushes to zero.

use half::bf16;

use super::{Float, Rows};
use crate::isa::Isa;
use crate::lanes::Lanes;
use crate::lanes::scalar::Plain;
use crate::multiversion::{Work, on};
use crate::{Block, Error, Result};

/// Numbers that one step multiplies.
const STEP: usize = 32;

/// Rounds `x` to nearest even.
///
/// # Panics
/// When the slices differ in length.
pub fn round(isa: Isa, x: &[f32], rounded: &mut [bf16]) {
    assert_eq!(x.len(), rounded.len(), "a place for each number");
    on(isa, Round { x, rounded });
}

struct Round<'a> {
    x: &'a [f32],
    rounded: &'a mut [bf16],
}

impl Work for Round<'_> {
    type Answer = ();

    #[inline(always)]
    fn run(self) {
        for (r, x) in self.rounded.iter_mut().zip(self.x) {
            let bits = x.to_bits();
            // Half of the last place, and one less where that place is even, carries into it. A NaN
            // would be carried to infinity, so it keeps its upper half and gets a bit that stays.
            let carried = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
            let upper = if x.is_nan() { (bits >> 16) | 0x40 } else { carried };
            *r = bf16::from_bits(upper as u16);
        }
    }
}

/// out (m, n) = x (m, k) · weightsᵀ + bias, for bf16 weights (n, k).
///
/// # Errors
/// - [`Error::Size`] when the weights are not bf16.
/// - [`Error::Length`] when `x`, `bias` or `out` do not have these shapes.
pub fn gemm(isa: Isa, x: &[bf16], weights: Rows<'_>, bias: Option<&[f32]>, out: Block<'_>) -> Result<()> {
    if weights.kind != Float::Bf16 {
        let got = weights.kind.size();
        return Err(Error::Size { what: "the size of a weight", got, why: "only bf16 is multiplied in pairs" });
    }
    super::check(x.len(), weights, bias, &out)?;
    let job = Job { x, weights, bias };
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Bf16(proof) => avx512::product(proof, job, out),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni256(proof) | Isa::Avx512Vnni(proof) => {
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
            fn body(proof: crate::isa::Avx512Vnni, job: Job<'_>, out: Block<'_>) {
                product::<crate::lanes::avx512::Zmm>(proof, job, out);
            }
            // SAFETY: `proof` says that the processor has all of these.
            unsafe { body(proof, job, out) }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(proof) => avx2(proof, job, out),
        #[cfg(target_arch = "x86_64")]
        Isa::AvxVnni(proof) => avx2(proof.avx2(), job, out),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(proof) => product::<crate::lanes::neon::Quads>(proof, job, out),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonDotprod(proof) => product::<crate::lanes::neon::Quads>(proof.neon(), job, out),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonI8mm(proof) => product::<crate::lanes::neon::Quads>(proof.dotprod().neon(), job, out),
        _ => product::<Plain>((), job, out),
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Job<'a> {
    x: &'a [bf16],
    weights: Rows<'a>,
    bias: Option<&'a [f32]>,
}

impl Job<'_> {
    fn finish(&self, sum: f32, j: usize) -> f32 {
        self.bias.map_or(sum, |bias| sum + bias[j])
    }
}

#[cfg(target_arch = "x86_64")]
fn avx2(proof: crate::isa::Avx2, job: Job<'_>, out: Block<'_>) {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn body(proof: crate::isa::Avx2, job: Job<'_>, out: Block<'_>) {
        product::<crate::lanes::avx2::Ymm>(proof, job, out);
    }
    // SAFETY: `proof` says that the processor has all of these.
    unsafe { body(proof, job, out) }
}

/// The product in two steps per pair, one output after the other: these processors would be as fast
/// with the exact product, so this need only be right.
#[inline(always)]
fn product<V: Lanes>(proof: V::Proof, job: Job<'_>, mut out: Block<'_>) {
    let k = job.weights.columns;
    for (i, x) in job.x.chunks_exact(k.max(1)).enumerate() {
        for (j, out) in out.row(i).iter_mut().enumerate() {
            let w = &job.weights.bytes[j * k * 2..][..k * 2];
            let mut sum = V::splat(proof, 0.0);
            for (x, w) in x.chunks(STEP).zip(w.chunks(2 * STEP)) {
                let word = |low: Option<u16>, high: Option<u16>| {
                    u32::from(low.unwrap_or(0)) | u32::from(high.unwrap_or(0)) << 16
                };
                let x_at = |at: usize| x.get(at).map(|x| x.to_bits());
                let w_at = |at: usize| w.get(2 * at..2 * at + 2).map(|w| u16::from_le_bytes([w[0], w[1]]));
                let x = V::words(proof, &std::array::from_fn(|l| word(x_at(2 * l), x_at(2 * l + 1))));
                let w = V::words(proof, &std::array::from_fn(|l| word(w_at(2 * l), w_at(2 * l + 1))));
                sum = V::high_bf16(x).mul_add(V::high_bf16(w), sum);
                sum = V::low_bf16(x).mul_add(V::low_bf16(w), sum);
            }
            *out = job.finish(sum.sum(), j);
        }
    }
}

/// `vdpbf16ps`.
#[cfg(target_arch = "x86_64")]
mod avx512 {
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

    /// Numbers in a stretch of k: six weights take 24 KiB, three quarters of a first-level cache.
    const STRETCH: usize = 2048;

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
        for from in (0..k).step_by(STRETCH) {
            let len = (k - from).min(STRETCH);
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
            let mut row = 0;
            while row < rows.len() {
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
            // SAFETY: the mask lets through the numbers below `len`.
            let load = |from: *const i16, mask: u32| -> __m512bh {
                unsafe { std::mem::transmute(_mm512_maskz_loadu_epi16(mask, from)) }
            };
            let all = if weights.ragged { mask } else { u32::MAX };
            let stored: [__m512bh; C] = std::array::from_fn(|j| {
                load(weights.first.wrapping_add(j * weights.row + at / STEP * weights.step), all)
            });
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| (((i * 7919 + seed * 104_729) % 20_011) as f32 - 10_005.0) * 1e-4).collect()
    }

    fn run(isa: Isa, (m, n, k): (usize, usize, usize), x: &[bf16], w: &[u8], bias: Option<&[f32]>) -> Vec<f32> {
        let mut out = vec![f32::NAN; m * n];
        gemm(isa, x, Rows::new(w, Float::Bf16, n, k).unwrap(), bias, Block::new(&mut out, n)).unwrap();
        out
    }

    fn rounded(x: &[f32]) -> Vec<bf16> {
        let mut r = vec![bf16::ZERO; x.len()];
        round(Isa::best(), x, &mut r);
        r
    }

    #[test]
    fn rounding_is_that_of_the_half_crate() {
        let mut values = sample(1000, 1);
        values.extend([0.0, -0.0, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e-40, 1.003_906_3, 1.011_718_8]);
        for isa in Isa::all() {
            let mut got = vec![bf16::ZERO; values.len()];
            round(isa, &values, &mut got);
            assert!(got.iter().zip(&values).all(|(r, x)| r.to_bits() == bf16::from_f32(*x).to_bits()));
            round(isa, &[f32::NAN], &mut got[..1]);
            assert!(got[0].is_nan());
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits_and_they_are_the_product() {
        for (m, n, k) in [(1, 1, 1), (3, 7, 31), (4, 6, 64), (5, 13, 200), (9, 8, 33), (37, 9, 2100)] {
            let x = rounded(&sample(m * k, 3));
            let w: Vec<u8> = rounded(&sample(n * k, 5)).iter().flat_map(|w| w.to_le_bytes()).collect();
            // An odd address.
            let mut shifted = vec![0u8];
            shifted.extend(&w);
            let bias = sample(n, 9);
            let want = run(Isa::Scalar, (m, n, k), &x, &w, Some(&bias));
            for isa in Isa::all() {
                assert_eq!(run(isa, (m, n, k), &x, &shifted[1..], Some(&bias)), want, "{} {m}x{n}x{k}", isa.name());
            }
            for i in 0..m {
                for j in 0..n {
                    let w = |c: usize| bf16::from_le_bytes([w[(j * k + c) * 2], w[(j * k + c) * 2 + 1]]);
                    let exact: f64 = (0..k).map(|c| x[i * k + c].to_f64() * w(c).to_f64()).sum();
                    // At most 2100 products below 1, each rounded in f32.
                    assert!((f64::from(want[i * n + j]) - exact - f64::from(bias[j])).abs() < 2e-4);
                }
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_among_many() {
        let (m, n, k) = (11, 20, 160);
        let x = rounded(&sample(m * k, 3));
        let w: Vec<u8> = rounded(&sample(n * k, 5)).iter().flat_map(|w| w.to_le_bytes()).collect();
        for isa in Isa::all() {
            let all = run(isa, (m, n, k), &x, &w, None);
            for i in [0, 4, 10] {
                assert_eq!(run(isa, (1, n, k), &x[i * k..][..k], &w, None), all[i * n..][..n]);
            }
        }
    }

    #[test]
    fn other_weights_are_refused() {
        let weights = Rows::new(&[0; 4], Float::F32, 1, 1).unwrap();
        let refused = gemm(Isa::best(), &[bf16::ZERO], weights, None, Block::new(&mut [0.0], 1));
        assert!(matches!(refused, Err(Error::Size { got: 4, .. })));
    }
}
