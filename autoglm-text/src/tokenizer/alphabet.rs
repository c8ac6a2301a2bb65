//! The byte alphabet of GPT-2: every byte as one visible character, so that a vocabulary of strings
//! can hold any bytes.
//!
//! A byte that prints in Latin-1 stands for itself; the other 68 take the characters from U+0100 on,
//! in ascending order. This is `bytes_to_unicode` of GPT-2's `encoder.py`.

/// First character lent to a byte that does not print.
const LENT: u32 = 256;

/// Characters lent.
const LENT_COUNT: usize = 68;

/// The byte that each lent character stands for.
const LENT_BYTES: [u8; LENT_COUNT] = {
    let mut bytes = [0; LENT_COUNT];
    let (mut byte, mut n) = (0_usize, 0);
    while byte < 256 {
        if !prints(byte as u8) {
            bytes[n] = byte as u8;
            n += 1;
        }
        byte += 1;
    }
    assert!(n == LENT_COUNT);
    bytes
};

const fn prints(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// The byte a character of the alphabet stands for; none for a character outside of it.
pub(super) fn byte_of(c: char) -> Option<u8> {
    let code = u32::from(c);
    match u8::try_from(code) {
        Ok(byte) => prints(byte).then_some(byte),
        Err(_) => LENT_BYTES.get((code - LENT) as usize).copied(),
    }
}

/// All 256 characters, in no particular order.
pub(super) fn characters() -> impl Iterator<Item = char> {
    let lent = (LENT..).take(LENT_COUNT);
    (0..=255_u8).filter(|byte| prints(*byte)).map(u32::from).chain(lent).filter_map(char::from_u32)
}

/// The bytes a piece stands for: mapped through the alphabet, or as they are when any character
/// lies outside of it, as added tokens may.
pub(super) fn bytes_of(piece: &str) -> Vec<u8> {
    piece.chars().map(byte_of).collect::<Option<_>>().unwrap_or_else(|| piece.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_byte_has_one_character_and_back() {
        let bytes: HashSet<u8> = characters().map(|c| byte_of(c).unwrap()).collect();
        assert_eq!((characters().count(), bytes.len()), (256, 256));
    }

    #[test]
    fn the_alphabet_is_that_of_the_tokenizers_library() {
        let theirs = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        assert!(characters().all(|c| theirs.contains(&c)));
        // Landmarks of every byte-level vocabulary: the space and the line break.
        assert_eq!((byte_of('Ġ'), byte_of('Ċ')), (Some(b' '), Some(b'\n')));
    }

    #[test]
    fn a_piece_outside_the_alphabet_keeps_its_own_bytes() {
        assert_eq!(bytes_of("Ġä½ł"), " 你".as_bytes());
        assert_eq!(bytes_of("你"), "你".as_bytes());
        assert_eq!(byte_of('\u{144}'), None);
    }
}
