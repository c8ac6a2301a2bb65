//! A FLAC file reduced to its sound before the decoder sees it.
//!
//! Pictures, comments and tables for seeking are left out: nothing in them is needed, and each would be one more thing
//! to lie with. What stays is the block that says how samples are stored, and the frames.

use crate::Result;
use crate::error::undecodable;

/// Bytes of what a file begins with.
const MARK: usize = 4;
/// Bytes of a block's kind and length.
const HEAD: usize = 4;
/// Bytes of the block that says how samples are stored.
const INFO: usize = 34;
/// Set in the kind of the last block before the frames.
const LAST: u8 = 0x80;
/// The most bits of a sample. With 32 the difference of two channels has 33, which the decoder computes in 32.
const MOST_BITS: u8 = 24;

/// A file of the same frames.
pub(super) struct Plain {
    pub(super) bytes: Vec<u8>,
    /// How many of them are frames.
    pub(super) frames: usize,
}

pub(super) fn plain(bytes: &[u8]) -> Result<Plain> {
    let cut = || undecodable("it is cut off before its first frame");
    let info = bytes.get(MARK + HEAD..MARK + HEAD + INFO).ok_or_else(cut)?;
    if bytes.get(MARK..MARK + HEAD).is_none_or(|head| head[0] & !LAST != 0 || head[1..] != [0, 0, INFO as u8]) {
        return Err(undecodable("it does not begin with how its samples are stored"));
    }
    // Five bits, one less than there are.
    let bits = ((info[12] & 1) << 4 | info[13] >> 4) + 1;
    if bits > MOST_BITS {
        return Err(undecodable(format!("its samples have {bits} bits, at most {MOST_BITS} are read of a FLAC file")));
    }
    let mut at = MARK;
    let frames = loop {
        let head = bytes.get(at..at + HEAD).ok_or_else(cut)?;
        at += HEAD + u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
        if head[0] & LAST != 0 {
            break bytes.get(at..).ok_or_else(cut)?;
        }
    };
    let mut plain = Vec::with_capacity(MARK + HEAD + INFO + frames.len());
    plain.extend(b"fLaC");
    plain.extend([LAST, 0, 0, INFO as u8]);
    plain.extend_from_slice(info);
    plain.extend_from_slice(frames);
    Ok(Plain { bytes: plain, frames: frames.len() })
}
