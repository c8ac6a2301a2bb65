//! The least squares over the neurons that stay.

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};

use crate::obs::singular;
use crate::{Gram, Result};

/// λ as a share of the mean of G's diagonal, where there are as many neurons as rows or more. It draws the answer
/// towards the weights that were there, not towards zero. With r rows to a neuron it is r² times smaller: what few
/// rows say is half noise, and what many say is not to be bent.
const DAMPING: f64 = 1e-2;

/// What a network narrowed to `kept` places of `neurons` computes, and how far from before.
pub(crate) struct Fit {
    /// (c, kept).
    pub(crate) down: Mat<f64>,
    /// Σ ω ‖W x − W' x_S‖² / Σ ω ‖W x‖².
    pub(crate) error: f64,
}

/// Fits `down` (c, neurons) to `kept`; without `refit` columns stay as they are.
pub(crate) fn fit(kept: &[usize], neurons: &[usize], gram: &Gram, down: &Mat<f64>, refit: bool) -> Result<Fit> {
    let f = neurons.len();
    let g = Mat::from_fn(f, f, |a, b| gram.product(neurons[a], neurons[b]));
    let scarcity = (f as f64 / gram.rows().max(1) as f64).min(1.0);
    let lambda = DAMPING * scarcity.powi(2) * g.diagonal().column_vector().sum() / f.max(1) as f64;
    let towards = down * &g; // (c, f)
    let inner = |a: &Mat<f64>, b: &Mat<f64>| -> f64 {
        (0..a.ncols()).map(|j| a.col_as_slice(j).iter().zip(b.col_as_slice(j)).map(|(a, b)| a * b).sum::<f64>()).sum()
    };
    let energy = inner(&towards, down);
    let old = Mat::from_fn(down.nrows(), kept.len(), |i, s| down[(i, kept[s])]);
    let wanted = Mat::from_fn(down.nrows(), kept.len(), |i, s| towards[(i, kept[s])]);
    drop(towards);
    let among = Mat::from_fn(kept.len(), kept.len(), |a, b| g[(kept[a], kept[b])]);
    drop(g);
    let new = if refit {
        let damped = Mat::from_fn(kept.len(), kept.len(), |a, b| among[(a, b)] + if a == b { lambda } else { 0.0 });
        let kept_neurons: Vec<usize> = kept.iter().map(|place| neurons[*place]).collect();
        let factor = damped.llt(Side::Lower).map_err(|failure| singular(failure, &kept_neurons))?;
        drop(damped);
        let right = Mat::from_fn(kept.len(), down.nrows(), |s, i| wanted[(i, s)] + lambda * old[(i, s)]);
        factor.solve(&right).transpose().to_owned()
    } else {
        old
    };
    let missed = energy - 2.0 * inner(&wanted, &new) + inner(&(&new * &among), &new);
    // Rounding may leave a little less than nothing.
    let error = if energy > 0.0 { (missed / energy).max(0.0) } else { 0.0 };
    Ok(Fit { down: new, error })
}
