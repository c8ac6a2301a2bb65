//! Rows of activations into signed bytes, with what comes before fused in.
//!
//! ```text
//! y = x                                            Before::Nothing
//! y = (x · (1 / √(mean(x²) + eps))) · weight       Before::RmsNorm
//! y = (x − m) / √(mean((x − m)²) + eps) · weight + bias,   m = mean(x)      Before::LayerNorm
//! y = silu(gate) · up,   (gate | up) = x           Before::SiluMul
//! y = gelu(x)                                      Before::Gelu
//! y = H y                                          block Hadamard, where a block is given
//! scale = max|y| / 127,   code = round(y / scale)  ties to even
//! ```
//!
//! One pass over a row while it is in the first-level cache, instead of one over memory for each line.

use crate::exp::exp;
use crate::gelu::gelu;
use crate::hadamard::{butterflies, norm};
use crate::layout::padded_inputs;
use crate::multiversion::{Work, on};
use crate::{Error, Isa, Result};

/// The largest code.
const MOST: f32 = 127.0;

/// What happens to a row before it is quantised.
#[derive(Debug, Clone, Copy)]
pub enum Before<'a> {
    /// Nothing.
    Nothing,
    /// Root-mean-square normalisation with this weight (k).
    RmsNorm {
        /// The norm's weight.
        weight: &'a [f32],
        /// Added to the mean square.
        eps: f32,
    },
    /// Layer normalisation with this weight and bias, (k) each.
    LayerNorm {
        /// Factor of each normalised number.
        weight: &'a [f32],
        /// Added to each.
        bias: &'a [f32],
        /// Added to the variance.
        eps: f32,
    },
    /// The row is (2·k), gate and up side by side.
    SiluMul,
    /// x · Φ(x), with the normal distribution itself.
    Gelu,
}

/// How rows of k inputs are quantised.
#[derive(Debug, Clone, Copy)]
pub struct Recipe<'a> {
    before: Before<'a>,
    k: usize,
    block: usize,
    sum_width: usize,
}

impl<'a> Recipe<'a> {
    /// Rows of `k` inputs, rotated in blocks of `block` (one: not at all), for weights that want sums
    /// over `sum_width` codes ([`crate::integer::Weights::sum_width`]).
    ///
    /// # Errors
    /// - [`Error::Length`] when a norm's weight or bias is not k long.
    /// - [`Error::Size`] when blocks do not divide k or sums have no width.
    pub fn new(before: Before<'a>, k: usize, block: usize, sum_width: usize) -> Result<Self> {
        let vectors = match before {
            Before::RmsNorm { weight, .. } => [weight.len(), k],
            Before::LayerNorm { weight, bias, .. } => [weight.len(), bias.len()],
            Before::Nothing | Before::SiluMul | Before::Gelu => [k, k],
        };
        if let Some(got) = vectors.into_iter().find(|length| *length != k) {
            return Err(Error::Length { what: "the weight of a norm", expected: k, got });
        }
        if !block.is_power_of_two() || block > crate::hadamard::BLOCK || !k.is_multiple_of(block) {
            return Err(Error::Size {
                what: "a block of the rotation",
                got: block,
                why: "a power of two that divides k",
            });
        }
        if sum_width == 0 {
            return Err(Error::Size { what: "the width of sums", got: 0, why: "at least one" });
        }
        Ok(Self { before, k, block, sum_width })
    }

    /// Width of a row as it is given.
    #[must_use]
    pub fn width_in(&self) -> usize {
        if matches!(self.before, Before::SiluMul) { 2 * self.k } else { self.k }
    }

    /// Length of a row's codes.
    #[must_use]
    pub fn codes(&self) -> usize {
        padded_inputs(self.k)
    }

    /// Number of a row's sums.
    #[must_use]
    pub fn sums(&self) -> usize {
        self.codes().div_ceil(self.sum_width)
    }

    /// Writes what comes before the quantisation, rotation included, of row `x` to `y` (k): what the
    /// integer product stands in for.
    ///
    /// # Panics
    /// When `x` or `y` has another length.
    pub fn prepare(&self, isa: Isa, x: &[f32], y: &mut [f32]) {
        on(isa, Prepare { recipe: self, x, y });
    }

    /// Quantises row `x`. → its scale; a row with an infinity or a NaN has a NaN for a scale, so that
    /// nothing computed from it passes for a number.
    ///
    /// `scratch` is (k), `codes` and `sums` as long as [`Recipe::codes`] and [`Recipe::sums`] say.
    ///
    /// # Panics
    /// When a slice has another length.
    pub fn quantise(&self, isa: Isa, x: &[f32], scratch: &mut [f32], codes: &mut [i8], sums: &mut [i32]) -> f32 {
        assert_eq!((codes.len(), sums.len()), (self.codes(), self.sums()), "room for one row");
        on(isa, Quantise { recipe: self, x, scratch, codes, sums })
    }

    #[inline(always)]
    fn before(&self, x: &[f32], y: &mut [f32]) {
        assert_eq!((x.len(), y.len()), (self.width_in(), self.k), "a whole row");
        match self.before {
            Before::Nothing => y.copy_from_slice(x),
            Before::RmsNorm { weight, eps } => {
                let scale = 1.0 / (mean_square(x) + eps).sqrt();
                for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                    *y = (x * scale) * w;
                }
            }
            Before::LayerNorm { weight, bias, eps } => {
                let mean = mean(x);
                for (y, x) in y.iter_mut().zip(x) {
                    *y = x - mean;
                }
                let scale = 1.0 / (mean_square(y) + eps).sqrt();
                for ((y, w), b) in y.iter_mut().zip(weight).zip(bias) {
                    *y = (*y * scale).mul_add(*w, *b);
                }
            }
            Before::Gelu => {
                for (y, x) in y.iter_mut().zip(x) {
                    *y = gelu(*x);
                }
            }
            Before::SiluMul => {
                let (gate, up) = x.split_at(self.k);
                for ((y, g), u) in y.iter_mut().zip(gate).zip(up) {
                    *y = g / (1.0 + exp(-*g)) * u;
                }
            }
        }
    }
}

struct Prepare<'a> {
    recipe: &'a Recipe<'a>,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Work for Prepare<'_> {
    type Answer = ();

    #[inline(always)]
    fn run(self) {
        self.recipe.before(self.x, self.y);
        let block = self.recipe.block;
        if block > 1 {
            butterflies(block, self.y);
            let scale = norm(block);
            self.y.iter_mut().for_each(|y| *y *= scale);
        }
    }
}

struct Quantise<'a> {
    recipe: &'a Recipe<'a>,
    x: &'a [f32],
    scratch: &'a mut [f32],
    codes: &'a mut [i8],
    sums: &'a mut [i32],
}

impl Work for Quantise<'_> {
    type Answer = f32;

    #[inline(always)]
    fn run(self) -> f32 {
        let Self { recipe, x, scratch, codes, sums } = self;
        recipe.before(x, scratch);
        butterflies(recipe.block, scratch);
        // The matrix of ±1 is √block times the rotation; the scale takes that back.
        let shrink = if recipe.block > 1 { norm(recipe.block) } else { 1.0 };
        let largest = largest(scratch);
        let inverse = if largest > 0.0 && largest.is_finite() { MOST / largest } else { 0.0 };
        round(scratch, inverse, codes);
        for (sum, codes) in sums.iter_mut().zip(codes.chunks(recipe.sum_width)) {
            *sum = codes.iter().map(|code| i32::from(*code)).sum();
        }
        if largest.is_finite() { largest / MOST * shrink } else { f32::NAN }
    }
}

/// Mean of the squares.
#[inline(always)]
fn mean_square(x: &[f32]) -> f32 {
    mean_of(x, |v| v * v)
}

#[inline(always)]
fn mean(x: &[f32]) -> f32 {
    mean_of(x, |v| v)
}

/// Mean of `f` of each number, in 16 interleaved sums that are then added one after the other.
#[inline(always)]
fn mean_of(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (blocks, tail) = x.as_chunks::<16>();
    let mut sums = [0f32; 16];
    for block in blocks {
        for lane in 0..16 {
            sums[lane] += f(block[lane]);
        }
    }
    let sum = sums.iter().sum::<f32>() + tail.iter().map(|v| f(*v)).sum::<f32>();
    sum / x.len() as f32
}

/// The largest magnitude; not finite where some element is not. Magnitudes are compared by their
/// bits, which order as the numbers do, with infinity and then NaN on top: a comparison of floats
/// would lose a NaN.
#[inline(always)]
fn largest(x: &[f32]) -> f32 {
    let bits = |v: &f32| (v.to_bits() & 0x7fff_ffff) as i32;
    let (blocks, tail) = x.as_chunks::<16>();
    let mut most = [0i32; 16];
    for block in blocks {
        for lane in 0..16 {
            most[lane] = most[lane].max(bits(&block[lane]));
        }
    }
    let most = tail.iter().map(bits).chain(most).max().unwrap_or(0);
    f32::from_bits(most as u32)
}

/// Rounds x · inverse, which lies within ±127, to nearest even. Padding gets zeros.
#[inline(always)]
fn round(x: &[f32], inverse: f32, codes: &mut [i8]) {
    // Adding 1.5·2^23 leaves the rounded integer in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let (given, padding) = codes.split_at_mut(x.len());
    for (code, x) in given.iter_mut().zip(x) {
        *code = (x * inverse + ROUND).to_bits() as i8;
    }
    padding.fill(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.13).collect()
    }

    fn quantise(recipe: &Recipe<'_>, isa: Isa, x: &[f32]) -> (f32, Vec<i8>, Vec<i32>) {
        let (mut codes, mut sums) = (vec![99; recipe.codes()], vec![0; recipe.sums()]);
        let scale = recipe.quantise(isa, x, &mut vec![0.0; recipe.k], &mut codes, &mut sums);
        (scale, codes, sums)
    }

    /// Everything that can come before; `weight` is a norm's weight and its bias.
    fn all(weight: &[f32]) -> [Before<'_>; 5] {
        [
            Before::Nothing,
            Before::RmsNorm { weight, eps: 1e-5 },
            Before::LayerNorm { weight, bias: weight, eps: 1e-5 },
            Before::SiluMul,
            Before::Gelu,
        ]
    }

    #[test]
    fn a_layer_norm_has_the_mean_and_the_spread_that_it_is_told() {
        for k in [3, 70, 640] {
            let (weight, bias) = (vec![2.0; k], vec![-0.5; k]);
            let recipe = Recipe::new(Before::LayerNorm { weight: &weight, bias: &bias, eps: 1e-5 }, k, 1, k).unwrap();
            // Far from zero: a variance formed as mean(x²) − mean(x)² would lose its digits.
            let x: Vec<f32> = sample(k).iter().map(|v| v + 300.0).collect();
            let mut y = vec![0.0; k];
            recipe.prepare(Isa::best(), &x, &mut y);
            let n = k as f64;
            let mean = y.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
            let variance = y.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
            assert!((mean + 0.5).abs() < 1e-4 && (variance - 4.0).abs() < 1e-3, "{k}: {mean} {variance}");
        }
    }

    #[test]
    fn codes_stand_for_the_prepared_row_within_half_a_step() {
        for k in [1, 8, 70, 128, 640] {
            let weight: Vec<f32> = (0..k).map(|i| 0.5 + (i % 7) as f32 * 0.2).collect();
            for before in all(&weight) {
                for block in [1, crate::hadamard::block(k)] {
                    let recipe = Recipe::new(before, k, block, 64).unwrap();
                    let x = sample(recipe.width_in());
                    let mut y = vec![0.0; k];
                    recipe.prepare(Isa::best(), &x, &mut y);
                    let (scale, codes, sums) = quantise(&recipe, Isa::best(), &x);
                    for (code, y) in codes.iter().zip(&y) {
                        // Half a step and the roundings of the product.
                        assert!((f32::from(*code) * scale - y).abs() <= scale * 0.5001, "{k} {before:?}");
                    }
                    assert!(codes[k..].iter().all(|code| *code == 0));
                    assert!(y.iter().all(|y| *y == 0.0) || codes.iter().any(|code| code.unsigned_abs() == 127));
                    let totals: Vec<i32> = codes.chunks(64).map(|c| c.iter().map(|c| i32::from(*c)).sum()).collect();
                    assert_eq!(sums, totals);
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let weight = vec![1.25; 256];
        for before in all(&weight) {
            let recipe = Recipe::new(before, 256, 128, 32).unwrap();
            let x = sample(recipe.width_in());
            let want = quantise(&recipe, Isa::Scalar, &x);
            for isa in Isa::all() {
                assert_eq!(quantise(&recipe, isa, &x), want, "{}", isa.name());
            }
        }
    }

    #[test]
    fn a_row_of_zeros_has_a_scale_of_zero() {
        let recipe = Recipe::new(Before::Nothing, 64, 1, 64).unwrap();
        assert_eq!(quantise(&recipe, Isa::best(), &[0.0; 64]), (0.0, vec![0; 64], vec![0]));
    }

    #[test]
    fn what_is_not_a_number_is_not_hidden() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for block in [1, 64] {
                let mut x = sample(64);
                x[17] = bad;
                let recipe = Recipe::new(Before::Nothing, 64, block, 64).unwrap();
                assert!(Isa::all().all(|isa| quantise(&recipe, isa, &x).0.is_nan()), "{bad} {block}");
            }
        }
    }

    #[test]
    fn recipes_that_do_not_fit_are_errors() {
        assert!(Recipe::new(Before::RmsNorm { weight: &[1.0], eps: 0.0 }, 2, 1, 64).is_err());
        assert!(Recipe::new(Before::LayerNorm { weight: &[1.0; 2], bias: &[0.0], eps: 0.0 }, 2, 1, 64).is_err());
        assert!(Recipe::new(Before::Nothing, 12, 8, 64).is_err());
        assert!(Recipe::new(Before::Nothing, 64, 3, 64).is_err());
        assert!(Recipe::new(Before::Nothing, 64, 1, 0).is_err());
    }
}
