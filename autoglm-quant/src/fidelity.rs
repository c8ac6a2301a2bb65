//! How much of a weight is left when it was quantised, without keeping what it was quantised into.

use std::ops::AddAssign;
use std::sync::{Mutex, PoisonError};

use autoglm_core::Run;
use autoglm_kernels::integer::Groups;
use autoglm_kernels::layout::Layout;
use autoglm_kernels::{Isa, hadamard};
use half::f16;

use crate::codes::quantise;
use crate::packed::bad_row;
use crate::{Error, Packing, Parts, Result};

/// Rows that one worker takes at once.
const ROWS: usize = 16;

/// What a format makes of weights. Sums of squares, so that several can be added.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Fidelity {
    /// How many weights there are.
    pub weights: u64,
    /// Bytes they take, with scales, factors and what pads them.
    pub bytes: u64,
    /// Σ (w − ŵ)², with ŵ = code · factor · channel.
    pub lost: f64,
    /// Σ w².
    pub all: f64,
}

impl Fidelity {
    /// Bits per weight, all told.
    #[must_use]
    pub fn bits_per_weight(&self) -> f64 {
        8.0 * self.bytes as f64 / self.weights.max(1) as f64
    }

    /// ‖W − Ŵ‖ / ‖W‖, of Frobenius's norm. A rotation is orthonormal and does not change it.
    #[must_use]
    pub fn relative_error(&self) -> f64 {
        if self.all > 0.0 { (self.lost / self.all).sqrt() } else { 0.0 }
    }
}

impl AddAssign for Fidelity {
    fn add_assign(&mut self, other: Self) {
        self.weights += other.weights;
        self.bytes += other.bytes;
        self.lost += other.lost;
        self.all += other.all;
    }
}

/// What each of `formats`, a packing and whether it is rotated, makes of `parts` in the order of
/// `layout`. Each row is read once, and nothing but the sums is kept; they are the same for any number
/// of workers.
///
/// # Errors
/// [`Error::NotFinite`] and [`Error::TooLarge`] name the first bad weight, [`Error::Kernel`] a size that
/// no packed matrix has.
pub fn fidelity(
    run: &Run<'_>,
    isa: Isa,
    layout: Layout,
    formats: &[(Packing, bool)],
    parts: &Parts,
) -> Result<Vec<Fidelity>> {
    let (n, k) = parts.size();
    let mut sums = vec![[0f64; 2]; n * formats.len()];
    let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    let strips = sums.chunks_mut((ROWS * formats.len()).max(1)).enumerate();
    run.for_each(strips.collect(), |(strip, sums)| {
        let (mut weights, mut codes, mut factors) = (Vec::with_capacity(k), vec![0i8; k], vec![f16::ZERO; k]);
        let mut rotated = Vec::with_capacity(k);
        for (i, sums) in sums.chunks_mut(formats.len()).enumerate() {
            let (tensor, matrix, row) = parts.place(strip * ROWS + i);
            matrix.widen(row, &mut weights);
            rotated.clone_from(&weights);
            hadamard::rotate(isa, hadamard::block(k), &mut rotated);
            for ((packing, turned), sums) in formats.iter().zip(sums) {
                let weights = if *turned { &rotated } else { &weights };
                let size = packing.group().unwrap_or(k);
                let factors = &mut factors[..packing.group().map_or(0, |size| Groups::count(size, k))];
                let channel = quantise(*packing, weights, &mut codes, factors);
                if !channel.is_finite() {
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    let output = strip * ROWS + i;
                    if failed.as_ref().is_none_or(|(earlier, _)| output < *earlier) {
                        *failed = Some((output, bad_row(tensor, matrix, row)));
                    }
                    return;
                }
                for (group, (weights, codes)) in weights.chunks(size).zip(codes.chunks(size)).enumerate() {
                    let step = channel * factors.get(group).map_or(1.0, |factor| factor.to_f32());
                    let squares = |(w, code): (&f32, &i8)| f64::from(w - f32::from(*code) * step).powi(2);
                    sums[0] += weights.iter().zip(codes).map(squares).sum::<f64>();
                }
                sums[1] = weights.iter().map(|w| f64::from(*w).powi(2)).sum();
            }
        }
    });
    if let Some((_, error)) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let of_format = |(at, (packing, _)): (usize, &(Packing, bool))| {
        let rows = sums.iter().skip(at).step_by(formats.len());
        let (lost, all) = rows.fold((0.0, 0.0), |(lost, all), row| (lost + row[0], all + row[1]));
        let codes = layout.bytes(packing.bits(), n, k);
        let codes = codes.map_err(|source| Error::Kernel { tensor: parts.name(), source })?;
        let factors = packing.group().map_or(0, |size| 2 * Groups::len(layout, size, n, k));
        Ok(Fidelity { weights: (n * k) as u64, bytes: (codes + 4 * n + factors) as u64, lost, all })
    };
    formats.iter().enumerate().map(of_format).collect()
}

#[cfg(test)]
mod tests {
    use autoglm_core::checkpoint::Dtype;
    use autoglm_core::{Checkpoint, Workers};
    use safetensors::tensor::TensorView;

    use super::*;
    use crate::{Group, Packed};

    fn parts(weights: &[f32], n: usize, k: usize) -> Parts {
        let bytes: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![n, k], &bytes).unwrap();
        let checkpoint = Checkpoint::from_bytes(safetensors::serialize([("w", view)], None).unwrap()).unwrap();
        Parts::new(vec![("w".to_owned(), checkpoint.matrix("w", n, k).unwrap())], k).unwrap()
    }

    #[test]
    fn the_report_tells_the_error_and_the_bytes_of_what_is_packed() {
        let workers = Workers::new(2).unwrap();
        let (run, isa) = (Run::new(&workers), Isa::best());
        let layout = Layout::of(isa);
        let (n, k) = (70, 328);
        let mut rng = fastrand::Rng::with_seed(5);
        let weights: Vec<f32> = (0..n * k).map(|_| rng.f32() - 0.5).collect();
        let parts = parts(&weights, n, k);
        let formats = [
            (Packing::Eight { group: None }, true),
            (Packing::Eight { group: None }, false),
            (Packing::Eight { group: Some(Group::G128) }, true),
            (Packing::Four { group: Group::G64 }, true),
        ];
        let found = fidelity(&run, isa, layout, &formats, &parts).unwrap();
        for ((packing, rotated), found) in formats.into_iter().zip(&found) {
            let packed = Packed::quantise(&run, isa, packing, rotated, &parts, &|_| {}).unwrap();
            let view = packed.weights().unwrap();
            let (mut lost, mut all) = (0.0, 0.0);
            for (row, stored) in weights.chunks(k).enumerate() {
                let mut dense: Vec<f32> = (0..k).map(|column| view.value(row, column)).collect();
                // Back to where the weights were.
                hadamard::rotate(isa, packed.block(), &mut dense);
                for (got, want) in dense.iter().zip(stored) {
                    lost += f64::from(got - want).powi(2);
                    all += f64::from(*want).powi(2);
                }
            }
            let error = f64::sqrt(lost / all);
            assert_eq!(found.bytes, packed.bytes());
            assert!((found.relative_error() / error - 1.0).abs() < 1e-3, "{packing:?}: {found:?}, not {error}");
        }
        assert_eq!(fidelity(&run.with_threads(1), isa, layout, &formats, &parts).unwrap(), found);
    }

    #[test]
    fn a_weight_that_is_no_number_is_named() {
        let workers = Workers::new(2).unwrap();
        let mut weights = vec![0.5; 100 * 64];
        (weights[50 * 64 + 3], weights[90 * 64]) = (f32::NAN, f32::NAN);
        let (isa, formats) = (Isa::best(), [(Packing::Eight { group: None }, true)]);
        let error = fidelity(&Run::new(&workers), isa, Layout::of(isa), &formats, &parts(&weights, 100, 64));
        assert_eq!(error.unwrap_err().to_string(), "weight [50, 3] of `w` is NaN");
    }
}
