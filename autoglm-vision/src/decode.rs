//! Picture files into RGB, with every limit checked before pixels are allocated.
//!
//! Pixels are those of Pillow's `convert("RGB")`: alpha is dropped and not blended, the EXIF
//! orientation is ignored, palettes and grey are expanded, 16-bit samples keep their high byte, and
//! CMYK is multiplied out. Of an animation the first frame is read, laid over a black canvas where the
//! file asks for blending. One deliberate difference: Pillow clamps 16-bit *grey* to 255, which turns
//! nearly every such picture white; here grey keeps its high byte as colour does.

use std::io::Cursor;

use image::codecs::jpeg::JpegDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::{ColorType, ImageDecoder, ImageError};

use crate::{Error, Result};

mod jpeg;

/// An 8-bit RGB picture in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rgb {
    width: u32,
    height: u32,
    pixels: Vec<u8>, // (h, w, 3)
}

impl Rgb {
    /// A picture of `pixels`, (height, width, 3), top row first.
    ///
    /// # Errors
    /// - [`Error::NoPixels`] when a side is zero.
    /// - [`Error::Pixels`] when the pixels do not fill the sides.
    pub fn new(width: u32, height: u32, pixels: Vec<u8>) -> Result<Self> {
        if width == 0 || height == 0 {
            return Err(Error::NoPixels { width, height });
        }
        let expected = (width as usize).saturating_mul(height as usize).saturating_mul(3);
        if expected != pixels.len() {
            return Err(Error::Pixels { width, height, expected, got: pixels.len() });
        }
        Ok(Self { width, height, pixels })
    }

    /// Columns.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Rows.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The samples, (height, width, 3), top row first.
    #[must_use]
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }
}

/// The largest picture that is decoded.
///
/// A decoder needs up to 8 bytes a pixel (16-bit RGBA, the coefficients of a progressive JPEG)
/// besides the 3 of the result, so `pixels` bounds the memory a hostile file can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file.
    pub bytes: usize,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Columns times rows.
    pub pixels: u64,
}

impl Default for Limits {
    /// 64 MiB, sides of 16 384, 64 million pixels: ten times the largest phone screenshot.
    fn default() -> Self {
        Self { bytes: 64 << 20, width: 16_384, height: 16_384, pixels: 64_000_000 }
    }
}

/// Beyond this the decoders' own arithmetic, in 32 bits, would not hold the bytes of a picture.
const MOST_PIXELS: u64 = 1 << 29;

impl Limits {
    fn admit(&self, width: u32, height: u32) -> Result<()> {
        if width == 0 || height == 0 {
            return Err(Error::NoPixels { width, height });
        }
        let pixels = u64::from(width) * u64::from(height);
        at_most("columns", u64::from(width), u64::from(self.width))?;
        at_most("rows", u64::from(height), u64::from(self.height))?;
        at_most("pixels", pixels, self.pixels.min(MOST_PIXELS))
    }
}

fn at_most(what: &'static str, got: u64, limit: u64) -> Result<()> {
    if got > limit {
        return Err(Error::TooLarge { what, got, limit });
    }
    Ok(())
}

/// Decodes a PNG, JPEG or WebP file, told apart by its first bytes.
///
/// ```
/// use autoglm_vision::{Error, Limits, decode};
///
/// assert!(matches!(decode(b"GIF89a", &Limits::default()), Err(Error::UnknownFormat)));
/// ```
///
/// # Errors
/// - [`Error::Empty`] when there is nothing to decode.
/// - [`Error::UnknownFormat`] when the file is none of the three.
/// - [`Error::TooLarge`] when the file or the size it announces is beyond `limits`.
/// - [`Error::NoPixels`] when it announces a side of zero.
/// - [`Error::Truncated`] when it ends early.
/// - [`Error::Undecodable`] when it contradicts itself.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Rgb> {
    at_most("bytes", bytes.len() as u64, limits.bytes as u64)?;
    match Format::of(bytes)? {
        format @ Format::Png => {
            // The decoder sets aside memory for lines and compressed metadata only; the pixels are
            // ours and checked below.
            let mut lines = image::Limits::no_limits();
            lines.max_alloc = Some(limits.bytes as u64);
            let decoder = PngDecoder::with_limits(Cursor::new(bytes), lines);
            format.read(decoder, limits)
        }
        format @ Format::Jpeg => {
            jpeg::check_whole(bytes)?;
            format.read(JpegDecoder::new(Cursor::new(bytes)), limits)
        }
        format @ Format::WebP => format.read(WebPDecoder::new(Cursor::new(bytes)), limits),
    }
}

/// A file format that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Png,
    Jpeg,
    WebP,
}

impl Format {
    fn of(bytes: &[u8]) -> Result<Self> {
        match bytes {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Ok(Self::Png),
            [0xff, 0xd8, 0xff, ..] => Ok(Self::Jpeg),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Self::WebP),
            [] => Err(Error::Empty),
            _ => Err(Error::UnknownFormat),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::WebP => "WebP",
        }
    }

    fn read<D: ImageDecoder>(self, decoder: std::result::Result<D, ImageError>, limits: &Limits) -> Result<Rgb> {
        let decoder = decoder.map_err(|e| self.failure(e))?;
        let (width, height) = decoder.dimensions();
        limits.admit(width, height)?;
        let color = decoder.color_type();
        let samples = usize::try_from(decoder.total_bytes()).map_err(|_| Error::TooLarge {
            what: "bytes of samples",
            got: decoder.total_bytes(),
            limit: usize::MAX as u64,
        })?;
        let mut samples = vec![0; samples];
        decoder.read_image(&mut samples).map_err(|e| self.failure(e))?;
        Rgb::new(width, height, to_rgb(color, samples).map_err(|e| self.failure(e))?)
    }

    fn failure(self, error: ImageError) -> Error {
        match error {
            ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                Error::Truncated { format: self.name() }
            }
            other => Error::Undecodable { format: self.name(), source: Box::new(other) },
        }
    }
}

/// Samples of one of the colour types into RGB, 8 bits each.
fn to_rgb(color: ColorType, samples: Vec<u8>) -> std::result::Result<Vec<u8>, ImageError> {
    // The decoders hand 16-bit samples over in the machine's own byte order.
    const HIGH: usize = if cfg!(target_endian = "little") { 1 } else { 0 };
    Ok(match color {
        ColorType::Rgb8 => samples,
        ColorType::Rgba8 => gather::<4>(&samples, [0, 1, 2]),
        ColorType::L8 => gather::<1>(&samples, [0; 3]),
        ColorType::La8 => gather::<2>(&samples, [0; 3]),
        ColorType::L16 => gather::<2>(&samples, [HIGH; 3]),
        ColorType::La16 => gather::<4>(&samples, [HIGH; 3]),
        ColorType::Rgb16 => gather::<6>(&samples, [HIGH, 2 + HIGH, 4 + HIGH]),
        ColorType::Rgba16 => gather::<8>(&samples, [HIGH, 2 + HIGH, 4 + HIGH]),
        other => {
            return Err(ImageError::Unsupported(image::error::UnsupportedError::from_format_and_kind(
                image::error::ImageFormatHint::Unknown,
                image::error::UnsupportedErrorKind::Color(other.into()),
            )));
        }
    })
}

/// Three of the `N` bytes of each pixel.
fn gather<const N: usize>(samples: &[u8], of: [usize; 3]) -> Vec<u8> {
    let (pixels, _) = samples.as_chunks::<N>();
    let mut rgb = Vec::with_capacity(pixels.len() * 3);
    for pixel in pixels {
        rgb.extend_from_slice(&of.map(|byte| pixel[byte]));
    }
    rgb
}

#[cfg(test)]
mod tests;
