//! The frames of an MP3 file, followed from one to the next before the decoder sees them.
//!
//! symphonia looks for the next frame wherever the last one ends, and steps over what is none without a word: a hole in
//! the sound would go unnoticed.

use crate::error::{damaged, undecodable};
use crate::{Error, Result};

/// Bytes of a frame's header.
const HEAD: usize = 4;
/// Thousands of bits per second by their number in the header, of MPEG 1 and of MPEG 2 and 2.5. 0 means that nobody
/// says, and the sixteenth does not exist.
const BIT_RATES: [[u32; 15]; 2] = [
    [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
    [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];
/// Samples per second of MPEG 1; MPEG 2 has half of them and 2.5 a quarter.
const RATES: [u32; 3] = [44_100, 48_000, 32_000];

/// What is the same in all frames of a sound.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind {
    version: u8,
    rate: u32,
    mono: bool,
}

#[derive(Clone, Copy)]
struct Frame {
    kind: Kind,
    bytes: usize,
    samples: u64,
}

/// Whether the bytes begin as a frame does.
pub(super) fn begins(bytes: &[u8]) -> bool {
    matches!(bytes, [0xff, second, ..] if second & 0xe0 == 0xe0)
}

/// The frames: the bytes without the zeros that may fill up what is behind the last one.
pub(super) fn frames(bytes: &[u8]) -> Result<&[u8]> {
    let first = Frame::read(bytes).ok_or_else(|| undecodable("its first frame is none of MPEG layer 3"))?;
    let (mut at, mut count) = (0, 0u64);
    while let Some(frame) = bytes.get(at..).and_then(Frame::read).filter(|frame| frame.kind == first.kind) {
        if frame.bytes > bytes.len() - at {
            let got = count * first.samples;
            return Err(Error::Truncated { got, announced: got + first.samples });
        }
        at += frame.bytes;
        count += 1;
    }
    let (frames, rest) = bytes.split_at(at);
    if rest.iter().any(|byte| *byte != 0) {
        return Err(damaged(format!("what follows frame {count} is neither a frame like the first nor a tag")));
    }
    Ok(frames)
}

impl Frame {
    /// The frame that begins here, unless there is none, or none that is read.
    fn read(bytes: &[u8]) -> Option<Self> {
        let [_, version, rates, channels]: [u8; HEAD] = bytes.get(..HEAD)?.try_into().ok()?;
        let layer = version >> 1 & 3;
        let version = version >> 3 & 3;
        if !begins(bytes) || layer != 1 || version == 1 {
            return None;
        }
        let later = usize::from(version != 3);
        let bits = 1_000 * *BIT_RATES[later].get(usize::from(rates >> 4)).filter(|bits| **bits > 0)?;
        let rate = RATES.get(usize::from(rates >> 2 & 3))? / [4, 1, 2, 1][usize::from(version)];
        let samples = [1_152, 576][later];
        let bytes = samples / 8 * bits / rate + u32::from(rates >> 1 & 1);
        let kind = Kind { version, rate, mono: channels >> 6 == 3 };
        Some(Self { kind, bytes: bytes as usize, samples: u64::from(samples) })
    }
}
