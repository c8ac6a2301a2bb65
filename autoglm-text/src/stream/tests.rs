//! Pieces against whole texts.

use proptest::prelude::*;

use super::*;
use crate::tokenizer::tests::{golden, llama, tiny};

fn pieces(tokenizer: &Tokenizer, ids: &[TokenId]) -> Vec<String> {
    let mut stream = TextStream::new(tokenizer);
    let mut pieces: Vec<_> = ids.iter().filter_map(|id| stream.push(*id).unwrap()).collect();
    pieces.extend(stream.finish().unwrap());
    assert!(pieces.iter().all(|piece| !piece.is_empty()));
    pieces
}

#[test]
fn pieces_make_up_the_text_of_transformers() {
    let tokenizer = tiny();
    for (text, ids) in golden("decoded") {
        assert_eq!(pieces(&tokenizer, &ids).concat(), text, "{ids:?}");
    }
}

#[test]
fn a_character_waits_for_its_last_byte() {
    let tokenizer = tiny();
    let ids = tokenizer.encode_text("a😀b").unwrap();
    assert!(ids.len() > 3, "the emoji takes several tokens");
    assert_eq!(pieces(&tokenizer, &ids), ["a", "😀", "b"]);
    // A marker ends a character that broke off.
    let think = tokenizer.token_id("<think>").unwrap();
    assert_eq!(pieces(&tokenizer, &[ids[1], think]), ["\u{fffd}<think>"]);
    assert_eq!(pieces(&tokenizer, &ids[..2]), ["a", "\u{fffd}"]);
}

#[test]
fn a_space_is_dropped_from_the_start_only() {
    let tokenizer = llama();
    let ids = tokenizer.encode_text("a a").unwrap();
    assert_eq!(pieces(&tokenizer, &ids), ["a", " a"]);
}

#[test]
fn pieces_make_up_the_text() {
    let tokenizers = [tiny(), llama()];
    proptest!(|(ids in prop::collection::vec(0..670_u32, 0..24))| {
        let ids: Vec<_> = ids.into_iter().map(TokenId).collect();
        for tokenizer in &tokenizers {
            prop_assert_eq!(pieces(tokenizer, &ids).concat(), tokenizer.decode(&ids).unwrap());
        }
    });
}

#[test]
fn runs_of_byte_tokens_make_up_the_text() {
    let tokenizer = llama();
    // Any byte, the bytes of 好 in and out of order, and ordinary pieces.
    let byte = |byte: u32| Just(byte + 3);
    let id = prop_oneof![3..259_u32, byte(0xE5), byte(0xA5), byte(0xBD), 259..268_u32];
    proptest!(|(ids in prop::collection::vec(id, 0..12))| {
        let ids: Vec<_> = ids.into_iter().map(TokenId).collect();
        prop_assert_eq!(pieces(&tokenizer, &ids).concat(), tokenizer.decode(&ids).unwrap());
    });
}
