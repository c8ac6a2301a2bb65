//! A vocabulary of what a corpus needs, and nothing that it was not trained with.
//!
//! What stays: tokens of the corpus, added tokens, those that a file of the checkpoint names, those that the chat template
//! and the agent's calls are written with, numbers up to three digits, and pieces for all bytes, so that any other text is
//! spelled. Of each, all that it is joined from stays as well ([`pieces`]).

mod corpus;
mod ids;
mod pieces;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use autoglm::{Inventory, Model};
use autoglm_core::{Files, TokenId};
use autoglm_text::tokenizer::Segment;
use autoglm_text::{ChatTemplate, Family, Message, Role, TextConfig, Tokenizer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{bar, calibration};
use crate::error::{Error, Result};
use crate::publish::write_file;
pub(super) use corpus::Corpus;
pub(super) use ids::spelled_out;
use pieces::Pieces;

/// Which rows of the embedding table stay.
#[derive(Debug, Clone)]
pub(super) enum Choice {
    /// All that have a token.
    Padding,
    /// Those that a corpus needs.
    Corpus(PathBuf),
}

impl From<PathBuf> for Choice {
    fn from(path: PathBuf) -> Self {
        if path.as_os_str() == "padding" { Self::Padding } else { Self::Corpus(path) }
    }
}

/// `vocab_map.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Map {
    /// The id that each token had, by the id that it has.
    pub(crate) old_ids: Vec<u32>,
}

impl Map {
    pub(crate) const FILE: &str = "vocab_map.json";

    /// That of a checkpoint, where its vocabulary is a smaller one.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn of(model: &Path) -> Result<Option<Self>> {
        Ok(Files::directory(model)?.json(Self::FILE)?)
    }

    /// The id that `id` had. One without a token has none, and is none of the old ids.
    pub(crate) fn old(&self, id: u32) -> u32 {
        self.old_ids.get(id as usize).copied().unwrap_or(u32::MAX)
    }
}

/// A tokenizer of 150 000 merges takes 20 MB.
pub(super) const TOKENIZER_BYTES: usize = 128 << 20;

/// Chat templates take a few kilobytes.
const TEMPLATE_BYTES: usize = 1 << 20;

/// What the agent answers, whatever it is asked: one call of each kind, and where thoughts and answers begin and end.
const PROTOCOL: &[&str] = &[
    r#"do(action="Launch", app="Settings")"#,
    r#"do(action="Tap", element=[500,20])"#,
    r#"do(action="Tap", element=[500, 20], message="Tap")"#,
    r#"do(action="Type", text="a")"#,
    r#"do(action="Type_Name", text="a")"#,
    r#"do(action="Swipe", start=[500,800], end=[500,20])"#,
    r#"do(action="Long Press", element=[500,20])"#,
    r#"do(action="Double Tap", element=[500,20])"#,
    r#"do(action="Back")"#,
    r#"do(action="Home")"#,
    r#"do(action="Wait", duration="2 seconds")"#,
    r#"do(action="Take_over", message="a")"#,
    r#"do(action="Interact")"#,
    r#"do(action="Note", message="True")"#,
    r#"do(action="Call_API", instruction="a")"#,
    r#"finish(message="a")"#,
];

/// What GLM-ASR is asked, where `processor_config.json` does not say.
const TRANSCRIBE: &str = "Please transcribe this audio into text";

/// A vocabulary while it is found out what it has to have.
#[derive(Debug)]
pub(super) struct Needs {
    corpus: Corpus,
    tokenizer: Tokenizer,
    markers: HashSet<TokenId>,
    pieces: Pieces,
    stay: BTreeSet<u32>,
    /// Rows of the embedding table.
    rows: usize,
}

impl Needs {
    /// Reads the corpus's texts, all but what the model answers.
    ///
    /// # Errors
    /// The checkpoint has no tokenizer that can be made smaller, or a text cannot be read.
    pub(super) fn of(corpus: Corpus, files: &Files, inventory: &Inventory, text: &TextConfig) -> Result<Self> {
        if text.family == Family::GlmAsr && !corpus.lines.is_empty() {
            let why = "--vocab: lines of a .jsonl are put to the model, which knows only sounds; name a file of text";
            return Err(Error::Usage(why.to_owned()));
        }
        let json = files
            .read("tokenizer.json", TOKENIZER_BYTES)?
            .ok_or_else(|| Error::Usage("--vocab: the checkpoint has no tokenizer.json".to_owned()))?;
        let tokenizer = Tokenizer::from_json(&json)?;
        let path = files.path("tokenizer.json");
        let pieces = Pieces::of(serde_json::from_slice(&json).map_err(|source| Error::Json { path, source })?);
        let rows = text.vocab_size;
        let markers = tokenizer.markers().map(|(_, id)| id).collect();
        let mut needs = Self { corpus, tokenizer, markers, pieces, stay: BTreeSet::new(), rows };
        needs.stay.extend(needs.pieces.indispensable()?);
        needs.stay.extend(needs.pieces.numbers());
        let named = named(files, &spelled_out(inventory.config.clone(), text.family, rows))?;
        // What is beyond the table has no row to keep.
        needs.stay.extend(named.into_iter().filter(|id| (*id as usize) < rows));
        needs.protocol(files, text.family)?;
        needs.texts()?;
        Ok(needs)
    }

    /// Tokens of the chat template and of the agent's calls.
    fn protocol(&mut self, files: &Files, family: Family) -> Result<()> {
        let jinja = files.read("chat_template.jinja", TEMPLATE_BYTES)?;
        let jinja = jinja.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let config: Option<Value> = files.json("tokenizer_config.json")?;
        let template = ChatTemplate::from_files(jinja.as_deref(), config.as_ref(), family)?;
        let laid_out = template.apply(&self.tokenizer, &[Message::text(Role::User, "a")], true)?;
        self.stay.extend(laid_out.iter().map(|id| id.0));
        let mut own = jinja.into_iter().collect::<Vec<_>>();
        if let Some(field) = config.as_ref().and_then(|config| config.get("chat_template")) {
            // One template, or a list of named ones.
            let list = field.as_array().into_iter().flatten().filter_map(|named| named["template"].as_str());
            own.extend(field.as_str().into_iter().chain(list).map(str::to_owned));
        }
        // Turns of other roles, tools and so on: what stands in quotes, and between them, as a template prints it.
        for template in &own {
            let printed = template.replace("\\n", "\n");
            for text in printed.split(['"', '\'']).chain([template.as_str(), printed.as_str()]) {
                self.see(text)?;
            }
        }
        for call in PROTOCOL {
            for text in [(*call).to_owned(), format!("<think>a</think>\n<answer>{call}</answer>\n")] {
                self.see(&text)?;
            }
        }
        if family == Family::GlmAsr {
            let processor: Option<Value> = files.json("processor_config.json")?;
            let asked = processor.as_ref().and_then(|file| file.get("default_transcription_prompt"));
            self.see(asked.and_then(Value::as_str).unwrap_or(TRANSCRIBE))?;
        }
        Ok(())
    }

    /// The texts of the corpus: each line alone, as it may be said, and all of them as they follow each other.
    fn texts(&mut self) -> Result<()> {
        let mut anything = !self.corpus.lines.is_empty();
        for path in self.corpus.texts.clone() {
            anything |= corpus::pieces(&path, |piece, first| {
                let failed = |number| {
                    let path = path.clone();
                    move |source| Error::Corpus { path, number, source }
                };
                self.see(piece).map_err(failed(first))?;
                for (number, line) in piece.lines().enumerate() {
                    self.see(line).map_err(failed(first + number))?;
                }
                Ok(())
            })?;
        }
        for set in std::mem::take(&mut self.corpus.lines) {
            for (number, text) in set.texts() {
                let failed = |source| Error::Corpus { path: set.path.clone(), number, source };
                self.see(text).map_err(failed)?;
            }
            self.corpus.lines.push(set);
        }
        match anything {
            true => Ok(()),
            false => Err(Error::Usage(format!("{} has no line", self.corpus.path.display()))),
        }
    }

    /// Keeps the tokens of a text, as we encode it and as those do who look for markers in any text.
    fn see(&mut self, text: &str) -> autoglm_text::Result<()> {
        let cut = self.tokenizer.encode_segments(&[Segment::Literal(text)])?;
        let markers = cut.iter().any(|id| self.markers.contains(id));
        let words = if markers { self.tokenizer.encode_text(text)? } else { Vec::new() };
        self.stay.extend(cut.iter().chain(&words).map(|id| id.0));
        Ok(())
    }

    /// Whether there are lines for the model to answer.
    pub(super) fn asks(&self) -> bool {
        !self.corpus.lines.is_empty()
    }

    /// Keeps what `model` reads and answers where the corpus has lines for it.
    ///
    /// # Errors
    /// The model cannot take a line.
    pub(super) fn answers(&mut self, model: &Model, sees: bool) -> Result<()> {
        for mut set in std::mem::take(&mut self.corpus.lines) {
            if !sees && set.close_eyes() > 0 {
                eprintln!("pictures of {} are passed over: there are no eyes", set.path.display());
            }
            let bar = bar("the model answers", set.lines.len());
            calibration::answers(model, &set, |transcript| {
                self.stay.extend(transcript.tokens.iter().flatten().map(|id: &TokenId| id.0));
                bar.inc(1);
            })?;
            bar.finish_and_clear();
        }
        Ok(())
    }

    /// The vocabulary of all that was needed.
    ///
    /// # Errors
    /// A token that is needed has no row.
    pub(super) fn reduced(self) -> Result<Reduced> {
        Reduced::of(self.pieces, &self.stay, self.rows)
    }
}

/// Ids that `config.json` and the files beside the tokenizer name.
///
/// # Errors
/// A file cannot be read.
pub(super) fn named(files: &Files, config: &Value) -> Result<Vec<u32>> {
    let mut named = ids::named(config);
    for file in ["generation_config.json", "tokenizer_config.json"] {
        named.extend(files.json::<Value>(file)?.iter().flat_map(ids::named));
    }
    let tokens: Option<Value> = files.json("tokenizer_config.json")?;
    let decoder = tokens.as_ref().and_then(|config| config.get("added_tokens_decoder")).and_then(Value::as_object);
    named.extend(decoder.into_iter().flatten().filter_map(|(id, _)| id.parse::<u32>().ok()));
    let added: Option<HashMap<String, u32>> = files.json("added_tokens.json")?;
    named.extend(added.into_iter().flatten().map(|(_, id)| id));
    Ok(named)
}

/// A smaller vocabulary.
#[derive(Debug)]
pub(super) struct Reduced {
    /// The old id of each token that stays, in the new order.
    pub(super) old: Arc<[u32]>,
    new: HashMap<u32, u32>,
    tokenizer: Value,
}

/// Files that name tokens by number, apart from `config.json`.
const REWRITTEN: &[&str] = &[
    "added_tokens.json",
    "generation_config.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
];

/// A vocabulary in a format that is not written here. Whoever has a `tokenizer.json` beside it reads that.
const LEFT_OUT: &str = "tokenizer.model";

impl Reduced {
    /// The tokens `wanted`, and what these are joined from.
    fn of(pieces: Pieces, wanted: &BTreeSet<u32>, rows: usize) -> Result<Self> {
        let stay: BTreeSet<u32> = wanted.iter().flat_map(|id| pieces.derivation(*id)).collect();
        if let Some(id) = stay.iter().find(|id| **id as usize >= rows) {
            let name = pieces.name(*id);
            return Err(Error::Usage(format!(
                "--vocab: token `{name}` has id {id}, and the embedding table {rows} rows"
            )));
        }
        let old = pieces.order(&stay);
        let new: HashMap<u32, u32> = old.iter().zip(0..).map(|(old, new)| (*old, new)).collect();
        let tokenizer = pieces.reduced(&new);
        // What does not open would be a bug of ours.
        Tokenizer::from_json(tokenizer.to_string().as_bytes())?;
        Ok(Self { old: old.into(), new, tokenizer })
    }

    /// Whether `name` is not to be copied as it is.
    pub(super) fn replaces(&self, name: &str) -> bool {
        REWRITTEN.contains(&name) || name == LEFT_OUT || name == Map::FILE
    }

    /// Gives the ids in a `config.json` their new numbers.
    pub(super) fn renumber(&self, config: &mut Value) {
        ids::renumber(config, &self.new);
    }

    /// Writes what stands beside the weights and names tokens by number.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub(super) fn write(&self, files: &Files, directory: &Path) -> Result<()> {
        let there = |name: &str| Ok::<_, Error>(files.read(name, TOKENIZER_BYTES)?.is_some());
        let put = |name: &str, content: String| write_file(&directory.join(name), content.as_bytes());
        put("tokenizer.json", format!("{:#}\n", self.tokenizer))?;
        let mut map = Map { old_ids: self.old.to_vec() };
        // Of one that was made smaller before, the ids of the one that it came from.
        if let Some(before) = files.json::<Map>(Map::FILE)? {
            map.old_ids.iter_mut().for_each(|id| *id = before.old(*id));
        }
        put(Map::FILE, format!("{}\n", json!(map)))?;
        for name in ["generation_config.json", "tokenizer_config.json"] {
            let Some(mut fields) = files.json::<Value>(name)? else { continue };
            self.renumber(&mut fields);
            if let Some(tokens) = fields.get_mut("added_tokens_decoder").and_then(Value::as_object_mut) {
                let renumbered = std::mem::take(tokens).into_iter().map(|(id, token)| {
                    let new = id.parse().ok().and_then(|id: u32| self.new.get(&id));
                    (new.map_or(id, u32::to_string), token)
                });
                tokens.extend(renumbered);
            }
            put(name, format!("{fields:#}\n"))?;
        }
        if let Some(mut added) = files.json::<Value>("added_tokens.json")? {
            added.as_object_mut().into_iter().flatten().for_each(|(_, id)| ids::renumber_one(id, &self.new));
            put("added_tokens.json", format!("{added:#}\n"))?;
        }
        // The same tables in two files, for readers that are older than tokenizer.json.
        if there("vocab.json")? {
            put("vocab.json", format!("{}\n", self.tokenizer.pointer("/model/vocab").unwrap_or(&Value::Null)))?;
        }
        if there("merges.txt")? {
            put("merges.txt", pieces::merges_text(&self.tokenizer))?;
        }
        if there(LEFT_OUT)? {
            eprintln!("{LEFT_OUT} is left out: it has the old vocabulary, and tokenizer.json the new one");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
