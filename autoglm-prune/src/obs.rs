//! Optimal Brain Surgeon over the columns of a matrix.
//!
//! ```text
//! until enough are gone:
//!   j ← argmin ‖W_:j‖² / H_jj                     H = (G + Λ)⁻¹, Λ diagonal
//!   u ← H_:j / √H_jj
//!   H ← H − u uᵀ                                  the inverse without j
//!   W ← W − (W_:j / √H_jj) uᵀ                     the least squares without j
//! ```
//!
//! Removals go in batches: within one, only the diagonal of H follows at once, which is what keeps two neurons that
//! can stand for each other from going together; H and W follow as matrix products when the batch is full.

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::DenseSolveCore;
use faer::{Accum, Mat, Side, get_global_parallelism};

use crate::refit::damping;
use crate::{Error, Gram, Result};

/// The least of λ_j as a share of G_jj: f32 tells no less apart.
const FLOOR: f64 = 1e-7;

/// Removals in a batch at most, and batches at least.
const BATCH: usize = 128;
const BATCHES: usize = 16;

/// Which `to` of `neurons` stay; places in `neurons`, in order. `gains` are what outputs are multiplied by in the end.
pub(crate) fn keep(to: usize, neurons: &[usize], gram: &Gram, down: &Mat<f64>, gains: &[f64]) -> Result<Vec<usize>> {
    let f = neurons.len();
    // Neurons in units of their own size: scores stay what they are, and f32 holds those of the loud and of the quiet.
    let roots: Vec<f64> = neurons.iter().map(|j| gram.product(*j, *j).sqrt()).collect();
    let unit = |place: usize| if roots[place] > 0.0 { roots[place] } else { 1.0 };
    let damping = damping(f, gram) + FLOOR;
    // Scores are compared and no more, so f32 is enough, and half as large.
    let damped = Mat::<f32>::from_fn(f, f, |a, b| {
        let product = gram.product(neurons[a], neurons[b]) / (unit(a) * unit(b));
        (if a == b { product + damping } else { product }) as f32
    });
    let factor = damped.llt(Side::Lower).map_err(|failure| singular(failure, neurons))?;
    let mut inverse = factor.inverse();
    drop((factor, damped));
    let mut w = Mat::<f32>::from_fn(down.nrows(), f, |i, j| (down[(i, j)] * gains[i] * roots[j]) as f32);
    let mut stays = vec![true; f];
    let mut left = f - to;
    let batch = (left / BATCHES).clamp(1, BATCH);
    while left > 0 {
        let picks = remove(batch.min(left), &mut stays, &mut inverse, &mut w, neurons)?;
        left -= picks;
    }
    Ok((0..f).filter(|place| stays[*place]).collect())
}

/// Removes some columns. → how many.
fn remove(
    count: usize,
    stays: &mut [bool],
    inverse: &mut Mat<f32>,
    w: &mut Mat<f32>,
    neurons: &[usize],
) -> Result<usize> {
    let (c, f) = (w.nrows(), w.ncols());
    let norms: Vec<f32> = (0..f).map(|j| w.col(j).squared_norm_l2()).collect();
    let mut diagonal: Vec<f32> = (0..f).map(|j| inverse[(j, j)]).collect();
    let mut u = Mat::<f32>::zeros(f, count);
    let mut moved = Mat::<f32>::zeros(c, count);
    for b in 0..count {
        let score = |j: usize| norms[j] / diagonal[j];
        let alive = (0..f).filter(|j| stays[*j]);
        let Some(j) = alive.min_by(|a, b| score(*a).total_cmp(&score(*b))) else { return Ok(b.max(1)) };
        let root = diagonal[j].sqrt();
        if root.is_nan() || root <= 0.0 {
            return Err(Error::Singular { neuron: neurons[j] });
        }
        stays[j] = false;
        let mut column: Vec<f32> = (0..f).map(|i| inverse[(i, j)]).collect();
        let mut weights: Vec<f32> = (0..c).map(|i| w[(i, j)]).collect();
        for earlier in 0..b {
            let share = u[(j, earlier)];
            column.iter_mut().zip(u.col_as_slice(earlier)).for_each(|(x, u)| *x -= share * u);
            weights.iter_mut().zip(moved.col_as_slice(earlier)).for_each(|(x, moved)| *x -= share * moved);
        }
        u.col_as_slice_mut(b).iter_mut().zip(&column).for_each(|(u, x)| *u = x / root);
        moved.col_as_slice_mut(b).iter_mut().zip(&weights).for_each(|(moved, x)| *moved = x / root);
        diagonal.iter_mut().zip(u.col_as_slice(b)).for_each(|(diagonal, u)| *diagonal -= u * u);
    }
    let parallel = get_global_parallelism();
    matmul(inverse.as_mut(), Accum::Add, u.as_ref(), u.transpose(), -1.0, parallel);
    matmul(w.as_mut(), Accum::Add, moved.as_ref(), u.transpose(), -1.0, parallel);
    Ok(count)
}

/// The neuron at which a factorisation failed.
pub(crate) fn singular(failure: faer::linalg::solvers::LltError, neurons: &[usize]) -> Error {
    let faer::linalg::solvers::LltError::NonPositivePivot { index } = failure;
    Error::Singular { neuron: neurons.get(index).copied().unwrap_or(index) }
}
