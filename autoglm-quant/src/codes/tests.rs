//! What codes and steps lose.
use super::*;
use crate::Group;

const FOUR64: Packing = Packing::Four { group: Group::G64 };

fn normal(rng: &mut fastrand::Rng, n: usize) -> Vec<f32> {
    let uniform = |rng: &mut fastrand::Rng| (rng.f64() + 1e-12).ln() * -2.0;
    (0..n).map(|_| (uniform(rng).sqrt() * (std::f64::consts::TAU * rng.f64()).cos()) as f32).collect()
}

/// Codes and the values they stand for.
fn roundtrip(packing: Packing, weights: &[f32]) -> (Vec<i8>, Vec<f32>, Vec<f32>) {
    let groups = packing.group().map_or(0, |size| weights.len().div_ceil(size));
    let (mut codes, mut factors) = (vec![0; weights.len()], vec![f16::ZERO; groups]);
    let channel = quantise(packing, weights, &mut codes, &mut factors);
    let step = |k: usize| packing.group().map_or(channel, |size| factors[k / size].to_f32() * channel);
    let values = codes.iter().enumerate().map(|(k, code)| f32::from(*code) * step(k)).collect();
    (codes, values, (0..weights.len()).map(step).collect())
}

fn relative_error(packing: Packing, weights: &[f32]) -> f64 {
    let (_, values, _) = roundtrip(packing, weights);
    let square = |of: &dyn Fn(usize) -> f32| (0..weights.len()).map(|k| f64::from(of(k)).powi(2)).sum::<f64>();
    (square(&|k| weights[k] - values[k]) / square(&|k| weights[k])).sqrt()
}

#[test]
fn values_are_within_half_a_step_unless_they_are_clipped() {
    let mut rng = fastrand::Rng::with_seed(1);
    for k in [1, 31, 64, 200, 1176] {
        let weights = normal(&mut rng, k);
        for packing in [Packing::Eight { group: None }, Packing::Eight { group: Some(Group::G128) }, FOUR64] {
            let (codes, values, steps) = roundtrip(packing, &weights);
            for ((code, value), (weight, step)) in codes.iter().zip(values).zip(weights.iter().zip(steps)) {
                let ends: &[i8] = if packing == FOUR64 { &[-8, 7] } else { &[] };
                // Half a step and the roundings of the division.
                assert!((value - weight).abs() <= 0.5001 * step.abs() || ends.contains(code), "{k} {packing:?}");
                assert!(packing == FOUR64 || *code > -128, "{k}");
            }
        }
    }
}

#[test]
fn four_bits_lose_no_more_than_the_search_promises() {
    let mut rng = fastrand::Rng::with_seed(2);
    let weights = normal(&mut rng, 1 << 16);
    // Of Gaussian weights, measured with this seed; rounding to nearest with step max/7 loses 0.106.
    for (group, most) in [(Group::G32, 0.088), (Group::G64, 0.098), (Group::G128, 0.107)] {
        let error = relative_error(Packing::Four { group }, &weights);
        println!("4 bits in groups of {}: {error:.4}", group.size());
        assert!(error < most, "{group:?}: {error}");
    }
    let error = relative_error(Packing::Eight { group: None }, &weights[..4096]);
    println!("8 bits, one step: {error:.4}");
    assert!(error < 0.0095, "{error}");
}

#[test]
fn factors_are_relative_to_the_largest_step() {
    let weights: Vec<f32> = (0..256).map(|k| if k < 64 { 1000.0 } else { 0.001 } * ((k % 7) as f32 - 3.0)).collect();
    let (mut codes, mut factors) = (vec![0; 256], vec![f16::ZERO; 4]);
    let channel = quantise(FOUR64, &weights, &mut codes, &mut factors);
    assert!(channel > 0.0 && factors.iter().all(|factor| factor.to_f32().abs() <= 1.0));
    assert!(factors.iter().any(|factor| factor.to_f32().abs() == 1.0));
}

#[test]
fn zeros_and_the_smallest_numbers_are_zero() {
    for packing in [Packing::Eight { group: None }, Packing::Eight { group: Some(Group::G32) }, FOUR64] {
        for tiny in [0.0, f32::from_bits(1), -1e-40] {
            let (codes, values, _) = roundtrip(packing, &[tiny; 70]);
            assert!(codes.iter().all(|code| *code == 0) || values.iter().all(|value| (value - tiny).abs() < 1e-37));
            assert!(values.iter().all(|value| value.is_finite()), "{packing:?} {tiny}");
        }
    }
}

#[test]
fn what_is_not_a_number_gives_no_scale() {
    for packing in [Packing::Eight { group: None }, Packing::Eight { group: Some(Group::G32) }, FOUR64] {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut weights = vec![0.5; 200];
            weights[150] = bad;
            let channel = quantise(packing, &weights, &mut [0; 200], &mut [f16::ZERO; 7]);
            assert!(!channel.is_finite(), "{packing:?} {bad}");
        }
    }
}
