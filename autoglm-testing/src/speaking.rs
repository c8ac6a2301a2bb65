//! Golden checkpoints have no tokenizer, since their requests bring ids. Conversations need one.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::{Golden, read, repository};

/// The added tokens of the golden cases that hear, by id.
const SPECIAL: [(&str, u32); 10] = [
    ("<|endoftext|>", 300),
    ("[gMASK]", 301),
    ("<sop>", 302),
    ("<|system|>", 303),
    ("<|user|>", 304),
    ("<|assistant|>", 305),
    ("<|observation|>", 306),
    ("<|begin_of_audio|>", 313),
    ("<|end_of_audio|>", 314),
    ("<|pad|>", 315),
];

/// Ids below this one end a reply.
const LAST_END: u32 = 40;

/// Copies the golden case `name` into the folder `to` and gives it a tokenizer that spells text byte by byte.
///
/// # Panics
/// When the case is not there or the folder cannot be written.
pub fn speaking(name: &str, to: &Path) {
    let golden = Golden::case(name);
    for entry in std::fs::read_dir(golden.dir()).expect("a golden case is a folder") {
        let path = entry.expect("a readable folder").path();
        std::fs::copy(&path, to.join(path.file_name().expect("files have names"))).expect("a writable folder");
    }
    let tiny = read(&repository().join("models/autoglm-tiny/tokenizer.json"));
    let mut tokenizer: Value = serde_json::from_slice(&tiny).expect("the tokenizer is JSON");
    let vocab = tokenizer["model"]["vocab"].as_object().expect("a vocabulary");
    let bytes = vocab.iter().filter(|(_, id)| id.as_u64().is_some_and(|id| id < 256));
    let mut letters: Map<String, Value> = bytes.map(|(letter, id)| (letter.clone(), id.clone())).collect();
    // Ids in between print as themselves.
    letters.extend((256..300).chain(307..313).chain(316..320).map(|id| (format!("~{id}"), json!(id))));
    // Added tokens get the next free id unless the vocabulary has them already.
    letters.extend(SPECIAL.map(|(text, id)| (text.to_owned(), json!(id))));
    let added = |(text, id): (&str, u32)| {
        json!({
            "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true,
        })
    };
    tokenizer["added_tokens"] = SPECIAL.into_iter().map(added).collect();
    tokenizer["model"]["vocab"] = letters.into();
    tokenizer["model"]["merges"] = json!([]);
    std::fs::write(to.join("tokenizer.json"), tokenizer.to_string()).expect("a writable folder");
    // Random weights would hardly ever come to the one end they have.
    let ends: Vec<u32> = (0..LAST_END).chain([300, 304, 306]).collect();
    let generation = json!({ "eos_token_id": ends }).to_string();
    std::fs::write(to.join("generation_config.json"), generation).expect("a writable folder");
}
