//! Least squares over non-negative coefficients, updated one observation at a time.

/// Sums of observations y ≈ Σ_i c_i x_i, pulled towards a prior where nothing was seen.
#[derive(Debug, Clone)]
pub(super) struct LeastSquares {
    /// Σ w x xᵀ, row by row.
    gram: Vec<f64>,
    /// Σ w x y.
    moment: Vec<f64>,
    prior: Vec<f64>,
    /// How much an observation counts that the prior stands for.
    trust: f64,
    coefficients: Vec<f64>,
}

impl LeastSquares {
    /// Begins with these coefficients, which count as much as `trust` observations of each feature being 1 alone.
    pub(super) fn new(prior: Vec<f64>, trust: f64) -> Self {
        let n = prior.len();
        Self { gram: vec![0.0; n * n], moment: vec![0.0; n], coefficients: prior.clone(), prior, trust }
    }

    pub(super) fn coefficients(&self) -> &[f64] {
        &self.coefficients
    }

    /// Σ_i c_i x_i.
    pub(super) fn predict(&self, features: &[f64]) -> f64 {
        self.coefficients.iter().zip(features).map(|(c, x)| c * x).sum()
    }

    /// What was seen so far counts this share of what it did; the coefficients stay until they are solved for again.
    pub(super) fn fade(&mut self, share: f64) {
        self.gram.iter_mut().chain(&mut self.moment).for_each(|sum| *sum *= share);
    }

    /// Nothing was seen; the coefficients stay until they are solved for again.
    pub(super) fn clear(&mut self) {
        self.gram.fill(0.0);
        self.moment.fill(0.0);
    }

    /// Adds an observation of this weight.
    pub(super) fn observe(&mut self, features: &[f64], y: f64, weight: f64) {
        let n = self.prior.len();
        for (i, xi) in features.iter().enumerate() {
            for (j, xj) in features.iter().enumerate() {
                self.gram[i * n + j] += weight * xi * xj;
            }
            self.moment[i] += weight * xi * y;
        }
    }

    /// Solves for the coefficients, each of them at least zero, by coordinate descent from those before. The
    /// problem is convex and small; a few sweeps are enough where it is solved again after every few observations.
    pub(super) fn solve(&mut self, sweeps: usize) {
        let n = self.prior.len();
        for _ in 0..sweeps {
            for i in 0..n {
                let row = &self.gram[i * n..(i + 1) * n];
                let others: f64 =
                    row.iter().zip(&self.coefficients).map(|(g, c)| g * c).sum::<f64>() - row[i] * self.coefficients[i];
                let pull = self.trust / self.prior[i].max(1e-9).powi(2);
                let best = (self.moment[i] - others + pull * self.prior[i]) / (row[i] + pull);
                if best.is_finite() {
                    self.coefficients[i] = best.max(0.0);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plane_is_found_and_what_was_never_seen_stays_as_assumed() {
        let mut fit = LeastSquares::new(vec![1.0, 1.0, 5.0], 1e-3);
        for step in 0..200 {
            let (a, b) = (f64::from(step % 7), f64::from(step % 5));
            fit.observe(&[a, b, 0.0], 2.0 * a + 0.5 * b, 1.0);
        }
        fit.solve(200);
        let [a, b, unseen] = fit.coefficients() else { panic!() };
        assert!((a - 2.0).abs() < 1e-3 && (b - 0.5).abs() < 1e-3 && *unseen == 5.0, "{fit:?}");
        assert!((fit.predict(&[1.0, 2.0, 0.0]) - 3.0).abs() < 1e-2);
    }

    #[test]
    fn no_coefficient_is_negative() {
        let mut fit = LeastSquares::new(vec![1.0, 1.0], 1e-3);
        for step in 0..100 {
            let a = f64::from(step % 7);
            fit.observe(&[a, a * a], 3.0 * a - 0.1 * a * a, 1.0);
        }
        fit.solve(100);
        assert!(fit.coefficients().iter().all(|c| *c >= 0.0));
    }

    #[test]
    fn what_is_old_fades() {
        let mut fit = LeastSquares::new(vec![1.0], 1e-6);
        for y in [4.0, 2.0] {
            for _ in 0..100 {
                fit.fade(0.9);
                fit.observe(&[1.0], y, 1.0);
            }
        }
        fit.solve(2);
        assert!((fit.coefficients()[0] - 2.0).abs() < 1e-3);
    }
}
