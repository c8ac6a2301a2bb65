//! The factor of an inverse that quantisation with feedback asks for.

use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::{Mat, get_global_parallelism};

use crate::obs::singular;
use crate::refit::{damping, factorise};
use crate::{Gram, Result};

/// The least of λ_j as a share of G_jj: f32 tells no less apart.
const FLOOR: f64 = 1e-6;

/// The root of the sum of squares below which an activation counts as one that was never seen.
const QUIET: f64 = 1e-18;

impl Gram {
    /// U (f, f) of (G + Λ)⁻¹ = UᵀU, upper triangular, row by row: what lies below the diagonal is zero. Λ is the small share
    /// of G's diagonal by which everything here is damped.
    ///
    /// An activation that was never seen has nothing to do with the others.
    ///
    /// # Errors
    /// [`crate::Error::Singular`] when the sums are not those of any rows.
    pub fn inverse_factor(&self) -> Result<Vec<f32>> {
        let f = self.width();
        // In units of their own size, so that f32 holds the loud and the quiet.
        // What is too quiet for f32 to invert was as good as never seen.
        let roots: Vec<f64> =
            (0..f).map(|j| self.product(j, j).sqrt()).map(|root| if root < QUIET { 0.0 } else { root }).collect();
        let unit = |j: usize| if roots[j] > 0.0 { roots[j] } else { 1.0 };
        let least = damping(f, self) + FLOOR;
        // Backwards: G = R Rᵀ with R upper triangular is what a factorisation from the last to the first gives, and then
        // G⁻¹ = R⁻ᵀ R⁻¹.
        let back = |at: usize| f - 1 - at;
        let damped = |lambda: f64| {
            Mat::<f32>::from_fn(f, f, |a, b| {
                let (i, j) = (back(a), back(b));
                match (i == j, roots[i] > 0.0 && roots[j] > 0.0) {
                    (true, seen) => (f64::from(u8::from(seen)) + lambda) as f32,
                    (false, true) => (self.product(i, j) / (unit(i) * unit(j))) as f32,
                    (false, false) => 0.0,
                }
            })
        };
        let factor = factorise(damped, least).map_err(|failure| singular(failure, back))?;
        let mut inverse = Mat::<f32>::zeros(f, f);
        invert_lower_triangular(inverse.as_mut(), factor.L(), get_global_parallelism());
        let mut upper = vec![0f32; f * f];
        for (i, row) in upper.chunks_exact_mut(f.max(1)).enumerate() {
            for (j, u) in row.iter_mut().enumerate().skip(i) {
                *u = (f64::from(inverse[(back(i), back(j))]) / unit(j)) as f32;
            }
        }
        Ok(upper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_is_that_of_the_inverse() {
        let (f, n) = (40, 4000);
        let mut random = fastrand::Rng::with_seed(5);
        let mix: Vec<f32> = (0..f * f).map(|_| random.f32() - 0.5).collect();
        let mut gram = Gram::new(f).unwrap();
        for _ in 0..n {
            let from: Vec<f32> = (0..f).map(|_| random.f32() - 0.5).collect();
            // Of very different sizes; the last is never seen.
            let x: Vec<f32> = (0..f)
                .map(|j| {
                    let mixed: f32 = (0..f).map(|i| mix[i * f + j] * from[i]).sum();
                    if j + 1 == f { 0.0 } else { mixed * 10f32.powi(j as i32 % 5 - 2) }
                })
                .collect();
            gram.add(&x, None).unwrap();
        }
        let upper = gram.inverse_factor().unwrap();
        let lambda = damping(f, &gram) + FLOOR;
        let u = |i: usize, j: usize| f64::from(upper[i * f + j]);
        let damped = |i: usize, j: usize| match i == j {
            true if i + 1 == f => lambda,
            true => gram.product(i, i) * (1.0 + lambda),
            false => gram.product(i, j),
        };
        // The factor is of f32 and 40 steps long, and its square is taken here; a wrong index is off by 1.
        // UᵀU (G + Λ) = 1, in units in which all inputs have one size.
        let size = |j: usize| damped(j, j).sqrt();
        for i in 0..f {
            assert!(u(i, i) > 0.0 && (0..i).all(|j| u(i, j) == 0.0));
            for j in 0..f {
                let inverse = |a: usize, b: usize| (0..=a.min(b)).map(|t| u(t, a) * u(t, b)).sum::<f64>();
                let sum: f64 = (0..f).map(|t| inverse(i, t) * damped(t, j)).sum::<f64>() * size(i) / size(j);
                assert!((sum - f64::from(u8::from(i == j))).abs() < 2e-2, "{i} {j}: {sum}");
            }
        }
        assert!(Gram::new(0).unwrap().inverse_factor().unwrap().is_empty());
    }
}
