//! Every golden case through the facade: positions, logits and greedy ids equal transformers', and logits and
//! positions of prompts some of whose picture rows are left out.
#![cfg(all(feature = "vision", feature = "audio"))]
#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use autoglm::{Keep, Model, OpenOptions, TokenId};
use autoglm_testing::{Golden, distance};
use candle_core::{Device, Tensor};

/// The project's bound for prompts of text alone, in standard deviations of the logits.
const TEXT: f64 = 1e-4;
/// The bound for prompts with pictures.
const IMAGES: f64 = 2e-3;
/// The bound for prompts some of whose picture rows are left out.
const KEPT: f64 = 1e-4;
/// The bound for prompts with sounds and without pictures.
const SOUNDS: f64 = 1e-4;

struct Evaluation {
    logits: Tensor,
    positions: Vec<[u32; 3]>,
    greedy: Vec<i64>,
    bound: f64,
}

fn evaluate(golden: &Golden, keep: Keep) -> Evaluation {
    let request = golden.json("request.json");
    let ids: Vec<TokenId> =
        request["input_ids"].as_array().unwrap().iter().map(|v| TokenId(v.as_u64().unwrap() as u32)).collect();
    let files = |key: &str| -> Vec<Vec<u8>> {
        let names = request[key].as_array().cloned().unwrap_or_default();
        names.iter().map(|n| std::fs::read(golden.dir().join(n.as_str().unwrap())).unwrap()).collect()
    };
    let (images, sounds) = (files("images"), files("audio"));
    let model = Model::open_with(golden.dir(), &OpenOptions::default().threads(2).keep(keep)).unwrap();
    let bound = match (images.len(), sounds.len()) {
        (0, 0) => TEXT,
        (0, _) => SOUNDS,
        _ => IMAGES,
    };
    let given = |files: Vec<Vec<u8>>| files.into_iter().map(Ok::<_, autoglm::Error>);
    let mut prompt = model.prompt(&ids, given(images), given(sounds)).unwrap();
    let mut rows = Vec::new();
    prompt
        .logits(|r| {
            rows.extend_from_slice(r);
            Ok::<_, Box<dyn std::error::Error>>(())
        })
        .unwrap();
    let positions = prompt.positions().to_vec();
    let logits = Tensor::from_vec(rows, (positions.len(), model.vocab_size()), &Device::Cpu).unwrap();
    let greedy = prompt.greedy(request["greedy"].as_u64().unwrap() as usize).unwrap();
    Evaluation { logits, positions, greedy: greedy.iter().map(|id| i64::from(id.0)).collect(), bound }
}

fn assert_positions(name: &str, got: &Evaluation, golden: &Golden) {
    let n = got.positions.len();
    let expected = golden.integers("position_ids");
    assert_eq!(expected.len(), 3 * n, "{name}");
    for (i, position) in got.positions.iter().enumerate() {
        let want = [0, 1, 2].map(|axis| expected[axis * n + i] as u32);
        assert_eq!(*position, want, "{name} row {i}");
    }
}

#[test]
fn logits_positions_and_greedy_ids_of_every_golden_case_equal_transformers() {
    let cases = Golden::cases();
    assert!(cases.len() >= 14);
    for name in cases {
        let golden = Golden::case(&name);
        let got = evaluate(&golden, Keep::ALL);
        assert_positions(&name, &got, &golden);
        let n = got.positions.len();
        let apart = distance(&got.logits, &golden.tensor("logits"));
        let bound = got.bound;
        println!("{name}: {apart:.2e} sd over {n} rows");
        assert!(apart <= bound, "{name}: {apart:e} standard deviations, bound {bound:e}");
        assert_eq!(got.greedy, golden.integers("greedy_ids"), "{name}");
    }
}

#[test]
fn rows_that_stay_are_those_of_the_formula_at_the_places_and_with_the_logits_of_transformers() {
    type Make = fn(f64) -> autoglm_core::Result<Keep>;
    let ways: [(&str, Make); 2] = [("differing", Keep::share), ("even", Keep::evenly)];
    for (case, way) in [("two-images", 0), ("two-images", 1), ("extreme-aspect", 0), ("downscale", 0)] {
        let (how, make) = ways[way];
        let golden = Golden::component(&format!("keep_{case}_{how}"));
        let share = golden.integers("share")[0] as f64 / 1e6;
        let got = evaluate(&Golden::case(case), make(share).unwrap());
        // Which rows stay shows in the positions, which are those of the whole prompt.
        assert_positions(&format!("{case} {how}"), &got, &golden);
        let apart = distance(&got.logits, &golden.tensor("logits"));
        println!("{case}, {how}: {apart:.2e} sd over {} rows", got.positions.len());
        assert!(apart <= KEPT, "{case}, {how}: {apart:e} standard deviations, bound {KEPT:e}");
    }
}
