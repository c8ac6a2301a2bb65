//! Codes chosen one input after the other, each making up for the rounding of those before it.
//!
//! ```text
//! H = G + Λ = Σ x xᵀ + Λ       (k, k)  what calibration saw of the inputs
//! H⁻¹ = Uᵀ U                   (k, k)  U upper triangular
//! for j in 0..k:
//!     code_j = round(w_j / step_j)
//!     e      = (w_j − code_j · step_j) / U_jj
//!     w_i   -= e · U_ji                    i > j: the least squares over the inputs that are still free
//! ```
//!
//! (Frantar et al., "GPTQ", with steps that are found before, from the weights as they were.) Inputs are done in blocks:
//! within one, weights follow at once; those behind it follow when it is full, tile by tile, which stays in the cache.

use crate::codes::ROUND;
use crate::{Error, Result};

/// Rows that are done together, so that a row of U serves all of them while it is at hand.
pub(crate) const ROWS: usize = 16;

/// Inputs in a block.
const BLOCK: usize = 64;

/// Inputs behind a block that follow together.
const TILE: usize = 512;

/// What one input's rounding is to the others.
#[derive(Debug)]
pub struct Feedback {
    upper: Vec<f32>,
    k: usize,
}

impl Feedback {
    /// `upper` is U, row by row (k, k); what lies below its diagonal is not read.
    ///
    /// # Errors
    /// [`Error::Feedback`] when it has another size, or its diagonal is not positive and finite.
    pub fn new(upper: Vec<f32>, k: usize) -> Result<Self> {
        let fits = k.checked_mul(k) == Some(upper.len());
        let sound = |x: &f32| x.is_normal() && *x > 0.0;
        if !fits || !upper.iter().step_by(k + 1).all(sound) {
            return Err(Error::Feedback { width: k, numbers: upper.len() });
        }
        Ok(Self { upper, k })
    }

    /// Inputs.
    #[must_use]
    pub fn width(&self) -> usize {
        self.k
    }

    /// The codes of `rows` (m, k), whose weights are used up; `steps` (m, k / group) are what codes are multiplied by.
    pub(crate) fn choose(
        &self,
        rows: &mut [f32],
        steps: &[f32],
        group: usize,
        (low, high): (f32, f32),
        codes: &mut [i8],
    ) {
        let (k, groups) = (self.k, self.k.div_ceil(group.max(1)));
        let mut errors = [[0f32; BLOCK]; ROWS];
        pulp::Arch::new().dispatch(|| {
            for start in (0..k).step_by(BLOCK) {
                let end = (start + BLOCK).min(k);
                let each = rows.chunks_exact_mut(k).zip(codes.chunks_exact_mut(k)).zip(steps.chunks_exact(groups));
                for (((row, codes), steps), errors) in each.zip(&mut errors) {
                    for j in start..end {
                        let step = steps[j / group];
                        let inverse = 1.0 / step;
                        let inverse = if inverse.is_finite() { inverse } else { 0.0 };
                        let rounded = (row[j] * inverse).clamp(low, high) + ROUND;
                        codes[j] = rounded.to_bits() as i8;
                        let upper = &self.upper[j * k..(j + 1) * k];
                        let error = (row[j] - (rounded - ROUND) * step) / upper[j];
                        errors[j - start] = error;
                        follow(&mut row[j + 1..end], &upper[j + 1..end], error);
                    }
                }
                for from in (end..k).step_by(TILE) {
                    let to = (from + TILE).min(k);
                    for (row, errors) in rows.chunks_exact_mut(k).zip(&errors) {
                        for (j, error) in (start..end).zip(errors) {
                            follow(&mut row[from..to], &self.upper[j * k + from..j * k + to], *error);
                        }
                    }
                }
            }
        });
    }
}

#[inline(always)]
fn follow(weights: &mut [f32], upper: &[f32], error: f32) {
    for (w, u) in weights.iter_mut().zip(upper) {
        *w -= error * u;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_makes_up_for_the_one_before_it() {
        // x_1 = x_0: H = [[1+λ, 1], [1, 1+λ]], so what one weight lost the other takes.
        let lambda = 1e-3f32;
        let h = [[1.0 + lambda, 1.0], [1.0, 1.0 + lambda]];
        let det = h[0][0] * h[1][1] - 1.0;
        // H⁻¹ = [[a, b], [b, a]]; U = [[√(a − b²/a), b/√a], [0, √a]] has UᵀU with the first input last.
        let (a, b) = (h[1][1] / det, -1.0 / det);
        let first = a.sqrt();
        let upper = vec![first, b / first, 0.0, (a - b * b / a).sqrt()];
        let feedback = Feedback::new(upper, 2).unwrap();
        let mut codes = [0; 2];
        feedback.choose(&mut [0.4, 0.4], &[1.0], 2, (-8.0, 7.0), &mut codes);
        // Both would be 0 by themselves, and the sum 0 where it was 0.8.
        assert_eq!(codes, [0, 1]);
    }

    #[test]
    fn blocks_and_tiles_compute_what_one_input_after_the_other_does() {
        let (m, k, group) = (5, 1300, 50);
        let mut random = fastrand::Rng::with_seed(4);
        let mut upper = vec![0f32; k * k];
        for i in 0..k {
            for j in i..k {
                upper[i * k + j] = if i == j { 1.0 + random.f32() } else { (random.f32() - 0.5) * 0.02 };
            }
        }
        let rows: Vec<f32> = (0..m * k).map(|_| random.f32() * 4.0 - 2.0).collect();
        let steps: Vec<f32> = (0..m * k / group).map(|_| 0.2 + random.f32() * 0.1).collect();
        let mut codes = vec![0i8; m * k];
        let feedback = Feedback::new(upper.clone(), k).unwrap();
        feedback.choose(&mut rows.clone(), &steps, group, (-8.0, 7.0), &mut codes);
        let mut wrong = 0;
        for r in 0..m {
            let mut row: Vec<f64> = rows[r * k..(r + 1) * k].iter().map(|x| f64::from(*x)).collect();
            for j in 0..k {
                let step = f64::from(steps[(r * k + j) / group]);
                let code = (row[j] / step).clamp(-8.0, 7.0).round_ties_even();
                wrong += usize::from(code as i8 != codes[r * k + j]);
                // Goes on from the code that was chosen, so that one on the edge is one difference and no more.
                let error = (row[j] - f64::from(codes[r * k + j]) * step) / f64::from(upper[j * k + j]);
                for i in j + 1..k {
                    row[i] -= error * f64::from(upper[j * k + i]);
                }
            }
        }
        assert!(wrong <= 2, "{wrong} of {} codes are others", m * k);
    }

    #[test]
    fn what_is_no_factor_is_refused() {
        assert!(matches!(Feedback::new(vec![1.0; 3], 2), Err(Error::Feedback { width: 2, numbers: 3 })));
        for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert!(Feedback::new(vec![1.0, 0.0, 0.0, bad], 2).is_err());
        }
        assert!(Feedback::new(vec![], usize::MAX).is_err());
        assert_eq!(Feedback::new(vec![], 0).unwrap().width(), 0);
    }
}
