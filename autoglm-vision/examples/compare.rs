//! temp
#![allow(unsafe_code)]
use autoglm_core::{Run, Workers};
use autoglm_vision::*;
use fast_image_resize as fir;
fn fir2(src: &[u8], w: u32, h: u32, tw: u32, th: u32) -> Vec<u8> {
    let opts = fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::CatmullRom));
    let a = fir::images::ImageRef::new(w, h, src, fir::PixelType::U8x3).unwrap();
    let mut b = fir::images::Image::new(tw, h, fir::PixelType::U8x3);
    let mut c = fir::images::Image::new(tw, th, fir::PixelType::U8x3);
    let mut r = fir::Resizer::new();
    if std::env::args().nth(1).as_deref() == Some("none") {
        unsafe { r.set_cpu_extensions(fir::CpuExtensions::None) }
    }
    r.resize(&a, &mut b, &opts).unwrap();
    r.resize(&b, &mut c, &opts).unwrap();
    c.into_vec()
}
fn main() {
    let workers = Workers::new(2).unwrap();
    let run = Run::new(&workers);
    let mut s = 12345u64;
    let mut next = |n: u64| {
        s = s.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (s >> 33) % n
    };
    let (mut bad, mut total, mut badpix, mut allpix, mut worst) = (0, 0, 0usize, 0usize, 0u8);
    for case in 0..3000 {
        let big = case % 50 == 0;
        let m = if big { 6000 } else { 300 };
        let (w, h) = (1 + next(m) as u32, 1 + next(300) as u32);
        let (tw, th) = (1 + next(300) as u32, 1 + next(300) as u32);
        let px: Vec<u8> = (0..w * h * 3)
            .map(|_| {
                let v = next(512);
                if case % 2 == 0 { (v % 256) as u8 } else { if v % 2 == 0 { 0 } else { 255 } }
            })
            .collect();
        let a = resize::resize(&run, &Rgb::new(w, h, px.clone()).unwrap(), tw, th).unwrap();
        let b = fir2(&px, w, h, tw, th);
        let n = a.pixels().iter().zip(&b).filter(|(x, y)| x != y).count();
        let d = a.pixels().iter().zip(&b).map(|(x, y)| x.abs_diff(*y)).max().unwrap();
        total += 1;
        allpix += b.len();
        badpix += n;
        worst = worst.max(d);
        if n > 0 {
            bad += 1;
            if bad < 12 {
                println!("{w}x{h}->{tw}x{th}: {n} of {} max {d}", b.len());
            }
        }
    }
    println!("cases {bad}/{total}, samples {badpix}/{allpix} = {:e}, worst {worst}", badpix as f64 / allpix as f64);
}
