//! Integer weights on the tiny checkpoint: what it taps, how far its logits move, what it weighs.
#![cfg(all(feature = "quant", feature = "vision"))]
#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use autoglm::{Action, Answer, Error, Generate, Model, OpenOptions, Part, Precision, Progress, Thinking};
use autoglm_text::tokenizer::{Segment, Tokenizer};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde_json::Value;

/// The project's bounds for the relative error of logits.
const INT8: f64 = 0.02;
const INT4: f64 = 0.15;
/// Where a net this small cannot do better, the bound is this times what the block formats of GGML
/// lose on the same weights.
const SIMULATED: f64 = 1.2;

fn open(precision: impl Into<Option<Precision>>) -> Model {
    let options = OpenOptions::default().threads(2).precision(precision.into());
    Model::open_embedded(autoglm_tiny::FILES, &options).unwrap()
}

/// Logits of every row of three prompts with a picture each, (rows · vocabulary).
fn logits(model: &Model) -> Vec<f32> {
    let tokenizer = Tokenizer::from_json(autoglm_tiny::file("tokenizer.json").unwrap()).unwrap();
    let mut all = Vec::new();
    for (i, request) in [(0, "打开相机"), (5, "open the browser"), (11, "what is on the screen?")] {
        let turn = [
            Segment::Literal("[gMASK]<sop><|user|>\n<|begin_of_image|><|image|><|end_of_image|>"),
            Segment::Text(request),
            Segment::Literal("<|assistant|>\n"),
        ];
        let ids = tokenizer.encode_segments(&turn).unwrap();
        let picture = autoglm_tiny::SCREENS[i].1.to_vec();
        let mut prompt = model.prompt(&ids, std::iter::once(Ok::<_, Error>(picture)), std::iter::empty()).unwrap();
        prompt
            .logits(|rows| {
                all.extend_from_slice(rows);
                Ok::<_, Error>(())
            })
            .unwrap();
    }
    all
}

/// ‖got − want‖ / ‖want‖ over all rows, each row without its mean: a constant that is added to all
/// logits of a row changes no probability, and here the mean is most of what they are.
fn relative_error(got: &[f32], want: &[f32], vocab: usize) -> f64 {
    let mean = |row: &[f32]| row.iter().map(|v| f64::from(*v)).sum::<f64>() / vocab as f64;
    let (mut apart, mut all) = (0f64, 0f64);
    for (got, want) in got.chunks(vocab).zip(want.chunks(vocab)) {
        let (got_mean, want_mean) = (mean(got), mean(want));
        for (got, want) in got.iter().zip(want) {
            let want = f64::from(*want) - want_mean;
            apart += (f64::from(*got) - got_mean - want).powi(2);
            all += want.powi(2);
        }
    }
    (apart / all).sqrt()
}

/// A row as GGML's Q8_0 stores it: 32 weights with one f16 step of max/127.
fn q8_0(row: &mut [f32]) {
    for group in row.chunks_mut(32) {
        let step = group.iter().fold(0f32, |most, w| most.max(w.abs())) / 127.0;
        let stored = half::f16::from_f32(step).to_f32();
        for w in group.iter_mut().filter(|_| step > 0.0) {
            *w = (*w / step).round() * stored;
        }
    }
}

/// A row as GGML's Q4_0 stores it: 32 weights with one f16 step, which puts the largest on code −8.
fn q4_0(row: &mut [f32]) {
    for group in row.chunks_mut(32) {
        let largest = group.iter().fold(0f32, |most, w| if w.abs() > most.abs() { *w } else { most });
        let step = largest / -8.0;
        let stored = half::f16::from_f32(step).to_f32();
        for w in group.iter_mut().filter(|_| step != 0.0) {
            *w = ((*w / step + 8.5).floor().clamp(0.0, 15.0) - 8.0) * stored;
        }
    }
}

/// The checkpoint with the linear weights of `four` in Q4_0 and all others in Q8_0, in f32, in `dir`.
fn simulate(dir: &Path, four: impl Fn(&str) -> bool) -> Model {
    let mut tensors = Vec::new();
    let stored = SafeTensors::deserialize(autoglm_tiny::file("model.safetensors").unwrap()).unwrap();
    for (name, view) in stored.tensors() {
        let halves = view.data().as_chunks::<2>().0;
        let mut values: Vec<f32> = halves.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect();
        let is_table = name.contains("embed_tokens") || name.contains("position_embedding");
        if view.shape().len() >= 2 && !is_table {
            let k = values.len() / view.shape()[0];
            values.chunks_mut(k).for_each(if four(&name) { q4_0 } else { q8_0 });
        }
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        tensors.push((name, view.shape().to_vec(), bytes));
    }
    let views =
        tensors.iter().map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    for (name, bytes) in autoglm_tiny::FILES {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
    std::fs::write(dir.join("model.safetensors"), serialize(views, None).unwrap()).unwrap();
    Model::open_with(dir, &OpenOptions::default().threads(2)).unwrap()
}

#[test]
fn logits_move_no_more_than_the_bounds_allow() {
    let exact = open(Precision::F32);
    let (want, vocab) = (logits(&exact), exact.vocab_size());
    let of = |model: &Model| relative_error(&logits(model), &want, vocab);
    let simulated = |four: fn(&str) -> bool| {
        let dir = tempfile::tempdir().unwrap();
        of(&simulate(dir.path(), four))
    };
    let (q8, q4) = (simulated(|_| false), simulated(|name| name.contains(".layers.")));
    let (int8, int4, mixed) = (of(&open(Precision::Int8)), of(&open(Precision::Int4)), of(&open(Precision::Mixed)));
    println!("relative error of logits: int8 {int8:.4}, int4 {int4:.4}, mixed {mixed:.4}, Q8_0 {q8:.4}, Q4_0 {q4:.4}");
    assert!(int8 <= INT8.max(SIMULATED * q8), "{int8}, simulated Q8_0 {q8}");
    assert!(int4 <= INT4.max(SIMULATED * q4), "{int4}, simulated Q4_0 {q4}");
    assert!(mixed <= INT8 && mixed <= int8, "{mixed}");
}

#[test]
fn sample_screens_are_tapped_inside_the_icon() {
    let icons: Value = serde_json::from_str(autoglm_tiny::ICONS).unwrap();
    for precision in [Precision::Mixed, Precision::Int8, Precision::Int4] {
        let model = open(precision);
        for (name, png) in autoglm_tiny::SCREENS {
            let (_, icon) = icons[name].as_object().unwrap().iter().next().unwrap();
            let mut session = model.session();
            session.push(Part::image(*png)).unwrap();
            session.push(Part::text(format!("打开{}", icon["zh"].as_str().unwrap()))).unwrap();
            let reply = session.reply(Generate::default().thinking(Thinking::Skipped).max_new_tokens(48)).unwrap();
            let text: String = reply.map(|piece| piece.unwrap().text).collect();
            let Ok(Answer { action: Action::Tap { at, .. }, .. }) = Answer::parse(&text) else {
                panic!("{} {name}: {text}", precision.name());
            };
            let (x, y) = (f64::from(at.x) * 0.168, f64::from(at.y) * 0.336);
            let side = |i: usize| icon["box"][i].as_f64().unwrap();
            let inside = (side(0)..=side(2)).contains(&x) && (side(1)..=side(3)).contains(&y);
            assert!(inside, "{} {name}: {text}", precision.name());
        }
    }
}

#[test]
fn weights_weigh_what_their_bits_say() {
    // Numbers in the tensors of the tiny checkpoint, by what becomes of them.
    let stored = SafeTensors::deserialize(autoglm_tiny::file("model.safetensors").unwrap()).unwrap();
    let count = |keep: &dyn Fn(&str, usize) -> bool| {
        let kept = stored.tensors().into_iter().filter(|(name, view)| keep(name, view.shape().len()));
        kept.map(|(_, view)| view.shape().iter().product::<usize>() as f64).sum::<f64>()
    };
    let linear = |name: &str, dims| dims >= 2 && !name.contains("embed_tokens") && !name.contains("position_embedding");
    let all = count(&linear);
    let layers = count(&|name, dims| linear(name, dims) && name.contains("language_model.layers."));
    let rest = 2.0 * count(&|name, dims| !linear(name, dims));
    let (int8, int4) = (open(Precision::Int8).weights_bytes() as f64, open(Precision::Int4).weights_bytes() as f64);
    // The project's bounds, which are for the real widths; 128 inputs make a scale per output cost
    // 3 % alone, and groups of the head another percent and a half.
    let steps = 1.05;
    // The ears are 96 wide, and rows are filled up to 128 codes.
    let padding = 0.4 * count(&|name, dims| linear(name, dims) && name.contains("audio_tower"));
    assert!(int8 <= steps * all + padding + rest && int8 >= all, "{int8} of {all} and {rest}");
    let most = 0.57 * layers + steps * (all - layers) + padding + rest;
    assert!(int4 <= most, "{int4} of {most}");
    assert_eq!(open(None).weights_bytes() as f64, 2.0 * all + rest);
}

#[test]
fn progress_ends_where_it_said_it_would() {
    let (done, announced) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let hear = {
        let (done, announced) = (Arc::clone(&done), Arc::clone(&announced));
        Progress::new(move |more, total| {
            done.fetch_add(more, Ordering::Relaxed);
            announced.store(total, Ordering::Relaxed);
        })
    };
    let options = OpenOptions::default().precision(Precision::Int8).progress(hear);
    let model = Model::open_embedded(autoglm_tiny::FILES, &options).unwrap();
    assert_eq!(done.load(Ordering::Relaxed), announced.load(Ordering::Relaxed));
    assert!(done.load(Ordering::Relaxed) > 1_000_000);
    assert!(!model.isa().is_empty());
}

#[test]
fn a_damaged_weight_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in autoglm_tiny::FILES {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    let mut bytes = autoglm_tiny::file("model.safetensors").unwrap().to_vec();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let name = "model.language_model.layers.1.mlp.down_proj.weight";
    let start = 8 + header + json[name]["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[start..start + 2].copy_from_slice(&half::f16::NAN.to_le_bytes());
    std::fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
    let error = Model::open_with(dir.path(), &OpenOptions::default().precision(Precision::Int4)).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, format!("weight [0, 0] of `{name}` is NaN"));
}
