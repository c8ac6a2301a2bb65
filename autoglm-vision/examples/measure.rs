//! temp
use autoglm_core::{Run, Workers};
use autoglm_vision::*;
use fast_image_resize as fir;
use std::time::Instant;
fn fir2(src: &[u8], w: u32, h: u32, tw: u32, th: u32) -> Vec<u8> {
    let opts = fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::CatmullRom));
    let a = fir::images::ImageRef::new(w, h, src, fir::PixelType::U8x3).unwrap();
    let mut b = fir::images::Image::new(tw, h, fir::PixelType::U8x3);
    let mut c = fir::images::Image::new(tw, th, fir::PixelType::U8x3);
    let mut r = fir::Resizer::new();
    r.resize(&a, &mut b, &opts).unwrap();
    r.resize(&b, &mut c, &opts).unwrap();
    c.into_vec()
}
fn diff(a: &[u8], b: &[u8]) -> (f64, u8) {
    let n = a.iter().zip(b).filter(|(x, y)| x != y).count();
    (n as f64 / a.len() as f64, a.iter().zip(b).map(|(x, y)| x.abs_diff(*y)).max().unwrap())
}
fn main() {
    for name in ["text", "noise", "down"] {
        let meta: Vec<u32> = std::fs::read_to_string(format!("/tmp/vis/{name}.txt"))
            .unwrap()
            .split_whitespace()
            .map(|x| x.parse().unwrap())
            .collect();
        let [h, w, th, tw] = meta[..] else { panic!() };
        let input = std::fs::read(format!("/tmp/vis/{name}.in")).unwrap();
        let want = std::fs::read(format!("/tmp/vis/{name}.out")).unwrap();
        let rgb = Rgb::new(w, h, input.clone()).unwrap();
        for threads in [1, 2] {
            let workers = Workers::new(threads).unwrap();
            let run = Run::new(&workers);
            let mut best = f64::MAX;
            let mut got = None;
            for _ in 0..8 {
                let t = Instant::now();
                got = Some(resize::resize(&run, &rgb, tw, th).unwrap());
                best = best.min(t.elapsed().as_secs_f64());
            }
            println!(
                "{name} {h}x{w}->{th}x{tw} own {threads}t {:?} {:.1} ms",
                diff(got.as_ref().unwrap().pixels(), &want),
                best * 1e3
            );
        }
        let mut best = f64::MAX;
        let mut got = vec![];
        for _ in 0..8 {
            let t = Instant::now();
            got = fir2(&input, w, h, tw, th);
            best = best.min(t.elapsed().as_secs_f64());
        }
        println!("{name} fir two passes 1t {:?} {:.1} ms", diff(&got, &want), best * 1e3);
    }
    let input = std::fs::read("/tmp/vis/text.in").unwrap();
    let rgb = Rgb::new(1080, 2400, input).unwrap();
    let tower = VisionConfig::from_json(&serde_json::json!({})).unwrap();
    let config = PreprocessConfig::from_json(None, &tower).unwrap();
    for threads in [1, 2] {
        let workers = Workers::new(threads).unwrap();
        let run = Run::new(&workers);
        let mut best = f64::MAX;
        for _ in 0..8 {
            let t = Instant::now();
            let p = config.patches(&run, &rgb).unwrap();
            best = best.min(t.elapsed().as_secs_f64());
            drop(p);
        }
        println!("patches {threads}t {:.1} ms", best * 1e3);
    }
    let png = std::fs::read("/tmp/vis/text.png").unwrap();
    let t = Instant::now();
    let d = decode(&png, &Limits::default()).unwrap();
    println!("decode png {} bytes {:.1} ms {}x{}", png.len(), t.elapsed().as_secs_f64() * 1e3, d.width(), d.height());
}
