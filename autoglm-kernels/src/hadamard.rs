//! The block Hadamard rotation.
//!
//! y = H x with H = I ⊗ H_b / √b, where H_b is Sylvester's matrix of ±1: symmetric and orthonormal, so
//! it is its own inverse and (W H)(H x) = W x. It spreads a large channel over its block, after which
//! one scale fits all of a row (Ashkboos et al., "QuaRot"). In f32 the butterflies go from far
//! neighbours to near ones; the result has the same bits on every instruction set.

use crate::Isa;
use crate::multiversion::{Work, on};

/// The widest block.
pub const BLOCK: usize = 128;

/// The block for rows of k: the largest power of two, at most [`BLOCK`], that divides k. One means
/// that nothing is rotated.
#[must_use]
pub fn block(k: usize) -> usize {
    if k == 0 { 1 } else { BLOCK.min(1 << k.trailing_zeros()) }
}

/// Rotates each block of `x` in place.
///
/// # Panics
/// When `block` is no power of two up to [`BLOCK`], or `x` is not a whole number of blocks.
pub fn rotate(isa: Isa, block: usize, x: &mut [f32]) {
    on(isa, Rotate { block, x });
}

struct Rotate<'a> {
    block: usize,
    x: &'a mut [f32],
}

impl Work for Rotate<'_> {
    type Answer = ();

    #[inline(always)]
    fn run(self) {
        let scale = norm(self.block);
        butterflies(self.block, self.x);
        self.x.iter_mut().for_each(|v| *v *= scale);
    }
}

/// 1 / √b, rounded to f32.
#[inline(always)]
pub(crate) fn norm(block: usize) -> f32 {
    (block as f32).sqrt().recip()
}

/// Multiplies each block by the matrix of ±1.
#[inline(always)]
pub(crate) fn butterflies(block: usize, x: &mut [f32]) {
    assert!(block.is_power_of_two() && block <= BLOCK && x.len().is_multiple_of(block), "whole blocks");
    if block == BLOCK {
        let (blocks, _) = x.as_chunks_mut::<BLOCK>();
        blocks.iter_mut().for_each(whole);
    } else {
        let mut half = block / 2;
        while half > 0 {
            for pair in x.chunks_exact_mut(2 * half) {
                let (a, b) = pair.split_at_mut(half);
                a.iter_mut().zip(b).for_each(|(a, b)| (*a, *b) = (*a + *b, *a - *b));
            }
            half /= 2;
        }
    }
}

/// The widest block: eight vectors of 16, first across vectors, then within each.
#[inline(always)]
fn whole(x: &mut [f32; BLOCK]) {
    for half in [64, 32, 16] {
        for pair in x.chunks_exact_mut(2 * half) {
            let (a, b) = pair.split_at_mut(half);
            a.iter_mut().zip(b).for_each(|(a, b)| (*a, *b) = (*a + *b, *a - *b));
        }
    }
    let (vectors, _) = x.as_chunks_mut::<16>();
    for v in vectors {
        *v = within::<1>(within::<2>(within::<4>(within::<8>(*v))));
    }
}

/// One stage of butterflies between elements `H` apart. Written as a gather of neighbours with signs,
/// the compiler makes shuffles of it.
#[inline(always)]
fn within<const H: usize>(v: [f32; 16]) -> [f32; 16] {
    let neighbour: [f32; 16] = std::array::from_fn(|i| v[i ^ H]);
    std::array::from_fn(|i| if i & H == 0 { v[i] + neighbour[i] } else { neighbour[i] - v[i] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.013).collect()
    }

    #[test]
    fn the_rotation_is_sylvester_s_matrix() {
        for isa in Isa::all() {
            for block in [1, 2, 8, 64, 128] {
                let x = sample(2 * block);
                let mut y = x.clone();
                rotate(isa, block, &mut y);
                for (part, got) in x.chunks(block).zip(y.chunks(block)) {
                    for (i, got) in got.iter().enumerate() {
                        let sign = |j: usize| if (i & j).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
                        let sum: f64 = part.iter().enumerate().map(|(j, x)| sign(j) * f64::from(*x)).sum();
                        // Seven roundings of values below 128 · 0.65.
                        assert!((f64::from(*got) - sum / (block as f64).sqrt()).abs() < 1e-5, "{block}");
                    }
                }
            }
        }
    }

    #[test]
    fn it_is_its_own_inverse() {
        for block in [2, 16, 128] {
            let x = sample(3 * block);
            let mut y = x.clone();
            rotate(Isa::best(), block, &mut y);
            rotate(Isa::best(), block, &mut y);
            assert!(x.iter().zip(&y).all(|(a, b)| (a - b).abs() < 1e-6), "{block}");
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for block in [8, 128] {
            let rotated = |isa| {
                let mut x = sample(block * 5);
                rotate(isa, block, &mut x);
                x
            };
            assert!(Isa::all().all(|isa| rotated(isa) == rotated(Isa::Scalar)));
        }
    }

    #[test]
    fn the_block_divides_the_width() {
        for (k, want) in [(4096, 128), (13_696, 128), (1536, 128), (1176, 8), (96, 32), (1, 1), (0, 1)] {
            assert_eq!(block(k), want, "{k}");
        }
    }
}
