//! Pictures of every kind, and files that lie. The small files are built here byte by byte, so that
//! each can be wrong in exactly one way.

use image::ImageEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageFormat};
use proptest::prelude::*;

use super::*;

fn rgb(bytes: &[u8]) -> Vec<u8> {
    decode(bytes, &Limits::default()).unwrap().pixels
}

fn refusal(bytes: &[u8]) -> Error {
    decode(bytes, &Limits::default()).unwrap_err()
}

/// What PNG's header says besides the size.
#[derive(Clone, Copy)]
struct Png {
    depth: u8,
    /// 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA.
    kind: u8,
}

fn png_chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut body = name.to_vec();
    body.extend_from_slice(data);
    let crc = !body.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xedb8_8320 } else { c >> 1 })
    });
    [&(data.len() as u32).to_be_bytes()[..], &body, &crc.to_be_bytes()].concat()
}

/// zlib without compression.
fn stored(data: &[u8]) -> Vec<u8> {
    let (a, b) = data.iter().fold((1u32, 0u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    let len = data.len() as u16;
    let head = [0x78, 1, 1, len as u8, (len >> 8) as u8, !len as u8, (!len >> 8) as u8];
    [&head[..], data, &((b << 16) | a).to_be_bytes()].concat()
}

impl Png {
    /// One line of samples as they lie in the file; `extra` chunks stand before the data.
    fn line(self, width: u32, samples: &[u8], extra: &[Vec<u8>]) -> Vec<u8> {
        let data = [&[0], samples].concat();
        self.file(width, 1, extra, &[png_chunk(b"IDAT", &stored(&data))])
    }

    fn file(self, width: u32, height: u32, extra: &[Vec<u8>], data: &[Vec<u8>]) -> Vec<u8> {
        let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
        let header = [&size[..], &[self.depth, self.kind, 0, 0, 0]].concat();
        let signature = b"\x89PNG\r\n\x1a\n".to_vec();
        [signature, png_chunk(b"IHDR", &header), extra.concat(), data.concat(), png_chunk(b"IEND", &[])].concat()
    }
}

#[test]
fn grey_of_every_depth_is_spread_over_the_levels() {
    let grey = |depth, samples: &[u8], width| rgb(&Png { depth, kind: 0 }.line(width, samples, &[]));
    let thrice = |levels: &[u8]| levels.iter().flat_map(|s| [*s; 3]).collect::<Vec<_>>();
    assert_eq!(grey(1, &[0b1010_0101], 8), thrice(&[255, 0, 255, 0, 0, 255, 0, 255]));
    assert_eq!(grey(2, &[0b0001_1011], 4), thrice(&[0, 85, 170, 255]));
    assert_eq!(grey(4, &[0x0f, 0xa3], 4), thrice(&[0, 255, 170, 51]));
    assert_eq!(grey(8, &[5, 128, 255], 3), thrice(&[5, 128, 255]));
}

#[test]
fn sixteen_bit_samples_keep_their_high_byte() {
    // Pillow says the same of colour (1, 127 for the first pixel); grey it clamps to 255.
    let colour = [0x01, 0xff, 0x7f, 0xff, 0x80, 0x00, 0xff, 0x00, 0x00, 0xff, 0x01, 0x00];
    assert_eq!(rgb(&Png { depth: 16, kind: 2 }.line(2, &colour, &[])), [1, 127, 128, 255, 0, 1]);
    assert_eq!(rgb(&Png { depth: 16, kind: 0 }.line(2, &[0x01, 0xff, 0xff, 0x00], &[])), [1, 1, 1, 255, 255, 255]);
    assert_eq!(rgb(&Png { depth: 16, kind: 4 }.line(1, &[0x80, 0x7f, 0, 0], &[])), [128; 3]);
    let rgba = [0x12, 0, 0x34, 0, 0x56, 0, 0, 0];
    assert_eq!(rgb(&Png { depth: 16, kind: 6 }.line(1, &rgba, &[])), [0x12, 0x34, 0x56]);
}

#[test]
fn alpha_is_dropped_and_not_blended() {
    assert_eq!(rgb(&Png { depth: 8, kind: 6 }.line(2, &[9, 8, 7, 0, 1, 2, 3, 128], &[])), [9, 8, 7, 1, 2, 3]);
    assert_eq!(rgb(&Png { depth: 8, kind: 4 }.line(1, &[77, 0], &[])), [77; 3]);
    let transparent = png_chunk(b"tRNS", &[0, 5, 0, 128, 0, 255]);
    assert_eq!(rgb(&Png { depth: 8, kind: 2 }.line(1, &[5, 128, 255], &[transparent])), [5, 128, 255]);
    let mut webp = Vec::new();
    let pixels = [10, 20, 30, 0, 200, 100, 50, 255];
    WebPEncoder::new_lossless(&mut webp).write_image(&pixels, 2, 1, ExtendedColorType::Rgba8).unwrap();
    assert_eq!(rgb(&webp), [10, 20, 30, 200, 100, 50]);
}

#[test]
fn palettes_are_looked_up_with_or_without_transparency() {
    let palette = png_chunk(b"PLTE", &(10..19).collect::<Vec<u8>>());
    let clear = png_chunk(b"tRNS", &[0, 128, 255]);
    let file = |extra: &[Vec<u8>]| Png { depth: 8, kind: 3 }.line(3, &[2, 0, 1], extra);
    assert_eq!(rgb(&file(std::slice::from_ref(&palette))), [16, 17, 18, 10, 11, 12, 13, 14, 15]);
    assert_eq!(rgb(&file(&[palette, clear])), [16, 17, 18, 10, 11, 12, 13, 14, 15]);
    assert!(matches!(refusal(&file(&[])), Error::Undecodable { format: "PNG", .. }));
}

#[test]
fn the_first_frame_of_an_animated_png_is_read() {
    let frame = |number: u32, delay: u16| {
        let numbers = [number, 1, 1, 0, 0].map(u32::to_be_bytes).concat();
        png_chunk(b"fcTL", &[&numbers[..], &delay.to_be_bytes(), &[0, 1, 0, 0]].concat())
    };
    let control = png_chunk(b"acTL", &[2u32, 0].map(u32::to_be_bytes).concat());
    let data = [
        png_chunk(b"IDAT", &stored(&[0, 1, 2, 3])),
        frame(1, 1),
        png_chunk(b"fdAT", &[&2u32.to_be_bytes()[..], &stored(&[0, 7, 8, 9])].concat()),
    ];
    assert_eq!(rgb(&Png { depth: 8, kind: 2 }.file(1, 1, &[control, frame(0, 1)], &data)), [1, 2, 3]);
}

fn riff(chunks: &[u8]) -> Vec<u8> {
    [&b"RIFF"[..], &(chunks.len() as u32 + 4).to_le_bytes(), b"WEBP", chunks].concat()
}

fn webp_chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let padding = &[0][..data.len() % 2];
    [&name[..], &(data.len() as u32).to_le_bytes(), data, padding].concat()
}

/// The header of an extended WebP file: flags (2 is animation), then both sides less one.
fn extended(flags: u8, width: u32, height: u32) -> Vec<u8> {
    let side = |n: u32| (n - 1).to_le_bytes()[..3].to_vec();
    webp_chunk(b"VP8X", &[vec![flags, 0, 0, 0], side(width), side(height)].concat())
}

#[test]
fn the_first_frame_of_an_animated_webp_is_read() {
    let frame = |colour: [u8; 3]| {
        let mut still = Vec::new();
        WebPEncoder::new_lossless(&mut still).write_image(&colour, 1, 1, ExtendedColorType::Rgb8).unwrap();
        // Offset, size less one, duration, and the flag against blending; then the still picture's chunk.
        let head = [vec![0; 15], vec![2]].concat();
        webp_chunk(b"ANMF", &[&head, &still[12..]].concat())
    };
    let control = webp_chunk(b"ANIM", &[0; 6]);
    let file = riff(&[extended(2, 1, 1), control, frame([40, 50, 60]), frame([1, 2, 3])].concat());
    assert_eq!(rgb(&file), [40, 50, 60]);
}

/// A JPEG file of one 8×8 block of each component, all of one level: quantisation by one, so that the
/// levels come back exactly. `announced` is the size in its header.
fn flat_jpeg(levels: &[u8], adobe: Option<u8>, announced: u16) -> Vec<u8> {
    let segment =
        |marker: u8, data: &[u8]| [&[0xff, marker][..], &(data.len() as u16 + 2).to_be_bytes(), data].concat();
    let components = || (1..).zip(levels).map(|(id, _)| id as u8);
    let mut file = vec![0xff, 0xd8];
    if let Some(transform) = adobe {
        file.extend(segment(0xee, &[b"Adobe\0\x64\0\0\0\0".as_slice(), &[transform]].concat()));
    }
    file.extend(segment(0xdb, &[[0].as_slice(), &[1; 64]].concat()));
    let side = announced.to_be_bytes();
    let frame = [8, side[0], side[1], side[0], side[1], levels.len() as u8];
    file.extend(segment(0xc0, &[frame.to_vec(), components().flat_map(|id| [id, 0x11, 0]).collect()].concat()));
    // Twelve codes of four bits for the sizes of levels, one code of one bit for "nothing follows".
    let mut codes = vec![0x00, 0, 0, 0, 12];
    codes.extend([0; 12]);
    codes.extend(0..12);
    file.extend(segment(0xc4, &codes));
    file.extend(segment(0xc4, &[&[0x10, 1][..], &[0; 15], &[0]].concat()));
    let scan: Vec<u8> = components().flat_map(|id| [id, 0]).collect();
    file.extend(segment(0xda, &[&[levels.len() as u8][..], &scan, &[0, 63, 0]].concat()));
    let mut bits = String::new();
    for level in levels {
        let value = (i32::from(*level) - 128) * 8;
        let size = (32 - value.unsigned_abs().leading_zeros()) as usize;
        let written = if value < 0 { value + (1 << size) - 1 } else { value };
        bits += &format!("{size:04b}");
        if size > 0 {
            bits += &format!("{written:0size$b}");
        }
        bits.push('0');
    }
    bits += &"1".repeat((8 - bits.len() % 8) % 8);
    for byte in bits.as_bytes().chunks(8) {
        let byte = byte.iter().fold(0, |byte, bit| byte << 1 | (bit - b'0'));
        file.push(byte);
        if byte == 0xff {
            file.push(0);
        }
    }
    file.extend([0xff, 0xd9]);
    file
}

#[test]
fn jpeg_of_every_colour_space_becomes_rgb() {
    assert_eq!(rgb(&flat_jpeg(&[90], None, 8)), vec![90; 192]);
    assert_eq!(rgb(&flat_jpeg(&[90, 128, 128], None, 8)), vec![90; 192]);
    assert_eq!(rgb(&flat_jpeg(&[10, 200, 60], Some(0), 8))[..3], [10, 200, 60]);
    // Adobe stores ink inverted; Pillow makes (216, 172, 49) of ink (10, 60, 200, 30).
    let cmyk = rgb(&flat_jpeg(&[245, 195, 55, 225], Some(0), 8));
    for (got, want) in cmyk.iter().zip([216u8, 172, 49]) {
        assert!(got.abs_diff(want) <= 1, "{:?}", &cmyk[..3]);
    }
}

fn noise(width: u32, height: u32) -> Vec<u8> {
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take((width * height * 3) as usize).collect()
}

fn encoded(format: ImageFormat, width: u32, height: u32) -> Vec<u8> {
    let pixels = noise(width, height);
    let mut file = Cursor::new(Vec::new());
    image::write_buffer_with_format(&mut file, &pixels, width, height, ExtendedColorType::Rgb8, format).unwrap();
    file.into_inner()
}

const FORMATS: [ImageFormat; 3] = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP];

#[test]
fn lossless_formats_give_their_pixels_back() {
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        for (width, height) in [(1, 1), (1, 300), (300, 1), (3, 3), (37, 53)] {
            let picture = decode(&encoded(format, width, height), &Limits::default()).unwrap();
            assert_eq!((picture.width(), picture.height()), (width, height), "{format:?}");
            assert!(picture.pixels() == noise(width, height), "{format:?} {width}x{height}");
        }
    }
}

#[test]
fn a_file_cut_anywhere_is_an_error_that_names_its_format() {
    for format in FORMATS {
        let whole = encoded(format, 61, 47);
        rgb(&whole);
        for sixteenth in 0..16 {
            let error = refusal(&whole[..whole.len() * sixteenth / 16]);
            let named = match &error {
                Error::Empty => sixteenth == 0,
                Error::Truncated { format: name } | Error::Undecodable { format: name, .. } => {
                    name.eq_ignore_ascii_case(format.extensions_str()[0])
                        || *name == "JPEG" && format == ImageFormat::Jpeg
                }
                _ => false,
            };
            assert!(named, "{format:?} {sixteenth}/16: {error:?}");
        }
    }
}

#[test]
fn a_jpeg_that_lacks_only_its_end_is_truncated() {
    let whole = flat_jpeg(&[90], None, 8);
    for cut in 1..whole.len() {
        let error = refusal(&whole[..whole.len() - cut]);
        assert!(matches!(error, Error::Truncated { format: "JPEG" } | Error::UnknownFormat), "{cut}: {error:?}");
    }
}

#[test]
fn a_thumbnail_s_end_is_not_the_picture_s() {
    // A segment of metadata that holds a whole JPEG, before a picture that is cut.
    let whole = flat_jpeg(&[90], None, 8);
    let mut thumbnail = vec![0xff, 0xe1];
    thumbnail.extend((whole.len() as u16 + 2).to_be_bytes());
    thumbnail.extend(&whole);
    let with = [&whole[..2], &thumbnail, &whole[2..]].concat();
    rgb(&with);
    assert!(matches!(refusal(&with[..with.len() - 2]), Error::Truncated { .. }));
}

#[test]
fn the_exif_orientation_is_ignored() {
    let whole = encoded(ImageFormat::Jpeg, 61, 47);
    // One entry, tag 0x112, a short: turned by a quarter.
    let tiff = *b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let exif = [&b"\xff\xe1\0\x22Exif\0\0"[..], &tiff].concat();
    let turned = decode(&[&whole[..2], &exif, &whole[2..]].concat(), &Limits::default()).unwrap();
    assert_eq!(turned, decode(&whole, &Limits::default()).unwrap());
}

#[test]
fn sizes_are_refused_before_pixels_are_allocated() {
    // A picture of 60 000 × 60 000 would take 10 GB.
    let png = Png { depth: 8, kind: 2 }.file(60_000, 60_000, &[], &[png_chunk(b"IDAT", &stored(&[0]))]);
    let webp = riff(&[extended(0, 60_000, 60_000), webp_chunk(b"VP8L", &[0x2f, 0, 0, 0, 0])].concat());
    for file in [png, flat_jpeg(&[90, 128, 128], None, 60_000), webp] {
        let error = refusal(&file);
        assert!(matches!(error, Error::TooLarge { what: "columns", got: 60_000, limit: 16_384 }), "{error:?}");
    }
    let absurd = Png { depth: 16, kind: 6 }.file(i32::MAX as u32, 1, &[], &[]);
    assert!(matches!(refusal(&absurd), Error::Undecodable { .. } | Error::TooLarge { .. }));
}

#[test]
fn each_limit_is_met_exactly() {
    let file = Png { depth: 8, kind: 0 }.line(7, &[0; 7], &[]);
    let exact = Limits { bytes: file.len(), width: 7, height: 1, pixels: 7 };
    decode(&file, &exact).unwrap();
    for (what, limits) in [
        ("bytes", Limits { bytes: file.len() - 1, ..exact }),
        ("columns", Limits { width: 6, ..exact }),
        ("rows", Limits { height: 0, ..exact }),
        ("pixels", Limits { pixels: 6, ..exact }),
    ] {
        let error = decode(&file, &limits).unwrap_err();
        assert!(matches!(error, Error::TooLarge { what: w, .. } if w == what), "{what}: {error:?}");
    }
}

#[test]
fn pictures_without_pixels_are_refused() {
    for (width, height) in [(0, 0), (0, 5), (5, 0)] {
        let png = Png { depth: 8, kind: 2 }.file(width, height, &[], &[png_chunk(b"IDAT", &stored(&[0]))]);
        refusal(&png);
        assert!(matches!(Rgb::new(width, height, vec![]), Err(Error::NoPixels { .. })));
    }
    refusal(&flat_jpeg(&[90], None, 0));
    assert!(matches!(Rgb::new(2, 2, vec![0; 11]), Err(Error::Pixels { expected: 12, got: 11, .. })));
    assert!(matches!(Rgb::new(u32::MAX, u32::MAX, vec![]), Err(Error::Pixels { .. })));
}

#[test]
fn files_of_other_kinds_are_refused_by_their_first_bytes() {
    assert!(matches!(refusal(b""), Error::Empty));
    for file in [&b"\x89PNG"[..], b"GIF89a..........", b"BM", b"RIFF\0\0\0\0WAVE", b"\xff\xd8", b"<svg/>"] {
        assert!(matches!(refusal(file), Error::UnknownFormat), "{file:?}");
    }
}

/// A PNG file whose chunks have the checksums of what they hold now; else damage would go no further.
fn with_checksums(file: &[u8]) -> Vec<u8> {
    let (signature, mut rest) = file.split_at(8);
    let mut out = signature.to_vec();
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let [a, b, c, d, name @ ..] = *head;
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        let Some((data, after)) = after.split_at_checked(len) else { break };
        out.extend(png_chunk(&name, data));
        rest = after.get(4..).unwrap_or_default();
    }
    [&out, rest].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn damaged_files_are_errors_or_pictures_but_never_a_panic(
        format in 0usize..3, damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut: prop::sample::Index,
    ) {
        let mut file = encoded(FORMATS[format], 19, 13);
        for (at, byte) in damage {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if FORMATS[format] == ImageFormat::Png {
            file = with_checksums(&file);
        }
        let small = Limits { pixels: 1 << 20, ..Limits::default() };
        let _ = decode(&file, &small);
        let _ = decode(&file[..cut.index(file.len())], &small);
    }
}
