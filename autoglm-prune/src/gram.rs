//! What is remembered of the rows that went through a linear map.

use faer::linalg::matmul::triangular::{BlockStructure, matmul};
use faer::{Accum, Mat, get_global_parallelism};

use crate::{Error, Result};

/// Rows that are added at once: enough for a matrix product to pay.
const ROWS_AT_ONCE: usize = 256;

/// Sums over rows of f activations: products of any two, squares, and mean sizes.
#[derive(Debug)]
pub struct Gram {
    /// Σ ω x xᵀ, of which the lower triangle counts.
    products: Mat<f64>,
    /// Σ x².
    squares: Vec<f64>,
    /// Σ over sequences of (mean over rows of |x|)².
    sizes: Vec<f64>,
    rows: u64,
}

impl Gram {
    /// Of f activations, no row seen.
    ///
    /// # Errors
    /// [`Error::Memory`] when the system has not the 8 f² bytes.
    pub fn new(f: usize) -> Result<Self> {
        let bytes = f.saturating_mul(f).saturating_mul(size_of::<f64>());
        // Asking first turns too wide a map into an error; the matrix itself does not ask.
        let mut room: Vec<u8> = Vec::new();
        room.try_reserve_exact(bytes).map_err(|source| Error::Memory { width: f, bytes, source })?;
        drop(room);
        Ok(Self { products: Mat::zeros(f, f), squares: vec![0.0; f], sizes: vec![0.0; f], rows: 0 })
    }

    /// Activations in a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.squares.len()
    }

    /// Rows that were seen.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds one sequence: rows `x` (n, f), and a weight for each, 1 where there is none.
    ///
    /// # Errors
    /// - [`Error::Rows`] when they are no whole rows, or weights are missing.
    /// - [`Error::NotFinite`] for an infinity, for what is no number, and for a negative weight.
    pub fn add(&mut self, x: &[f32], weights: Option<&[f32]>) -> Result<()> {
        let f = self.width();
        if f == 0 {
            return if x.is_empty() { Ok(()) } else { Err(Error::Rows { expected: 0, got: x.len() }) };
        }
        let n = x.len() / f;
        let wrong = |got| Error::Rows { expected: f * n, got };
        if n * f != x.len() {
            return Err(wrong(x.len()));
        }
        if weights.is_some_and(|weights| weights.len() != n) {
            return Err(Error::Rows { expected: n, got: weights.map_or(0, <[f32]>::len) });
        }
        if let Some(value) = x.iter().chain(weights.unwrap_or_default()).find(|x| !x.is_finite()) {
            return Err(Error::NotFinite { value: *value });
        }
        if let Some(value) = weights.unwrap_or_default().iter().find(|weight| **weight < 0.0) {
            return Err(Error::NotFinite { value: *value });
        }
        let mut sizes = vec![0.0; f];
        for row in x.chunks_exact(f) {
            for ((x, square), size) in row.iter().zip(&mut self.squares).zip(&mut sizes) {
                let x = f64::from(*x);
                *square += x * x;
                *size += x.abs();
            }
        }
        for (sum, size) in self.sizes.iter_mut().zip(sizes) {
            *sum += (size / n.max(1) as f64).powi(2);
        }
        for start in (0..n).step_by(ROWS_AT_ONCE) {
            let m = ROWS_AT_ONCE.min(n - start);
            let scale = |i: usize| weights.map_or(1.0, |weights| f64::from(weights[start + i]).sqrt());
            // (f, m), so that a row of activations is a column, which lies in one piece.
            let columns = Mat::from_fn(f, m, |j, i| f64::from(x[(start + i) * f + j]) * scale(i));
            matmul(
                self.products.as_mut(),
                BlockStructure::TriangularLower,
                Accum::Add,
                columns.as_ref(),
                BlockStructure::Rectangular,
                columns.transpose(),
                BlockStructure::Rectangular,
                1.0,
                get_global_parallelism(),
            );
        }
        self.rows += n as u64;
        Ok(())
    }

    /// Σ ω x_i x_j.
    pub(crate) fn product(&self, i: usize, j: usize) -> f64 {
        self.products[(i.max(j), i.min(j))]
    }

    /// √(mean of x_j²), as Wanda has it.
    pub(crate) fn root_mean_square(&self, j: usize) -> f64 {
        (self.squares[j] / self.rows.max(1) as f64).sqrt()
    }

    /// The size of x_j as Minitron sums it up: means over rows, then a root of squares over sequences.
    pub(crate) fn size(&self, j: usize) -> f64 {
        self.sizes[j].sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_a_plain_loop() {
        let (f, n) = (5, 600);
        let mut random = fastrand::Rng::with_seed(3);
        let x: Vec<f32> = (0..f * n).map(|_| random.f32() - 0.5).collect();
        let weights: Vec<f32> = (0..n).map(|_| random.f32()).collect();
        let mut gram = Gram::new(f).unwrap();
        gram.add(&x[..f * 100], Some(&weights[..100])).unwrap();
        gram.add(&x[f * 100..], Some(&weights[100..])).unwrap();
        assert_eq!((gram.width(), gram.rows()), (f, n as u64));
        for i in 0..f {
            for j in 0..f {
                let term = |t: usize| f64::from(weights[t]) * f64::from(x[t * f + i]) * f64::from(x[t * f + j]);
                let sum: f64 = (0..n).map(term).sum();
                assert!((gram.product(i, j) - sum).abs() < 1e-9, "{i} {j}");
            }
            let square: f64 = x.iter().skip(i).step_by(f).map(|x| f64::from(*x).powi(2)).sum();
            assert!((gram.root_mean_square(i) - (square / n as f64).sqrt()).abs() < 1e-12);
            let mean = |rows: &[f32]| {
                let sizes = rows.iter().skip(i).step_by(f).map(|x| f64::from(x.abs()));
                sizes.sum::<f64>() / (rows.len() / f) as f64
            };
            let size = (mean(&x[..f * 100]).powi(2) + mean(&x[f * 100..]).powi(2)).sqrt();
            assert!((gram.size(i) - size).abs() < 1e-12);
        }
    }

    #[test]
    fn what_are_no_rows_is_refused() {
        let mut gram = Gram::new(2).unwrap();
        assert!(matches!(gram.add(&[1.0; 3], None), Err(Error::Rows { expected: 2, got: 3 })));
        assert!(matches!(gram.add(&[1.0; 4], Some(&[1.0])), Err(Error::Rows { expected: 2, got: 1 })));
        assert!(matches!(gram.add(&[1.0, f32::NAN], None), Err(Error::NotFinite { .. })));
        assert!(matches!(gram.add(&[1.0; 2], Some(&[-1.0])), Err(Error::NotFinite { .. })));
        let mut none = Gram::new(0).unwrap();
        assert!(none.add(&[], None).is_ok() && none.add(&[1.0], None).is_err());
        assert!(matches!(Gram::new(usize::MAX), Err(Error::Memory { .. })));
        assert_eq!(gram.rows(), 0);
    }
}
