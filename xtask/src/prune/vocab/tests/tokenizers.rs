//! Smaller vocabularies of tokenizers alone: what they do to any text, and ids in files.

use std::str::FromStr as _;

use autoglm::Answer;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::*;
use super::tiny_file;

/// The split pattern of GLM-4's tokenizer.
const GLM: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The tiny vocabulary, and all parts of its pieces, as a converter of tiktoken files writes it: every way to join a piece
/// is a rule, and these go by the piece they make. Rules are lines, as in older files, and words that are one piece are
/// taken whole.
fn converted_file() -> Value {
    let mut file = tiny_file();
    let mut vocab = file["model"]["vocab"].as_object().unwrap().clone();
    for piece in vocab.keys().cloned().collect::<Vec<_>>() {
        let ends: Vec<usize> = piece.char_indices().map(|(at, _)| at).chain([piece.len()]).collect();
        for (n, from) in ends.iter().enumerate() {
            for to in &ends[n + 1..] {
                let id = vocab.len();
                vocab.entry(&piece[*from..*to]).or_insert(json!(id));
            }
        }
    }
    for (token, id) in file["added_tokens"].as_array_mut().unwrap().iter_mut().zip(vocab.len()..) {
        token["id"] = json!(id);
    }
    file["model"]["vocab"] = json!(vocab);
    let mut by_id: Vec<(&String, u64)> = vocab.iter().map(|(piece, id)| (piece, id.as_u64().unwrap())).collect();
    by_id.sort_by_key(|(_, id)| *id);
    let mut rules = vec![json!("#version: 0.2")];
    for (piece, _) in by_id {
        let mut ways: Vec<(&str, &str)> = piece.char_indices().skip(1).map(|(at, _)| piece.split_at(at)).collect();
        ways.retain(|(left, right)| vocab.contains_key(*left) && vocab.contains_key(*right));
        ways.sort_by_key(|(left, right)| (vocab[*left].as_u64(), vocab[*right].as_u64()));
        rules.extend(ways.iter().map(|(left, right)| json!(format!("{left} {right}"))));
    }
    assert!(rules.len() > 2 * (vocab.len() - 256), "most pieces can be joined in several ways");
    file["model"]["merges"] = json!(rules);
    file["model"]["ignore_merges"] = json!(true);
    file["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": GLM}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
    ]});
    file
}

/// A tokenizer as Llama's: a space is `▁`, and letters without a piece are bytes.
pub(super) fn spelling_file() -> Value {
    let mut vocab = json!({"<unk>": 0, "<s>": 1});
    let mut next = 2;
    let mut list = |piece: String| {
        vocab[piece] = json!(next);
        next += 1;
    };
    (0..=255_u8).for_each(|byte| list(spelled(byte)));
    ["▁", "a", "b", "好", "中", "▁a", "ab", "▁ab", "中好", "x"].into_iter().for_each(|piece| list(piece.to_owned()));
    let token = |id: u32, content: &str| json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    json!({
        "added_tokens": [token(0, "<unk>"), token(1, "<s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]},
        "pre_tokenizer": null,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "model": {
            "type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
            "vocab": vocab, "merges": [["▁", "a"], ["a", "b"], ["▁a", "b"], ["中", "好"]],
        },
    })
}

fn spelled(byte: u8) -> String {
    format!("<{byte:#04X}>")
}

/// A tokenizer, and the smaller one that `corpus` needs.
struct Pair {
    before: Tokenizer,
    after: Tokenizer,
    reduced: Reduced,
}

impl Pair {
    fn of(file: &Value, corpus: &[String]) -> Self {
        let before = Tokenizer::from_json(file.to_string().as_bytes()).unwrap();
        let pieces = Pieces::of(file.clone());
        let mut wanted: BTreeSet<u32> = pieces.indispensable().unwrap().into_iter().collect();
        wanted.extend(corpus.iter().flat_map(|line| before.encode_text(line).unwrap()).map(|id| id.0));
        let reduced = Reduced::of(pieces, &wanted, before.max_id().0 as usize + 1).unwrap();
        let after = Tokenizer::from_json(reduced.tokenizer.to_string().as_bytes()).unwrap();
        Self { before, after, reduced }
    }

    /// What the smaller one makes of a text, in old ids.
    fn after(&self, text: &str) -> Vec<u32> {
        self.after.encode_text(text).unwrap().iter().map(|id| self.reduced.old[id.0 as usize]).collect()
    }

    fn before(&self, text: &str) -> Vec<u32> {
        self.before.encode_text(text).unwrap().iter().map(|id| id.0).collect()
    }

    /// The law: texts whose old pieces all stay have the same pieces, and every text is there again.
    fn hold(&self, text: &str) -> std::result::Result<bool, TestCaseError> {
        let before = self.before(text);
        let all_stay = before.iter().all(|id| self.reduced.new.contains_key(id));
        if all_stay {
            prop_assert_eq!(&self.after(text), &before, "{:?}", text);
        }
        prop_assert_eq!(self.after.decode(&self.after.encode_text(text).unwrap()).unwrap(), text);
        Ok(all_stay)
    }
}

/// Words that the tiny vocabulary has pieces of, numbers, spaces, and anything else.
fn words() -> impl Strategy<Value = String> {
    let known = "打开相机 tap the calendar icon 点击 open maps 浏览器 message  settings\n 12 345 , \"do(action=";
    let known: Vec<String> = known.split(' ').flat_map(|word| [word.to_owned(), format!(" {word}")]).collect();
    let one = prop_oneof![6 => select(known), 1 => any::<String>(), 1 => "[a-z ]{1,6}"];
    prop::collection::vec(one, 0..8).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_corpus_keeps_its_pieces_and_any_text_is_spelled(
        corpus in prop::collection::vec(words(), 1..6),
        others in prop::collection::vec(words(), 1..6),
    ) {
        for file in [tiny_file(), converted_file()] {
            let pair = Pair::of(&file, &corpus);
            let library = ::tokenizers::Tokenizer::from_str(&pair.reduced.tokenizer.to_string()).unwrap();
            for line in &corpus {
                prop_assert!(pair.hold(line)?, "{:?} is in the corpus", line);
                // Others look for markers in any text, and find all of them.
                let theirs = library.encode_fast(line.as_str(), false).unwrap();
                let ours = pair.after.encode_segments(&[Segment::Literal(line)]).unwrap();
                prop_assert_eq!(theirs.get_ids(), ours.iter().map(|id| id.0).collect::<Vec<_>>());
            }
            for text in &others {
                pair.hold(text)?;
            }
        }
    }

    #[test]
    fn letters_that_are_bytes_now_are_still_a_text(text in "[ab好中x ▁é😀]{0,12}", corpus in "[ab好 ]{0,8}") {
        // What is no space was one before, so such texts never were the same.
        let text = text.replace('▁', "");
        let pair = Pair::of(&spelling_file(), std::slice::from_ref(&corpus));
        prop_assert!(pair.hold(&corpus)?);
        pair.hold(&text)?;
    }
}

#[test]
fn a_piece_brings_all_that_it_is_joined_from_and_nothing_else() {
    let file = json!({"model": {
        "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "bc": 4, "abc": 5, "cc": 6, "bcc": 7, "lost": 8},
        "merges": [["b", "c"], ["a", "b"], ["a", "bc"], ["ab", "c"], ["c", "c"], ["bc", "c"], ["b", "cc"]],
    }});
    let pieces = Pieces::of(file);
    let derivation = |id| pieces.derivation(id).into_iter().collect::<BTreeSet<u32>>();
    // b and c are joined first, wherever they stand.
    assert_eq!(derivation(5), [0, 1, 2, 4, 5].into());
    assert_eq!(derivation(7), [1, 2, 4, 7].into());
    assert_eq!(derivation(8), [8].into(), "no rule makes it");
    let new: HashMap<u32, u32> = [0, 1, 2, 4, 5].into_iter().zip(0..).collect();
    let reduced = pieces.reduced(&new);
    assert_eq!(reduced["model"]["vocab"], json!({"a": 0, "b": 1, "c": 2, "bc": 3, "abc": 4}));
    assert_eq!(reduced["model"]["merges"], json!([["b", "c"], ["a", "bc"]]));
    assert_eq!(pieces::merges_text(&reduced), "#version: 0.2\nb c\na bc\n");
}

#[test]
fn numbers_of_three_digits_stay_and_longer_ones_go() {
    let vocab = json!({"7": 0, "Ġ42": 1, "999": 2, "1000": 3, "7a": 4, "Ġ": 5, "▁1": 6, "": 7});
    let pieces = Pieces::of(json!({"model": {"vocab": vocab}}));
    assert_eq!(pieces.numbers().collect::<BTreeSet<u32>>(), [0, 1, 2, 6].into());
}

#[test]
fn ids_are_renumbered_wherever_files_name_them() {
    let new: HashMap<u32, u32> = [(10, 1), (20, 2), (30, 3)].into();
    let mut file = json!({
        "eos_token_id": [10, 30], "pad_token_id": 20, "bos_token_id": null, "image_token_index": 10, "beyond_token_id": 99,
        "text_config": {"eos_token_id": 30, "hidden_size": 10},
        "suppress_tokens": [10, 20], "bad_words_ids": [[10], [20, 30]], "forced_decoder_ids": [[10, 20]],
        "sequence_bias": [[[10, 20], 10.0]], "vocab_size": 30,
        "cls": ["[CLS]", 10], "special_tokens": {"a": {"id": "a", "ids": [30]}},
    });
    let mut named = ids::named(&file);
    named.sort_unstable();
    assert_eq!(named, [10, 10, 10, 10, 10, 10, 20, 20, 20, 20, 20, 30, 30, 30, 30, 99]);
    ids::renumber(&mut file, &new);
    let expected = json!({
        "eos_token_id": [1, 3], "pad_token_id": 2, "bos_token_id": null, "image_token_index": 1, "beyond_token_id": 99,
        "text_config": {"eos_token_id": 3, "hidden_size": 10},
        "suppress_tokens": [1, 2], "bad_words_ids": [[1], [2, 3]], "forced_decoder_ids": [[10, 2]],
        "sequence_bias": [[[1, 2], 10.0]], "vocab_size": 30,
        "cls": ["[CLS]", 1], "special_tokens": {"a": {"id": "a", "ids": [3]}},
    });
    assert_eq!(file, expected);
}

#[test]
fn ids_that_readers_know_by_themselves_are_spelled_out() {
    let full = ids::spelled_out(json!({"text_config": {"eos_token_id": null}}), Family::GlmAsr, 59_264);
    assert_eq!(full["audio_token_id"], 59_260);
    assert_eq!(full["text_config"]["eos_token_id"], json!([59_246, 59_253, 59_255]));
    let named = json!({"pad_token_id": null, "eos_token_id": 3});
    assert_eq!(ids::spelled_out(named.clone(), Family::Glm4, 151_552), named, "what is named stays");
    assert_eq!(ids::spelled_out(json!({}), Family::Glm4v, 700), json!({}), "what is beyond the table stays away");
    assert_eq!(ids::spelled_out(json!({}), Family::Glm4v, 151_552)["image_token_id"], 151_343);
}

#[test]
fn every_call_of_the_protocol_is_one() {
    let actions: Vec<_> = PROTOCOL.iter().map(|call| Answer::parse(call).unwrap().action).collect();
    let kinds: std::collections::HashSet<_> = actions.iter().map(std::mem::discriminant).collect();
    // Two ways to tap and to type.
    assert_eq!(kinds.len(), PROTOCOL.len() - 2);
}
