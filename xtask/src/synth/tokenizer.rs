//! A tokenizer with GLM's special tokens at their real ids and no learned merges.
//!
//! Text is spelled byte by byte with ids 0…255, which are also the bytes' ids in the real
//! vocabulary. The ids in between stand for made-up words: encoding never yields one, but random
//! weights choose nearly nothing else, and a reply that prints is easier to watch than silence.

use serde_json::{Map, Value, json};

/// GLM-4's pattern for cutting text before merges.
const SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

pub(crate) const EOS: &str = "<|endoftext|>";

/// End of text, and the markers of the turns that a reply must not write itself.
pub(crate) const EOS_IDS: [u32; 4] = [151_329, 151_336, 151_338, 151_348];

const FIRST_SPECIAL: u32 = 151_329;

/// The added tokens, in the order of their ids from [`FIRST_SPECIAL`] on.
const SPECIAL: [&str; 20] = [
    EOS,
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
    "<|image|>",
    "<|video|>",
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
];

/// The id of an added token.
pub(crate) fn id_of(special: &str) -> u32 {
    let idx = SPECIAL.iter().position(|one| *one == special).expect("only tokens of the list are asked for");
    FIRST_SPECIAL + idx as u32
}

/// `tokenizer.json`.
pub(crate) fn json() -> String {
    let mut vocab = Map::new();
    for (id, byte) in byte_order().enumerate() {
        vocab.insert(letter_of(byte).to_string(), json!(id));
    }
    for id in 256..FIRST_SPECIAL {
        vocab.insert(made_up_word(id), json!(id));
    }
    // Added tokens get the next free id unless the vocabulary has them already.
    vocab.extend(SPECIAL.map(|token| (token.to_owned(), json!(id_of(token)))));

    let added: Vec<Value> = SPECIAL
        .iter()
        .map(|token| {
            json!({
                "id": id_of(token),
                "content": token,
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": false,
                // Thoughts and answers are part of a reply's text.
                "special": !["<think>", "</think>", "<answer>", "</answer>"].contains(token),
            })
        })
        .collect();
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                { "type": "Split", "pattern": { "Regex": SPLIT }, "behavior": "Isolated", "invert": false },
                byte_level,
            ],
        },
        "post_processor": null,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocab,
            "merges": [],
        },
    });
    tokenizer.to_string()
}

/// The bytes that are printable characters of Latin-1 first, as byte-level vocabularies number them.
fn byte_order() -> impl Iterator<Item = u8> {
    (0..=255).filter(|byte| is_printable(*byte)).chain((0..=255).filter(|byte| !is_printable(*byte)))
}

/// Whether a byte stands for itself in a byte-level vocabulary. The others, blanks and controls
/// among them, borrow the letters from U+0100 on.
fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

fn letter_of(byte: u8) -> char {
    if is_printable(byte) {
        return char::from(byte);
    }
    let borrowed = (0..byte).filter(|before| !is_printable(*before)).count() as u32;
    char::from_u32(0x100 + borrowed).expect("68 letters from U+0100 on exist")
}

/// A blank and three syllables that spell `id`: no two ids share a word.
fn made_up_word(id: u32) -> String {
    const CONSONANTS: &[u8; 20] = b"bcdfghjklmnpqrstvwxz";
    const VOWELS: &[u8; 5] = b"aeiou";
    let mut word = String::from(letter_of(b' '));
    for place in [10_000, 100, 1] {
        let syllable = (id / place % 100) as usize;
        word.push(char::from(CONSONANTS[syllable / 5]));
        word.push(char::from(VOWELS[syllable % 5]));
    }
    word
}

#[cfg(test)]
mod tests {
    use tokenizers::Tokenizer;

    use super::*;

    fn loaded() -> Tokenizer {
        json().parse().unwrap()
    }

    fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
        tokenizer.encode(text, false).unwrap().get_ids().to_vec()
    }

    #[test]
    fn special_tokens_have_their_real_ids() {
        let tokenizer = loaded();
        for (token, id) in [
            ("<|endoftext|>", 151_329),
            ("[gMASK]", 151_331),
            ("<sop>", 151_333),
            ("<|user|>", 151_336),
            ("<|assistant|>", 151_337),
            ("<|observation|>", 151_338),
            ("<|begin_of_image|>", 151_339),
            ("<|image|>", 151_343),
            ("<|video|>", 151_344),
            ("<think>", 151_345),
            ("</answer>", 151_348),
        ] {
            assert_eq!((tokenizer.token_to_id(token), ids(&tokenizer, token)), (Some(id), vec![id]), "{token}");
            assert_eq!(tokenizer.id_to_token(id).as_deref(), Some(token));
        }
        assert_eq!(
            EOS_IDS.map(|id| SPECIAL[(id - FIRST_SPECIAL) as usize]),
            [EOS, "<|user|>", "<|observation|>", "</answer>"]
        );
    }

    #[test]
    fn text_is_its_bytes_and_a_new_line_is_198_as_in_the_real_vocabulary() {
        let tokenizer = loaded();
        assert_eq!(ids(&tokenizer, "<|user|>\n!"), [151_336, 198, 0]);
        let text = "打开相机, please: it's 12345\n\n  ✓ 😀";
        let encoded = ids(&tokenizer, text);
        assert_eq!(encoded.len(), text.len());
        assert!(encoded.iter().all(|id| *id < 256));
        assert_eq!(tokenizer.decode(&encoded, true).unwrap(), text);
    }

    #[test]
    fn every_id_below_the_last_special_token_prints() {
        let tokenizer = loaded();
        assert_eq!(tokenizer.get_vocab_size(true), 151_349);
        assert!((0..151_349).all(|id| tokenizer.id_to_token(id).is_some()));
        let words = tokenizer.decode(&[256, 151_328], true).unwrap();
        assert!(words.split(' ').skip(1).all(|word| word.len() == 6), "{words}");
    }

    #[test]
    fn thoughts_and_answers_survive_where_special_tokens_are_skipped() {
        let tokenizer = loaded();
        assert_eq!(tokenizer.decode(&[151_345, 0, 151_348, 151_336], true).unwrap(), "<think>!</answer>");
    }
}
