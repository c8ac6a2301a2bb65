//! The tokenizer and the chat template as llama.cpp has them beside the weights.
//!
//! Its tokenizer is byte-level BPE with a pattern per family, chosen by name: a `tokenizer.json` of another pattern has
//! no place in the format.

use std::collections::{BTreeMap, BTreeSet};

use autoglm_core::Files;
use autoglm_text::{ChatTemplate, Family, Tokenizer, stop_ids};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::container::{Value, Values};
use crate::error::{Error, Result};
use crate::export::COMPANION_BYTES;
use crate::synth::tokenizer::{EOS, SPLIT};

/// What `tokenizer.ggml.token_type` says of a token.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// The values of the tokenizer, and what a user should know about them.
#[derive(Debug, Default)]
pub(super) struct Vocabulary {
    pub(super) values: Values,
    pub(super) notes: Vec<String>,
}

/// What this needs of `tokenizer.json`, which [`Tokenizer`] has read before.
#[derive(Debug, Deserialize)]
struct File {
    model: Model,
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Json,
    #[serde(default)]
    pre_tokenizer: Json,
}

#[derive(Debug, Deserialize)]
struct Model {
    vocab: BTreeMap<String, u32>,
    merges: Vec<Merge>,
    #[serde(default)]
    ignore_merges: bool,
}

/// The two generations of writing a merge.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair([String; 2]),
    Joined(String),
}

#[derive(Debug, Deserialize)]
struct Added {
    id: u32,
    content: String,
    special: bool,
}

impl Vocabulary {
    /// The tokenizer among `files` for a table of `rows` rows. Without one the file has rows and no words.
    ///
    /// # Errors
    /// The tokenizer is damaged, or not one of byte-level BPE whose tokens all have a row.
    pub(super) fn read(files: &Files, config: &Json, rows: usize, family: Family) -> Result<Self> {
        let Some(content) = files.read("tokenizer.json", COMPANION_BYTES)? else {
            let values = vec![("tokenizer.ggml.model".to_owned(), Value::Text("no_vocab".to_owned()))];
            return Ok(Self { values, notes: vec!["there is no tokenizer.json, so the file has no words".to_owned()] });
        };
        Tokenizer::from_json(&content)?;
        let failed = |source| Error::Json { path: files.path("tokenizer.json"), source };
        let file: File = serde_json::from_slice(&content).map_err(failed)?;
        if !is_byte_level(&file.pre_tokenizer) {
            return Err(Error::Usage("`gguf` has no place for this tokenizer: it is not one of bytes".to_owned()));
        }
        let (tokens, kinds) = tokens(&file, rows)?;
        let mut notes = Vec::new();
        if !cuts_as_glm(&file) {
            notes.push(
                "the tokenizer cuts text by another pattern than GLM-4's, so llama.cpp may cut it otherwise".to_owned(),
            );
        }
        // The same pattern under two names: with the first, a word of the vocabulary is one token whatever the merges.
        let pre = if file.model.ignore_merges { "glm4" } else { "chatglm-bpe" };
        let mut values = vec![
            ("model", Value::Text("gpt2".to_owned())),
            ("pre", Value::Text(pre.to_owned())),
            ("tokens", Value::Texts(tokens)),
            ("token_type", Value::I32s(kinds)),
            ("merges", Value::Texts(file.model.merges.iter().map(Merge::joined).collect())),
            // The chat template writes whatever begins a conversation.
            ("add_bos_token", Value::Bool(false)),
            ("add_eos_token", Value::Bool(false)),
        ];
        let specials = Specials::read(files, config, (&file, rows), &mut notes)?;
        values.extend(specials.0.into_iter().map(|(name, id)| (name, Value::U32(id))));
        let mut values: Values =
            values.into_iter().map(|(name, value)| (format!("tokenizer.ggml.{name}"), value)).collect();
        match chat_template(files, family)? {
            Some(template) => values.push(("tokenizer.chat_template".to_owned(), Value::Text(template))),
            None => notes.push("there is no chat template, so llama.cpp takes one of its own".to_owned()),
        }
        Ok(Self { values, notes })
    }
}

impl Merge {
    /// Both parts with a blank between them. In byte-level BPE neither has one of its own.
    fn joined(&self) -> String {
        match self {
            Self::Pair([left, right]) => format!("{left} {right}"),
            Self::Joined(both) => both.clone(),
        }
    }
}

/// A text and a kind per row of the table.
fn tokens(file: &File, rows: usize) -> Result<(Vec<String>, Vec<i32>)> {
    let mut named: BTreeMap<u32, (&str, i32)> =
        file.model.vocab.iter().map(|(text, id)| (*id, (text.as_str(), NORMAL))).collect();
    for token in &file.added_tokens {
        named.insert(token.id, (&token.content, if token.special { CONTROL } else { USER_DEFINED }));
    }
    if let Some((id, (text, _))) = named.iter().find(|(id, _)| **id as usize >= rows) {
        let why = format!("the table has {rows} rows and the tokenizer a token {id}, `{text}`");
        return Err(Error::Usage(why));
    }
    let mut seen = BTreeSet::new();
    let mut all = (Vec::with_capacity(rows), Vec::with_capacity(rows));
    for row in 0..rows {
        let (text, kind) = match u32::try_from(row).ok().and_then(|id| named.get(&id)) {
            Some((text, kind)) => ((*text).to_owned(), *kind),
            None => (format!("[PAD{row}]"), UNUSED),
        };
        if text.contains('\0') {
            return Err(Error::Usage(format!("`gguf` has no place for the NUL in token {row}")));
        }
        // llama.cpp ends the process where two tokens have one text.
        if !seen.insert(text.clone()) {
            return Err(Error::Usage(format!("`gguf` has no place for two tokens `{text}`")));
        }
        all.0.push(text);
        all.1.push(kind);
    }
    Ok(all)
}

/// Components of a pre-tokenizer.
fn components(pre_tokenizer: &Json) -> &[Json] {
    match pre_tokenizer.get("pretokenizers").and_then(Json::as_array) {
        Some(list) => list,
        None => std::slice::from_ref(pre_tokenizer),
    }
}

fn is_byte_level(pre_tokenizer: &Json) -> bool {
    components(pre_tokenizer).iter().any(|component| component["type"] == "ByteLevel")
}

/// Whether text is cut as by the pattern that llama.cpp has for GLM-4.
fn cuts_as_glm(file: &File) -> bool {
    let [split, bytes] = components(&file.pre_tokenizer) else { return false };
    let says = |component: &Json, fields: Json| {
        fields.as_object().is_some_and(|fields| fields.iter().all(|(key, value)| component.get(key) == Some(value)))
    };
    let pattern = json!({ "type": "Split", "pattern": { "Regex": SPLIT }, "behavior": "Isolated", "invert": false });
    let alphabet = json!({ "type": "ByteLevel", "add_prefix_space": false, "use_regex": false });
    file.normalizer.is_null() && says(split, pattern) && says(bytes, alphabet)
}

/// Ids that llama.cpp knows by what they are for.
struct Specials(Vec<(&'static str, u32)>);

impl Specials {
    fn read(files: &Files, config: &Json, (file, rows): (&File, usize), notes: &mut Vec<String>) -> Result<Self> {
        let generation: Option<Json> = files.json("generation_config.json")?;
        let of_tokenizer: Json = files.json("tokenizer_config.json")?.unwrap_or_default();
        let find = |text: &str| file.added_tokens.iter().find(|token| token.content == text).map(|token| token.id);
        // A token by its name or, as some versions write it, by an object with its name.
        let named = |field: &str| {
            let field = &of_tokenizer[field];
            field.as_str().or_else(|| field["content"].as_str()).and_then(find)
        };
        let mut stops: Vec<u32> = stop_ids(generation.as_ref(), config)?.into_iter().map(|id| id.0).collect();
        // Where the file says nothing it would take an id of its own, a comma with some vocabularies.
        if stops.is_empty() {
            stops.extend(find(EOS));
        }
        if stops.is_empty() {
            return Err(Error::Usage(format!("`gguf` needs a token to stop at: name eos_token_id, or have a `{EOS}`")));
        }
        if let Some(id) = stops.iter().find(|id| **id as usize >= rows) {
            return Err(Error::Usage(format!("the table has {rows} rows, and answers would stop at token {id}")));
        }
        // It has three places for them and stops at the end of text by its name alone, so where there are more
        // that one needs no place.
        if stops.len() > 3 {
            stops.retain(|id| Some(*id) != find(EOS));
        }
        if stops.len() > 3 {
            notes.push(format!("llama.cpp stops at three kinds of tokens, so not at {:?}", &stops[3..]));
        }
        let mut all: Vec<_> = ["eos_token_id", "eot_token_id", "eom_token_id"].into_iter().zip(stops).collect();
        let end = named("eos_token").or_else(|| find(EOS));
        all.extend(named("bos_token").or(end).map(|id| ("bos_token_id", id)));
        all.extend(named("pad_token").or(end).map(|id| ("padding_token_id", id)));
        Ok(Self(all))
    }
}

/// The template, of the place where transformers looks first.
///
/// # Errors
/// It is none, by the same reading as that of a model that is opened.
fn chat_template(files: &Files, family: Family) -> Result<Option<String>> {
    let jinja = files.read("chat_template.jinja", COMPANION_BYTES)?;
    let jinja = jinja.map(String::from_utf8).transpose();
    let jinja = jinja.map_err(|_| Error::Usage("chat_template.jinja is no UTF-8 text".to_owned()))?;
    let config: Option<Json> = files.json("tokenizer_config.json")?;
    ChatTemplate::from_files(jinja.as_deref(), config.as_ref(), family)?;
    Ok(ChatTemplate::source(jinja.as_deref(), config.as_ref())?.map(str::to_owned))
}
