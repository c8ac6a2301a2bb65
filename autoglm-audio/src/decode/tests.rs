//! Sounds of every kind, and files that lie. The files are built here byte by byte, so that each can be wrong
//! in exactly one way.

use autoglm_testing::repository;
use proptest::prelude::*;

use super::*;

mod flac;
mod mp3;

/// What the header of a WAV file says.
#[derive(Clone, Copy)]
struct Wav {
    /// 1 whole numbers, 3 floats.
    kind: u16,
    channels: u16,
    rate: u32,
    bits: u16,
}

const PCM16: Wav = Wav { kind: 1, channels: 1, rate: 16_000, bits: 16 };

impl Wav {
    fn file(self, data: &[u8]) -> Vec<u8> {
        self.lying(data, data.len() as u32)
    }

    /// A file whose header announces `bytes` of data.
    fn lying(self, data: &[u8], bytes: u32) -> Vec<u8> {
        let frame = self.channels.wrapping_mul(self.bits / 8);
        let format = [
            &self.kind.to_le_bytes()[..],
            &self.channels.to_le_bytes(),
            &self.rate.to_le_bytes(),
            &self.rate.wrapping_mul(u32::from(frame)).to_le_bytes(),
            &frame.to_le_bytes(),
            &self.bits.to_le_bytes(),
        ]
        .concat();
        let body = [b"WAVE".to_vec(), chunk(b"fmt ", &format, 16), chunk(b"data", data, bytes)].concat();
        chunk(b"RIFF", &body, bytes.saturating_add(36))
    }
}

fn chunk(name: &[u8; 4], body: &[u8], length: u32) -> Vec<u8> {
    [&name[..], &length.to_le_bytes(), body].concat()
}

fn sound(bytes: &[u8]) -> Sound {
    decode(bytes, &Limits::default()).unwrap()
}

fn refusal(bytes: &[u8]) -> Error {
    decode(bytes, &Limits::default()).unwrap_err()
}

/// Why a file is refused, from the outside in.
fn reasons(bytes: &[u8]) -> String {
    let error = refusal(bytes);
    let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

fn stored(name: &str) -> Vec<u8> {
    std::fs::read(repository().join("autoglm-audio/tests/sounds").join(name)).unwrap()
}

fn floats(samples: &[f32]) -> Vec<u8> {
    samples.iter().flat_map(|s| s.to_le_bytes()).collect()
}

fn sixteen(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|s| s.to_le_bytes()).collect()
}

#[test]
fn whole_numbers_of_every_width_are_divided_by_their_full_scale() {
    let of = |bits, data: &[u8]| sound(&Wav { bits, ..PCM16 }.file(data)).samples().to_vec();
    // Eight bits are unsigned, with silence at 128.
    assert_eq!(of(8, &[0, 128, 255, 64]), [-1.0, 0.0, 127.0 / 128.0, -0.5]);
    assert_eq!(of(16, &sixteen(&[i16::MIN, 0, i16::MAX, 1])), [-1.0, 0.0, 32_767.0 / 32_768.0, 1.0 / 32_768.0]);
    assert_eq!(of(24, &[0, 0, 0x80, 1, 0, 0, 0, 0, 0x40]), [-1.0, 1.0 / 8_388_608.0, 0.5]);
    let wide = [i32::MIN, 1 << 30, -(1 << 29)].map(i32::to_le_bytes).concat();
    assert_eq!(of(32, &wide), [-1.0, 0.5, -0.25]);
}

#[test]
fn floats_are_what_they_are_beyond_full_scale_too() {
    let data = [0.25f32, -3.5, 1.0].map(f32::to_le_bytes).concat();
    assert_eq!(sound(&Wav { kind: 3, bits: 32, ..PCM16 }.file(&data)).samples(), [0.25, -3.5, 1.0]);
    let data = [0.25f64, -0.125].map(f64::to_le_bytes).concat();
    assert_eq!(sound(&Wav { kind: 3, bits: 64, ..PCM16 }.file(&data)).samples(), [0.25, -0.125]);
    for bad in [f32::NAN, f32::INFINITY] {
        let data = [0.0, bad].map(f32::to_le_bytes).concat();
        let refused = refusal(&Wav { kind: 3, bits: 32, ..PCM16 }.file(&data));
        assert!(matches!(refused, Error::NotANumber { index: 1, .. }), "{refused}");
    }
}

#[test]
fn floats_too_large_to_be_added_up_are_refused_by_name() {
    let stereo = Wav { kind: 3, bits: 32, channels: 2, rate: 44_100 };
    // Two that cancel, one whose sum is infinite, and one that is out of bounds alone.
    for (bad, value) in [([3e38, -3e38], 3e38f32), ([3e38, 3e38], 3e38), ([1e37, 0.0], 1e37), ([0.0, -2e7], -2e7)] {
        let refused = refusal(&stereo.file(&floats(&[&[0.5; 4_000][..], &bad, &[0.5; 10]].concat())));
        let named = matches!(refused, Error::TooLoud { index: 2_000, value: is, .. } if is == f64::from(value));
        assert!(named, "{bad:?}: {refused}");
    }
    let refused = refusal(&stereo.file(&floats(&[0.0, 0.0, f32::INFINITY, f32::NEG_INFINITY])));
    assert!(matches!(refused, Error::NotANumber { index: 1, value: f32::INFINITY }), "{refused}");
    // Finite in the file, and not in f32.
    let refused = refusal(&Wav { kind: 3, bits: 64, ..PCM16 }.file(&1e300f64.to_le_bytes()));
    assert!(matches!(refused, Error::TooLoud { index: 0, value: 1e300, .. }), "{refused}");
    let loud = sound(&stereo.file(&floats(&[16_777_216.0; 8_820])));
    assert!(crate::resample(&loud, 16_000).unwrap().iter().all(|s| s.is_finite()));
}

#[test]
fn channels_are_averaged() {
    let stereo = Wav { channels: 2, rate: 44_100, ..PCM16 }.file(&sixteen(&[16_384, -16_384, 8_192, 16_384]));
    assert_eq!(sound(&stereo).samples(), [0.0, 0.375]);
    assert_eq!(sound(&stereo).rate(), 44_100);
    for channels in 1..=8u16 {
        let frame: Vec<i16> = (0..channels).map(|c| c as i16 * 256).collect();
        let mean = frame.iter().map(|s| f32::from(*s) / 32_768.0).sum::<f32>() / f32::from(channels);
        assert_eq!(sound(&Wav { channels, ..PCM16 }.file(&sixteen(&frame))).samples(), [mean], "{channels}");
    }
}

#[test]
fn a_sound_without_samples_is_empty() {
    assert_eq!(sound(&PCM16.file(&[])).samples(), [0.0; 0]);
    assert_eq!(sound(&PCM16.file(&sixteen(&[5]))).samples().len(), 1);
}

#[test]
fn a_stream_of_unknown_length_is_read_to_its_end() {
    // What recorders write that cannot go back to their headers.
    for length in [0, 0x7fff_f000, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        let streamed = PCM16.lying(&sixteen(&[1, 2, 3]), length);
        assert_eq!(sound(&streamed).samples().len(), 3, "{length:x}");
        // Silence looks like chunks without names.
        assert_eq!(sound(&PCM16.lying(&[0; 32_000], length)).samples(), [0.0; 16_000], "{length:x}");
    }
    // A sound without samples has a name all the same.
    let named = [PCM16.file(&[]), chunk(b"LIST", b"INFOINAM\x04\0\0\0abc\0", 16)].concat();
    assert_eq!(sound(&named).samples(), [0.0; 0]);
}

#[test]
fn flac_is_the_wav_and_mp3_is_nearly_so() {
    let tone = |name: &str| sound(&stored(name));
    let (wav, flac, mp3) = (tone("tone.wav"), tone("tone.flac"), tone("tone.mp3"));
    assert_eq!(wav.samples().len(), 8_000);
    assert_eq!(flac, wav);
    // Its encoder says how much it put before and behind the sound.
    assert_eq!((mp3.rate(), mp3.samples().len()), (16_000, 8_000));
    // What compression loses is less than what a shift by one sample would change, which is 3 %.
    let pairs = || mp3.samples().iter().zip(wav.samples()).skip(500).take(7_000);
    let difference: f32 = pairs().map(|(got, want)| (got - want).powi(2)).sum();
    let power: f32 = pairs().map(|(_, want)| want.powi(2)).sum();
    assert!(difference < 0.01 * power, "{}", difference / power);
}

#[test]
fn the_long_form_of_the_header_says_the_same_and_other_kinds_are_refused() {
    let data = sixteen(&[i16::MIN, 0, 16_384]);
    let long = |kind: u16| {
        let mut format = [&0xfffeu16.to_le_bytes()[..], &1u16.to_le_bytes(), &16_000u32.to_le_bytes()].concat();
        format.extend([&32_000u32.to_le_bytes()[..], &2u16.to_le_bytes(), &16u16.to_le_bytes()].concat());
        format.extend(
            [&22u16.to_le_bytes()[..], &16u16.to_le_bytes(), &0u32.to_le_bytes(), &kind.to_le_bytes()].concat(),
        );
        format.extend(b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71");
        let body = [b"WAVE".to_vec(), chunk(b"fmt ", &format, 40), chunk(b"data", &data, 6)].concat();
        chunk(b"RIFF", &body, 74)
    };
    assert_eq!(sound(&long(1)).samples(), [-1.0, 0.0, 0.5]);
    for kind in [0, 2, 6, 7, 0x55, 0xfffe] {
        assert!(matches!(refusal(&long(kind)), Error::Undecodable { .. }), "{kind}");
        assert!(matches!(refusal(&Wav { kind, ..PCM16 }.file(&data)), Error::Undecodable { .. }), "{kind}");
    }
}

#[test]
fn samples_beyond_the_limit_are_refused_at_any_rate() {
    let file = Wav { rate: 192_000, ..PCM16 }.file(&sixteen(&[0; 2_000]));
    let refused = decode(&file, &Limits { samples: 1_999, ..Limits::default() });
    assert!(matches!(refused, Err(Error::TooLarge { what: "samples", got: 2_000, limit: 1_999 })), "{refused:?}");
}

#[test]
fn what_is_no_sound_is_told_apart_from_one_that_is_damaged() {
    assert!(matches!(refusal(b""), Error::Empty));
    for bytes in [&b"\x89PNG\r\n\x1a\n0000"[..], b"hello", b"R", b"\0\0\0\0\0\0\0\0", b"<html>", b"{}", b"OggS\0\x02"] {
        assert!(matches!(refusal(bytes), Error::UnknownFormat), "{bytes:?}");
    }
}

#[test]
fn a_file_is_what_it_begins_as_and_not_what_is_somewhere_in_it() {
    let many = Wav { channels: u16::MAX, bits: 32, ..PCM16 }.file(&[0; 100]);
    for inner in [PCM16.file(&sixteen(&[1; 8_000])), many, stored("tone.flac")] {
        for begin in [&b"ID3"[..], b"\xff\xfb", b"\xff\xe0", b"\xff\xfb\x90\x64", b"\xff\xf3\x88\xc4\0\0\0\0"] {
            let refused = refusal(&[begin, &inner].concat());
            assert!(!matches!(refused, Error::TooLarge { .. } | Error::NotANumber { .. }), "{begin:?}: {refused}");
        }
    }
    // Behind a tag, too, only what a tag may stand before.
    let tagged = [b"ID3\x03\0\0\0\0\0\0".to_vec(), PCM16.file(&sixteen(&[1; 8_000]))].concat();
    assert!(matches!(refusal(&tagged), Error::UnknownFormat));
}

/// Files that lie or are damaged, and what each is called.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let data = sixteen(&[100; 4_000]);
    let good = PCM16.file(&data);
    let with = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let mut files = vec![
        ("RIFF alone", b"RIFF".to_vec()),
        ("RIFF without WAVE", [b"RIFF\x04\0\0\0AVI ".to_vec(), vec![0; 64]].concat()),
        ("WAVE alone", chunk(b"RIFF", b"WAVE", 4)),
        ("no data", chunk(b"RIFF", &[b"WAVE".to_vec(), good[12..36].to_vec()].concat(), 28)),
        ("data before format", chunk(b"RIFF", &[b"WAVE".to_vec(), good[36..].to_vec()].concat(), 9_000)),
        ("ten hours announced", PCM16.lying(&data, 36_000 * 32_000)),
        ("a terabyte of RIFF", with(4, &u32::MAX.to_le_bytes())),
        ("no channel", Wav { channels: 0, ..PCM16 }.file(&data)),
        ("65535 channels", Wav { channels: u16::MAX, ..PCM16 }.file(&data)),
        ("9 channels", Wav { channels: 9, ..PCM16 }.file(&sixteen(&[0; 9]))),
        ("rate of 0", Wav { rate: 0, ..PCM16 }.file(&data)),
        ("rate of 1", Wav { rate: 1, ..PCM16 }.file(&data)),
        ("rate of 4 GHz", Wav { rate: u32::MAX, ..PCM16 }.file(&data)),
        ("no bits", Wav { bits: 0, ..PCM16 }.file(&data)),
        ("7 bits", Wav { bits: 7, ..PCM16 }.file(&data)),
        ("65535 bits", Wav { bits: u16::MAX, ..PCM16 }.file(&data)),
        ("floats of 16 bits", Wav { kind: 3, ..PCM16 }.file(&data)),
        ("kind 0", Wav { kind: 0, ..PCM16 }.file(&data)),
        ("kind 65535", Wav { kind: u16::MAX, ..PCM16 }.file(&data)),
        ("extensible without extension", Wav { kind: 0xfffe, ..PCM16 }.file(&data)),
        ("frames of 0 bytes", with(32, &[0, 0])),
        ("frames of 65535 bytes", with(32, &[255, 255])),
        ("format of 4 GiB", with(16, &u32::MAX.to_le_bytes())),
        ("format of 0 bytes", with(16, &[0; 4])),
        ("one byte short", good[..good.len() - 1].to_vec()),
        ("half", good[..good.len() / 2].to_vec()),
        ("header alone", good[..44].to_vec()),
        ("NaN", Wav { kind: 3, bits: 32, ..PCM16 }.file(&f32::NAN.to_le_bytes())),
        ("1e37", Wav { kind: 3, bits: 32, rate: 44_100, ..PCM16 }.file(&floats(&[1e37; 4_000]))),
        ("largest floats", Wav { kind: 3, bits: 32, rate: 44_100, ..PCM16 }.file(&floats(&[f32::MAX; 4_000]))),
        ("FLAC alone", b"fLaC".to_vec()),
        ("FLAC of nothing", [b"fLaC\x80\0\0\x22".to_vec(), vec![0; 34]].concat()),
        ("FLAC of ones", [b"fLaC\x80\0\0\x22".to_vec(), vec![255; 34]].concat()),
        ("FLAC block of 16 MiB", b"fLaC\x84\xff\xff\xff".to_vec()),
        ("Ogg Vorbis, which is not read", include_bytes!("../../tests/sounds/tone.ogg").to_vec()),
        ("ID3 alone", b"ID3".to_vec()),
        ("ID3 of 256 MiB", b"ID3\x04\0\0\x7f\x7f\x7f\x7f".to_vec()),
        ("MP3 frame header alone", vec![0xff, 0xfb, 0x90, 0]),
        ("MP3 of ones", vec![0xff; 5_000]),
        ("MP3 of zeros", [vec![0xff, 0xfb, 0x90, 0x64], vec![0; 5_000]].concat()),
        ("MP3 bad rate", [vec![0xff, 0xfb, 0x9c, 0x64], vec![0; 5_000]].concat()),
    ];
    for at in [8, 12, 20, 22, 24, 34, 36, 40] {
        files.push(("a byte inverted in the header", with(at, &[!good[at]])));
    }
    files
}

#[test]
fn files_that_lie_are_errors_of_one_line_or_sounds_within_the_limits() {
    let files = hostile();
    assert!(files.len() >= 40, "{}", files.len());
    for (name, bytes) in files {
        match decode(&bytes, &Limits::default()) {
            Ok(sound) => {
                assert!(sound.seconds() <= 630.0, "{name}");
                assert!(crate::resample(&sound, 16_000).is_ok(), "{name}");
            }
            Err(error) => {
                let line = error.to_string();
                assert!(!line.is_empty() && line.len() < 200 && !line.contains('\n'), "{name}: {line}");
            }
        }
    }
}

#[test]
fn what_is_announced_and_missing_is_an_error() {
    let data = sixteen(&[100; 4_000]);
    for (name, file) in [
        ("ten hours", PCM16.lying(&data, 36_000 * 32_000)),
        ("half", PCM16.file(&data)[..4_044].to_vec()),
        ("one sample", PCM16.lying(&data, data.len() as u32 + 2)),
    ] {
        let refused = refusal(&file);
        let known = matches!(refused, Error::Truncated { .. });
        assert!(known, "{name}: {refused}");
    }
}

#[test]
fn limits_hold_before_and_while_a_sound_is_read() {
    let second = PCM16.file(&sixteen(&[1; 16_000]));
    let limits = Limits::default();
    let at = |limits: Limits| decode(&second, &limits);
    assert!(at(Limits { seconds: 1, ..limits }).is_ok());
    assert!(matches!(at(Limits { seconds: 0, ..limits }), Err(Error::TooLarge { what: "seconds", .. })));
    assert!(matches!(at(Limits { bytes: 100, ..limits }), Err(Error::TooLarge { what: "bytes", .. })));
    let streamed = PCM16.lying(&sixteen(&[1; 32_001]), u32::MAX);
    let refused = decode(&streamed, &Limits { seconds: 2, ..limits });
    assert!(matches!(refused, Err(Error::TooLarge { what: "seconds", .. })), "{refused:?}");
    let nine = Wav { channels: 9, ..PCM16 }.file(&sixteen(&[0; 18]));
    assert!(matches!(refusal(&nine), Error::TooLarge { what: "channels", got: 9, limit: 8 }));
}

proptest! {
    #[test]
    fn cut_and_flipped_files_never_panic(
        kind in prop::sample::select(vec![1u16, 3]),
        bits in prop::sample::select(vec![8u16, 16, 24, 32, 64]),
        channels in 1u16..9,
        data in prop::collection::vec(any::<u8>(), 0..600),
        cut in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut file = Wav { kind, bits, channels, rate: 16_000 }.file(&data);
        for (at, with) in flips {
            let at = at.index(file.len());
            file[at] ^= with;
        }
        file.truncate(cut.index(file.len()) + 1);
        if let Ok(sound) = decode(&file, &Limits::default()) {
            prop_assert!(sound.samples().iter().all(|s| s.is_finite()));
        }
    }

    #[test]
    fn bytes_behind_any_beginning_never_panic(
        begin in prop::sample::select(vec![&b"RIFF"[..], b"RIFF\0\0\0\0WAVEfmt ", b"fLaC", b"ID3", b"\xff\xfb\x90\x64"]),
        rest in prop::collection::vec(any::<u8>(), 0..2_000),
    ) {
        let _ = decode(&[begin, &rest].concat(), &Limits::default());
    }
}
