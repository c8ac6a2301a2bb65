//! The loops of a dense product, and the register tile inside them.
#![allow(unsafe_code)]

use super::{Float, Rows};
use crate::Block;
use crate::isa::Isa;
use crate::lanes::scalar::Plain;
use crate::lanes::{LANES, Lanes};

/// Bytes of input rows that are worked on together: half of a second-level cache of one MiB, the other
/// half of which is for the weights that pass by.
const BLOCK_BYTES: usize = 512 << 10;

/// The operands of a product, whose shapes fit.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) x: &'a [f32],            // (m, k)
    pub(super) weights: Rows<'a>,       // (n, k)
    pub(super) bias: Option<&'a [f32]>, // (n)
}

/// Runs the body for `isa`. Tiles are as large as its registers hold.
pub(super) fn multiply(isa: Isa, job: Job<'_>, out: Block<'_>) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni256(proof) | Isa::Avx512Vnni(proof) => avx512(proof, job, out),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Bf16(proof) => avx512(proof.vnni(), job, out),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(proof) => avx2(proof, job, out),
        #[cfg(target_arch = "x86_64")]
        Isa::AvxVnni(proof) => avx2(proof.avx2(), job, out),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(proof) => by_kind::<crate::lanes::neon::Quads, 2, 3>(proof, job, out),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonDotprod(proof) => by_kind::<crate::lanes::neon::Quads, 2, 3>(proof.neon(), job, out),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonI8mm(proof) => by_kind::<crate::lanes::neon::Quads, 2, 3>(proof.dotprod().neon(), job, out),
        _ => by_kind::<Plain, 1, 1>((), job, out),
    }
}

#[cfg(target_arch = "x86_64")]
fn avx512(proof: crate::isa::Avx512Vnni, job: Job<'_>, out: Block<'_>) {
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
    fn body(proof: crate::isa::Avx512Vnni, job: Job<'_>, out: Block<'_>) {
        by_kind::<crate::lanes::avx512::Zmm, 4, 6>(proof, job, out);
    }
    // SAFETY: `proof` says that the processor has all of these.
    unsafe { body(proof, job, out) }
}

#[cfg(target_arch = "x86_64")]
fn avx2(proof: crate::isa::Avx2, job: Job<'_>, out: Block<'_>) {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn body(proof: crate::isa::Avx2, job: Job<'_>, out: Block<'_>) {
        by_kind::<crate::lanes::avx2::Ymm, 2, 3>(proof, job, out);
    }
    // SAFETY: `proof` says that the processor has all of these.
    unsafe { body(proof, job, out) }
}

/// How sixteen stored numbers become lanes.
trait Stored {
    const SIZE: usize;
    /// # Safety
    /// `from` points to sixteen stored numbers.
    unsafe fn load<V: Lanes>(proof: V::Proof, from: *const u8) -> V;
}

macro_rules! stored {
    ($name:ident, $size:literal, $load:ident) => {
        struct $name;
        impl Stored for $name {
            const SIZE: usize = $size;
            #[inline(always)]
            unsafe fn load<V: Lanes>(proof: V::Proof, from: *const u8) -> V {
                // SAFETY: the caller says that there are this many bytes, which need no alignment.
                V::$load(proof, unsafe { &*from.cast() })
            }
        }
    };
}

stored!(F32, 4, load_f32);
stored!(F16, 2, load_f16);
stored!(Bf16, 2, load_bf16);

#[inline(always)]
fn by_kind<V: Lanes, const M: usize, const N: usize>(proof: V::Proof, job: Job<'_>, out: Block<'_>) {
    match job.weights.kind {
        Float::F32 => product::<V, F32, M, N>(proof, job, out),
        Float::F16 => product::<V, F16, M, N>(proof, job, out),
        Float::Bf16 => product::<V, Bf16, M, N>(proof, job, out),
    }
}

#[inline(always)]
fn product<V: Lanes, W: Stored, const M: usize, const N: usize>(proof: V::Proof, job: Job<'_>, mut out: Block<'_>) {
    let (m, n, k) = (out.rows(), out.columns(), job.weights.columns);
    let per_block = (BLOCK_BYTES / (4 * k.max(1)) / M).max(1) * M;
    for first in (0..m).step_by(per_block) {
        let end = m.min(first + per_block);
        let mut column = 0;
        while column + N <= n {
            rows::<V, W, M, N>(proof, job, first..end, column, &mut out);
            column += N;
        }
        while column < n {
            rows::<V, W, M, 1>(proof, job, first..end, column, &mut out);
            column += 1;
        }
    }
}

/// N columns of some rows.
#[inline(always)]
fn rows<V: Lanes, W: Stored, const M: usize, const N: usize>(
    proof: V::Proof,
    job: Job<'_>,
    rows: std::ops::Range<usize>,
    column: usize,
    out: &mut Block<'_>,
) {
    let mut row = rows.start;
    while row + M <= rows.end {
        tile::<V, W, M, N>(proof, job, row, column, out);
        row += M;
    }
    while row < rows.end {
        tile::<V, W, 1, N>(proof, job, row, column, out);
        row += 1;
    }
}

/// M rows by N columns: M · N sums of sixteen lanes in registers.
#[inline(always)]
fn tile<V: Lanes, W: Stored, const M: usize, const N: usize>(
    proof: V::Proof,
    job: Job<'_>,
    row: usize,
    column: usize,
    out: &mut Block<'_>,
) {
    let k = job.weights.columns;
    let stride = k * W::SIZE;
    let x = &job.x[row * k..(row + M) * k];
    let w = &job.weights.bytes[column * stride..(column + N) * stride];
    let mut sums = [[V::splat(proof, 0.0); N]; M];
    for at in (0..k / LANES).map(|step| step * LANES) {
        let mut stored = [V::splat(proof, 0.0); N];
        for (j, stored) in stored.iter_mut().enumerate() {
            // SAFETY: at + 16 ≤ k, so this is inside row j of the N rows in `w`.
            *stored = unsafe { W::load(proof, w.as_ptr().add(j * stride + at * W::SIZE)) };
        }
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: at + 16 ≤ k, so this is inside row i of the M rows in `x`.
            let x = V::load(proof, unsafe { &*x.as_ptr().add(i * k + at).cast() });
            for j in 0..N {
                sums[j] = x.mul_add(stored[j], sums[j]);
            }
        }
    }
    let tail = k % LANES;
    if tail > 0 {
        for (i, sums) in sums.iter_mut().enumerate() {
            let mut numbers = [0f32; LANES];
            numbers[..tail].copy_from_slice(&x[(i + 1) * k - tail..][..tail]);
            let x = V::load(proof, &numbers);
            for (j, sum) in sums.iter_mut().enumerate() {
                let mut bytes = [0u8; 4 * LANES];
                bytes[..tail * W::SIZE].copy_from_slice(&w[(j + 1) * stride - tail * W::SIZE..][..tail * W::SIZE]);
                // SAFETY: the array has room for sixteen numbers of the widest kind.
                *sum = x.mul_add(unsafe { W::load(proof, bytes.as_ptr()) }, *sum);
            }
        }
    }
    for (i, sums) in sums.into_iter().enumerate() {
        let out = &mut out.row(row + i)[column..column + N];
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = sum.sum();
        }
        if let Some(bias) = job.bias {
            for (out, bias) in out.iter_mut().zip(&bias[column..column + N]) {
                *out += bias;
            }
        }
    }
}
