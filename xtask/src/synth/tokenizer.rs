//! Tokenizers with the special tokens of GLM-4.1V and GLM-ASR at their real ids and no learned merges.
//!
//! Text is spelled byte by byte with ids 0…255, which are also the bytes' ids in the real
//! vocabulary. The ids in between stand for made-up words: encoding never yields one, but random
//! weights choose nearly nothing else, and a reply that prints is easier to watch than silence.

use serde_json::{Map, Value, json};

/// GLM-4's pattern for cutting text before merges.
pub(crate) const SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

pub(crate) const EOS: &str = "<|endoftext|>";

/// End of text, and the markers of the turns that a reply must not write itself.
pub(crate) const EOS_IDS: [u32; 4] = [151_329, 151_336, 151_338, 151_348];

/// The same of GLM-ASR.
pub(crate) const ASR_EOS_IDS: [u32; 3] = [59_246, 59_253, 59_255];

/// The added tokens of a vocabulary.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Special {
    /// Id of the first one; below it are bytes and made-up words.
    first: u32,
    /// Their texts, in the order of their ids.
    texts: &'static [&'static str],
}

/// Those of GLM-4.1V.
pub(crate) const GLM_4_1V: Special = Special {
    first: 151_329,
    texts: &[
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
    ],
};

/// Those of GLM-ASR, as far as its configuration tells them: the ends of a text and of turns, and the
/// placeholder of a sound. Where the markers around a sound stand is not known; these ids are free.
pub(crate) const GLM_ASR: Special = Special {
    first: 59_246,
    texts: &[
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
        "<|unused_0|>",
        "<|unused_1|>",
        "<|unused_2|>",
        "<|unused_3|>",
        "<|pad|>",
        "<|begin_of_audio|>",
        "<|end_of_audio|>",
    ],
};

impl Special {
    /// The id of an added token.
    pub(crate) fn id_of(self, text: &str) -> u32 {
        let idx = self.texts.iter().position(|one| *one == text).expect("only tokens of the list are asked for");
        self.first + idx as u32
    }
}

/// `tokenizer.json`.
pub(crate) fn json(special: Special) -> String {
    let mut vocab = Map::new();
    for (id, byte) in byte_order().enumerate() {
        vocab.insert(letter_of(byte).to_string(), json!(id));
    }
    for id in 256..special.first {
        vocab.insert(made_up_word(id), json!(id));
    }
    // Added tokens get the next free id unless the vocabulary has them already.
    vocab.extend(special.texts.iter().map(|token| ((*token).to_owned(), json!(special.id_of(token)))));

    let added: Vec<Value> = special
        .texts
        .iter()
        .map(|token| {
            json!({
                "id": special.id_of(token),
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

/// How a byte-level vocabulary writes a byte.
pub(crate) fn letter_of(byte: u8) -> char {
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
        json(GLM_4_1V).parse().unwrap()
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
            EOS_IDS.map(|id| GLM_4_1V.texts[(id - GLM_4_1V.first) as usize]),
            [EOS, "<|user|>", "<|observation|>", "</answer>"]
        );
    }

    #[test]
    fn glm_asr_ends_where_its_configuration_says() {
        let tokenizer: Tokenizer = json(GLM_ASR).parse().unwrap();
        let ends = ASR_EOS_IDS.map(|id| tokenizer.id_to_token(id).unwrap());
        assert_eq!(ends, [EOS, "<|user|>", "<|observation|>"]);
        assert_eq!(tokenizer.token_to_id("<|pad|>"), Some(59_260));
        assert!(tokenizer.get_vocab_size(true) <= 59_264);
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
