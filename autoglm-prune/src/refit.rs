//! The least squares over the neurons that stay.

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};

use crate::obs::singular;
use crate::{Error, Gram, Result};

/// λ_j as a share of G_jj for f neurons: of each one's own and not of the mean, because a few loud neurons would make all
/// others look alike. It draws the answer towards the weights that were there, not towards zero. A hundredth where
/// there are as many neurons as rows, and with r rows to a neuron r² times less: what few rows say is half noise, and
/// what many say is not to be bent.
pub(crate) fn damping(f: usize, gram: &Gram) -> f64 {
    1e-2 * (f as f64 / gram.rows().max(1) as f64).min(1.0).powi(2)
}

/// The least of λ, as a share of the mean of G's diagonal: a neuron that no row woke keeps its weights.
const FLOOR: f64 = 1e-9;

/// What a network narrowed to `kept` places of `neurons` computes, and how far from before.
pub(crate) struct Fit {
    /// (c, kept).
    pub(crate) down: Mat<f64>,
    /// Σ ω ‖γ ∘ (W x − W' x_S)‖² / Σ ω ‖γ ∘ W x‖².
    pub(crate) error: f64,
}

/// Fits `down` (c, neurons) to `kept`; without `refit` columns stay as they are. `gains` (c) are γ.
pub(crate) fn fit(
    kept: &[usize],
    neurons: &[usize],
    gram: &Gram,
    down: &Mat<f64>,
    gains: &[f64],
    refit: bool,
) -> Result<Fit> {
    let (c, f) = (down.nrows(), neurons.len());
    let mean = neurons.iter().map(|j| gram.product(*j, *j)).sum::<f64>() / f.max(1) as f64;
    let damping = damping(f, gram);
    let lambda = |j: usize| damping * gram.product(j, j) + FLOOR * mean;
    let inner = |a: &Mat<f64>, b: &Mat<f64>| -> f64 {
        let column = |j: usize| -> f64 {
            let terms = a.col_as_slice(j).iter().zip(b.col_as_slice(j)).zip(gains);
            terms.map(|((a, b), gain)| a * b * gain * gain).sum()
        };
        (0..a.ncols()).map(column).sum()
    };
    let towards = {
        let g = Mat::from_fn(f, f, |a, b| gram.product(neurons[a], neurons[b]));
        down * &g // (c, f)
    };
    let energy = inner(&towards, down);
    let old = Mat::from_fn(c, kept.len(), |i, s| down[(i, kept[s])]);
    let wanted = Mat::from_fn(c, kept.len(), |i, s| towards[(i, kept[s])]);
    drop(towards);
    let staying: Vec<usize> = kept.iter().map(|place| neurons[*place]).collect();
    let damped = Mat::from_fn(kept.len(), kept.len(), |a, b| {
        gram.product(staying[a], staying[b]) + if a == b { lambda(staying[a]) } else { 0.0 }
    });
    let new = if refit {
        let right = Mat::from_fn(kept.len(), c, |s, i| wanted[(i, s)] + lambda(staying[s]) * old[(i, s)]);
        let factor = damped.llt(Side::Lower).map_err(|failure| singular(failure, &staying))?;
        factor.solve(&right).transpose().to_owned()
    } else {
        old
    };
    let mut among = &new * &damped;
    for (s, neuron) in staying.iter().enumerate() {
        let lambda = lambda(*neuron);
        among.col_as_slice_mut(s).iter_mut().zip(new.col_as_slice(s)).for_each(|(x, new)| *x -= lambda * new);
    }
    let missed = energy - 2.0 * inner(&wanted, &new) + inner(&among, &new);
    if !missed.is_finite() {
        return Err(Error::NotFinite { value: missed as f32 });
    }
    // Rounding may leave a little less than nothing.
    let error = if energy > 0.0 && missed > 0.0 { missed / energy } else { 0.0 };
    Ok(Fit { down: new, error })
}
