//! Dense maps against naive sums in f64.

use safetensors::tensor::TensorView;

use super::*;
use crate::Workers;
use crate::checkpoint::Dtype;

const KINDS: [FloatType; 3] = [FloatType::F32, FloatType::F16, FloatType::Bf16];

/// A tensor to be stored.
struct Stored<'a> {
    name: &'a str,
    kind: FloatType,
    shape: &'a [usize],
    values: Vec<f32>,
}

fn checkpoint(tensors: &[Stored<'_>]) -> Arc<Checkpoint> {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|t| {
            let mut bytes = Vec::new();
            t.kind.narrow(&t.values, &mut bytes);
            bytes
        })
        .collect();
    let dtype = |kind| match kind {
        FloatType::F32 => Dtype::F32,
        FloatType::F16 => Dtype::F16,
        FloatType::Bf16 => Dtype::BF16,
    };
    let views =
        tensors.iter().zip(&bytes).map(|(t, b)| (t.name, TensorView::new(dtype(t.kind), t.shape.to_vec(), b).unwrap()));
    Arc::new(Checkpoint::from_bytes(safetensors::serialize(views, None).unwrap()).unwrap())
}

fn sample(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0).collect()
}

/// The values as they are after they were stored.
fn rounded(kind: FloatType, values: &[f32]) -> Vec<f32> {
    let (mut bytes, mut back) = (Vec::new(), Vec::new());
    kind.narrow(values, &mut bytes);
    kind.widen(&bytes, &mut back);
    back
}

fn forward(map: &dyn Projection, x: &[f32], width: usize) -> Vec<Vec<f32>> {
    let workers = Workers::new(2).unwrap();
    let x = from_rows(x.to_vec(), &[x.len() / width, width]).unwrap();
    map.forward(&Run::new(&workers), &x).unwrap().to_vec2().unwrap()
}

/// A map's naive answer: y = weight · x + bias, and what the f32 answer may differ by.
struct Naive<'a> {
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    k: usize,
}

impl Naive<'_> {
    /// Row `row` for inputs that are themselves known to `input_error`, relative.
    fn check(&self, row: usize, x: &[f64], input_error: f64, got: f32) {
        let products = || self.weight[row * self.k..][..self.k].iter().zip(x).map(|(w, x)| f64::from(*w) * x);
        let bias = self.bias.map_or(0.0, |b| f64::from(b[row]));
        let exact = products().sum::<f64>() + bias;
        let magnitude = products().map(f64::abs).sum::<f64>() + bias.abs();
        // A sum of k f32 products plus one, in any order, is within (k + 1) roundings of 2^-24 of the magnitudes' sum.
        let bound = magnitude * ((self.k + 1) as f64 * 2f64.powi(-24) + input_error);
        assert!((f64::from(got) - exact).abs() <= bound, "row {row}: {got} is not {exact} within {bound:e}");
    }
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().copied().map(f64::from).collect()
}

#[test]
fn maps_of_every_format_and_ragged_size_match_f64_with_and_without_bias() {
    // Around the vector width, around a task's rows.
    for (rows, k) in [(1, 1), (3, 5), (96, 32), (97, 33), (130, 67), (7, 300)] {
        for kind in KINDS {
            let (weight, bias) = (sample(rows * k, 1), sample(rows, 2));
            let source = DenseSource::new(
                checkpoint(&[
                    Stored { name: "m.weight", kind, shape: &[rows, k], values: weight.clone() },
                    Stored { name: "m.bias", kind, shape: &[rows], values: bias.clone() },
                ]),
                None,
            );
            let (weight, bias) = (rounded(kind, &weight), rounded(kind, &bias));
            for with_bias in [false, true] {
                let map =
                    source.projection(&[Member::new("m", rows, k).with_bias(with_bias)], &Before::Nothing).unwrap();
                assert_eq!((map.width_in(), map.width_out()), (k, rows));
                let naive = Naive { weight: &weight, bias: with_bias.then_some(&bias), k };
                for n in 1..=9 {
                    let x = sample(n * k, 3);
                    let got = forward(&*map, &x, k);
                    assert_eq!((got.len(), got[0].len()), (n, rows));
                    for (x, got) in x.chunks(k).zip(&got) {
                        got.iter().enumerate().for_each(|(row, got)| naive.check(row, &wide(x), 0.0, *got));
                    }
                }
            }
        }
    }
}

#[test]
fn a_weight_of_several_tasks_is_put_together_in_order_whatever_the_rows_and_threads() {
    let (rows, k, n) = (3 * ROWS_PER_TASK + 77, 1030, 9);
    let weight = sample(rows * k, 1);
    let stored = [Stored { name: "m.weight", kind: FloatType::Bf16, shape: &[rows, k], values: weight.clone() }];
    let map =
        DenseSource::new(checkpoint(&stored), None).projection(&[Member::new("m", rows, k)], &Before::Nothing).unwrap();
    let weight = rounded(FloatType::Bf16, &weight);
    let naive = Naive { weight: &weight, bias: None, k };
    let x = sample(n * k, 3);
    let together = forward(&*map, &x, k);
    for (x, got) in x.chunks(k).zip(&together) {
        for (row, got) in got.iter().enumerate() {
            naive.check(row, &wide(x), 0.0, *got);
        }
        assert_eq!(&forward(&*map, x, k)[0], got);
    }
    for threads in [1, 3] {
        let workers = Workers::new(threads).unwrap();
        let x = from_rows(x.clone(), &[n, k]).unwrap();
        assert_eq!(map.forward(&Run::new(&workers), &x).unwrap().to_vec2::<f32>().unwrap(), together);
    }
}

#[test]
fn members_stand_side_by_side_behind_one_norm() {
    let (k, outs) = (33, [("a.q_proj", 8), ("a.k_proj", 3), ("a.v_proj", 5)]);
    let norm = sample(k, 9);
    let weights: Vec<(String, Vec<f32>)> =
        outs.iter().enumerate().map(|(i, (name, out))| (format!("{name}.weight"), sample(out * k, i))).collect();
    let shapes: Vec<[usize; 2]> = outs.iter().map(|(_, out)| [*out, k]).collect();
    let mut stored: Vec<Stored<'_>> = weights
        .iter()
        .zip(&shapes)
        .map(|((name, values), shape)| Stored { name, kind: FloatType::F16, shape, values: values.clone() })
        .collect();
    stored.push(Stored { name: "norm.weight", kind: FloatType::F32, shape: &[33], values: norm.clone() });
    let members: Vec<Member> = outs.iter().map(|(name, out)| Member::new(*name, *out, k)).collect();
    let before = Before::RmsNorm { weight: "norm.weight".into(), eps: 1e-5 };
    let map = DenseSource::new(checkpoint(&stored), None).projection(&members, &before).unwrap();
    assert_eq!((map.width_in(), map.width_out()), (k, 16));
    for n in [1, 7] {
        let x = sample(n * k, 5);
        for (x, got) in x.chunks(k).zip(forward(&*map, &x, k)) {
            let square = wide(x).iter().map(|x| x * x).sum::<f64>() / k as f64;
            let normed: Vec<f64> = wide(x)
                .iter()
                .zip(&norm)
                .map(|(x, w)| x / (square + f64::from(1e-5f32)).sqrt() * f64::from(*w))
                .collect();
            let mut got = got.into_iter();
            for ((_, out), (_, weight)) in outs.iter().zip(&weights) {
                let weight = rounded(FloatType::F16, weight);
                let naive = Naive { weight: &weight, bias: None, k };
                for (row, got) in got.by_ref().take(*out).enumerate() {
                    // The mean of k squares, its root, its inverse and two products.
                    naive.check(row, &normed, (k + 6) as f64 * 2f64.powi(-24), got);
                }
            }
            assert_eq!(got.next(), None);
        }
    }
}

#[test]
fn gate_and_up_enter_as_one_row_of_twice_the_width() {
    let (rows, k) = (6, 35);
    let weight = sample(rows * k, 4);
    let stored =
        [Stored { name: "mlp.down_proj.weight", kind: FloatType::F32, shape: &[rows, k], values: weight.clone() }];
    let member = [Member::new("mlp.down_proj", rows, k)];
    let map = DenseSource::new(checkpoint(&stored), None).projection(&member, &Before::SiluMul).unwrap();
    assert_eq!((map.width_in(), map.width_out()), (2 * k, rows));
    let naive = Naive { weight: &weight, bias: None, k };
    for n in [1, 8] {
        let x = sample(n * 2 * k, 6);
        for (x, got) in x.chunks(2 * k).zip(forward(&*map, &x, 2 * k)) {
            let (gate, up) = x.split_at(k);
            let gated: Vec<f64> = wide(gate).iter().zip(wide(up)).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
            for (row, got) in got.into_iter().enumerate() {
                // An exponential within four roundings, a sum, a quotient and a product.
                naive.check(row, &gated, 8.0 * 2f64.powi(-24), got);
            }
        }
    }
}

#[test]
fn a_wanted_precision_rounds_the_stored_weights_once() {
    let (rows, k) = (5, 37);
    let values = sample(rows * k, 1);
    for stored in KINDS {
        let tensors = [Stored { name: "m.weight", kind: stored, shape: &[rows, k], values: values.clone() }];
        for wanted in KINDS {
            let source = DenseSource::new(checkpoint(&tensors), Some(wanted));
            let weight = rounded(wanted, &rounded(stored, &values));
            let naive = Naive { weight: &weight, bias: None, k };
            let map = source.projection(&[Member::new("m", rows, k)], &Before::Nothing).unwrap();
            let x = sample(k, 3);
            for (row, got) in forward(&*map, &x, k)[0].iter().enumerate() {
                naive.check(row, &wide(&x), 0.0, *got);
            }
            let table = source.embedding("m.weight", rows, k).unwrap();
            assert_eq!(table.rows(&[TokenId(3)]).unwrap().to_vec2::<f32>().unwrap()[0], weight[3 * k..4 * k]);
        }
    }
}

#[test]
fn embedding_rows_are_the_stored_rows_in_the_order_asked() {
    let (vocab, c) = (6, 9);
    for kind in KINDS {
        let values = sample(vocab * c, 2);
        let source = DenseSource::new(
            checkpoint(&[Stored { name: "embed.weight", kind, shape: &[vocab, c], values: values.clone() }]),
            None,
        );
        let table = source.embedding("embed.weight", vocab, c).unwrap();
        assert_eq!((table.vocab_size(), table.width()), (vocab, c));
        let got = table.rows(&[5, 0, 5].map(TokenId)).unwrap();
        let values = rounded(kind, &values);
        assert_eq!(got.to_vec2::<f32>().unwrap(), [5, 0, 5].map(|row| values[row * c..][..c].to_vec()));
        assert_eq!(table.rows(&[]).unwrap().dims(), &[0, c]);
    }
}

#[test]
fn a_token_beyond_the_table_is_named() {
    let source = DenseSource::new(
        checkpoint(&[Stored { name: "e", kind: FloatType::F16, shape: &[4, 2], values: sample(8, 1) }]),
        None,
    );
    let table = source.embedding("e", 4, 2).unwrap();
    for id in [4, u32::MAX] {
        let refused = table.rows(&[TokenId(0), TokenId(id)]);
        assert!(matches!(refused, Err(Error::TokenOutOfRange { id: TokenId(i), vocab_size: 4 }) if i == id));
    }
}

#[test]
fn a_convolution_weight_is_a_map_over_flattened_patches() {
    let source = DenseSource::new(
        checkpoint(&[Stored {
            name: "proj.weight",
            kind: FloatType::F32,
            shape: &[2, 3, 2, 2],
            values: sample(24, 1),
        }]),
        None,
    );
    let map = source.projection(&[Member::new("proj", 2, 12)], &Before::Nothing).unwrap();
    let (x, weight) = (sample(12, 2), sample(24, 1));
    let naive = Naive { weight: &weight, bias: None, k: 12 };
    forward(&*map, &x, 12)[0].iter().enumerate().for_each(|(row, got)| naive.check(row, &wide(&x), 0.0, *got));
}

#[test]
fn what_does_not_fit_is_named() {
    let bytes = [0u8; 16];
    let views = [
        ("m.weight", TensorView::new(Dtype::F32, vec![2, 2], &bytes).unwrap()),
        ("wide.weight", TensorView::new(Dtype::F32, vec![1, 4], &bytes).unwrap()),
        ("ids.weight", TensorView::new(Dtype::I32, vec![2, 2], &bytes).unwrap()),
    ];
    let source =
        DenseSource::new(Arc::new(Checkpoint::from_bytes(safetensors::serialize(views, None).unwrap()).unwrap()), None);
    let ask = |name: &str, out, inp| source.projection(&[Member::new(name, out, inp)], &Before::Nothing).map(|_| ());
    assert!(matches!(ask("n", 2, 2), Err(Error::MissingTensor { name }) if name == "n.weight"));
    assert!(matches!(ask("m", 2, 3), Err(Error::Shape { name, .. }) if name == "m.weight"));
    assert!(matches!(ask("ids", 2, 2), Err(Error::NotFloat { name, dtype: Dtype::I32 }) if name == "ids.weight"));
    let before = Before::RmsNorm { weight: "norm.weight".into(), eps: 1e-5 };
    let unnormed = source.projection(&[Member::new("m", 2, 2)], &before);
    assert!(matches!(unnormed, Err(Error::MissingTensor { name }) if name == "norm.weight"));
    let unbiased = source.projection(&[Member::new("m", 2, 2).with_bias(true)], &Before::Nothing);
    assert!(matches!(unbiased, Err(Error::MissingTensor { name }) if name == "m.bias"));
    let unequal = source.projection(&[Member::new("m", 2, 2), Member::new("wide", 1, 4)], &Before::Nothing);
    assert!(matches!(unequal, Err(Error::Shape { name, .. }) if name == "wide"));

    let map = source.projection(&[Member::new("m", 2, 2)], &Before::Nothing).unwrap();
    let workers = Workers::new(1).unwrap();
    let misfit = map.forward(&Run::new(&workers), &from_rows(vec![0.0; 3], &[1, 3]).unwrap());
    assert!(matches!(misfit, Err(Error::Shape { .. })));
}

#[test]
fn a_run_in_halves_rounds_the_input_of_bf16_weights_and_keeps_the_laws() {
    let (n, k, out) = (7, 70, 40);
    let (w, x) = (sample(out * k, 1), sample(n * k, 2));
    let kinds = [FloatType::Bf16, FloatType::F16];
    for kind in kinds {
        let tensors = [Stored { name: "w.weight", shape: &[out, k], kind, values: w.clone() }];
        let source = DenseSource::new(checkpoint(&tensors), None);
        let map = source.projection(&[Member::new("w", out, k)], &Before::Nothing).unwrap();
        let workers = Workers::new(2).unwrap();
        let run = Run::new(&workers);
        let halves = run.with_rounding(true);
        let answer = |run: &Run<'_>, x: &[f32]| -> Vec<f32> {
            let x = from_rows(x.to_vec(), &[x.len() / k, k]).unwrap();
            map.forward(run, &x).unwrap().flatten_all().unwrap().to_vec1().unwrap()
        };
        let (exact, halved) = (answer(&run, &x), answer(&halves, &x));
        let rounds = kind == FloatType::Bf16 && matches!(run.isa(), Isa::Avx512Bf16(_));
        assert_eq!(exact != halved, rounds);
        for (i, (exact, halved)) in exact.iter().zip(&halved).enumerate() {
            let size: f32 = x[i / out * k..][..k].iter().zip(&w[i % out * k..][..k]).map(|(x, w)| (x * w).abs()).sum();
            // Rounding to 8 bits moves a number by at most 2^-9 of it; sums of 70 in f32 are nothing beside.
            assert!((exact - halved).abs() <= size * 2f32.powi(-9) * 1.01, "{i}");
        }
        for row in 0..n {
            assert_eq!(answer(&halves, &x[row * k..][..k]), halved[row * out..][..out]);
        }
    }
}
