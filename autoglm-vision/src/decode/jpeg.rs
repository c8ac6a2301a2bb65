//! Whether a JPEG file reaches its end marker.
//!
//! The decoder fills what is missing with grey, and a half-grey screenshot is worse than none. Pillow
//! refuses such files as well.

use crate::{Error, Result};

/// The end of a picture.
const END: u8 = 0xd9;

/// Walks the segments of a JPEG file up to its end marker. A marker is 0xff and a byte that is
/// neither 0 (a stuffed 0xff of the data) nor 0xff (padding); most markers carry a length.
///
/// # Errors
/// [`Error::Truncated`] when the file ends before.
pub(super) fn check_whole(bytes: &[u8]) -> Result<()> {
    let truncated = || Error::Truncated { format: "JPEG" };
    let mut at = 2;
    loop {
        // Between segments there are only markers; after a scan header, data up to the next one.
        let marker = loop {
            match bytes.get(at..).ok_or_else(truncated)? {
                [0xff, 0xff, ..] => at += 1,
                [0xff, 0, ..] => at += 2,
                [0xff, marker, ..] => {
                    at += 2;
                    break *marker;
                }
                [_, _, ..] => at += 1,
                _ => return Err(truncated()),
            }
        };
        match marker {
            END => return Ok(()),
            // Restart markers and the like stand alone.
            0x01 | 0xd0..=0xd8 => {}
            _ => {
                let length = bytes.get(at..at + 2).ok_or_else(truncated)?;
                at += usize::from(u16::from_be_bytes([length[0], length[1]]));
            }
        }
    }
}
