//! Random weights that depend on the seed, the tensor's name and the place in the tensor, and on
//! nothing else: any thread can draw any part of any tensor.
//!
//! A number is made from its index alone (SplitMix64: Steele, Lea and Flood, "Fast splittable
//! pseudorandom number generators", 2014): the 64 mixed bits are four 16-bit uniforms, whose sum
//! is near enough to normal. Its tails end at 3.46 standard deviations, so a quantiser meets none
//! of the outliers that trained weights have.

use half::bf16;
use rayon::prelude::*;

use super::plan::Tensor;
use super::shards::StoredAs;

/// SplitMix64's increment, 2^64 divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Twice the mean of the sum of four uniforms on 0…65535, halved exactly: 4 · 65535 / 2.
const SUM_MEAN: f32 = 131_070.0;

/// Standard deviation of that sum: sqrt(4 · (65536² − 1) / 12).
const SUM_SD: f32 = 37_837.226;

/// Values one thread draws at a time.
const PIECE: usize = 1 << 16;

/// An endless sequence of numbers of mean 0 and standard deviation 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Noise {
    key: u64,
}

impl Noise {
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        // FNV-1a, then mixed with the seed so that neighbouring seeds share nothing.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self { key: mix(hash ^ mix(seed)) }
    }

    #[inline]
    pub(crate) fn at(self, idx: u64) -> f32 {
        let bits = mix(self.key.wrapping_add(idx.wrapping_mul(STEP)));
        let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
        // At most 4 · 65535, which f32 holds exactly.
        (sum as u32 as f32 - SUM_MEAN) * (1.0 / SUM_SD)
    }

    /// Fills `into` with the values of `tensor` from index `first` on, little-endian.
    pub(crate) fn fill(self, tensor: &Tensor, first: u64, stored_as: StoredAs, into: &mut [u8]) {
        let (mean, sd) = (tensor.mean, tensor.sd);
        let pieces = into.par_chunks_mut(PIECE * stored_as.size()).enumerate();
        pieces.for_each(|(piece, bytes)| {
            let indices = first + (piece * PIECE) as u64..;
            let draw = |idx| mean + sd * self.at(idx);
            match stored_as {
                StoredAs::Bf16 => {
                    for (idx, out) in indices.zip(bytes.as_chunks_mut::<2>().0) {
                        *out = bf16::from_f32(draw(idx)).to_le_bytes();
                    }
                }
                StoredAs::F32 => {
                    for (idx, out) in indices.zip(bytes.as_chunks_mut::<4>().0) {
                        *out = draw(idx).to_le_bytes();
                    }
                }
            }
        });
    }
}

#[inline]
fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(values: usize) -> Tensor {
        Tensor { name: "t".to_owned(), shape: vec![values], mean: 0.5, sd: 2.0 }
    }

    fn filled(values: usize, first: u64, stored_as: StoredAs) -> Vec<u8> {
        let mut bytes = vec![0; values * stored_as.size()];
        Noise::new(1, "t").fill(&tensor(values), first, stored_as, &mut bytes);
        bytes
    }

    #[test]
    fn the_mixer_is_the_published_one() {
        // The first outputs of SplitMix64 from state 0, as its reference implementation prints them.
        assert_eq!([1, 2].map(|n| mix(STEP.wrapping_mul(n))), [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
    }

    #[test]
    fn numbers_are_normal_to_four_moments() {
        const DRAWN: u64 = 1_000_000;
        let noise = Noise::new(7, "moments");
        let moment =
            |power: i32| (0..DRAWN).map(|idx| f64::from(noise.at(idx)).powi(power)).sum::<f64>() / DRAWN as f64;
        // Five standard errors of each moment over a million draws; the fourth moment of a sum of
        // four uniforms is 2.7 instead of the normal distribution's 3.
        assert!(moment(1).abs() < 0.005);
        assert!((moment(2) - 1.0).abs() < 0.007);
        assert!(moment(3).abs() < 0.02);
        assert!((moment(4) - 2.7).abs() < 0.04);
    }

    #[test]
    fn neighbours_and_names_and_seeds_are_independent() {
        const DRAWN: u64 = 100_000;
        let correlation = |a: Noise, b: Noise, lag: u64| {
            (0..DRAWN).map(|idx| f64::from(a.at(idx) * b.at(idx + lag))).sum::<f64>() / DRAWN as f64
        };
        let noise = Noise::new(0, "a");
        // Five standard errors of a mean of 100 000 products.
        const CHANCE: f64 = 0.016;
        assert!(correlation(noise, noise, 1).abs() < CHANCE);
        assert!(correlation(noise, Noise::new(0, "b"), 0).abs() < CHANCE);
        assert!(correlation(noise, Noise::new(1, "a"), 0).abs() < CHANCE);
    }

    #[test]
    fn drawing_in_parts_gives_the_same_bytes_as_drawing_at_once() {
        let cut = PIECE + 12_345;
        for stored_as in [StoredAs::Bf16, StoredAs::F32] {
            let whole = filled(3 * PIECE, 0, stored_as);
            let parts = [filled(cut, 0, stored_as), filled(3 * PIECE - cut, cut as u64, stored_as)].concat();
            assert!(whole == parts, "{stored_as:?}");
        }
    }

    #[test]
    fn one_thread_draws_what_many_draw() {
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert!(alone.install(|| filled(3 * PIECE, 5, StoredAs::Bf16)) == filled(3 * PIECE, 5, StoredAs::Bf16));
    }

    #[test]
    fn both_formats_hold_the_same_numbers_around_their_mean() {
        let wide = filled(1000, 0, StoredAs::F32);
        let narrow = filled(1000, 0, StoredAs::Bf16);
        let mut sum = 0.0;
        for (idx, (wide, narrow)) in wide.as_chunks::<4>().0.iter().zip(narrow.as_chunks::<2>().0).enumerate() {
            let value = f32::from_le_bytes(*wide);
            assert_eq!(value, 0.5 + 2.0 * Noise::new(1, "t").at(idx as u64));
            assert_eq!(bf16::from_f32(value), bf16::from_le_bytes(*narrow));
            sum += value;
        }
        // Five standard errors of a mean of 1000 draws of standard deviation 2.
        assert!((sum / 1000.0 - 0.5).abs() < 0.32);
    }
}
