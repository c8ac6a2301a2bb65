//! Sound files damaged at random, and a reader that must neither panic nor believe them.
//!
//! For every damaged file: it is read or refused, never more. What is read has as many samples as the limits
//! allow at most, none of them infinite, and is resampled to as many as it stands for.

// The allowance in clippy.toml covers test functions, not what they share.
#![allow(clippy::unwrap_used)]

use autoglm_audio::{Limits, Sound, decode, resample};

mod flac;

/// What became of the damaged files of one format.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Outcome {
    /// Read: the damage hit a sample, or nothing that matters.
    pub(crate) read: usize,
    /// Refused.
    pub(crate) refused: usize,
}

/// The files that are damaged: one sound in each format.
const SOUNDS: [&[u8]; 3] =
    [include_bytes!("../sounds/tone.wav"), include_bytes!("../sounds/tone.flac"), include_bytes!("../sounds/tone.mp3")];

/// Small enough that a file that lies about its length is found out in a moment.
const LIMITS: Limits = Limits { bytes: 1 << 20, channels: 8, seconds: 20, samples: 1 << 21 };

const FLAC: usize = 1;

/// A second WAV file: floats, whose damage makes numbers of any size, at a rate that is resampled.
fn floats() -> Vec<u8> {
    const SAMPLES: u32 = 4_000;
    let mut file = b"RIFF".to_vec();
    file.extend((36 + 4 * SAMPLES).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x03\0\x01\0");
    for number in [44_100u32, 4 * 44_100, 32 << 16 | 4] {
        file.extend(number.to_le_bytes());
    }
    file.extend(b"data");
    file.extend((4 * SAMPLES).to_le_bytes());
    file.extend((0..SAMPLES).flat_map(|i| (i as f32 / 20.0).sin().to_le_bytes()));
    file
}

/// Damages a sound file `count` times; every second one is a WAV, and every second FLAC is damaged inside of a frame
/// whose checksum is made right again, so that the decoder sees it. `seed` makes the sequence; case `i` does not
/// depend on `count`.
///
/// # Panics
/// When a law is broken, or the reader itself panics.
pub(crate) fn sounds(seed: u64, count: usize) -> [Outcome; SOUNDS.len()] {
    let mut outcomes = [Outcome::default(); SOUNDS.len()];
    let (floats, frames) = (floats(), flac::frames(SOUNDS[FLAC]));
    for case in 0..count {
        let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ case as u64);
        let which = if rng.bool() { 0 } else { rng.usize(..SOUNDS.len()) };
        let other = rng.bool();
        let mut bytes = if which == 0 && other { floats.clone() } else { SOUNDS[which].to_vec() };
        if which == FLAC && other {
            flac::damage(&mut bytes, &frames[rng.usize(..frames.len())], &mut rng);
        } else {
            for _ in 0..rng.usize(1..5) {
                damage(&mut bytes, &mut rng);
            }
        }
        match decode(&bytes, &LIMITS) {
            Ok(sound) => {
                outcomes[which].read += 1;
                check(&sound, seed, case);
            }
            Err(error) => {
                outcomes[which].refused += 1;
                assert!(!error.to_string().contains('\n'), "seed {seed}, case {case}: {error}");
            }
        }
    }
    outcomes
}

fn check(sound: &Sound, seed: u64, case: usize) {
    let (n, rate) = (sound.samples().len(), sound.rate());
    assert!(n as u64 <= LIMITS.seconds * u64::from(rate), "seed {seed}, case {case}");
    assert!(sound.samples().iter().all(|sample| sample.is_finite()), "seed {seed}, case {case}");
    let resampled = resample(sound, 16_000).unwrap();
    let wanted = (n as u64 * 16_000).div_ceil(u64::from(rate));
    assert_eq!(resampled.len() as u64, wanted, "seed {seed}, case {case}");
}

fn damage(bytes: &mut Vec<u8>, rng: &mut fastrand::Rng) {
    if bytes.is_empty() {
        return;
    }
    // Headers are where it hurts.
    let at = if rng.bool() { rng.usize(..bytes.len().min(64)) } else { rng.usize(..bytes.len()) };
    match rng.u8(..6) {
        0 => bytes[at] ^= 1 << rng.u8(..8),
        1 => bytes[at] = rng.u8(..),
        2 => bytes.truncate(at),
        3 => {
            let end = (at + rng.usize(..16)).min(bytes.len());
            bytes[at..end].fill(if rng.bool() { 0xff } else { 0 });
        }
        4 => {
            let extra: Vec<u8> = (0..rng.usize(..32)).map(|_| rng.u8(..)).collect();
            bytes.splice(at..at, extra);
        }
        _ => {
            let end = (at + rng.usize(..64)).min(bytes.len());
            bytes.drain(at..end);
        }
    }
}
