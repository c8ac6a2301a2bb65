//! A sound before the encoder (decoded, resampled, measured), and an encoder over a window.

use std::hint::black_box;

use autoglm_audio::{AudioConfig, AudioEncoder, FeatureConfig, Features, Limits, Prefixes, Sound, decode, resample};
use autoglm_core::{FloatType, Run, Workers};
use benches::random_source;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Tones that come and go, and some noise: `seconds` at `rate`.
fn speech(rate: u32, seconds: u32) -> Sound {
    let mut random = fastrand::Rng::with_seed(5);
    let sample = |i: u32| {
        let t = i as f32 / rate as f32;
        let voice = (t * 900.0 * (1.0 + 0.1 * (t * 3.0).sin())).sin() * (t * 8.0).sin().max(0.0);
        0.4 * voice + 0.01 * (random.f32() - 0.5)
    };
    Sound::new(rate, (0..rate * seconds).map(sample).collect()).expect("finite samples")
}

/// A 16-bit WAV file.
fn wav(sound: &Sound) -> Vec<u8> {
    let data: Vec<u8> = sound.samples().iter().flat_map(|s| ((s * 32_767.0) as i16).to_le_bytes()).collect();
    let rate = sound.rate();
    let mut file = b"RIFF".to_vec();
    file.extend((data.len() as u32 + 36).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend(rate.to_le_bytes());
    file.extend((2 * rate).to_le_bytes());
    file.extend(b"\x02\0\x10\0data");
    file.extend((data.len() as u32).to_le_bytes());
    file.extend(data);
    file
}

fn prepare(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("prepare/30s");
    for rate in [22_050, 44_100, 48_000] {
        let sound = speech(rate, 30);
        group.throughput(Throughput::Elements(sound.samples().len() as u64));
        group.bench_function(format!("resample/{rate}"), |b| b.iter(|| resample(black_box(&sound), 16_000)));
    }
    let sound = speech(16_000, 30);
    group.throughput(Throughput::Elements(sound.samples().len() as u64));
    let file = wav(&sound);
    group.bench_function("decode/wav", |b| b.iter(|| decode(black_box(&file), &Limits::default())));
    let features = Features::new(FeatureConfig::from_json(None, None).expect("the extractor's defaults"));
    for threads in [1, 2] {
        let workers = Workers::new(threads).expect("threads");
        let run = Run::new(&workers);
        group.bench_function(format!("log_mel/{threads}t"), |b| {
            b.iter(|| features.log_mel(&run, black_box(sound.samples())));
        });
    }
}

fn encode(criterion: &mut Criterion) {
    // A fourth of the real encoder's widths, and two of its layers, over one of its windows.
    let config = serde_json::json!({"audio_config": {
        "num_hidden_layers": 2, "hidden_size": 320, "intermediate_size": 1280, "num_attention_heads": 5
    }});
    let config = AudioConfig::from_json(&config, 512).expect("a narrow encoder").expect("an encoder");
    let source = random_source(&config.expected_tensors(Prefixes::FLAT), FloatType::Bf16);
    let features = FeatureConfig::from_json(None, None).expect("the extractor's defaults");
    let encoder = AudioEncoder::load(&source, &config, features, Prefixes::FLAT).expect("all tensors are there");
    let workers = Workers::new(2).expect("two threads");
    let run = Run::new(&workers);
    let sound = speech(16_000, 30);
    assert_eq!(encoder.encode(&run, sound.samples()).expect("it encodes").rows().dims(), [375, 512]);
    let mut group = criterion.benchmark_group("encode/30s/320x2/bf16/2t");
    group.sample_size(10).throughput(Throughput::Elements(375));
    group.bench_function("rows", |b| b.iter(|| encoder.encode(&run, black_box(sound.samples()))));
}

criterion_group!(benches, prepare, encode);
criterion_main!(benches);
