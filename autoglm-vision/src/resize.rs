//! How large a picture becomes, and its pixels at that size, as transformers' default processor
//! computes both.
//!
//! The target size is the nearest multiple of a merged square's side that keeps the number of
//! pixels within bounds. The pixels are torchvision's antialiased bicubic resize of 8-bit samples: columns
//! first, then rows, rounded to 8 bits in between, with weights in 16-bit fixed point. The last is
//! visible: exact arithmetic, and Pillow's finer weights, differ from it by a level here and there.

use std::borrow::Cow;

use autoglm_core::Run;
use pulp::Arch;

use crate::{Error, Result, Rgb};

/// Longest side over shortest side, at most.
const STEEPEST: u32 = 200;

/// Bounds of a target size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SmartResize {
    /// Both sides become multiples of this: patch side times merged patches.
    pub factor: u32,
    /// Frames a still picture counts as.
    pub frames: u32,
    /// Least of frames · height · width.
    pub min_pixels: u64,
    /// Most of frames · height · width.
    pub max_pixels: u64,
}

impl SmartResize {
    /// The (height, width) that a picture of this size is resized to: transformers'
    /// `smart_resize`, to the bit of its floating-point steps.
    ///
    /// # Errors
    /// - [`Error::NoPixels`] when a side is zero.
    /// - [`Error::Aspect`] when one side is more than 200 times the other.
    /// - [`autoglm_core::Error::Overflow`] when the target leaves 32 bits.
    pub fn target(&self, height: u32, width: u32) -> Result<(u32, u32)> {
        if height == 0 || width == 0 || self.factor == 0 || self.frames == 0 {
            return Err(Error::NoPixels { width, height });
        }
        let factor = f64::from(self.factor);
        let (mut h, mut w) = (f64::from(height), f64::from(width));
        if height < self.factor || width < self.factor {
            let scale = (factor / h).max(factor / w);
            (h, w) = ((h * scale).trunc(), (w * scale).trunc());
        }
        if h.max(w) / h.min(w) > f64::from(STEEPEST) {
            return Err(Error::Aspect { width, height, limit: STEEPEST });
        }
        let frames = f64::from(self.frames);
        let (least, most) = (self.min_pixels as f64, self.max_pixels as f64);
        // Python's round goes to the even neighbour from half-way.
        let nearest = |side: f64| (side / factor).round_ties_even() * factor;
        let (mut to_h, mut to_w) = (nearest(h), nearest(w));
        if frames * to_h * to_w > most {
            let beta = (frames * h * w / most).sqrt();
            let below = |side: f64| ((side / beta / factor).floor() * factor).max(factor);
            (to_h, to_w) = (below(h), below(w));
        } else if frames * to_h * to_w < least {
            let beta = (least / (frames * h * w)).sqrt();
            let above = |side: f64| (side * beta / factor).ceil() * factor;
            (to_h, to_w) = (above(h), above(w));
        }
        if to_h > f64::from(u32::MAX) || to_w > f64::from(u32::MAX) {
            return Err(autoglm_core::Error::Overflow { what: "sides of a resized picture" }.into());
        }
        Ok((to_h as u32, to_w as u32))
    }
}

/// The picture at another size.
///
/// # Errors
/// [`Error::NoPixels`] when a side of the target is zero.
pub fn resize(run: &Run<'_>, picture: &Rgb, width: u32, height: u32) -> Result<Rgb> {
    if width == 0 || height == 0 {
        return Err(Error::NoPixels { width, height });
    }
    let (from_w, to_w) = (picture.width() as usize, width as usize);
    let (from_h, to_h) = (picture.height() as usize, height as usize);
    let columns = if from_w == to_w {
        Cow::Borrowed(picture.pixels())
    } else {
        Cow::Owned(resize_columns(run, picture.pixels(), from_w, &Taps::new(from_w, to_w)))
    };
    let pixels =
        if from_h == to_h { columns.into_owned() } else { resize_rows(run, &columns, to_w, &Taps::new(from_h, to_h)) };
    Rgb::new(width, height, pixels)
}

/// Samples of a pixel.
const COLOURS: usize = 3;

/// The weights that make one axis longer or shorter.
#[derive(Debug)]
struct Taps {
    /// First input of each output.
    first: Vec<usize>,
    /// `len` weights of each output, some of them zero at the picture's edges.
    weights: Vec<i16>,
    len: usize,
    /// Weights are in units of 2^-bits.
    bits: u32,
}

/// Keys' cubic convolution kernel with a = -0.5 ("Cubic convolution interpolation for digital image
/// processing").
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
    } else {
        0.0
    }
}

impl Taps {
    /// An output's centre lies at (i + 1/2) · old / new, and the kernel is as much wider than two
    /// inputs as the axis shrinks. The unit is the finest at which the largest weight fits 16 bits.
    fn new(old: usize, new: usize) -> Self {
        let scale = old as f64 / new as f64;
        let stretch = scale.max(1.0);
        let support = 2.0 * stretch;
        let len = (support.ceil() as usize * 2 + 1).min(old);
        let mut first = Vec::with_capacity(new);
        let mut exact = vec![0f64; new * len];
        for (i, row) in exact.chunks_exact_mut(len).enumerate() {
            let centre = scale * (i as f64 + 0.5);
            // Conversions cut towards zero and stop there, as the C of the original does.
            let start = (centre - support + 0.5) as usize;
            let end = ((centre + support + 0.5) as usize).min(old).min(start + len);
            let row_of = &mut row[..end - start];
            for (j, weight) in row_of.iter_mut().enumerate() {
                *weight = cubic((j as f64 + start as f64 - centre + 0.5) / stretch);
            }
            let sum: f64 = row_of.iter().sum();
            row_of.iter_mut().for_each(|weight| *weight /= sum);
            // A window that would reach past the end starts earlier, so that all windows are whole.
            let shift = (start + len).saturating_sub(old);
            row.rotate_right(shift);
            first.push(start - shift);
        }
        let largest = exact.iter().copied().fold(0.0, f64::max);
        let fits = |bits: &u32| (largest * f64::from(1 << bits) + 0.5).floor() < 32_768.0;
        let bits = (0..=22).rev().find(fits).unwrap_or(0);
        // Halves go away from zero.
        let fixed = |weight: &f64| (weight * f64::from(1 << bits)).round() as i16;
        Self { first, weights: exact.iter().map(fixed).collect(), len, bits }
    }

    fn half(&self) -> i32 {
        (1 << self.bits) >> 1
    }

    #[inline(always)]
    fn round(&self, sum: i32) -> u8 {
        (sum >> self.bits).clamp(0, 255) as u8
    }

    #[inline(always)]
    fn weigh(&self, window: &[[u8; COLOURS]], weights: &[i16]) -> [u8; COLOURS] {
        let mut sums = [self.half(); COLOURS];
        for (pixel, weight) in window.iter().zip(weights) {
            for (sum, sample) in sums.iter_mut().zip(pixel) {
                *sum += i32::from(*sample) * i32::from(*weight);
            }
        }
        sums.map(|sum| self.round(sum))
    }
}

/// (h, old, 3) → (h, new, 3).
fn resize_columns(run: &Run<'_>, pixels: &[u8], old: usize, taps: &Taps) -> Vec<u8> {
    let new = taps.first.len();
    let mut out = vec![0; pixels.len() / old * new];
    run.for_rows(&mut out, new * COLOURS, 1, |first, out| {
        let rows = pixels.chunks_exact(old * COLOURS).skip(first);
        for (out, row) in out.chunks_exact_mut(new * COLOURS).zip(rows) {
            Arch::new().dispatch(|| columns_of_row(row, taps, out));
        }
    });
    out
}

#[inline(always)]
fn columns_of_row(row: &[u8], taps: &Taps, out: &mut [u8]) {
    // Five weights enlarge and seven shrink by up to a half. With a length it knows the compiler
    // unrolls the loop over weights, which takes a quarter off the time.
    match taps.len {
        5 => each_column(row, taps, out, |window, weights| taps.weigh(&window[..5], &weights[..5])),
        7 => each_column(row, taps, out, |window, weights| taps.weigh(&window[..7], &weights[..7])),
        _ => each_column(row, taps, out, |window, weights| taps.weigh(window, weights)),
    }
}

#[inline(always)]
fn each_column(row: &[u8], taps: &Taps, out: &mut [u8], weigh: impl Fn(&[[u8; COLOURS]], &[i16]) -> [u8; COLOURS]) {
    let (row, _) = row.as_chunks::<COLOURS>();
    let (out, _) = out.as_chunks_mut::<COLOURS>();
    for ((out, first), weights) in out.iter_mut().zip(&taps.first).zip(taps.weights.chunks_exact(taps.len)) {
        *out = weigh(&row[*first..][..taps.len], weights);
    }
}

/// (old, w, 3) → (new, w, 3).
fn resize_rows(run: &Run<'_>, pixels: &[u8], width: usize, taps: &Taps) -> Vec<u8> {
    let row = width * COLOURS;
    let mut out = vec![0; taps.first.len() * row];
    run.for_rows(&mut out, row, 1, |first, out| {
        let mut sums = vec![0i32; row];
        let taps_of_rows = taps.first.iter().zip(taps.weights.chunks_exact(taps.len)).skip(first);
        for (out, (first, weights)) in out.chunks_exact_mut(row).zip(taps_of_rows) {
            let rows = &pixels[first * row..][..taps.len * row];
            Arch::new().dispatch(|| one_row(rows, weights, taps, &mut sums, out));
        }
    });
    out
}

#[inline(always)]
fn one_row(rows: &[u8], weights: &[i16], taps: &Taps, sums: &mut [i32], out: &mut [u8]) {
    sums.fill(taps.half());
    for (row, weight) in rows.chunks_exact(out.len()).zip(weights) {
        let weight = i32::from(*weight);
        for (sum, sample) in sums.iter_mut().zip(row) {
            *sum += i32::from(*sample) * weight;
        }
    }
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = taps.round(*sum);
    }
}

#[cfg(test)]
mod tests;
