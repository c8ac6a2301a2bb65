//! A screenshot before the tower (resized, digested, cut into rows), and a tower over a small picture.

use std::hint::black_box;

use autoglm_core::{FloatType, Run, Workers};
use autoglm_vision::resize::resize;
use autoglm_vision::{PreprocessConfig, Rgb, VisionConfig, VisionTower};
use benches::random_source;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Blocks of flat colour with sharp edges and some noise, as a screen has.
fn screenshot(width: u32, height: u32) -> Rgb {
    let mut random = fastrand::Rng::with_seed(5);
    let mut pixels = Vec::with_capacity((width * height * 3) as usize);
    for y in 0..height {
        for x in 0..width {
            let flat = (x / 90 * 37 + y / 120 * 61) as u8;
            let noise = if x % 7 == 0 { random.u8(..) / 8 } else { 0 };
            pixels.extend([flat, flat.wrapping_add(90), 255 - flat].map(|sample| sample.saturating_add(noise)));
        }
    }
    Rgb::new(width, height, pixels).expect("the pixels fill the sides")
}

fn preprocess(criterion: &mut Criterion) {
    let tower = VisionConfig::from_json(&serde_json::json!({})).expect("the family's defaults");
    let config = PreprocessConfig::from_json(None, &tower).expect("the processor's defaults");
    let picture = screenshot(1080, 2400);
    let mut group = criterion.benchmark_group("preprocess/1080x2400");
    group.throughput(Throughput::Bytes(picture.pixels().len() as u64));
    for threads in [1, 2] {
        let workers = Workers::new(threads).expect("threads");
        let run = Run::new(&workers);
        let patches = config.patches(&run, &picture).expect("an ordinary size");
        assert_eq!((patches.grid().h, patches.grid().w), (172, 78));
        group
            .bench_function(format!("resize/{threads}t"), |b| b.iter(|| resize(&run, black_box(&picture), 1092, 2408)));
        group.bench_function(format!("resize_and_digest/{threads}t"), |b| {
            b.iter(|| config.patches(&run, black_box(&picture)))
        });
        group.bench_function(format!("rows/{threads}t"), |b| b.iter(|| patches.rows(&run, 0, patches.len())));
    }
}

fn encode(criterion: &mut Criterion) {
    // A fourth of the real tower's widths, and two of its blocks.
    let config = VisionConfig::from_json(&serde_json::json!({
        "depth": 2, "hidden_size": 384, "num_heads": 3, "out_hidden_size": 1024, "intermediate_size": 3424
    }))
    .expect("a narrow tower");
    let source = random_source(&config.expected_tensors("model.visual"), FloatType::Bf16);
    let tower = VisionTower::load(&source, &config, "model.visual").expect("all tensors are there");
    let preprocess = PreprocessConfig::from_json(None, &config).expect("the processor's defaults");
    let workers = Workers::new(2).expect("two threads");
    let run = Run::new(&workers);
    let patches = preprocess.patches(&run, &screenshot(336, 672)).expect("an ordinary size");
    assert_eq!(tower.encode(&run, &patches).expect("it encodes").rows().dims(), [288, 1024]);
    let mut group = criterion.benchmark_group("encode/336x672/384x2/bf16/2t");
    group.sample_size(10).throughput(Throughput::Elements(patches.len() as u64));
    group.bench_function("patches", |b| b.iter(|| tower.encode(&run, black_box(&patches))));
}

criterion_group!(benches, preprocess, encode);
criterion_main!(benches);
