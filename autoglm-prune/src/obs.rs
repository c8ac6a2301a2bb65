//! Optimal Brain Surgeon over the columns of a matrix, one at a time or in blocks.
//!
//! ```text
//! until enough are gone:
//!   B ← argmin tr(W_:B (H_BB)⁻¹ W_:Bᵀ)            H = (G + Λ)⁻¹, Λ diagonal; B one neuron, or the columns of one head
//!   U ← H_:B L⁻ᵀ                                  L Lᵀ = H_BB
//!   H ← H − U Uᵀ                                  the inverse without B
//!   W ← W − (W_:B L⁻ᵀ) Uᵀ                         the least squares without B
//! ```
//!
//! With one column that is ‖W_:j‖² / H_jj and roots. Removals go in batches where there are many: within one, only the
//! blocks H_BB follow at once, which is what keeps two that can stand for each other from going together; H and W follow
//! as matrix products when the batch is full.

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::{DenseSolveCore, Solve};
use faer::linalg::triangular_solve::solve_lower_triangular_in_place;
use faer::traits::RealField;
use faer::traits::math_utils::{from_f64, zero};
use faer::{Accum, Mat, MatRef, Par, Side, get_global_parallelism};

use crate::refit::{damping, factorise};
use crate::units::Left;
use crate::{Error, Gram, Result};

/// The least of λ_j as a share of G_jj: f32 tells no less apart, and f64 no less after that many steps.
const FLOORS: [f64; 2] = [1e-7, 1e-12];

/// Removals in a batch at most, and batches at least.
const BATCH: usize = 128;
const BATCHES: usize = 16;

/// Which of `left` stay; places, in order. `map` (c, columns) has their columns, `gains` (c) are what outputs are
/// multiplied by in the end.
pub(crate) fn keep(left: &Left, gram: &Gram, map: &Mat<f64>, gains: &[f64]) -> Result<Vec<usize>> {
    // Costs are compared and no more. Of single columns f32 tells them, and takes half the room; a block's cost hangs on
    // the least that its columns do not share, which f32 loses.
    if left.size == 1 {
        Surgeon::<f32>::new(left, gram, map, gains, FLOORS[0])?.keep()
    } else {
        Surgeon::<f64>::new(left, gram, map, gains, FLOORS[1])?.keep()
    }
}

struct Surgeon<'a, T> {
    left: &'a Left,
    /// H (columns, columns).
    inverse: Mat<T>,
    /// W (c, columns).
    w: Mat<T>,
    stays: Vec<bool>,
    /// Of each group.
    to_go: Vec<usize>,
}

impl<'a, T: RealField + Copy + Into<f64>> Surgeon<'a, T> {
    fn new(left: &'a Left, gram: &Gram, map: &Mat<f64>, gains: &[f64], floor: f64) -> Result<Self> {
        let f = left.columns();
        // Columns in units of their own size: costs stay what they are, and few digits hold those of the loud and of the
        // quiet.
        let roots: Vec<f64> = (0..f).map(|j| gram.product(left.column(j), left.column(j)).sqrt()).collect();
        let unit = |place: usize| if roots[place] > 0.0 { roots[place] } else { 1.0 };
        let damped = |damping: f64| {
            Mat::<T>::from_fn(f, f, |a, b| {
                let product = gram.product(left.column(a), left.column(b)) / (unit(a) * unit(b));
                from_f64(if a == b { product + damping } else { product })
            })
        };
        let factor = factorise(damped, damping(f, gram) + floor);
        let inverse = factor.map_err(|failure| singular(failure, |at| left.column(at)))?.inverse();
        let w = Mat::from_fn(map.nrows(), f, |i, j| from_f64(map[(i, j)] * gains[i] * roots[j]));
        Ok(Self { left, inverse, w, stays: vec![true; left.numbers.len()], to_go: left.to_go() })
    }

    fn keep(mut self) -> Result<Vec<usize>> {
        let mut gone: usize = self.to_go.iter().sum();
        let batch = (gone / BATCHES).clamp(1, BATCH);
        while gone > 0 {
            gone -= self.remove(batch.min(gone))?;
        }
        Ok((0..self.stays.len()).filter(|place| self.stays[*place]).collect())
    }

    /// Removes some units. → how many.
    fn remove(&mut self, count: usize) -> Result<usize> {
        let (c, f, d) = (self.w.nrows(), self.w.ncols(), self.left.size);
        let parallel = get_global_parallelism();
        // W_:Bᵀ W_:B and H_BB of each unit, side by side.
        let mut norms = Mat::<T>::zeros(d, f);
        let mut blocks = Mat::<T>::zeros(d, f);
        for j in self.alive() {
            let w = self.w.subcols(j * d, d);
            matmul(norms.subcols_mut(j * d, d), Accum::Replace, w.transpose(), w, from_f64(1.0), Par::Seq);
            blocks.subcols_mut(j * d, d).copy_from(self.inverse.submatrix(j * d, j * d, d, d));
        }
        let mut u = Mat::<T>::zeros(f, count * d);
        let mut moved = Mat::<T>::zeros(c, count * d);
        for b in 0..count {
            let mut least: Option<(f64, usize)> = None;
            for j in self.alive() {
                let cost = cost(norms.subcols(j * d, d), blocks.subcols(j * d, d));
                let cost = cost.ok_or(Error::Singular { column: self.left.column(j * d) })?;
                if least.is_none_or(|(least, _)| cost.total_cmp(&least).is_lt()) {
                    least = Some((cost, j));
                }
            }
            let Some((_, j)) = least else { return Ok(b.max(1)) };
            self.stays[j] = false;
            self.to_go[self.left.groups[j]] -= 1;
            let mut column = self.inverse.subcols(j * d, d).to_owned();
            let mut weights = self.w.subcols(j * d, d).to_owned();
            if b > 0 {
                let share = u.submatrix(j * d, 0, d, b * d).to_owned();
                let earlier = [(&mut column, &u), (&mut weights, &moved)];
                for (x, by) in earlier {
                    let by = by.subcols(0, b * d);
                    matmul(x.as_mut(), Accum::Add, by, share.transpose(), from_f64(-1.0), parallel);
                }
            }
            let factor = blocks.subcols(j * d, d).llt(Side::Lower);
            let factor = factor.map_err(|failure| singular(failure, |at| self.left.column(j * d + at)))?;
            for (mut x, into) in [(column, &mut u), (weights, &mut moved)] {
                solve_lower_triangular_in_place(factor.L(), x.transpose_mut(), parallel);
                into.subcols_mut(b * d, d).copy_from(&x);
            }
            if b + 1 < count {
                subtract(&mut blocks, u.subcols(b * d, d));
            }
        }
        matmul(self.inverse.as_mut(), Accum::Add, u.as_ref(), u.transpose(), from_f64(-1.0), parallel);
        matmul(self.w.as_mut(), Accum::Add, moved.as_ref(), u.transpose(), from_f64(-1.0), parallel);
        Ok(count)
    }

    /// Units that may go next.
    fn alive(&self) -> impl Iterator<Item = usize> {
        (0..self.stays.len()).filter(|j| self.stays[*j] && self.to_go[self.left.groups[*j]] > 0)
    }
}

/// tr(N H⁻¹) of a block of each; nothing where H is not positive, as no inverse of sums is.
fn cost<T: RealField + Copy + Into<f64>>(norm: MatRef<'_, T>, block: MatRef<'_, T>) -> Option<f64> {
    let one = block[(0, 0)];
    if block.nrows() == 1 {
        return (one > zero()).then(|| (norm[(0, 0)] / one).into());
    }
    let solved = block.llt(Side::Lower).ok()?.solve(norm);
    Some((0..solved.nrows()).map(|i| solved[(i, i)].into()).sum())
}

/// Takes U_B U_Bᵀ from each block.
fn subtract<T: RealField + Copy>(blocks: &mut Mat<T>, u: MatRef<'_, T>) {
    let d = blocks.nrows();
    for column in 0..blocks.ncols() {
        let first = column / d * d;
        for row in 0..d {
            let products = (0..d).map(|k| u[(first + row, k)] * u[(column, k)]);
            let sum = products.fold(zero::<T>(), |sum, product| sum + product);
            blocks[(row, column)] -= sum;
        }
    }
}

/// The column at which a factorisation failed.
pub(crate) fn singular(failure: faer::linalg::solvers::LltError, number: impl Fn(usize) -> usize) -> Error {
    let faer::linalg::solvers::LltError::NonPositivePivot { index } = failure;
    Error::Singular { column: number(index) }
}
