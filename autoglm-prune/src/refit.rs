//! The least squares over the columns that stay.

use faer::linalg::solvers::{Llt, LltError, Solve};
use faer::traits::RealField;
use faer::{Mat, Side};

use crate::obs::singular;
use crate::units::Left;
use crate::{Error, Gram, Result};

/// λ_j as a share of G_jj for f columns: of each one's own and not of the mean, because a few loud ones would make all
/// others look alike. It draws the answer towards the weights that were there, not towards zero. A hundredth where
/// there are as many columns as rows, and with r rows to a column r² times less: what few rows say is half noise, and
/// what many say is not to be bent.
pub(crate) fn damping(f: usize, gram: &Gram) -> f64 {
    1e-2 * (f as f64 / gram.rows().max(1) as f64).min(1.0).powi(2)
}

/// The least of λ, as a share of the mean of G's diagonal: a column that no row woke keeps its weights.
const FLOOR: f64 = 1e-9;

/// The most that λ is raised to.
const MOST: f64 = 1e-2;

/// Factorises what `damped` gives for the least λ, from `least` on, at which few digits can: the more rows there are, the
/// smaller λ is, and wide matrices of nearly equal columns lose more in rounding than that.
pub(crate) fn factorise<T: RealField>(
    damped: impl Fn(f64) -> Mat<T>,
    least: f64,
) -> std::result::Result<Llt<T>, LltError> {
    let mut lambda = least;
    loop {
        match damped(lambda).llt(Side::Lower) {
            Err(_) if lambda < MOST => lambda = (lambda * 10.0).min(MOST),
            done => return done,
        }
    }
}

/// What the map computes of the units that are kept, and how far from before.
pub(crate) struct Fit {
    /// (c, columns of those kept).
    pub(crate) map: Mat<f64>,
    /// Σ ω ‖γ ∘ (W x − W' x_S)‖² / Σ ω ‖γ ∘ W x‖².
    pub(crate) error: f64,
}

/// Fits `map` (c, columns of `left`) to the units at the places `kept`; without `refit` columns stay as they are. `gains`
/// (c) are γ.
pub(crate) fn fit(kept: &[usize], left: &Left, gram: &Gram, map: &Mat<f64>, gains: &[f64], refit: bool) -> Result<Fit> {
    let (c, f) = (map.nrows(), left.columns());
    let size = |j: usize| gram.product(left.column(j), left.column(j));
    let mean = (0..f).map(size).sum::<f64>() / f.max(1) as f64;
    let damping = damping(f, gram);
    let lambda = |j: usize| damping * size(j) + FLOOR * mean;
    let inner = |a: &Mat<f64>, b: &Mat<f64>| -> f64 {
        let column = |j: usize| -> f64 {
            let terms = a.col_as_slice(j).iter().zip(b.col_as_slice(j)).zip(gains);
            terms.map(|((a, b), gain)| a * b * gain * gain).sum()
        };
        (0..a.ncols()).map(column).sum()
    };
    let towards = {
        let g = Mat::from_fn(f, f, |a, b| gram.product(left.column(a), left.column(b)));
        map * &g // (c, f)
    };
    let energy = inner(&towards, map);
    let staying = left.columns_of(kept);
    let old = Mat::from_fn(c, staying.len(), |i, s| map[(i, staying[s])]);
    let wanted = Mat::from_fn(c, staying.len(), |i, s| towards[(i, staying[s])]);
    drop(towards);
    let damped = Mat::from_fn(staying.len(), staying.len(), |a, b| {
        let product = gram.product(left.column(staying[a]), left.column(staying[b]));
        product + if a == b { lambda(staying[a]) } else { 0.0 }
    });
    let new = if refit && mean > 0.0 {
        let right = Mat::from_fn(staying.len(), c, |s, i| wanted[(i, s)] + lambda(staying[s]) * old[(i, s)]);
        let factor = damped.llt(Side::Lower).map_err(|failure| singular(failure, |at| left.column(staying[at])))?;
        factor.solve(&right).transpose().to_owned()
    } else {
        old
    };
    let mut among = &new * &damped;
    for (s, column) in staying.iter().enumerate() {
        let lambda = lambda(*column);
        among.col_as_slice_mut(s).iter_mut().zip(new.col_as_slice(s)).for_each(|(x, new)| *x -= lambda * new);
    }
    let missed = energy - 2.0 * inner(&wanted, &new) + inner(&among, &new);
    if !missed.is_finite() {
        return Err(Error::NotFinite { value: missed as f32 });
    }
    // Rounding may leave a little less than nothing.
    let error = if energy > 0.0 && missed > 0.0 { missed / energy } else { 0.0 };
    Ok(Fit { map: new, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_few_digits_cannot_invert_is_damped_further() {
        // Columns so nearly equal that f32 takes them for one: 1 − 1e-8 is 1.
        let n = 60;
        let tried = std::cell::RefCell::new(Vec::new());
        let near = |lambda: f64| {
            tried.borrow_mut().push(lambda);
            Mat::<f32>::from_fn(n, n, |i, j| if i == j { (1.0 + lambda) as f32 } else { 1.0 })
        };
        assert!(factorise(near, 1e-9).is_ok());
        assert!(tried.borrow().len() > 1 && tried.borrow().iter().all(|lambda| *lambda <= MOST), "{tried:?}");
        // No λ makes that the square of anything.
        assert!(factorise(|_| Mat::<f32>::from_fn(2, 2, |i, j| if i == j { 0.0 } else { 1.0 }), 1e-9).is_err());
    }
}
