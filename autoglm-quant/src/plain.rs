//! Codes row by row and positive steps, as programs with other kernels than ours store them.

use std::sync::{Mutex, PoisonError};

use autoglm_core::{FloatType, Run};

use crate::codes::{ends, largest, sums, write};
use crate::feedback::ROWS;
use crate::packed::bad_row;
use crate::{Error, Feedback, Packing, Parts, Result};

/// The steps that are tried for a 4-bit group, as shares of the one that puts the group's largest
/// magnitude on code 7. The smallest puts it on 9, which is clipped.
const SHARES: [f32; 8] = [0.78, 0.81, 0.84, 0.875, 0.91, 0.94, 0.97, 1.0];

/// A matrix (n, k) as value = code · step, not rotated.
#[derive(Debug)]
pub struct Plain {
    /// Codes, row by row: a byte each, or with 4 bits two to a byte, the earlier one low and 8 added.
    pub codes: Vec<u8>,
    /// Steps (n, k / group) in the format that was asked for, little-endian; one per row without groups.
    pub steps: Vec<u8>,
}

impl Plain {
    /// Quantises `parts`. Steps are rounded to `kind` first, and codes are chosen for what a reader then
    /// sees: the nearest ones, or those of `feedback`.
    ///
    /// # Errors
    /// - [`Error::NotFinite`] names the first bad weight.
    /// - [`Error::Ragged`] when k is no whole number of groups, or of bytes.
    /// - [`Error::Width`] when `feedback` is about another number of inputs.
    pub fn quantise(
        run: &Run<'_>,
        packing: Packing,
        kind: FloatType,
        parts: &Parts,
        feedback: Option<&Feedback>,
    ) -> Result<Self> {
        let (n, k) = parts.size();
        parts.check(feedback)?;
        let (group, ends) = (packing.group().unwrap_or(k), ends(packing));
        let per_byte = if matches!(packing, Packing::Four { .. }) { 2 } else { 1 };
        if group == 0 || !k.is_multiple_of(group) {
            return Err(Error::Ragged { tensor: parts.name(), width: k, group });
        }
        let (code_bytes, step_bytes) = (k / per_byte, k / group * kind.size());
        let mut plain = Self { codes: vec![0; n * code_bytes], steps: vec![0; n * step_bytes] };
        let strips = plain.codes.chunks_mut((ROWS * code_bytes).max(1));
        let strips = strips.zip(plain.steps.chunks_mut((ROWS * step_bytes).max(1))).enumerate();
        let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
        run.for_each(strips.collect(), |(strip, (codes, steps))| {
            let (codes_of, steps_of) = (code_bytes.max(1), step_bytes.max(1));
            let rows = codes.len() / codes_of;
            let (mut weights, mut row) = (Vec::with_capacity(rows * k), Vec::with_capacity(k));
            for output in strip * ROWS..strip * ROWS + rows {
                let (tensor, matrix, at) = parts.place(output);
                matrix.widen(at, &mut row);
                if !largest(&row).is_finite() {
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    if failed.as_ref().is_none_or(|(earlier, _)| output < *earlier) {
                        *failed = Some((output, bad_row(tensor, matrix, at)));
                    }
                    return;
                }
                weights.extend_from_slice(&row);
            }
            let mut chosen = vec![0i8; rows * k];
            let mut seen = Vec::with_capacity(rows * k / group.max(1));
            let each = weights.chunks(k.max(1)).zip(chosen.chunks_mut(k.max(1))).zip(steps.chunks_mut(steps_of));
            for ((weights, chosen), steps) in each {
                find((packing, group, ends, kind), weights, (chosen, steps), &mut seen);
            }
            if let Some(feedback) = feedback {
                feedback.choose(&mut weights, &seen, group, ends, &mut chosen);
            }
            for (codes, chosen) in codes.chunks_mut(codes_of).zip(chosen.chunks(k.max(1))) {
                store(packing, chosen, codes);
            }
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some((_, error)) => Err(error),
            None => Ok(plain),
        }
    }
}

/// The steps of a row, as they are stored and, added to `seen`, as a reader sees them; and the codes nearest to its weights.
fn find(
    (packing, size, ends, kind): (Packing, usize, (f32, f32), FloatType),
    weights: &[f32],
    (codes, stored): (&mut [i8], &mut [u8]),
    seen: &mut Vec<f32>,
) {
    let (mut narrow, mut rounded) = (Vec::with_capacity(4), Vec::with_capacity(1));
    let groups = weights.chunks(size).zip(codes.chunks_mut(size));
    for ((weights, codes), stored) in groups.zip(stored.chunks_mut(kind.size())) {
        let step = match packing {
            Packing::Eight { .. } => largest(weights) / ends.1,
            Packing::Four { .. } => positive_step(weights),
        };
        narrow.clear();
        kind.narrow(&[step], &mut narrow);
        rounded.clear();
        kind.widen(&narrow, &mut rounded);
        stored.copy_from_slice(&narrow);
        let step = rounded.first().copied().unwrap_or(0.0);
        write(weights, step, ends, codes);
        seen.push(step);
    }
}

/// The codes of a row as they are stored.
fn store(packing: Packing, codes: &[i8], stored: &mut [u8]) {
    match packing {
        Packing::Eight { .. } => stored.iter_mut().zip(codes).for_each(|(to, code)| *to = *code as u8),
        Packing::Four { .. } => {
            for (to, pair) in stored.iter_mut().zip(codes.as_chunks::<2>().0) {
                *to = (pair[0] + 8) as u8 | ((pair[1] + 8) as u8) << 4;
            }
        }
    }
}

/// The positive step of a 4-bit group with the smallest square error: see `four_bit_step`, which may
/// choose a negative one.
fn positive_step(weights: &[f32]) -> f32 {
    let whole = largest(weights) / 7.0;
    let (mut best, mut best_step) = (-1.0, whole);
    for share in SHARES {
        let inverse = 1.0 / (whole * share);
        if !inverse.is_finite() {
            break;
        }
        let (product, square) = sums(weights, inverse);
        let gain = if square > 0.0 { product * product / square } else { 0.0 };
        if gain > best && product > 0.0 {
            (best, best_step) = (gain, product / square);
        }
    }
    best_step
}

#[cfg(test)]
mod tests {
    use autoglm_core::checkpoint::Dtype;
    use autoglm_core::{Checkpoint, Workers};
    use safetensors::tensor::TensorView;

    use super::*;
    use crate::Group;

    fn parts(weights: &[f32], n: usize, k: usize) -> Parts {
        let bytes: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![n, k], &bytes).unwrap();
        let checkpoint = Checkpoint::from_bytes(safetensors::serialize([("w", view)], None).unwrap()).unwrap();
        Parts::new(vec![("w".to_owned(), checkpoint.matrix("w", n, k).unwrap())], k).unwrap()
    }

    fn numbers(n: usize, k: usize) -> Vec<f32> {
        let mut rng = fastrand::Rng::with_seed(9);
        (0..n * k).map(|_| rng.f32() + rng.f32() + rng.f32() - 1.5).collect()
    }

    #[test]
    fn codes_times_steps_are_near_the_weights() {
        let workers = Workers::new(2).unwrap();
        let (n, k) = (37, 192);
        let weights = numbers(n, k);
        for kind in [FloatType::F32, FloatType::F16, FloatType::Bf16] {
            let four = Packing::Four { group: Group::G64 };
            // 8 bits lose half a step at most; 4 bits what the search leaves of a bell of this width.
            for (packing, group, most) in [(Packing::Eight { group: None }, k, 0.01), (four, 64, 0.12)] {
                let plain = Plain::quantise(&Run::new(&workers), packing, kind, &parts(&weights, n, k), None).unwrap();
                let mut steps = Vec::new();
                kind.widen(&plain.steps, &mut steps);
                assert!(steps.len() == n * k / group && steps.iter().all(|step| *step > 0.0));
                let code = |i: usize| match packing {
                    Packing::Eight { .. } => f32::from(plain.codes[i] as i8),
                    Packing::Four { .. } => f32::from(plain.codes[i / 2] >> (i % 2 * 4) & 15) - 8.0,
                };
                let lost: f32 = (0..n * k).map(|i| (code(i) * steps[i / group] - weights[i]).powi(2)).sum();
                let all: f32 = weights.iter().map(|w| w * w).sum();
                assert!((lost / all).sqrt() < most, "{packing:?} {kind:?}: {}", (lost / all).sqrt());
            }
        }
    }

    #[test]
    fn zeros_stay_zeros_and_what_cannot_be_stored_is_named() {
        let workers = Workers::new(2).unwrap();
        let run = Run::new(&workers);
        let four = Packing::Four { group: Group::G64 };
        let zeros = Plain::quantise(&run, four, FloatType::F16, &parts(&[0.0; 128], 2, 64), None).unwrap();
        assert_eq!((zeros.codes, zeros.steps), (vec![0x88; 64], vec![0; 4]));
        let ragged = Plain::quantise(&run, four, FloatType::F16, &parts(&[0.0; 96], 1, 96), None).unwrap_err();
        assert_eq!(ragged.to_string(), "`w` has 96 columns, which groups of 64 do not divide");
        let mut weights = numbers(40, 64);
        weights[33 * 64 + 5] = f32::INFINITY;
        let error = Plain::quantise(&run, four, FloatType::F16, &parts(&weights, 40, 64), None).unwrap_err();
        assert_eq!(error.to_string(), "weight [33, 5] of `w` is inf");
    }
}
