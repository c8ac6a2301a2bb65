//! temp
use autoglm_core::{Run, Workers};
use autoglm_vision::*;
use std::time::Instant;
fn best(mut f: impl FnMut()) -> f64 {
    (0..40)
        .map(|_| {
            let t = Instant::now();
            f();
            t.elapsed().as_secs_f64() * 1e3
        })
        .fold(f64::MAX, f64::min)
}
fn main() {
    let input = std::fs::read("/tmp/vis/text.in").unwrap();
    let rgb = Rgb::new(1080, 2400, input).unwrap();
    let tower = VisionConfig::from_json(&serde_json::json!({})).unwrap();
    let config = PreprocessConfig::from_json(None, &tower).unwrap();
    for threads in [1, 2] {
        let workers = Workers::new(threads).unwrap();
        let run = Run::new(&workers);
        println!(
            "{threads}t columns only {:.1}",
            best(|| {
                resize::resize(&run, &rgb, 1092, 2400).unwrap();
            })
        );
        println!(
            "{threads}t rows only {:.1}",
            best(|| {
                resize::resize(&run, &rgb, 1080, 2408).unwrap();
            })
        );
        let big = resize::resize(&run, &rgb, 1092, 2408).unwrap();
        println!(
            "{threads}t patches of resized {:.1}",
            best(|| {
                config.patches(&run, &big).unwrap();
            })
        );
        println!(
            "{threads}t all {:.1}",
            best(|| {
                config.patches(&run, &rgb).unwrap();
            })
        );
        println!(
            "blake3 {:.1}",
            best(|| {
                std::hint::black_box(blake3::hash(big.pixels()));
            })
        );
        println!(
            "alloc+fill 63MB {:.1}",
            best(|| {
                std::hint::black_box(vec![1.0f32; 13416 * 1176]);
            })
        );
    }
}
