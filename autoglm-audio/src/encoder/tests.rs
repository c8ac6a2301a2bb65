//! Every stage against transformers, and the laws of cutting a sound into pieces.

use std::sync::Arc;

use autoglm_core::{Checkpoint, DenseSource, Files, KvFormat, Workers};
use autoglm_testing::{Golden, assert_close, assert_same, distance};

use super::*;
use crate::{Limits, decode};

/// f32 sums in another order, through two layers; in standard deviations of the stage. The issue of this
/// component asks for 1e-4.
const F32_STAGE: f64 = 1e-4;

struct Case {
    name: String,
    golden: Golden,
    encoder: AudioEncoder,
    sounds: Vec<Vec<f32>>,
}

/// The golden cases with sounds.
fn cases() -> Vec<Case> {
    let with_sounds = |name: &String| Golden::case(name).has("audio.rows");
    Golden::cases().into_iter().filter(with_sounds).map(Case::open).collect()
}

impl Case {
    fn open(name: String) -> Self {
        let golden = Golden::case(&name);
        let checkpoint = Arc::new(Checkpoint::open(&Files::directory(golden.dir()).unwrap()).unwrap());
        let file = |name: &str| golden.dir().join(name).is_file().then(|| golden.json(name));
        let [processor, preprocessor] = ["processor_config.json", "preprocessor_config.json"].map(file);
        let features = FeatureConfig::from_json(processor.as_ref(), preprocessor.as_ref()).unwrap();
        let config = golden.json("config.json");
        let width = config["text_config"]["hidden_size"].as_u64().unwrap() as usize;
        let audio = AudioConfig::from_json(&config, width).unwrap().unwrap();
        let flat = checkpoint.info("audio_tower.norm.weight").is_ok();
        let names = if flat { Prefixes::FLAT } else { Prefixes::NESTED };
        let others = ["language_model", "model.language_model", "model.visual", "lm_head"];
        checkpoint.verify(&audio.expected_tensors(names), &others, false).unwrap();
        let encoder = AudioEncoder::load(&DenseSource::new(checkpoint, None), &audio, features, names).unwrap();
        let sounds = golden.json("request.json")["audio"].as_array().unwrap().clone();
        let sounds = sounds.iter().map(|sound| {
            let bytes = std::fs::read(golden.dir().join(sound.as_str().unwrap())).unwrap();
            encoder.samples(&decode(&bytes, &Limits::default()).unwrap()).unwrap()
        });
        let sounds = sounds.collect();
        Self { name, golden, encoder, sounds }
    }

    /// Compares a stage with what transformers kept of it: some of the rows.
    fn check(&self, stage: &str, window: (usize, usize), got: &Tensor, twice: bool) {
        let what = format!("audio.{stage}.{}.{}", window.0, window.1);
        let rows = self.golden.integers("audio.rows").into_iter();
        let rows: Vec<u32> = rows.map(|row| row as u32 * if twice { 2 } else { 1 }).collect();
        let rows = Tensor::new(rows, &Device::Cpu).unwrap();
        let (got, want) = (got.index_select(&rows, 0).unwrap(), self.golden.tensor(&what));
        println!("{} {what}: {:.1e}", self.name, distance(&got, &want));
        assert_close(&format!("{} {what}", self.name), &got, &want, F32_STAGE);
    }
}

#[test]
fn every_stage_is_that_of_transformers() {
    let workers = Workers::new(2).unwrap();
    let run = Run::new(&workers);
    let cases = cases();
    assert!(cases.len() >= 3, "only {} cases with sounds", cases.len());
    for case in cases {
        for (i, sound) in case.sounds.iter().enumerate() {
            let encoder = &case.encoder;
            let mut rows = Vec::new();
            for (w, window) in sound.chunks(encoder.features.config().window()).enumerate() {
                let frames = encoder.features.log_mel(&run, window).unwrap();
                let name = format!("audio.log_mel.{i}.{w}");
                if case.golden.has(&name) {
                    let data = Tensor::new(frames.data(), &Device::Cpu).unwrap();
                    let data = data.reshape((frames.frames(), frames.bands())).unwrap();
                    let want = case.golden.tensor(&name);
                    // Transformers has bands first.
                    let want = if want.dims() == data.dims() { want } else { want.t().unwrap().contiguous().unwrap() };
                    assert_close(&name, &data, &want, F32_STAGE);
                }
                encoder.tower.stages(&run, &frames, |stage, x| case.check(stage, (i, w), x, stage == "conv1"));
                let adapted = encoder.window(&run, &frames).unwrap();
                let name = format!("audio.projector.{i}.{w}");
                if adapted.elem_count() > 0 {
                    assert_close(&name, &adapted, &case.golden.tensor(&name), F32_STAGE);
                    rows.push(adapted);
                }
            }
            let whole = encoder.encode(&run, sound).unwrap();
            assert_same(&case.name, whole.rows(), &Tensor::cat(&rows, 0).unwrap());
            let n = whole.len() as u32;
            assert_eq!(whole.coords(), (0..n).map(|i| [i; 3]).collect::<Vec<_>>());
            assert_eq!((whole.advance(), whole.modality()), (n, Modality::Audio));
        }
    }
}

#[test]
fn a_recording_is_the_bits_of_the_sound_however_it_comes() {
    let (one, three) = (Workers::new(1).unwrap(), Workers::new(3).unwrap());
    let case = Case::open("ears".into());
    for sound in &case.sounds {
        let whole = case.encoder.encode(&Run::new(&three), sound).unwrap();
        for piece in [1_000, 16_000, 31_999, 32_000, 32_001, 1 << 20] {
            let run = Run::new(&one);
            let mut chunker = case.encoder.chunker();
            for samples in sound.chunks(piece) {
                chunker.push(&case.encoder, &run, samples).unwrap();
            }
            assert_eq!(chunker.samples(), sound.len());
            let embeds = chunker.finish(&case.encoder, &run).unwrap();
            assert_same(&format!("pieces of {piece}"), embeds.rows(), whole.rows());
            // A cache finds the one under the name of the other.
            assert_eq!(embeds.unit(), whole.unit());
        }
    }
}

#[test]
fn approximate_rows_are_as_many_and_known_to_be_others() {
    let workers = Workers::new(2).unwrap();
    let run = Run::new(&workers);
    let case = Case::open("ears".into());
    // The last one is shorter than its window.
    let sound = case.sounds.last().unwrap();
    let exact = case.encoder.encode(&run, sound).unwrap();
    let mut chunker = case.encoder.chunker();
    chunker.push(&case.encoder, &run, sound).unwrap();
    let guessed = chunker.approximate(&case.encoder, &run).unwrap();
    assert_eq!((guessed.len(), guessed.rows().dims()), (exact.len(), exact.rows().dims()));
    assert!(distance(guessed.rows(), exact.rows()) > 0.0);
    assert_ne!(guessed.unit(), exact.unit());
    assert_same("finish", chunker.finish(&case.encoder, &run).unwrap().rows(), exact.rows());
}

#[test]
fn approximate_rows_of_the_tiny_checkpoint_are_this_far_off() {
    // ‖approximate − exact‖ / ‖exact‖ of all rows; 0.065 was measured.
    const OFF: f64 = 0.1;
    let workers = Workers::new(2).unwrap();
    let run = Run::new(&workers);
    let tiny = autoglm_testing::repository().join("models/autoglm-tiny");
    let json = |name: &str| serde_json::from_slice(autoglm_tiny::file(name).unwrap()).unwrap();
    let (config, processor): (serde_json::Value, serde_json::Value) =
        (json("config.json"), json("processor_config.json"));
    let audio = AudioConfig::from_json(&config, 128).unwrap().unwrap();
    let features = FeatureConfig::from_json(Some(&processor), None).unwrap();
    let checkpoint = Arc::new(Checkpoint::open(&Files::embedded(autoglm_tiny::FILES)).unwrap());
    let encoder = AudioEncoder::load(&DenseSource::new(checkpoint, None), &audio, features, Prefixes::NESTED).unwrap();
    let (mut difference, mut length) = (0f64, 0f64);
    // A tenth of the set.
    for voice in 0..10 {
        let bytes = std::fs::read(tiny.join(format!("eval/voice/{voice:03}.flac"))).unwrap();
        let samples = encoder.samples(&decode(&bytes, &Limits::default()).unwrap()).unwrap();
        let mut chunker = encoder.chunker();
        chunker.push(&encoder, &run, &samples).unwrap();
        let flat = |x: Embeds| x.rows().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let guessed = flat(chunker.approximate(&encoder, &run).unwrap());
        for (guessed, exact) in guessed.iter().zip(flat(chunker.finish(&encoder, &run).unwrap())) {
            difference += f64::from(guessed - exact).powi(2);
            length += f64::from(exact).powi(2);
        }
    }
    let off = (difference / length).sqrt();
    println!("approximate rows of the tiny checkpoint: {off:.3}");
    assert!(off < OFF && off > 0.0, "{off}");
}

#[test]
fn what_is_too_short_for_a_row_has_none() {
    let workers = Workers::new(1).unwrap();
    let run = Run::new(&workers);
    let encoder = Case::open("ears".into()).encoder;
    for (samples, rows) in [(0, 0), (1, 0), (960, 0), (961, 1), (32_000, 25), (32_001, 25), (32_961, 26)] {
        let embeds = encoder.encode(&run, &vec![0.01; samples]).unwrap();
        assert_eq!((embeds.len(), embeds.rows().dims()), (rows, &[rows, encoder.out_hidden_size][..]), "{samples}");
    }
    let mut chunker = encoder.chunker();
    let refused = chunker.push(&encoder, &run, &[0.0, f32::NAN]);
    assert!(matches!(refused, Err(Error::NotANumber { index: 1, .. })), "{refused:?}");
    chunker.push(&encoder, &run, &[0.0; 3]).unwrap();
    let refused = chunker.push(&encoder, &run, &[0.0, 0.0, 3.4e38]);
    assert!(matches!(refused, Err(Error::TooLoud { index: 5, .. })), "{refused:?}");
    assert!(chunker.finish(&encoder, &run).unwrap().is_empty());
}

#[test]
fn a_recording_that_lost_a_window_gives_no_rows() {
    let workers = Workers::new(1).unwrap();
    let run = Run::new(&workers);
    let encoder = Case::open("ears".into()).encoder;
    // Its windows are twice as long as those of the encoder, which refuses the first one.
    let config = encoder.features.config().clone();
    let mut chunker = Chunker::new(&FeatureConfig { chunk_length: 2 * config.chunk_length, ..config.clone() });
    chunker.push(&encoder, &run, &[0.1; 20_000]).unwrap();
    let refused = chunker.push(&encoder, &run, &vec![0.1; 2 * config.window()]);
    assert!(matches!(refused, Err(Error::Core(autoglm_core::Error::Rows { .. }))), "{refused:?}");
    let refused = chunker.push(&encoder, &run, &[0.1]);
    assert!(matches!(refused, Err(Error::BrokenRecording)), "{refused:?}");
    assert!(matches!(chunker.approximate(&encoder, &run), Err(Error::BrokenRecording)));
    assert!(matches!(chunker.finish(&encoder, &run), Err(Error::BrokenRecording)));
}

#[test]
fn digests_tell_sounds_and_ways_to_hear_apart() {
    let encoder = Case::open("ears".into()).encoder;
    let other = Case::open("asr".into()).encoder;
    let (sound, mut louder) = (vec![0.25f32; 5_000], vec![0.25f32; 5_000]);
    louder[4_999] = f32::from_bits(0.25f32.to_bits() + 1);
    assert_eq!(encoder.digest(&sound), encoder.digest(&sound.clone()));
    assert_ne!(encoder.digest(&sound), encoder.digest(&louder));
    assert_ne!(encoder.digest(&sound), encoder.digest(&sound[..4_999]));
    assert_ne!(encoder.digest(&sound), other.digest(&sound));
}

#[test]
fn attention_in_bf16_stays_near_the_exact_one() {
    // Queries, keys, values and weights of two layers are rounded by 2^-9 each.
    const ROUNDED: f64 = 5e-2;
    let workers = Workers::new(2).unwrap();
    let run = Run::new(&workers);
    for case in cases() {
        let exact = case.encoder.encode(&run, &case.sounds[0]).unwrap();
        let rounded = case.encoder.encode(&run.with_attention(KvFormat::Bf16), &case.sounds[0]).unwrap();
        assert!(distance(rounded.rows(), exact.rows()) > 0.0);
        assert_close(&case.name, rounded.rows(), exact.rows(), ROUNDED);
    }
}

#[test]
fn a_tensor_or_a_feature_that_does_not_fit_is_named() {
    let golden = Golden::case("ears");
    let source = DenseSource::new(Arc::new(Checkpoint::open(&Files::directory(golden.dir()).unwrap()).unwrap()), None);
    let config = golden.json("config.json");
    let audio = AudioConfig::from_json(&config, 64).unwrap().unwrap();
    let features = FeatureConfig::from_json(None, None).unwrap();
    let refused = AudioEncoder::load(&source, &audio, features.clone(), Prefixes::FLAT).unwrap_err();
    assert!(refused.to_string().contains("`audio_tower.conv1.weight`"), "{refused}");
    let wide = FeatureConfig { feature_size: 80, ..features };
    let refused = AudioEncoder::load(&source, &audio, wide, Prefixes::NESTED).unwrap_err();
    assert!(refused.to_string().contains("feature_size"), "{refused}");
}

#[test]
fn an_encoder_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<AudioEncoder>();
}
