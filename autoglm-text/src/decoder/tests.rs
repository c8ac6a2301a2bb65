//! The decoder against transformers, stage by stage, and the laws it must keep.

use std::sync::Arc;

use autoglm_core::{Checkpoint, DenseSource, Files, KvFormat, TokenId, Workers};
use autoglm_testing::{Golden, assert_close, assert_same, distance};
use proptest::prelude::*;

use super::*;

/// f32 sums in another order than torch's; stages are compared in units of their own deviation.
const STAGE: f64 = 5e-5;
/// The bound for logits of text in f32.
const LOGITS: f64 = 1e-4;

struct Case {
    golden: Golden,
    decoder: Decoder,
    workers: Workers,
}

impl Case {
    fn open(name: &str) -> Self {
        let golden = Golden::case(name);
        let config = TextConfig::from_json(&golden.json("config.json")).unwrap();
        let checkpoint = Checkpoint::open(&Files::directory(golden.dir()).unwrap()).unwrap();
        let config = config.named_as(|name| checkpoint.info(name).is_ok());
        let decoder = Decoder::load(&DenseSource::new(Arc::new(checkpoint), None), config).unwrap();
        Self { golden, decoder, workers: Workers::new(2).unwrap() }
    }

    fn run(&self) -> Run<'_> {
        Run::new(&self.workers)
    }

    /// The golden's embedding rows, pictures included, at the golden's positions.
    fn input(&self, want: Want) -> DecoderInput {
        let axes = self.golden.integers("position_ids");
        let n = axes.len() / 3;
        let mut positions = Positions::default();
        for i in 0..n {
            positions.push([0, 1, 2].map(|axis| u32::try_from(axes[axis * n + i]).unwrap()));
        }
        DecoderInput::new(self.golden.tensor("text.embeds"), positions, want).unwrap()
    }

    fn cache(&self) -> DenseCache {
        self.decoder.dense_cache(4096, KvFormat::F32)
    }

    fn logits(&self, input: &DecoderInput) -> Tensor {
        self.decoder.forward(&self.run(), input, &mut self.cache()).unwrap().unwrap()
    }

    fn text(&self, ids: &[u32], want: Want) -> DecoderInput {
        let ids: Vec<TokenId> = ids.iter().map(|id| TokenId(*id)).collect();
        self.decoder.text_input(&ids, 0, want).unwrap()
    }
}

fn ids(n: usize, seed: u32) -> Vec<u32> {
    (0..n as u32).map(|i| (i * 37 + seed * 101 + i * i * 7) % 300).collect()
}

#[test]
fn every_golden_case_has_the_logits_of_transformers() {
    for name in Golden::cases() {
        let case = Case::open(&name);
        let logits = case.logits(&case.input(Want::All));
        assert_close(&name, &logits, &case.golden.tensor("logits"), LOGITS);
    }
}

#[test]
fn every_stage_of_the_decoder_equals_transformers() {
    for name in ["text-v5", "text-legacy", "one-image", "glm4", "asr", "asr-legacy-names"] {
        let case = Case::open(name);
        let (run, input) = (case.run(), case.input(Want::All));
        let mut cache = case.cache();
        let cache: &mut dyn KvCache = &mut cache;
        let angles = [case.decoder.rope.angles(input.positions())];
        let mut x = input.rows().clone();
        let first = &case.decoder.layers[0];
        let attended =
            first.self_attn.forward(&run, 0, &x, &case.decoder.rope, &angles, &mut [(&input, &mut *cache)]).unwrap();
        assert_close(&format!("{name} attention"), &attended, &case.golden.tensor("text.layer.0.attn"), STAGE);
        cache.truncate(0).unwrap();
        for (i, layer) in case.decoder.layers.iter().enumerate() {
            x = layer.forward(&run, i, &x, &case.decoder.rope, &angles, &mut [(&input, &mut *cache)]).unwrap();
            assert_close(&format!("{name} layer {i}"), &x, &case.golden.tensor(&format!("text.layer.{i}")), STAGE);
        }
    }
}

#[test]
fn rotated_queries_and_keys_equal_transformers() {
    for name in ["text-v5", "one-image", "two-images", "glm4"] {
        let case = Case::open(name);
        let (run, input, config) = (case.run(), case.input(Want::All), case.decoder.config());
        let qkv = case.decoder.layers[0].self_attn.qkv_proj.forward(&run, input.rows()).unwrap();
        let angles = case.decoder.rope.angles(input.positions());
        let (h, kv_h, d) = (config.num_attention_heads, config.num_key_value_heads, config.head_dim);
        for (what, from, count) in [("q_rope", 0, h), ("k_rope", h, kv_h)] {
            let heads = qkv
                .narrow(1, from * d, count * d)
                .unwrap()
                .contiguous()
                .unwrap()
                .reshape((input.len(), count, d))
                .unwrap();
            let turned = case.decoder.rope.apply(&run, &heads, &angles).unwrap();
            assert_close(
                &format!("{name} {what}"),
                &turned,
                &case.golden.tensor(&format!("text.layer.0.{what}")),
                STAGE,
            );
        }
    }
}

#[test]
fn cached_decode_equals_full_forward() {
    let case = Case::open("text-v5");
    let all = ids(24, 1);
    for format in [KvFormat::F32, KvFormat::Bf16] {
        let cache = || case.decoder.dense_cache(100, format);
        let whole = case.decoder.forward(&case.run(), &case.text(&all, Want::All), &mut cache()).unwrap().unwrap();
        let mut grown = cache();
        for (i, id) in all.iter().enumerate() {
            let input = case.decoder.text_input(&[TokenId(*id)], i as u32, Want::Last).unwrap();
            let row = case.decoder.forward(&case.run(), &input, &mut grown).unwrap().unwrap();
            assert_same(&format!("row {i}"), &row, &whole.narrow(0, i, 1).unwrap());
        }
    }
}

#[test]
fn a_cache_of_bf16_stays_near_the_exact_one() {
    // Keys, values and weights of three layers are rounded by 2^-9 each.
    const ROUNDED: f64 = 5e-2;
    let case = Case::open("one-image");
    let input = case.input(Want::All);
    let exact = case.logits(&input);
    let mut cache = case.decoder.dense_cache(4096, KvFormat::Bf16);
    let rounded = case.decoder.forward(&case.run(), &input, &mut cache).unwrap().unwrap();
    println!("{:e}", distance(&rounded, &exact));
    assert!(distance(&rounded, &exact) > 0.0);
    assert_close("bf16", &rounded, &exact, ROUNDED);
}

#[test]
fn threads_and_instruction_sets_change_no_bit() {
    let case = Case::open("one-image");
    let input = case.input(Want::All);
    let want = case.logits(&input);
    for isa in autoglm_core::Isa::all() {
        let workers = Workers::new(3).unwrap();
        let run = Run::new(&workers).with_isa(isa);
        let got = case.decoder.forward(&run, &input, &mut case.cache()).unwrap().unwrap();
        assert_same(isa.name(), &got, &want);
    }
}

/// A dense cache whose second layer refuses the step that would bring it to `fails_at` rows.
struct Failing {
    inner: DenseCache,
    fails_at: usize,
}

impl KvCache for Failing {
    fn len(&self, layer: usize) -> usize {
        self.inner.len(layer)
    }

    fn attend(&mut self, run: &Run<'_>, layer: usize, step: Step<'_>) -> autoglm_core::Result<Tensor> {
        if layer == 1 && self.inner.len(1) + step.q.dim(0)? == self.fails_at {
            return Err(autoglm_core::Error::ContextFull { needed: self.fails_at, limit: self.fails_at - 1 });
        }
        self.inner.attend(run, layer, step)
    }

    fn truncate(&mut self, len: usize) -> autoglm_core::Result<()> {
        self.inner.truncate(len)
    }

    fn bytes(&self) -> u64 {
        self.inner.bytes()
    }
}

#[test]
fn a_failed_step_is_undone_by_truncating() {
    let case = Case::open("text-v5");
    let mut cache = Failing { inner: case.cache(), fails_at: 13 };
    let first = case.text(&ids(8, 2), Want::Last);
    case.decoder.forward(&case.run(), &first, &mut cache).unwrap();
    let long = case.text(&ids(5, 3), Want::Last);
    assert!(case.decoder.forward(&case.run(), &long, &mut cache).is_err());
    assert_eq!((cache.len(0), cache.len(1)), (13, 8));
    cache.truncate(8).unwrap();
    let one = case.decoder.text_input(&[TokenId(5)], 8, Want::Last).unwrap();
    let after = case.decoder.forward(&case.run(), &one, &mut cache).unwrap().unwrap();
    let mut fresh = case.cache();
    case.decoder.forward(&case.run(), &first, &mut fresh).unwrap();
    let expected = case.decoder.forward(&case.run(), &one, &mut fresh).unwrap().unwrap();
    assert_eq!(distance(&after, &expected), 0.0);
}

#[test]
fn two_sequences_in_one_step_equal_two_apart() {
    let case = Case::open("one-image");
    let (a, b) = (case.input(Want::All), case.text(&ids(7, 4), Want::Last));
    let apart = [case.logits(&a), case.logits(&b)];
    let (mut cache_a, mut cache_b) = (case.cache(), case.cache());
    let together = case.decoder.step(&case.run(), &mut [(&a, &mut cache_a), (&b, &mut cache_b)]).unwrap();
    for (got, want) in together.iter().zip(&apart) {
        assert_same("a sequence of a shared step", got.as_ref().unwrap(), want);
    }
}

#[test]
fn only_wanted_logits_are_computed() {
    let case = Case::open("text-v5");
    let input = case.text(&ids(6, 5), Want::Nothing);
    assert!(case.decoder.forward(&case.run(), &input, &mut case.cache()).unwrap().is_none());
    let all = case.logits(&case.text(&ids(6, 5), Want::All));
    let last = case.logits(&case.text(&ids(6, 5), Want::Last));
    assert_eq!(last.dims2().unwrap(), (1, case.decoder.config().vocab_size));
    assert_same("the last row", &last, &all.narrow(0, 5, 1).unwrap());
}

#[test]
fn an_id_beyond_the_vocabulary_is_an_error() {
    let case = Case::open("text-v5");
    let refused = case.decoder.text_input(&[TokenId(u32::MAX)], 0, Want::Last);
    assert!(matches!(refused, Err(crate::Error::Core(autoglm_core::Error::TokenOutOfRange { .. }))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn chunked_prefill_equals_whole(chunk in 1usize..30) {
        let case = Case::open("one-image");
        let input = case.input(Want::All);
        let whole = case.logits(&input);
        let mut cache = case.cache();
        let mut start = 0;
        for piece in input.chunks(chunk).unwrap() {
            let rows = case.decoder.forward(&case.run(), &piece, &mut cache).unwrap().unwrap();
            assert_same("a chunk", &rows, &whole.narrow(0, start, piece.len()).unwrap());
            start += piece.len();
        }
        prop_assert_eq!(start, input.len());
    }

    #[test]
    fn changing_a_token_changes_no_logits_before_it(at in 1usize..20, other in 0u32..300) {
        let case = Case::open("text-v5");
        let mut changed = ids(20, 6);
        let before = case.logits(&case.text(&changed, Want::All));
        changed[at] = if changed[at] == other { (other + 1) % 300 } else { other };
        let after = case.logits(&case.text(&changed, Want::All));
        assert_same("rows before", &after.narrow(0, 0, at).unwrap(), &before.narrow(0, 0, at).unwrap());
        prop_assert!(distance(&after.narrow(0, at, 1).unwrap(), &before.narrow(0, at, 1).unwrap()) > 1e-3);
    }
}
