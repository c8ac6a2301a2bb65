//! Against transformers, on speech, tones, silence, clicks and the edges of windows.

use autoglm_core::Workers;
use autoglm_testing::{Golden, repository};
use serde_json::json;

use super::*;

/// The project's bound. Transformers' own f32 spectra are up to 2.2e-5 from the same formulas in f64.
const CLOSE: f32 = 1e-4;

/// What the goldens' scripts say for a long sound that is not stored: a linear congruential generator that gets
/// quieter by half from second to second, and is silent in each eighth.
fn noise(seed: i64, count: i64) -> Vec<f32> {
    let mut state = seed;
    let sample = |i: i64| {
        state = (1_103_515_245 * state + 12_345) % (1 << 31);
        let (quieter, x) = (i / 16_000 % 8, (state >> 15) - 32_768);
        if quieter == 7 { 0.0 } else { (x >> quieter) as f32 / 32_768.0 }
    };
    (0..count).map(sample).collect()
}

fn samples(golden: &Golden) -> Vec<f32> {
    if golden.has("samples") {
        return golden.tensor("samples").to_vec1().unwrap();
    }
    let formula = golden.integers("noise");
    noise(formula[0], formula[1])
}

fn names() -> Vec<String> {
    let folder = std::fs::read_dir(repository().join("goldens/components")).unwrap();
    let mut names: Vec<String> = folder
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".safetensors")?.to_owned()))
        .filter(|name| name.starts_with("log_mel_"))
        .collect();
    names.sort();
    names
}

#[test]
fn every_sound_is_what_whisper_s_extractor_makes_of_it() {
    let workers = Workers::new(2).unwrap();
    let run = Run::new(&workers);
    let names = names();
    assert!(names.len() >= 18, "{names:?}");
    for name in names {
        let golden = Golden::component(&name);
        let chunk = golden.integers("chunk")[0];
        let file = json!({"feature_extractor_type": "WhisperFeatureExtractor", "chunk_length": chunk});
        let config = FeatureConfig::from_json(None, Some(&file)).unwrap();
        let (window, frames) = (config.window(), config.frames());
        let features = Features::new(config);
        let samples = samples(&golden);
        let windows: Vec<LogMel> =
            samples.chunks(window).map(|window| features.log_mel(&run, window).unwrap()).collect();
        let rows: Vec<i64> = windows.iter().map(|window| window.rows() as i64).collect();
        assert_eq!(rows, golden.integers("rows"), "{name}");
        assert_eq!(features.config().rows(samples.len()) as i64, rows.iter().sum::<i64>(), "{name}");
        let want = golden.tensor("log_mel").to_vec2::<f32>().unwrap();
        let mut apart = 0f32;
        for (i, frame) in golden.integers("frames").into_iter().enumerate() {
            let (window, frame) = (frame as usize / frames, frame as usize % frames);
            for (band, want) in want.iter().enumerate() {
                let got = windows[window].data()[frame * windows[window].bands() + band];
                let difference = (got - want[i]).abs();
                assert!(difference <= CLOSE, "{name}: frame {frame}, band {band}: {got}, not {}", want[i]);
                apart = apart.max(difference);
            }
        }
        println!("{name}: {apart:.1e}");
    }
}

#[test]
fn the_filters_are_those_of_transformers() {
    let want = Golden::component("mel_filters").tensor("mel_filters").to_vec2::<f32>().unwrap();
    let ours = filters(128, 201, 16_000);
    for (bin, want) in want.iter().enumerate() {
        for (band, want) in want.iter().enumerate() {
            let Filter { first, weights } = &ours[band];
            let got = bin.checked_sub(*first).and_then(|i| weights.get(i)).copied().unwrap_or(0.0);
            assert!((got - f64::from(*want)).abs() < 1e-9, "bin {bin}, band {band}: {got}, not {want}");
        }
    }
}

#[test]
fn threads_change_no_bit() {
    let (one, three) = (Workers::new(1).unwrap(), Workers::new(3).unwrap());
    let features = Features::new(FeatureConfig::from_json(None, None).unwrap());
    let sound = noise(7, 100_000);
    assert_eq!(
        features.log_mel(&Run::new(&one), &sound).unwrap(),
        features.log_mel(&Run::new(&three), &sound).unwrap()
    );
}

#[test]
fn more_than_a_window_is_an_error() {
    let workers = Workers::new(1).unwrap();
    let features = Features::new(FeatureConfig::from_json(None, None).unwrap());
    let refused = features.log_mel(&Run::new(&workers), &vec![0.0; 480_001]);
    assert!(matches!(refused, Err(crate::Error::Core(autoglm_core::Error::Rows { got: 480_001, .. }))));
}

#[test]
fn what_is_no_number_is_not_silence() {
    let workers = Workers::new(1).unwrap();
    let features = Features::new(FeatureConfig::from_json(None, None).unwrap());
    for bad in [f32::NAN, f32::INFINITY] {
        let refused = features.log_mel(&Run::new(&workers), &[0.0, 0.5, bad]);
        assert!(matches!(refused, Err(crate::Error::NotANumber { index: 2, .. })), "{refused:?}");
    }
    let refused = features.log_mel(&Run::new(&workers), &[f32::MAX]);
    assert!(matches!(refused, Err(crate::Error::TooLoud { index: 0, .. })), "{refused:?}");
}
