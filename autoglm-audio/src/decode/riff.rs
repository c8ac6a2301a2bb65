//! A look at the header of a WAV file before it is decoded.
//!
//! The decoder multiplies what the header says as 16-bit numbers, and loses the end of a sound whose length the
//! header leaves open. Both are settled here.

use super::Limits;
use crate::error::undecodable;
use crate::{Error, Result};

/// Where the first chunk of a RIFF file begins.
const FIRST: usize = 12;
/// Bytes of a chunk's name and length.
const HEAD: usize = 8;
/// Bytes of the least that says how samples are stored.
const FORMAT: usize = 16;
/// What a recorder writes that cannot go back to its header.
const UNKNOWN: u32 = u32::MAX;

/// Refuses a header that cannot be computed with, and writes the real length of the data over an open one.
pub(super) fn check(bytes: &mut [u8], limits: &Limits) -> Result<()> {
    let mut at = FIRST;
    let mut format = None;
    while let Some((name, length)) = chunk(bytes, at) {
        let body = at + HEAD;
        match &name {
            b"fmt " => format = Some(frame(bytes.get(body..).unwrap_or_default(), limits)?),
            b"data" => {
                let frame = format.ok_or_else(|| undecodable("the samples come before their format"))?;
                let there = bytes.len() - body;
                if length == UNKNOWN {
                    let whole = u32::try_from(there / frame * frame).unwrap_or(UNKNOWN - 1);
                    bytes[at + 4..body].copy_from_slice(&whole.to_le_bytes());
                    // The length of the whole is of no use to anyone, but must not be less than that of a part.
                    bytes[4..8].copy_from_slice(&UNKNOWN.to_le_bytes());
                } else if (length as usize) > there {
                    let [got, announced] = [there, length as usize].map(|bytes| (bytes / frame) as u64);
                    return Err(Error::Truncated { got, announced: announced.max(got + 1) });
                }
                return Ok(());
            }
            _ => {}
        }
        // Chunks begin at even places.
        let next = (length as usize).checked_next_multiple_of(2).and_then(|length| body.checked_add(length));
        at = next.ok_or_else(|| undecodable("a part is longer than any file"))?;
    }
    Err(undecodable("the file has no samples"))
}

/// The name and the length of the chunk that begins at `at`.
fn chunk(bytes: &[u8], at: usize) -> Option<([u8; 4], u32)> {
    let head = bytes.get(at..at.checked_add(HEAD)?)?;
    let (name, length) = head.split_at(4);
    Some((name.try_into().ok()?, u32::from_le_bytes(length.try_into().ok()?)))
}

/// Bytes of one sample of each channel.
fn frame(body: &[u8], limits: &Limits) -> Result<usize> {
    let format = body.get(..FORMAT).ok_or_else(|| undecodable("the format is cut off"))?;
    let number = |at: usize| u16::from_le_bytes([format[at], format[at + 1]]);
    let (channels, bits) = (number(2), number(14));
    if channels == 0 {
        return Err(undecodable("there is no channel"));
    }
    super::check("channels", u64::from(channels), limits.channels)?;
    match bits {
        8 | 16 | 24 | 32 | 64 => Ok(usize::from(channels) * usize::from(bits / 8)),
        // Compressed kinds have 4 bits and less; none of them is read.
        _ => Err(undecodable(format!("samples of {bits} bits are not read"))),
    }
}
