//! FLAC frames whose damage their checksums do not show.

use std::ops::Range;

/// Where the checksum over all samples stands, for which zeros mean that there is none.
const MD5: Range<usize> = 26..42;
/// What every frame of the file begins with.
const BEGIN: [u8; 2] = [0xff, 0xf8];
/// Bytes of a frame's longest header, which has a checksum of its own.
const HEAD: usize = 16;

/// Where the frames of a sound file lie.
pub(crate) fn frames(file: &[u8]) -> Vec<Range<usize>> {
    let mut at = 4;
    loop {
        let head = u32::from_be_bytes(file[at..at + 4].try_into().unwrap());
        at += 4 + (head & 0xff_ffff) as usize;
        if head >> 31 == 1 {
            break;
        }
    }
    let mut frames = Vec::new();
    while at < file.len() {
        let ends = |end: &usize| *end == file.len() || file[*end..].starts_with(&BEGIN);
        let right = |end: &usize| checksum(&file[at..end - 2]).to_be_bytes() == file[end - 2..*end];
        let end = (at + HEAD..=file.len()).find(|end| ends(end) && right(end)).unwrap();
        frames.push(at..end);
        at = end;
    }
    frames
}

/// Damages what a frame holds and says that nothing happened.
pub(crate) fn damage(file: &mut [u8], frame: &Range<usize>, rng: &mut fastrand::Rng) {
    let end = frame.end - 2;
    for _ in 0..rng.usize(1..5) {
        // How samples were predicted is said at the beginning.
        let first = frame.start + HEAD / 2;
        let last = if rng.bool() { end.min(first + 2 * HEAD) } else { end };
        let at = rng.usize(first..last);
        if rng.bool() {
            file[at] ^= 1 << rng.u8(..8);
        } else {
            let to = (at + rng.usize(..16)).min(end);
            file[at..to].fill(if rng.bool() { 0xff } else { 0 });
        }
    }
    let right = checksum(&file[frame.start..end]);
    file[end..frame.end].copy_from_slice(&right.to_be_bytes());
    if rng.bool() {
        file[MD5].fill(0);
    }
}

fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| crc << 1 ^ if crc >> 15 == 1 { 0x8005 } else { 0 })
    })
}
