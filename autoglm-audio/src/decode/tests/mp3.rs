//! MP3 files with tags, holes and more sound than they say.

use super::*;

/// Frames of the stored sound behind the one that tells its length.
const FRAMES: usize = 16;
/// Bytes of every frame of it.
const BYTES: usize = 288;
/// Where the number of frames stands in the first one.
const COUNT: std::ops::Range<usize> = 21..25;

/// The stored sound without the frame that tells its length.
fn untold() -> Vec<u8> {
    stored("tone.mp3")[BYTES..].to_vec()
}

/// A tag of so many bytes, in which MP3 frames, FLAC and WAV files seem to begin.
fn tag(version: u8, flags: u8, length: usize) -> Vec<u8> {
    let seven = |shift: usize| (length >> shift & 0x7f) as u8;
    let head = [b'I', b'D', b'3', version, 0, flags, seven(21), seven(14), seven(7), seven(0)];
    let seeming = b"\xff\xfb\x90\x64fLaCRIFF\x24\0\0\0WAVEfmt ";
    let footer = if flags & 0x10 != 0 { [b"3DI", &head[3..]].concat() } else { Vec::new() };
    [&head[..], &seeming.repeat(length / seeming.len() + 1)[..length], &footer].concat()
}

#[test]
fn tags_of_any_length_are_stepped_over() {
    let (file, want) = (stored("tone.mp3"), sound(&stored("tone.mp3")));
    for tags in
        [tag(3, 0, 0), tag(2, 0, 1_000), tag(4, 0x10, 77), tag(3, 0, 3 << 20), [tag(4, 0x10, 5), tag(3, 0, 9)].concat()]
    {
        assert_eq!(sound(&[&tags[..], &file].concat()), want, "{} bytes", tags.len());
    }
    assert_eq!(sound(&[tag(4, 0, 100), stored("tone.flac")].concat()), sound(&stored("tone.flac")));
    let cut = [&tag(3, 0, 3 << 20)[..2 << 20], b""].concat();
    assert!(reasons(&cut).contains("longer than the file"), "{}", reasons(&cut));
    let cut = &tag(3, 0, 0)[..9];
    assert!(reasons(cut).contains("cut off"), "{}", reasons(cut));
    let invalid = [b"ID3\x03\0\0\0\0\x80\0", &file[..]].concat();
    assert!(reasons(&invalid).contains("no valid length"), "{}", reasons(&invalid));
}

#[test]
fn tags_and_zeros_at_the_end_are_no_damage() {
    let id3v1 = [b"TAG".to_vec(), vec![b'x'; 125]].concat();
    // Items of 68 bytes, the footer, and with a header where the flag says so.
    let ape = |flags: u32| {
        let part =
            [b"APETAGEX".to_vec(), [2_000u32, 100, 1, flags].map(u32::to_le_bytes).concat(), vec![0; 8]].concat();
        let header = if flags >> 31 == 1 { part.clone() } else { Vec::new() };
        [header, vec![0xff; 68], part].concat()
    };
    for file in [stored("tone.mp3"), untold(), stored("tone.flac")] {
        let want = sound(&file);
        for end in [id3v1.clone(), ape(0), ape(1 << 31), [ape(1 << 31), id3v1.clone()].concat()] {
            assert_eq!(sound(&[&file[..], &end].concat()), want);
        }
    }
    let filled = [stored("tone.mp3"), vec![0; 300]].concat();
    assert_eq!(sound(&filled), sound(&stored("tone.mp3")));
    // A footer that claims more than there is takes nothing away.
    let mut liar = [stored("tone.mp3"), ape(0)].concat();
    let at = liar.len() - 20;
    liar[at..at + 4].fill(0xff);
    assert!(matches!(refusal(&liar), Error::Damaged { .. }), "{}", reasons(&liar));
}

#[test]
fn one_that_does_not_tell_its_length_is_read_to_its_end() {
    let once = sound(&untold()).samples().len();
    assert_eq!(once, FRAMES * 576);
    assert_eq!(sound(&untold().repeat(3)).samples().len(), 3 * once);
    // Within a frame there is no end.
    let cut = &untold()[..untold().len() - 1];
    assert!(matches!(refusal(cut), Error::Truncated { got: 8_640, announced: 9_216 }), "{}", reasons(cut));
}

#[test]
fn sound_behind_the_stated_end_is_not_dropped_without_a_word() {
    let file = stored("tone.mp3");
    let refused = refusal(&file.repeat(3));
    assert!(matches!(refused, Error::GoesOn { announced: 8_000 }), "{refused}");
    let counting = |frames: usize| {
        let mut file = file.clone();
        file[COUNT].copy_from_slice(&(frames as u32).to_be_bytes());
        file
    };
    assert_eq!(sound(&counting(FRAMES)), sound(&file));
    for frames in [0, 1, 3, FRAMES - 1] {
        assert!(matches!(refusal(&counting(frames)), Error::GoesOn { .. }), "{frames}");
    }
    assert!(matches!(refusal(&counting(FRAMES + 1)), Error::Truncated { .. }));
}

#[test]
fn a_hole_is_damage() {
    let whole = untold().repeat(3);
    let third = whole.len() / 3;
    // From the second byte of a frame.
    let holed = |with: u8, bytes: usize| {
        let mut file = whole.clone();
        file[third + 1..][..bytes].fill(with);
        file
    };
    for bytes in [1, 4, 500, third] {
        assert!(matches!(refusal(&holed(0, bytes)), Error::Damaged { .. }), "{bytes}");
        assert!(matches!(refusal(&holed(0xff, bytes)), Error::Damaged { .. }), "{bytes}");
    }
    let mut dropped = whole.clone();
    dropped.drain(third + 100..third + 150);
    assert!(matches!(refusal(&dropped), Error::Damaged { .. }), "{}", reasons(&dropped));
}
