//! The header of a WAV file, read and written anew before the decoder sees it.
//!
//! There are many ways to write one, and where a reader and its checks understand one differently, the checks are
//! worth nothing. What the decoder gets is the format in its shortest form and the samples behind it.

use super::{Limits, check};
use crate::error::undecodable;
use crate::{Error, Result};

/// Where the first chunk of a RIFF file begins.
const FIRST: usize = 12;
/// Bytes of a chunk's name and length.
const HEAD: usize = 8;
/// Bytes of the least that says how samples are stored.
const FORMAT: usize = 16;
/// Where the long form of the format says what its samples are.
const SUBFORMAT: usize = 24;
/// The lengths of a recorder that never came back to its header: nothing yet, and as much as there may ever be, as
/// ffmpeg, arecord and sox write it into pipes. No file that is read is so long.
const UNKNOWN: [u32; 5] = [0, 0x7fff_f000, 0x7fff_ffff, 0x8000_0000, u32::MAX];

const INTEGERS: u16 = 1;
const FLOATS: u16 = 3;
const EXTENSIBLE: u16 = 0xfffe;

/// How samples are stored.
#[derive(Clone, Copy)]
struct Format {
    kind: u16,
    channels: u16,
    rate: u32,
    bits: u16,
}

/// The same sound behind the shortest header.
pub(super) fn plain(bytes: &[u8], limits: &Limits) -> Result<Vec<u8>> {
    if bytes.get(8..FIRST) != Some(b"WAVE") {
        return Err(undecodable("it is a RIFF file without a sound"));
    }
    let mut at = FIRST;
    let mut format = None;
    while let Some((name, length)) = chunk(bytes, at) {
        let body = bytes.get(at + HEAD..).unwrap_or_default();
        match &name {
            b"fmt " => format = Some(Format::read(body.get(..length as usize).unwrap_or(body), limits)?),
            b"data" => {
                let format = format.ok_or_else(|| undecodable("the samples come before their format"))?;
                return format.with(samples(body, length, format.frame())?);
            }
            _ => {}
        }
        // Chunks begin at even places.
        let next = (length as usize).checked_next_multiple_of(2).and_then(|length| (at + HEAD).checked_add(length));
        at = next.ok_or_else(|| undecodable("a part is longer than any file"))?;
    }
    Err(undecodable("the file has no samples"))
}

/// The samples of a chunk that says it is `length` bytes long.
fn samples(body: &[u8], length: u32, frame: usize) -> Result<&[u8]> {
    if UNKNOWN.contains(&length) && !(length == 0 && parts(body)) {
        return Ok(&body[..body.len() / frame * frame]);
    }
    body.get(..length as usize).ok_or_else(|| {
        let [got, announced] = [body.len(), length as usize].map(|bytes| (bytes / frame) as u64);
        Error::Truncated { got, announced: announced.max(got + 1) }
    })
}

/// Whether the file ends with chunks and nothing else, which are no samples then: a file may hold no sound and still say
/// who made it.
fn parts(bytes: &[u8]) -> bool {
    let mut at = 0;
    while let Some((name, length)) = chunk(bytes, at) {
        let printed = name.iter().all(|byte| (b' '..=b'~').contains(byte));
        let next = (length as usize).checked_next_multiple_of(2).and_then(|length| (at + HEAD).checked_add(length));
        match next {
            Some(next) if printed => at = next,
            _ => return false,
        }
    }
    // The last one may lack the byte that makes its length even.
    at == bytes.len() || at == bytes.len() + 1
}

/// The name and the length of the chunk that begins at `at`.
fn chunk(bytes: &[u8], at: usize) -> Option<([u8; 4], u32)> {
    let head = bytes.get(at..at.checked_add(HEAD)?)?;
    let (name, length) = head.split_at(4);
    Some((name.try_into().ok()?, u32::from_le_bytes(length.try_into().ok()?)))
}

impl Format {
    fn read(body: &[u8], limits: &Limits) -> Result<Self> {
        let short = |at: usize| body.get(at..at + 2).map(|two| u16::from_le_bytes([two[0], two[1]]));
        let [Some(kind), Some(channels), Some(low), Some(high), Some(bits)] = [0, 2, 4, 6, FORMAT - 2].map(short)
        else {
            return Err(undecodable("the format is cut off"));
        };
        let kind = if kind == EXTENSIBLE { short(SUBFORMAT).unwrap_or(EXTENSIBLE) } else { kind };
        if channels == 0 {
            return Err(undecodable("there is no channel"));
        }
        check("channels", u64::from(channels), limits.channels)?;
        match (kind, bits) {
            (INTEGERS, 8 | 16 | 24 | 32) | (FLOATS, 32 | 64) => {
                Ok(Self { kind, channels, rate: u32::from(low) | u32::from(high) << 16, bits })
            }
            _ => Err(undecodable(format!("samples of kind {kind} and {bits} bits are not read"))),
        }
    }

    /// Bytes of one sample of each channel.
    fn frame(self) -> usize {
        usize::from(self.channels) * usize::from(self.bits / 8)
    }

    /// A WAV file of these samples.
    fn with(self, samples: &[u8]) -> Result<Vec<u8>> {
        let Self { kind, channels, rate, bits } = self;
        let too_many = || undecodable("more channels than a header can count");
        let frame = u16::try_from(self.frame()).map_err(|_| too_many())?;
        let length = u32::try_from(samples.len()).map_err(|_| undecodable("more samples than a header can count"))?;
        let mut file = Vec::with_capacity(FIRST + 2 * HEAD + FORMAT + samples.len());
        file.extend(b"RIFF");
        file.extend(length.saturating_add(36).to_le_bytes());
        file.extend(b"WAVEfmt ");
        file.extend((FORMAT as u32).to_le_bytes());
        for number in [kind, channels] {
            file.extend(number.to_le_bytes());
        }
        file.extend(rate.to_le_bytes());
        file.extend(rate.wrapping_mul(u32::from(frame)).to_le_bytes());
        for number in [frame, bits] {
            file.extend(number.to_le_bytes());
        }
        file.extend(b"data");
        file.extend(length.to_le_bytes());
        file.extend_from_slice(samples);
        Ok(file)
    }
}
