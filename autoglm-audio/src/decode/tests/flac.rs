//! FLAC files, frame by frame and with checksums that are right, so that what is wrong reaches the decoder.

use super::*;

const FRAME: u32 = 1_600;

/// Remainders of a division of polynomials, by `by`, of `width` bits.
fn remainder(bytes: &[u8], width: u32, by: u32) -> u32 {
    let top = 1 << (width - 1);
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << (width - 8), |crc, _| {
            (crc << 1 ^ if crc & top != 0 { by } else { 0 }) & (2 * top - 1)
        })
    })
}

/// Bits that are put together into bytes, the last one filled up with zeros.
fn bits(numbers: &[(u64, u32)]) -> Vec<u8> {
    let bits: Vec<u8> =
        numbers.iter().flat_map(|(n, width)| (0..*width).rev().map(move |bit| (n >> bit & 1) as u8)).collect();
    let byte = |bits: &[u8]| bits.iter().enumerate().map(|(i, bit)| bit << (7 - i)).sum();
    bits.chunks(8).map(byte).collect()
}

/// A frame of what its channels hold, `assignment` being how these belong together.
fn frame(number: u8, samples: u32, assignment: u8, channels: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xff, 0xf8, 0x70, assignment << 4, number];
    frame.extend(((samples - 1) as u16).to_be_bytes());
    frame.push(remainder(&frame, 8, 0x07) as u8);
    frame.extend(channels);
    frame.extend((remainder(&frame, 16, 0x8005) as u16).to_be_bytes());
    frame
}

/// What one channel holds whose samples of 16 bits are all the same.
fn constant(sample: u16) -> Vec<u8> {
    bits(&[(0, 8), (sample.into(), 16)])
}

/// A file of frames.
fn file(samples: u32, channels: u64, width: u64, total: u64, frames: &[Vec<u8>]) -> Vec<u8> {
    let samples = u64::from(samples);
    let info = [(samples, 16), (samples, 16), (0, 48), (16_000, 20), (channels - 1, 3), (width - 1, 5), (total, 36)];
    [b"fLaC\x80\0\0\x22".to_vec(), bits(&info), vec![0; 16], frames.concat()].concat()
}

/// Ten frames, the first of zeros, the second of hundreds and so on.
fn steps() -> Vec<Vec<u8>> {
    (0..10).map(|i| frame(i, FRAME, 0, &constant(100 * u16::from(i)))).collect()
}

#[test]
fn a_file_that_does_not_tell_its_length_is_read_to_its_end() {
    for total in [0, 16_000] {
        let sound = sound(&file(FRAME, 1, 16, total, &steps()));
        assert_eq!(sound.samples().len(), 16_000);
        assert_eq!(sound.samples()[15_999], 900.0 / 32_768.0);
    }
}

#[test]
fn frames_that_are_damaged_are_not_stepped_over() {
    for total in [0, 16_000] {
        for damage in [0..1, 2..7, 8..9] {
            let mut frames = steps();
            frames[damage.clone()].iter_mut().for_each(|frame| frame[9] ^= 1);
            let refused = reasons(&file(FRAME, 1, 16, total, &frames));
            assert!(refused.contains("damaged: where sample"), "{total}, {damage:?}: {refused}");
            frames.drain(damage.clone());
            let refused = reasons(&file(FRAME, 1, 16, total, &frames));
            assert!(refused.contains("damaged: where sample"), "{total}, {damage:?}: {refused}");
        }
        // Nothing comes behind the last one.
        let mut frames = steps();
        frames[9][9] ^= 1;
        let refused = reasons(&file(FRAME, 1, 16, total, &frames));
        assert!(refused.contains(if total > 0 { "truncated" } else { "are no frame" }), "{refused}");
    }
}

#[test]
fn frames_behind_the_stated_end_and_a_second_file_are_noticed() {
    let refused = refusal(&file(FRAME, 1, 16, 8_000, &steps()));
    assert!(matches!(refused, Error::GoesOn { announced: 8_000 }), "{refused}");
    let twice = file(FRAME, 1, 16, 0, &steps()).repeat(2);
    assert!(matches!(refusal(&twice), Error::Damaged { .. }), "{}", reasons(&twice));
}

#[test]
fn what_the_decoder_computes_wrongly_is_refused() {
    // 33 bits of difference between channels of 32.
    let channels = bits(&[(0, 8), (1 << 31, 32), (0, 8), (1, 33)]);
    for width in 25..=32 {
        let refused = reasons(&file(16, 2, width, 16, &[frame(0, 16, 8, &channels)]));
        assert!(refused.contains(&format!("{width} bits")), "{refused}");
    }
}

#[test]
fn a_decoder_that_panics_is_an_error() {
    // A prediction of a sample before it, 16383 times as loud, and remainders of 31 bits.
    let mut numbers = vec![(0, 1), (0x20, 6), (0, 1), (32_767, 16), (14, 4), (0, 5), (16_383, 15), (0, 2), (0, 4)];
    numbers.extend([(15, 4), (31, 5)]);
    numbers.extend([(0x3fff_ffff, 31); 15]);
    let overflows = file(16, 1, 16, 160, &(0..10).map(|i| frame(i, 16, 0, &bits(&numbers))).collect::<Vec<_>>());
    let read = decode(&overflows, &Limits::default());
    // Where overflow is not trapped, the numbers are wrong and nothing in the file says so.
    if cfg!(debug_assertions) {
        assert!(matches!(read, Err(Error::Damaged { .. })), "{read:?}");
        assert!(reasons(&overflows).contains("the decoder panics: "), "{}", reasons(&overflows));
    }
}

#[test]
fn a_checksum_over_all_samples_is_held_against_them() {
    // Of libFLAC's file, the last byte of the checksum.
    let mut tone = stored("tone.flac");
    tone[41] ^= 1;
    assert!(reasons(&tone).contains("another checksum"), "{}", reasons(&tone));
    // Zeros stand for none.
    tone[26..42].fill(0);
    assert_eq!(sound(&tone), sound(&stored("tone.flac")));
}

#[test]
fn what_is_beside_the_sound_does_not_matter() {
    let tone = stored("tone.flac");
    let info = [&tone[..4], b"\0", &tone[5..42]].concat();
    // A picture without a word in it that is right, and the frames.
    let frames = (42..).find(|at| tone[*at..].starts_with(&[0xff, 0xf8])).unwrap();
    let pictured = [&info[..], b"\x86\0\0\x08\xff\xff\xff\xff\xff\xff\xff\xff", &tone[frames..]].concat();
    assert_eq!(sound(&pictured), sound(&tone));
    for cut in [4, 8, 20, 41] {
        assert!(reasons(&tone[..cut]).contains("cut off before its first frame"), "{cut}");
    }
    let other = [b"fLaC\x04", &tone[5..]].concat();
    assert!(reasons(&other).contains("does not begin with"), "{}", reasons(&other));
}
