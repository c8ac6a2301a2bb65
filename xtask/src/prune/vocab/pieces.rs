//! The pieces of a byte-pair tokenizer, and the tokenizer that is left when some of them go.
//!
//! A byte-pair model joins neighbours, the most urgent rule first, until no rule fits. What it does inside of a final
//! piece does not depend on what stands around it, so a piece comes out of a text exactly by the joints that it comes out
//! by alone: its derivation. Where all pieces of a derivation stay, and all rules among pieces that stay, in their order,
//! each of its joints is still the most urgent one. So a text whose old pieces all stay, each with its derivation, has
//! the same pieces as before, in every way that it could have been cut into words.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

use serde_json::{Value, json};

use super::ids;
use crate::error::{Error, Result};
use crate::synth::tokenizer::letter_of;

/// `tokenizer.json`, taken apart.
#[derive(Debug)]
pub(super) struct Pieces {
    file: Value,
    ids: HashMap<String, u32>,
    names: HashMap<u32, String>,
    /// How urgent it is to join two neighbours, less being more, and what they become.
    rules: HashMap<[u32; 2], (usize, u32)>,
    /// Added tokens that the vocabulary does not list, in the file's order.
    beside: Vec<u32>,
    /// All added tokens.
    added: Vec<u32>,
}

impl Pieces {
    /// Of a file that [`autoglm_text::Tokenizer`] has read, so that its parts fit together.
    pub(super) fn of(file: Value) -> Self {
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let listed = file.pointer("/model/vocab").and_then(Value::as_object).into_iter().flatten();
        let ids: HashMap<String, u32> =
            listed.filter_map(|(piece, number)| Some((piece.clone(), id(number)?))).collect();
        let names = ids.iter().map(|(piece, id)| (*id, piece.clone())).collect();
        let lines = file.pointer("/model/merges").and_then(Value::as_array).into_iter().flatten().enumerate();
        let rules = lines.filter_map(|(rank, line)| {
            let (left, right) = rule(line)?;
            Some(([*ids.get(left)?, *ids.get(right)?], (rank, *ids.get(&format!("{left}{right}"))?)))
        });
        let rules = rules.collect();
        let tokens = file.get("added_tokens").and_then(Value::as_array).into_iter().flatten();
        let tokens: Vec<(u32, &str)> =
            tokens.filter_map(|token| Some((id(&token["id"])?, token["content"].as_str()?))).collect();
        let added = tokens.iter().map(|(id, _)| *id).collect();
        let beside = tokens.iter().filter(|(_, content)| !ids.contains_key(*content)).map(|(id, _)| *id).collect();
        Self { ids, names, rules, beside, added, file }
    }

    /// What stays whatever the corpus says: pieces that spell any text, added tokens, and those that the file itself
    /// names.
    ///
    /// # Errors
    /// There are texts that it cannot spell.
    pub(super) fn indispensable(&self) -> Result<Vec<u32>> {
        let mut stay = self.alphabet()?;
        stay.extend(&self.added);
        let unknown = self.file.pointer("/model/unk_token").and_then(Value::as_str);
        stay.extend(unknown.and_then(|piece| self.ids.get(piece)));
        for part in OWN {
            stay.extend(self.file.get(part).map(ids::named).into_iter().flatten());
        }
        Ok(stay)
    }

    fn alphabet(&self) -> Result<Vec<u32>> {
        let all = |spell: fn(u8) -> String| -> Result<Vec<u32>> {
            let piece = |byte| {
                let piece = spell(byte);
                let missing = || {
                    Error::Usage(format!("--vocab: tokenizer.json has no `{piece}`, so that not every text is spelled"))
                };
                self.ids.get(&piece).copied().ok_or_else(missing)
            };
            (0..=255).map(piece).collect()
        };
        let splitter = self.file.get("pre_tokenizer").unwrap_or(&Value::Null);
        let steps = splitter.get("pretokenizers").and_then(Value::as_array);
        let byte_level = |step: &Value| step["type"] == "ByteLevel";
        if steps.map_or_else(|| byte_level(splitter), |steps| steps.iter().any(byte_level)) {
            return all(|byte| letter_of(byte).to_string());
        }
        if !self.spells_bytes() {
            let why =
                "--vocab: tokenizer.json has neither letters nor pieces for bytes, so that not every text is spelled";
            return Err(Error::Usage(why.to_owned()));
        }
        let mut pieces = all(spelled)?;
        // Their letters are not a text's own: a space that became `▁` has to become a space again.
        let parts = ["normalizer", "pre_tokenizer", "decoder"];
        let mut named = String::new();
        parts.iter().filter_map(|part| self.file.get(part)).for_each(|part| words(part, &mut named));
        pieces.extend(named.chars().filter_map(|c| self.ids.get(c.encode_utf8(&mut [0; 4]) as &str)));
        Ok(pieces)
    }

    /// Whether a letter without a piece is spelled by pieces of bytes.
    fn spells_bytes(&self) -> bool {
        self.file.pointer("/model/byte_fallback").is_some_and(|says| *says == true)
    }

    /// Pieces of one to three digits, with or without a space before them.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        let number = |piece: &str| {
            let digits = piece.strip_prefix(['Ġ', '▁']).unwrap_or(piece);
            matches!(digits.len(), 1..=3) && digits.bytes().all(|byte| byte.is_ascii_digit())
        };
        self.ids.iter().filter(move |(piece, _)| number(piece)).map(|(_, id)| *id)
    }

    /// The pieces that `id` comes into being by, itself included; itself alone where rules do not make it.
    pub(super) fn derivation(&self, id: u32) -> Vec<u32> {
        let Some(start) = self.names.get(&id).and_then(|piece| self.letters(piece)) else { return vec![id] };
        let (made, seen) = self.join(start);
        if made == [id] { seen } else { vec![id] }
    }

    /// What the model starts with.
    fn letters(&self, piece: &str) -> Option<Vec<u32>> {
        let mut start = Vec::new();
        for c in piece.chars() {
            let mut buffer = [0; 4];
            let letter: &str = c.encode_utf8(&mut buffer);
            match self.ids.get(letter) {
                Some(id) => start.push(*id),
                None if self.spells_bytes() => {
                    for byte in letter.bytes() {
                        start.push(*self.ids.get(&spelled(byte))?);
                    }
                }
                None => return None,
            }
        }
        Some(start)
    }

    /// Joins neighbours until no rule fits. → what is left, and every piece there was.
    fn join(&self, start: Vec<u32>) -> (Vec<u32>, Vec<u32>) {
        let n = start.len();
        let mut seen = start.clone();
        // A piece that was joined to the one before it is none any more.
        let mut pieces: Vec<Option<u32>> = start.into_iter().map(Some).collect();
        let (mut before, mut behind): (Vec<usize>, Vec<usize>) = (0..n).map(|at| (at.wrapping_sub(1), at + 1)).unzip();
        let mut waiting = BinaryHeap::new();
        let fits = |pieces: &[Option<u32>], at: usize, next: usize| {
            let pair = [*pieces.get(at)?, *pieces.get(next)?];
            let [Some(left), Some(right)] = pair else { return None };
            self.rules.get(&[left, right]).map(|(rank, made)| Reverse((*rank, at, *made)))
        };
        waiting.extend((1..n).filter_map(|next| fits(&pieces, next - 1, next)));
        while let Some(Reverse((rank, at, made))) = waiting.pop() {
            let next = behind[at];
            // What waited may have been overtaken.
            if fits(&pieces, at, next) != Some(Reverse((rank, at, made))) {
                continue;
            }
            (pieces[at], pieces[next]) = (Some(made), None);
            seen.push(made);
            behind[at] = behind[next];
            if let Some(back) = before.get_mut(behind[at]) {
                *back = at;
            }
            waiting.extend(fits(&pieces, before[at], at));
            waiting.extend(fits(&pieces, at, behind[at]));
        }
        (pieces.into_iter().flatten().collect(), seen)
    }

    /// The new order of what stays: pieces of the vocabulary as they were, added tokens behind them, because readers count
    /// them on from its size, and then ids that no token has.
    pub(super) fn order(&self, stay: &BTreeSet<u32>) -> Vec<u32> {
        let beside = self.beside.iter().copied().filter(|id| stay.contains(id));
        let (listed, tokenless): (Vec<u32>, Vec<u32>) =
            stay.iter().copied().filter(|id| !self.beside.contains(id)).partition(|id| self.names.contains_key(id));
        listed.into_iter().chain(beside).chain(tokenless).collect()
    }

    /// The piece or token of an id, for messages.
    pub(super) fn name(&self, id: u32) -> &str {
        self.names.get(&id).map_or("", String::as_str)
    }

    /// `tokenizer.json` of the pieces that have a new number, with the rules among them.
    pub(super) fn reduced(mut self, new: &HashMap<u32, u32>) -> Value {
        let stays = |piece: &str| self.ids.get(piece).and_then(|id| new.get(id));
        if let Some(rules) = self.file.pointer_mut("/model/merges").and_then(Value::as_array_mut) {
            rules.retain(|line| {
                let Some((left, right)) = rule(line) else { return false };
                [left, right, &format!("{left}{right}")].into_iter().all(|piece| stays(piece).is_some())
            });
        }
        if let Some(vocab) = self.file.pointer_mut("/model/vocab").and_then(Value::as_object_mut) {
            vocab.retain(|piece, id| stays(piece).map(|new| *id = json!(new)).is_some());
        }
        for token in self.file.get_mut("added_tokens").and_then(Value::as_array_mut).into_iter().flatten() {
            ids::renumber_one(&mut token["id"], new);
        }
        for part in OWN {
            if let Some(part) = self.file.get_mut(part) {
                ids::renumber(part, new);
            }
        }
        self.file
    }
}

/// Parts of the file, besides its tables, that name tokens by number.
const OWN: [&str; 2] = ["post_processor", "padding"];

/// Both sides of a rule, which stands as a pair or, in older files, as a line with a space; none in the line with a
/// version that some files begin with.
fn rule(line: &Value) -> Option<(&str, &str)> {
    match line {
        Value::String(line) if line.starts_with("#version") => None,
        Value::String(line) => line.split_once(' '),
        Value::Array(pair) => match pair.as_slice() {
            [left, right] => Some((left.as_str()?, right.as_str()?)),
            _ => None,
        },
        _ => None,
    }
}

/// A byte as vocabularies that are not byte-level have it.
fn spelled(byte: u8) -> String {
    format!("<{byte:#04X}>")
}

/// All strings in a part of the file.
fn words(value: &Value, into: &mut String) {
    match value {
        Value::String(word) => into.push_str(word),
        Value::Array(list) => list.iter().for_each(|value| words(value, into)),
        Value::Object(fields) => fields.values().for_each(|value| words(value, into)),
        _ => {}
    }
}

/// `merges.txt` of the rules in a `tokenizer.json`.
pub(super) fn merges_text(tokenizer: &Value) -> String {
    let lines = tokenizer.pointer("/model/merges").and_then(Value::as_array).into_iter().flatten().filter_map(rule);
    std::iter::once("#version: 0.2\n".to_owned())
        .chain(lines.map(|(left, right)| format!("{left} {right}\n")))
        .collect()
}
