//! Checkpoints in memory, quantised and multiplied with, against f64.
use autoglm_core::Workers;
use autoglm_core::rows::{from_rows, with_rows};
use autoglm_kernels::hadamard;
use autoglm_kernels::layout::Layout;
use safetensors::tensor::TensorView;

use super::*;
use crate::Group;

const DOWN: &str = "model.layers.0.mlp.down_proj";

fn normal(rng: &mut fastrand::Rng, n: usize) -> Vec<f32> {
    let uniform = |rng: &mut fastrand::Rng| (rng.f64() + 1e-12).ln() * -2.0;
    (0..n).map(|_| (uniform(rng).sqrt() * (std::f64::consts::TAU * rng.f64()).cos()) as f32).collect()
}

/// A checkpoint of f32 tensors.
fn checkpoint(tensors: &[(&str, Vec<usize>, Vec<f32>)]) -> Arc<Checkpoint> {
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, shape, values)| {
            ((*name).to_owned(), shape.clone(), values.iter().flat_map(|v| v.to_le_bytes()).collect())
        })
        .collect();
    let views =
        bytes.iter().map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    Arc::new(Checkpoint::from_bytes(safetensors::serialize(views, None).unwrap()).unwrap())
}

fn one(name: &str, (n, k): (usize, usize), weights: &[f32]) -> (Arc<Checkpoint>, Member) {
    (checkpoint(&[(&format!("{name}.weight"), vec![n, k], weights.to_vec())]), Member::new(name, n, k))
}

fn forward(workers: &Workers, map: &dyn Projection, x: &[f32]) -> Vec<f32> {
    let x = from_rows(x.to_vec(), &[x.len() / map.width_in(), map.width_in()]).unwrap();
    with_rows(&map.forward(&Run::new(workers), &x).unwrap(), <[f32]>::to_vec).unwrap()
}

/// ‖got − W x‖ / ‖W x‖ over all rows of x, against f64.
fn error(got: &[f32], weights: &[f32], x: &[f32], k: usize) -> f64 {
    let dot = |w: &[f32], x: &[f32]| w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum::<f64>();
    let want = x.chunks(k).flat_map(|x| weights.chunks(k).map(move |w| dot(w, x)));
    let (mut apart, mut all) = (0.0, 0.0);
    for (got, want) in got.iter().zip(want) {
        apart += (f64::from(*got) - want).powi(2);
        all += want.powi(2);
    }
    (apart / all).sqrt()
}

/// The error of a scheme's decoder maps on Gaussian weights and activations.
fn measured(scheme: Scheme, outliers: bool) -> f64 {
    let (n, k, rows) = (192, 4096, 12);
    let mut rng = fastrand::Rng::with_seed(7);
    let weights = normal(&mut rng, n * k);
    let mut x = normal(&mut rng, rows * k);
    if outliers {
        let large: Vec<usize> = (0..8).map(|_| rng.usize(..k)).collect();
        x.chunks_mut(k).for_each(|x| large.iter().for_each(|i| x[*i] *= 60.0));
    }
    let workers = Workers::new(2).unwrap();
    let (checkpoint, member) = one(DOWN, (n, k), &weights);
    let source = QuantSource::new(checkpoint, scheme, Isa::best(), Run::new(&workers));
    let map = source.projection(&[member], &Before::Nothing).unwrap();
    error(&forward(&workers, &*map, &x), &weights, &x, k)
}

/// Figures of the study that chose the formats, from six tokens and sixteen outputs.
const STUDY: f64 = 1.2;

#[test]
fn every_format_is_as_exact_as_the_study_that_chose_it() {
    let (eight, four) = (Scheme::int8(), Scheme::int4());
    for (scheme, outliers, studied) in [
        (eight, false, 0.0129),
        (eight, true, 0.0144),
        (eight.with_group(Group::G128), false, 0.0129),
        (four, false, 0.111),
        (four, true, 0.104),
        (four.with_group(Group::G32), false, 0.103),
        (four.with_group(Group::G128), false, 0.116),
        (four.with_rotation(false), false, 0.124),
    ] {
        let error = measured(scheme, outliers);
        println!("{scheme:?}, outliers {outliers}: {error:.4}");
        assert!(error <= STUDY * studied, "{scheme:?}, outliers {outliers}: {error}");
    }
}

#[test]
fn planted_outliers_hurt_only_without_the_rotation() {
    // The project's bound.
    assert!(measured(Scheme::int8(), true) <= 0.03);
    assert!(measured(Scheme::int8().with_rotation(false), true) > 0.05);
}

#[test]
fn ragged_widths_are_packed_within_half_a_step_of_the_rotated_weights() {
    let workers = Workers::new(2).unwrap();
    let (n, k) = (70, 1176);
    let mut rng = fastrand::Rng::with_seed(3);
    let mut weights = normal(&mut rng, n * k);
    weights[5 * k..6 * k].fill(0.0);
    let (checkpoint, member) = one("model.visual.patch_embed.proj", (n, k), &weights);
    let (width, block) = (member.inp, hadamard::block(k));
    assert_eq!(block, 8);
    let matrix = checkpoint.matrix("model.visual.patch_embed.proj.weight", n, width).unwrap();
    let parts = Parts::new(vec![("w".to_owned(), matrix)], k).unwrap();
    let packings = [Packing::Eight { group: None }, Packing::Eight { group: Some(Group::G32) }];
    for packing in packings {
        let packed = Packed::quantise(&Run::new(&workers), Isa::best(), packing, true, &parts, &|_| {}).unwrap();
        let view = packed.weights().unwrap();
        for (row, stored) in weights.chunks(k).enumerate() {
            let mut rotated = stored.to_vec();
            hadamard::rotate(Isa::best(), block, &mut rotated);
            let largest = rotated.iter().fold(0f32, |most, w| most.max(w.abs()));
            for (column, want) in rotated.iter().enumerate() {
                // Half of the row's step bounds half of any group's; the rest is roundings.
                assert!(
                    (view.value(row, column) - want).abs() <= 0.501 * largest / 127.0,
                    "{packing:?} {row} {column}"
                );
            }
        }
    }
    let source = QuantSource::new(checkpoint, Scheme::int8(), Isa::best(), Run::new(&workers));
    let map = source.projection(&[member], &Before::Nothing).unwrap();
    let x = normal(&mut rng, 3 * k);
    let got = forward(&workers, &*map, &x);
    assert!(error(&got, &weights, &x, k) < STUDY * 0.0129);
    assert!(got.chunks(n).all(|row| row[5] == 0.0));
}

#[test]
fn a_weight_that_is_no_number_is_named_wherever_it_is() {
    let workers = Workers::new(3).unwrap();
    for scheme in [Scheme::int8(), Scheme::int4(), Scheme::int8().with_rotation(false)] {
        for bad in [f32::NAN, f32::NEG_INFINITY] {
            let mut weights = vec![0.25; 300 * 64];
            (weights[131 * 64 + 17], weights[290 * 64]) = (bad, bad);
            let (checkpoint, member) = one(DOWN, (300, 64), &weights);
            let source = QuantSource::new(checkpoint, scheme, Isa::best(), Run::new(&workers));
            let error = source.projection(&[member], &Before::Nothing).unwrap_err();
            let CoreError::Format { name, source } = &error else { panic!("{error}") };
            assert_eq!(
                (name.as_str(), source.to_string()),
                (DOWN, format!("weight [131, 17] of `{DOWN}.weight` is {bad}"))
            );
        }
    }
    let (checkpoint, member) = one(DOWN, (8, 64), &[3e38; 8 * 64]);
    let source = QuantSource::new(checkpoint, Scheme::int8(), Isa::best(), Run::new(&workers));
    let error = source.projection(&[member], &Before::Nothing).unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("too large to be rotated"), "{error}");
}

#[test]
fn a_row_has_the_same_bits_beside_any_others_and_on_any_number_of_threads() {
    let mut rng = fastrand::Rng::with_seed(4);
    let (n, k) = (1000, 640);
    let weights = normal(&mut rng, n * k);
    let norm: Vec<f32> = (0..k).map(|i| 0.5 + (i % 5) as f32 * 0.3).collect();
    let checkpoint = checkpoint(&[(&format!("{DOWN}.weight"), vec![n, k], weights), ("norm.weight", vec![k], norm)]);
    let (norm, eps) = ("norm.weight", 1e-5);
    let befores = [
        Before::Nothing,
        Before::RmsNorm { weight: norm.into(), eps },
        Before::LayerNorm { weight: norm.into(), bias: norm.into(), eps },
        Before::SiluMul,
        Before::Gelu,
    ];
    for scheme in [Scheme::int8(), Scheme::int4()] {
        for before in &befores {
            let answers: Vec<(Vec<f32>, Vec<f32>)> = [1, 3]
                .map(|threads| {
                    let workers = Workers::new(threads).unwrap();
                    let source = QuantSource::new(Arc::clone(&checkpoint), scheme, Isa::best(), Run::new(&workers));
                    let map = source.projection(&[Member::new(DOWN, n, k)], before).unwrap();
                    let x = normal(&mut fastrand::Rng::with_seed(5), 40 * map.width_in());
                    let single = x.chunks(map.width_in()).flat_map(|x| forward(&workers, &*map, x)).collect();
                    (forward(&workers, &*map, &x), single)
                })
                .into();
            assert!(answers.iter().all(|(all, single)| *all == answers[0].0 && *single == answers[0].0));
        }
    }
}

#[test]
fn members_lie_side_by_side_and_one_without_bias_has_zeros() {
    let workers = Workers::new(2).unwrap();
    let mut rng = fastrand::Rng::with_seed(6);
    let k = 256;
    let at = |name: &str| format!("model.layers.0.self_attn.{name}");
    let maps = [("q_proj", 70, true), ("k_proj", 30, false), ("v_proj", 31, true)];
    let mut tensors = Vec::new();
    for (name, n, bias) in maps {
        tensors.push((at(name) + ".weight", vec![n, k], normal(&mut rng, n * k)));
        if bias {
            tensors.push((at(name) + ".bias", vec![n], normal(&mut rng, n)));
        }
    }
    let named: Vec<_> =
        tensors.iter().map(|(name, shape, values)| (name.as_str(), shape.clone(), values.clone())).collect();
    let source = QuantSource::new(checkpoint(&named), Scheme::int8(), Isa::best(), Run::new(&workers));
    let member = |(name, n, bias): (&str, usize, bool)| Member::new(at(name), n, k).with_bias(bias);
    let together = source.projection(&maps.map(member), &Before::Nothing).unwrap();
    let x = normal(&mut rng, 2 * k);
    let all = forward(&workers, &*together, &x);
    let mut start = 0;
    for map in maps {
        let alone = source.projection(&[member(map)], &Before::Nothing).unwrap();
        for (all, alone) in all.chunks(131).zip(forward(&workers, &*alone, &x).chunks(map.1)) {
            assert_eq!(&all[start..start + map.1], alone, "{}", map.0);
        }
        start += map.1;
    }
    assert_eq!(together.width_out(), 131);
}

#[test]
fn a_tied_head_is_quantised_and_its_embedding_is_not() {
    let workers = Workers::new(2).unwrap();
    let mut rng = fastrand::Rng::with_seed(8);
    let (n, k) = (100, 256);
    let weights = normal(&mut rng, n * k);
    let (checkpoint, member) = one("model.embed_tokens", (n, k), &weights);
    for scheme in [Scheme::int8(), Scheme::int4(), Scheme::mixed()] {
        let source = QuantSource::new(Arc::clone(&checkpoint), scheme, Isa::best(), Run::new(&workers));
        let table = source.embedding("model.embed_tokens.weight", n, k).unwrap();
        let rows = with_rows(&table.rows(&[autoglm_core::TokenId(3)]).unwrap(), <[f32]>::to_vec).unwrap();
        assert_eq!(rows, weights[3 * k..4 * k]);
        let before = source.weights_bytes();
        let head = source.projection(std::slice::from_ref(&member), &Before::Nothing).unwrap();
        let x = normal(&mut rng, k);
        let error = error(&forward(&workers, &*head, &x), &weights, &x, k);
        assert!(error < STUDY * 0.0129, "{error}");
        // Outputs padded to whole panels, of 256 codes and two groups each; a scale per output.
        let padded = Layout::of(Isa::best()).padded_outputs(n);
        let packed = padded * 256 + padded * 2 * 2 + n * 4;
        assert_eq!((before, source.weights_bytes()), ((n * k * 4) as u64, (n * k * 4 + packed) as u64));
    }
}

#[test]
fn what_stays_dense_in_mixed_is_halved_only_where_it_is_wide() {
    let workers = Workers::new(1).unwrap();
    let mut rng = fastrand::Rng::with_seed(9);
    let (n, k) = (64, 64);
    let weights = normal(&mut rng, n * k);
    let (checkpoint, member) = one(DOWN, (n, k), &weights);
    let source = QuantSource::new(checkpoint, Scheme::mixed(), Isa::best(), Run::new(&workers));
    let map = source.projection(&[member], &Before::Nothing).unwrap();
    let x = normal(&mut rng, k);
    let error = error(&forward(&workers, &*map, &x), &weights, &x, k);
    // A rounding to 11 bits; not zero, or it would not have been halved.
    assert!(error > 1e-6 && error < 5e-4, "{error}");
    assert_eq!(source.weights_bytes(), (n * k * 2) as u64);
}

#[test]
fn progress_counts_every_packed_weight_once() {
    let workers = Workers::new(2).unwrap();
    let specs = [
        TensorSpec::new("model.embed_tokens.weight", [100, 64]),
        TensorSpec::new("model.norm.weight", [64]),
        TensorSpec::new(format!("{DOWN}.weight"), [130, 64]),
        TensorSpec::new("lm_head.weight", [100, 64]),
        TensorSpec::new("model.visual.embeddings.position_embedding.weight", [4, 64]),
    ];
    assert_eq!(Scheme::int8().weights(&specs), 130 * 64 + 100 * 64);
    assert_eq!(Scheme::mixed().weights(&specs), 100 * 64);
    assert_eq!(Scheme::mixed().weights(&specs[..3]), 100 * 64, "a tied head");
    let (checkpoint, member) = one(DOWN, (130, 64), &vec![1.0; 130 * 64]);
    let count = AtomicU64::new(0);
    let source = QuantSource::new(checkpoint, Scheme::int8(), Isa::best(), Run::new(&workers));
    let source = source.watched(|more| {
        count.fetch_add(more, Ordering::Relaxed);
    });
    source.projection(&[member], &Before::Nothing).unwrap();
    assert_eq!(count.load(Ordering::Relaxed), 130 * 64);
}

#[test]
fn maps_that_cannot_be_packed_are_errors_that_name_them() {
    let workers = Workers::new(1).unwrap();
    let (checkpoint, member) = one(DOWN, (2, 64), &[0.0; 128]);
    let source = QuantSource::new(checkpoint, Scheme::int8(), Isa::best(), Run::new(&workers));
    let cause = |members: &[Member]| {
        let error = source.projection(members, &Before::Nothing).unwrap_err();
        format!("{error}: {}", std::error::Error::source(&error).map_or(String::new(), ToString::to_string))
    };
    assert!(
        cause(&[member.clone(), Member::new(DOWN, 1, 128)]).contains("has 128 columns, the maps beside it have 64")
    );
    assert!(cause(&[Member::new("model.layers.0.gone", 1, 64)]).contains("no tensor `model.layers.0.gone.weight`"));
    assert!(cause(&[Member::new(DOWN, 3, 64)]).contains("expected [3, 64]"));
}
