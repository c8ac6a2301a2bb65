//! What players show beside a sound, before and behind it.
//!
//! A tag is stepped over by the length that it states. Looking for the sound behind it instead would find one in the
//! pictures that tags hold, and the search of symphonia's prober ends after a megabyte, which covers exceed.

use crate::Result;
use crate::error::undecodable;

/// Bytes of an ID3v2 tag before what its length counts, and of the footer that may follow that.
const HEAD: usize = 10;
/// Bytes of an ID3v1 tag, the last of a file.
const ID3V1: usize = 128;
/// Bytes of an APE tag's footer, and of the header that it may have.
const APE: usize = 32;

/// The file between the tags at its beginning and those at its end.
pub(super) fn between(bytes: &[u8]) -> Result<&[u8]> {
    let mut rest = bytes;
    while rest.starts_with(b"ID3") {
        rest =
            rest.get(id3v2(rest)?..).ok_or_else(|| undecodable("the tag at its beginning is longer than the file"))?;
    }
    while let Some(less) = id3v1(rest).or_else(|| ape(rest)) {
        rest = less;
    }
    Ok(rest)
}

/// Bytes of the ID3v2 tag that `bytes` begin with.
fn id3v2(bytes: &[u8]) -> Result<usize> {
    let cut = || undecodable("the tag at its beginning is cut off");
    let head: [u8; HEAD] = bytes.get(..HEAD).ok_or_else(cut)?.try_into().map_err(|_| cut())?;
    let [_, _, _, version, _, flags, length @ ..] = head;
    if length.iter().any(|byte| *byte > 0x7f) {
        return Err(undecodable("the tag at its beginning has no valid length"));
    }
    // Seven bits of each byte count, so that no length looks like the beginning of an MPEG frame.
    let length = length.iter().fold(0, |length, byte| length << 7 | usize::from(*byte));
    let footer = if version >= 4 && flags & 0x10 != 0 { HEAD } else { 0 };
    Ok(HEAD + length + footer)
}

/// What is before an ID3v1 tag.
fn id3v1(bytes: &[u8]) -> Option<&[u8]> {
    let (rest, tag) = bytes.split_at_checked(bytes.len().checked_sub(ID3V1)?)?;
    tag.starts_with(b"TAG").then_some(rest)
}

/// What is before an APE tag.
fn ape(bytes: &[u8]) -> Option<&[u8]> {
    let footer = bytes.get(bytes.len().checked_sub(APE)?..)?;
    if !footer.starts_with(b"APETAGEX") {
        return None;
    }
    let number = |at: usize| Some(u32::from_le_bytes(footer.get(at..at + 4)?.try_into().ok()?));
    // The length counts the footer and not the header.
    let (length, flags) = (number(12)? as usize, number(20)?);
    let header = if flags >> 31 == 1 { APE } else { 0 };
    bytes.get(..bytes.len().checked_sub(length.max(APE))?.checked_sub(header)?)
}
