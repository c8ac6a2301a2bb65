//! How far two tensors are apart, in units of the wanted one's standard deviation.

use candle_core::Tensor;

/// The largest absolute difference divided by the standard deviation of `want`; infinite when
/// shapes differ or either holds a NaN.
///
/// # Panics
/// When a tensor is not f32.
#[must_use]
pub fn distance(got: &Tensor, want: &Tensor) -> f64 {
    if got.dims() != want.dims() {
        return f64::INFINITY;
    }
    let flat = |x: &Tensor| x.flatten_all().and_then(|x| x.to_vec1::<f32>()).expect("an f32 tensor");
    let (got, want) = (flat(got), flat(want));
    let n = want.len().max(1) as f64;
    let mean = want.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let deviation = (want.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n).sqrt();
    let mut largest = 0f64;
    for (g, w) in got.iter().zip(&want) {
        let difference = (f64::from(*g) - f64::from(*w)).abs();
        if difference.is_nan() {
            return f64::INFINITY;
        }
        largest = largest.max(difference);
    }
    if largest == 0.0 { 0.0 } else { largest / deviation }
}

/// Fails, naming `what` and the distance, unless `got` is within `bound` of `want`.
///
/// # Panics
/// When it is not.
pub fn assert_close(what: &str, got: &Tensor, want: &Tensor, bound: f64) {
    let apart = distance(got, want);
    assert!(
        apart <= bound,
        "{what}: {apart:e} standard deviations apart, bound {bound:e}; shapes {:?} and {:?}",
        got.dims(),
        want.dims()
    );
}

/// Fails, naming `what` and the first difference, unless `got` has the shape and the bits of `want`.
///
/// # Panics
/// When it has not, or a tensor is not f32.
pub fn assert_same(what: &str, got: &Tensor, want: &Tensor) {
    assert_eq!(got.dims(), want.dims(), "{what}: shapes differ");
    let flat = |x: &Tensor| x.flatten_all().and_then(|x| x.to_vec1::<f32>()).expect("an f32 tensor");
    for (i, (got, want)) in flat(got).iter().zip(flat(want)).enumerate() {
        assert!(got.to_bits() == want.to_bits(), "{what}: number {i} is {got:e} and not {want:e}");
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn tensor(values: &[f32]) -> Tensor {
        Tensor::from_slice(values, (values.len() / 2, 2), &Device::Cpu).unwrap()
    }

    #[test]
    fn the_distance_of_a_known_pair_is_the_textbook_value() {
        let want = tensor(&[1.0, -1.0, 1.0, -1.0]);
        assert!((distance(&tensor(&[1.0, -1.5, 1.0, -1.0]), &want) - 0.5).abs() < 1e-12);
        assert_eq!(distance(&want, &want), 0.0);
    }

    #[test]
    fn nan_swapped_rows_other_shapes_and_constant_wants_are_far_apart() {
        let want = tensor(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(distance(&tensor(&[1.0, f32::NAN, 3.0, 4.0]), &want), f64::INFINITY);
        assert!(distance(&tensor(&[3.0, 4.0, 1.0, 2.0]), &want) > 1.0);
        assert_eq!(distance(&tensor(&[1.0, 2.0]), &want), f64::INFINITY);
        assert_eq!(distance(&tensor(&[0.0, 1e-9]), &tensor(&[0.0, 0.0])), f64::INFINITY);
    }

    #[test]
    fn what_is_the_same_passes_and_zeros_of_two_signs_are_not() {
        let x = tensor(&[0.0, f32::NAN]);
        assert_same("x", &x, &x);
        let refused = |other: Tensor| {
            let same = std::panic::AssertUnwindSafe(|| assert_same("x", &other, &x));
            std::panic::catch_unwind(same).is_err()
        };
        assert!(refused(tensor(&[-0.0, f32::NAN])));
        assert!(refused(tensor(&[0.0, 1.0])));
        assert!(refused(tensor(&[0.0, f32::NAN, 0.0, 0.0])));
    }

    #[test]
    #[should_panic(expected = "standard deviations apart")]
    fn a_difference_beyond_the_bound_fails() {
        assert_close("x", &tensor(&[1.0, 2.1]), &tensor(&[1.0, 2.0]), 1e-3);
    }
}
