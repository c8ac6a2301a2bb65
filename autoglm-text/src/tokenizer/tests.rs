//! Encoding and decoding against transformers, against the tokenizers library, and against files and
//! texts made to hurt.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// The split pattern of GLM-4's tokenizer.
const GLM: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

fn tiny_json() -> Vec<u8> {
    let path = autoglm_testing::repository().join("models/autoglm-tiny/tokenizer.json");
    std::fs::read(path).unwrap()
}

fn tiny_value() -> Value {
    serde_json::from_slice(&tiny_json()).unwrap()
}

pub(crate) fn tiny() -> Tokenizer {
    Tokenizer::from_json(&tiny_json()).unwrap()
}

/// The tiny vocabulary with the real model's way of splitting words.
fn glm_value() -> Value {
    let mut file = tiny_value();
    file["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": GLM}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
    ]});
    file
}

/// A small tokenizer built as Llama's: spaces as `▁`, unknown characters as bytes.
fn llama_value() -> Value {
    let mut vocab = json!({"<unk>": 0, "<s>": 1, "</s>": 2});
    let entries = vocab.as_object_mut().unwrap();
    for byte in 0..=255_u8 {
        entries.insert(format!("<{byte:#04X}>"), json!(u32::from(byte) + 3));
    }
    for (n, piece) in ["▁", "a", "b", "▁a", "ab", "好", "▁▁", "\u{fffd}"].into_iter().enumerate() {
        entries.insert(piece.into(), json!(259 + n));
    }
    let token = |id: u32, content: &str| json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    json!({
        "version": "1.0",
        "added_tokens": [token(0, "<unk>"), token(1, "<s>"), token(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]},
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
            "vocab": vocab, "merges": [["▁", "a"], ["a", "b"], ["▁", "▁"]],
        },
    })
}

pub(crate) fn llama() -> Tokenizer {
    build(&llama_value()).unwrap()
}

fn build(file: &Value) -> Result<Tokenizer> {
    Tokenizer::from_json(&serde_json::to_vec(file).unwrap())
}

/// The tokenizers library on the same file.
fn library(file: &Value) -> tokenizers::Tokenizer {
    serde_json::from_value(file.clone()).unwrap()
}

fn raw(ids: &[TokenId]) -> Vec<u32> {
    ids.iter().map(|id| id.0).collect()
}

/// A group of `goldens/components/chat.json`: text and ids of each of its rows.
pub(crate) fn golden(group: &str) -> Vec<(String, Vec<TokenId>)> {
    let path = autoglm_testing::repository().join("goldens/components/chat.json");
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let rows = file[group].as_array().unwrap().iter();
    let rows: Vec<_> = rows
        .map(|row| {
            let ids = row["ids"].as_array().unwrap().iter().map(|id| TokenId(id.as_u64().unwrap() as u32)).collect();
            (row["text"].as_str().unwrap().to_owned(), ids)
        })
        .collect();
    assert!(!rows.is_empty());
    rows
}

#[test]
fn plain_text_has_the_ids_of_transformers() {
    let tokenizer = tiny();
    for (text, ids) in golden("encoded").into_iter().chain(golden("forged")) {
        assert_eq!(tokenizer.encode_text(&text).unwrap(), ids, "{text:?}");
    }
}

#[test]
fn ids_have_the_text_of_transformers() {
    let tokenizer = tiny();
    for (text, ids) in golden("decoded") {
        assert_eq!(tokenizer.decode(&ids).unwrap(), text, "{ids:?}");
    }
}

#[test]
fn an_id_without_a_token_has_no_text() {
    // Rows 660 to 703 of the tiny checkpoint's table belong to no token.
    let tokenizer = tiny();
    assert_eq!(tokenizer.max_id(), TokenId(659));
    assert_eq!(tokenizer.decode(&[TokenId(64), TokenId(700), TokenId(u32::MAX)]).unwrap(), "a");
}

#[test]
fn no_marker_comes_out_of_words() {
    for file in [tiny_value(), glm_value()] {
        let tokenizer = build(&file).unwrap();
        let forged: String = tokenizer.markers().map(|(content, _)| content).collect();
        for text in tokenizer.markers().map(|(content, _)| content).chain([forged.as_str()]) {
            let ids = tokenizer.encode_segments(&[Segment::Text(text)]).unwrap();
            assert!(tokenizer.markers().all(|(_, id)| !ids.contains(&id)), "{text}");
            assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        }
    }
}

#[test]
fn a_marker_half_in_words_is_words() {
    let tokenizer = tiny();
    let user = tokenizer.token_id("<|user|>").unwrap();
    for cut in 1..7 {
        let (left, right) = "<|user|>".split_at(cut);
        for halves in [[Segment::Literal(left), Segment::Text(right)], [Segment::Text(left), Segment::Literal(right)]] {
            assert!(!tokenizer.encode_segments(&halves).unwrap().contains(&user), "{halves:?}");
        }
        // Both halves by the template, with nothing between them.
        let whole = [Segment::Literal(left), Segment::Text(""), Segment::Literal(right)];
        assert_eq!(tokenizer.encode_segments(&whole).unwrap(), [user]);
    }
}

#[test]
fn a_marker_listed_as_a_word_is_still_no_word() {
    // `ignore_merges` takes a whole word as one entry if there is one.
    let mut file = glm_value();
    file["model"]["ignore_merges"] = json!(true);
    file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!(r"<[|/a-z]+>|\s+|.");
    for token in file["added_tokens"].as_array().unwrap().clone() {
        file["model"]["vocab"][token["content"].as_str().unwrap()] = token["id"].clone();
    }
    let user = 644;
    assert_eq!(library(&file).encode("<|user|>", false).unwrap().get_ids(), [user]);
    let tokenizer = build(&file).unwrap();
    assert!(!raw(&tokenizer.encode_text("<|user|>").unwrap()).contains(&user));
    assert_eq!(raw(&tokenizer.encode_segments(&[Segment::Literal("<|user|>")]).unwrap()), [user]);
    assert_eq!(tokenizer.decode(&[TokenId(user)]).unwrap(), "<|user|>");

    // A special token that merges form could be typed in any case.
    let merged = file["model"]["merges"][0].clone();
    let joined = format!("{}{}", merged[0].as_str().unwrap(), merged[1].as_str().unwrap());
    let id = file["model"]["vocab"][&joined].clone();
    let token = json!({"id": id, "content": joined, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    file["added_tokens"].as_array_mut().unwrap().push(token);
    assert!(matches!(build(&file), Err(Error::AddedToken { content, .. }) if content == joined));
}

#[test]
fn literal_text_is_cut_as_the_library_cuts_it() {
    let mut file = tiny_value();
    let tokens = file["added_tokens"].as_array_mut().unwrap();
    // One marker is the beginning of another, one takes white space along on each side, and one is
    // looked for after the rest.
    for (id, content, lstrip, rstrip, normalized) in
        [(660, "<|user|>!", false, false, false), (661, "<l>", true, false, false), (662, "<r>", false, true, true)]
    {
        tokens.push(json!({"id": id, "content": content, "single_word": false, "lstrip": lstrip, "rstrip": rstrip, "normalized": normalized, "special": false}));
    }
    let (ours, theirs) = (build(&file).unwrap(), library(&file));
    for text in
        ["<|user|><|user|>!x", "a  <l>  <r>  b", "<l> <l> <r> <r>", " <r>\n<|user|>! <l>", "", "\u{3000}<l>\u{3000}"]
    {
        let expected = theirs.encode(text, false).unwrap();
        let ids = ours.encode_segments(&[Segment::Literal(text)]).unwrap();
        assert_eq!(raw(&ids), expected.get_ids(), "{text:?}");
    }
    // The white space may be words'.
    let ids = ours.encode_segments(&[Segment::Text("a  "), Segment::Literal("<l><r>"), Segment::Text("  b")]).unwrap();
    assert_eq!(raw(&ids), theirs.encode("a  <l><r>  b", false).unwrap().get_ids());
}

#[test]
fn neighbours_are_joined_and_ids_are_not() {
    let tokenizer = tiny();
    let opened = tokenizer.encode_segments(&[
        Segment::Literal("<|user|>\n"),
        Segment::Text("open the"),
        Segment::Text(" camera"),
    ]);
    let whole =
        [vec![tokenizer.token_id("<|user|>").unwrap()], tokenizer.encode_text("\nopen the camera").unwrap()].concat();
    assert_eq!(opened.unwrap(), whole);
    let ids = tokenizer.encode_text("the").unwrap();
    let kept = tokenizer.encode_segments(&[Segment::Text("ope"), Segment::Ids(&ids), Segment::Text("n")]).unwrap();
    assert_eq!(kept, [tokenizer.encode_text("ope").unwrap(), ids, tokenizer.encode_text("n").unwrap()].concat());
    assert_eq!(tokenizer.encode_segments(&[]).unwrap(), []);
}

#[test]
fn any_text_has_the_ids_of_the_library() {
    // The library looks for markers in every text; what we say of words is said of one without any.
    let pairs = [tiny_value(), glm_value(), llama_value()].map(|file| {
        let mut words = file.clone();
        words["added_tokens"] = json!([]);
        (build(&file).unwrap(), library(&words))
    });
    proptest!(|(text in any_text())| {
        for (ours, theirs) in &pairs {
            let expected = theirs.encode(text.as_str(), false).unwrap();
            prop_assert_eq!(raw(&ours.encode_text(&text).unwrap()), expected.get_ids());
        }
    });
}

#[test]
fn text_comes_back_from_its_ids() {
    let tokenizers = [tiny(), build(&glm_value()).unwrap()];
    proptest!(|(text in any_text())| {
        for tokenizer in &tokenizers {
            prop_assert_eq!(&tokenizer.decode(&tokenizer.encode_text(&text).unwrap()).unwrap(), &text);
        }
    });
}

#[test]
fn any_ids_have_the_text_of_the_library() {
    let pairs = [tiny_value(), llama_value()].map(|file| (build(&file).unwrap(), library(&file)));
    proptest!(|(ids in prop::collection::vec(0..670_u32, 0..12))| {
        for (ours, theirs) in &pairs {
            let text = ours.decode(&ids.iter().copied().map(TokenId).collect::<Vec<_>>()).unwrap();
            prop_assert_eq!(text, theirs.decode(&ids, false).unwrap());
        }
    });
}

#[test]
fn a_damaged_file_is_an_error_or_a_tokenizer() {
    let whole = tiny_json();
    proptest!(|(at in 0..whole.len(), byte in any::<u8>(), cut in any::<bool>())| {
        let mut file = whole.clone();
        if cut {
            file.truncate(at);
        } else {
            file[at] = byte;
        }
        if let Ok(tokenizer) = Tokenizer::from_json(&file) {
            let ids = tokenizer.encode_text("open 打开 the camera\n 👍").unwrap();
            tokenizer.decode(&ids).unwrap();
        }
    });
}

/// Words, numbers, white space, emoji and whatever Unicode has.
fn any_text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "[a-z']{1,6}",
        "[ \\t\\r\\n\u{3000}]{1,4}",
        "[0-9]{1,5}",
        "[打开相机好]{1,4}",
        "[!-/:-@]{1,4}",
        "(don't|I'LL|</|👍🏽|👨‍👩‍👧)",
        "(</?s>|<unk>|<\\|user\\|>)",
        any::<String>(),
    ];
    prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

#[test]
fn contradictions_are_refused_by_name() {
    type Change = fn(&mut Value);
    type Name = fn(&Error) -> bool;
    let cases: &[(&str, Change, Name)] = &[
        ("no model", |f| drop(f.as_object_mut().unwrap().remove("model")), |e| matches!(e, Error::TokenizerJson(_))),
        (
            "an id beyond u32",
            |f| f["model"]["vocab"]["x"] = json!(1_u64 << 32),
            |e| matches!(e, Error::TokenizerJson(_)),
        ),
        ("a negative id", |f| f["added_tokens"][0]["id"] = json!(-1), |e| matches!(e, Error::TokenizerJson(_))),
        ("a word as id", |f| f["model"]["vocab"]["x"] = json!("7"), |e| matches!(e, Error::TokenizerJson(_))),
        (
            "a merge of three",
            |f| f["model"]["merges"][0] = json!(["a", "b", "c"]),
            |e| matches!(e, Error::TokenizerJson(_)),
        ),
        ("a merge of one", |f| f["model"]["merges"][0] = json!("ab"), |e| matches!(e, Error::TokenizerJson(_))),
        (
            "too many components",
            |f| f["pre_tokenizer"]["pretokenizers"] = json!(vec![json!({"type": "Digits"}); 65]),
            |e| matches!(e, Error::TokenizerJson(_)),
        ),
        (
            "another model",
            |f| f["model"]["type"] = json!("WordPiece"),
            |e| matches!(e, Error::Component { part: "model", .. }),
        ),
        (
            "a unigram model",
            |f| f["model"] = json!({"type": "Unigram", "vocab": [["a", -1.0]]}),
            |e| matches!(e, Error::Component { part: "model", .. }),
        ),
        ("dropout", |f| f["model"]["dropout"] = json!(0.1), |e| matches!(e, Error::Component { part: "model", .. })),
        (
            "a suffix",
            |f| f["model"]["end_of_word_suffix"] = json!("</w>"),
            |e| matches!(e, Error::Component { part: "model", .. }),
        ),
        (
            "a long prefix",
            |f| f["model"]["continuing_subword_prefix"] = json!("####"),
            |e| matches!(e, Error::Component { part: "model", .. }),
        ),
        ("no decoder", |f| f["decoder"] = json!(null), |e| matches!(e, Error::Component { part: "decoder", .. })),
        (
            "another decoder",
            |f| f["decoder"] = json!({"type": "CTC"}),
            |e| matches!(e, Error::Component { part: "decoder", .. }),
        ),
        (
            "a sequence in a sequence",
            |f| f["decoder"] = json!({"type": "Sequence", "decoders": [{"type": "Sequence", "decoders": []}]}),
            |e| matches!(e, Error::Component { part: "decoder", .. }),
        ),
        (
            "another splitter",
            |f| f["pre_tokenizer"] = json!({"type": "UnicodeScripts"}),
            |e| matches!(e, Error::Component { part: "pre_tokenizer", .. }),
        ),
        (
            "a splitter that knows the start",
            |f| f["pre_tokenizer"] = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"}),
            |e| matches!(e, Error::Component { part: "pre_tokenizer", .. }),
        ),
        (
            "another normalizer",
            |f| f["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
            |e| matches!(e, Error::Component { part: "normalizer", .. }),
        ),
        (
            "a broken pattern",
            |f| {
                f["pre_tokenizer"] =
                    json!({"type": "Split", "pattern": {"Regex": "(("}, "behavior": "Isolated", "invert": false})
            },
            |e| matches!(e, Error::Pattern(_)),
        ),
        (
            "a merge of unknown pieces",
            |f| f["model"]["merges"][3] = json!(["zz", "qq"]),
            |e| matches!(e, Error::Merge { rank: 3, .. }),
        ),
        (
            "a merge into an unknown piece",
            |f| f["model"]["merges"][3] = json!(["Z", "Q"]),
            |e| matches!(e, Error::Merge { rank: 3, .. }),
        ),
        ("two pieces with one id", |f| f["model"]["vocab"]["b"] = json!(64), |e| matches!(e, Error::Vocabulary { .. })),
        (
            "a missing byte",
            |f| {
                let vocab = f["model"]["vocab"].as_object_mut().unwrap();
                let id = vocab.remove("Ā").unwrap();
                vocab.insert("no byte".into(), id);
            },
            |e| matches!(e, Error::Vocabulary { token, .. } if token == "Ā"),
        ),
        (
            "an unknown token without an id",
            |f| f["model"]["unk_token"] = json!("<nope>"),
            |e| matches!(e, Error::Vocabulary { token, .. } if token == "<nope>"),
        ),
        (
            "an added token out of place",
            |f| f["added_tokens"][3]["id"] = json!(999),
            |e| matches!(e, Error::AddedToken { content, .. } if content == "<|system|>"),
        ),
        (
            "an added token of a word's id",
            |f| f["added_tokens"][3]["id"] = json!(5),
            |e| matches!(e, Error::AddedToken { .. }),
        ),
        (
            "an added token twice",
            |f| {
                let t = f["added_tokens"][3].clone();
                f["added_tokens"].as_array_mut().unwrap().push(t);
            },
            |e| matches!(e, Error::AddedToken { .. }),
        ),
        (
            "an empty added token",
            |f| f["added_tokens"][0]["content"] = json!(""),
            |e| matches!(e, Error::AddedToken { .. }),
        ),
        (
            "a single word",
            |f| f["added_tokens"][0]["single_word"] = json!(true),
            |e| matches!(e, Error::AddedToken { .. }),
        ),
        (
            "a normalized token",
            |f| {
                f["normalizer"] = json!({"type": "NFC"});
                f["added_tokens"][0]["normalized"] = json!(true);
            },
            |e| matches!(e, Error::AddedToken { .. }),
        ),
        (
            "too much added",
            |f| f["added_tokens"][0]["content"] = json!("x".repeat(2 << 20)),
            |e| matches!(e, Error::TooLarge { .. }),
        ),
    ];
    for (name, change, expected) in cases {
        let mut file = tiny_value();
        change(&mut file);
        let error = build(&file).expect_err(name);
        assert!(expected(&error), "{name}: {error:?}");
        assert!(error.to_string().len() < 400, "{name}");
    }
}

#[test]
fn a_repeated_key_is_refused() {
    let file = String::from_utf8(tiny_json()).unwrap();
    for doubled in [r#""vocab":{"!":0,"#, r#""vocab":{"!":0,"!":1,"#, r#""decoder":null,"model":"#] {
        let from = if doubled.contains("model") { r#""model":"# } else { r#""vocab":{"# };
        let compact = serde_json::from_str::<Value>(&file).unwrap().to_string();
        assert!(compact.contains(from));
        let error = Tokenizer::from_json(compact.replacen(from, doubled, 1).as_bytes()).unwrap_err();
        assert!(matches!(error, Error::TokenizerJson(_)), "{error:?}");
    }
}

#[test]
fn deep_and_huge_files_are_errors() {
    let deep = format!("{{\"pre_tokenizer\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(Tokenizer::from_json(deep.as_bytes()), Err(Error::TokenizerJson(_))));
    let huge = vec![b' '; file::MAX_BYTES + 1];
    assert!(matches!(Tokenizer::from_json(&huge), Err(Error::TooLarge { what: "tokenizer.json", .. })));
    assert!(matches!(Tokenizer::from_json(b""), Err(Error::TokenizerJson(_))));
    assert!(matches!(Tokenizer::from_json(b"[]"), Err(Error::TokenizerJson(_))));
}

/// Things to repeat for a megabyte.
const UNITS: [&str; 14] = [
    "a",
    "A",
    "^",
    " ",
    "\n",
    " \n",
    "7",
    "中",
    "😀",
    "'",
    "\0",
    "a\u{301}",
    "打开 Settings, 然后 tap 相机 123! ",
    "{\"type\":\"function\",\"name\":\"tap\",\"x\":[12,34],\"ok\":true},",
];

/// A little less than a million, where a run of spaces becomes [`Error::Split`].
const MEGABYTE: usize = 999_000;

#[test]
fn a_megabyte_of_anything_is_encoded_on_a_small_stack() {
    let encode = || {
        let tokenizer = build(&glm_value()).unwrap();
        for unit in UNITS {
            let text = unit.repeat(MEGABYTE / unit.len());
            let ids = tokenizer.encode_text(&text).unwrap();
            assert!(tokenizer.decode(&ids).unwrap() == text, "{unit:?}");
        }
    };
    // A fifth of what Android gives a thread.
    std::thread::Builder::new().stack_size(200 << 10).spawn(encode).unwrap().join().unwrap();
}

/// Time this thread has worked; waiting for a busy machine does not count.
fn worked() -> Duration {
    let nanoseconds = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = nanoseconds.and_then(|line| line.split(' ').next()?.parse().ok());
    // Other systems have no such file; there the clock has to do.
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    nanoseconds.map_or_else(|| START.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

#[test]
fn the_time_to_encode_grows_with_the_length() {
    let tokenizer = build(&glm_value()).unwrap();
    let time = |unit: &str, bytes: usize, times: usize| {
        let text = unit.repeat(bytes / unit.len());
        let once = |_| {
            let start = worked();
            for _ in 0..times {
                tokenizer.encode_text(&text).unwrap();
            }
            worked() - start
        };
        (0..3).map(once).min().unwrap_or(Duration::ZERO)
    };
    for unit in UNITS {
        let (short, long) = (time(unit, MEGABYTE / 32, 8), time(unit, MEGABYTE / 4, 1));
        // Room for the granularity of the kernel's counter; a quadratic step would take eight times as long.
        assert!(long <= short * 2 + Duration::from_millis(20), "{unit:?}: {short:?} and {long:?}");
    }
}

#[test]
fn what_the_patterns_cannot_match_is_an_error_and_not_another_tokenization() {
    let text = format!("{}x", " ".repeat(1_010_000));
    for file in [tiny_value(), glm_value()] {
        assert!(matches!(build(&file).unwrap().encode_text(&text), Err(Error::Split(_))));
    }
    let text = "a".repeat(MAX_TEXT_BYTES + 1);
    assert!(matches!(tiny().encode_text(&text), Err(Error::TooLarge { .. })));
    let halves = [Segment::Text(&text[..MAX_TEXT_BYTES]), Segment::Ids(&[]), Segment::Text("a")];
    assert!(matches!(tiny().encode_segments(&halves), Err(Error::TooLarge { .. })));
}
