//! The byte-pair model, checked before the library sees it.
//!
//! The library copies merged pieces into a buffer as long as the longest entry and panics when a
//! rule does not fit; it also drops characters that it has no entry for. Both are settled here, by
//! name, so that a file either encodes every text or is refused.

use std::collections::{HashMap, HashSet};

use tokenizers::models::bpe::BPE;

use super::alphabet;
use super::file::{AddedToken, Model};
use super::pipeline::refuse;
use crate::error::shorten;
use crate::{Error, Result};

/// # Errors
/// [`Error::Component`] for anything but a byte-pair model. Very old files do not name the kind.
pub(super) fn check_kind(model: &Model) -> Result<()> {
    match model.kind.as_deref() {
        None | Some("BPE") => Ok(()),
        Some(other) => Err(refuse("model", other, "only byte-pair models (BPE) are supported")),
    }
}

/// Builds the model without the added tokens that ordinary text cannot form.
///
/// Some files list an added token among the ordinary pieces too. A model that takes a whole word as
/// one entry (`ignore_merges`) would then give a typed marker the marker's id.
///
/// # Errors
/// - [`Error::Component`] for a variant that is not run here.
/// - [`Error::Vocabulary`] and [`Error::Merge`] for entries and rules that contradict each other.
/// - [`Error::AddedToken`] for a special token that ordinary text can form.
pub(super) fn build(mut model: Model, added: &[AddedToken], byte_level: bool) -> Result<BPE> {
    let field = |why| refuse("model", "BPE", why);
    if model.dropout.is_some_and(|p| p != 0.0) {
        return Err(field("dropout makes encoding random"));
    }
    for affix in [&model.continuing_subword_prefix, &model.end_of_word_suffix] {
        if affix.as_ref().is_some_and(|a| !a.is_empty()) {
            return Err(field("prefixes and suffixes of subwords are not supported"));
        }
    }
    let byte_fallback = model.byte_fallback.unwrap_or(false);
    let vocab = &model.vocab.0;
    check_ids(vocab)?;
    check_coverage(vocab, model.unk_token.as_deref(), byte_level, byte_fallback)?;
    let merged = check_merges(vocab, &model.merges.0)?;
    for token in added.iter().filter(|t| vocab.contains_key(&t.content)) {
        let unknown = model.unk_token.as_ref() == Some(&token.content);
        let formed = merged.contains(token.content.as_str()) || token.content.chars().nth(1).is_none();
        if formed && token.special && !unknown {
            let why = "is special, and ordinary text forms it";
            return Err(Error::AddedToken { content: shorten(&token.content), why });
        }
    }
    let unformed = |t: &&AddedToken| {
        !merged.contains(t.content.as_str())
            && t.content.chars().nth(1).is_some()
            && model.unk_token.as_ref() != Some(&t.content)
            && !(byte_fallback && is_byte_piece(&t.content))
    };
    let unformed: Vec<_> = added.iter().filter(unformed).map(|t| &t.content).collect();
    for content in unformed {
        model.vocab.0.remove(content);
    }
    let mut builder = BPE::builder()
        .vocab_and_merges(model.vocab.0.into_iter().collect::<tokenizers::models::bpe::Vocab>(), model.merges.0)
        // The library's cache belongs to the thread, keeps ten thousand words of a stranger's text
        // and outlives the tokenizer; a prompt is encoded once.
        .cache_capacity(0)
        .fuse_unk(model.fuse_unk.unwrap_or(false))
        .byte_fallback(byte_fallback)
        .ignore_merges(model.ignore_merges.unwrap_or(false));
    if let Some(unk) = model.unk_token {
        builder = builder.unk_token(unk);
    }
    builder.build().map_err(Error::Tokenize)
}

/// Whether a piece is one byte spelled out, `<0x0A>`.
pub(super) fn is_byte_piece(piece: &str) -> bool {
    matches!(piece.as_bytes(), [b'<', b'0', b'x', high, low, b'>'] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

fn check_ids(vocab: &HashMap<String, u32>) -> Result<()> {
    let mut seen = HashSet::with_capacity(vocab.len());
    match vocab.iter().find(|(_, id)| !seen.insert(**id)) {
        Some((piece, _)) => Err(Error::Vocabulary { token: shorten(piece), why: "shares its id with another" }),
        None => Ok(()),
    }
}

/// Every character of every text needs an entry, or it would silently vanish.
fn check_coverage(
    vocab: &HashMap<String, u32>,
    unk_token: Option<&str>,
    byte_level: bool,
    byte_fallback: bool,
) -> Result<()> {
    if let Some(unk) = unk_token {
        return match vocab.contains_key(unk) {
            true => Ok(()),
            false => Err(Error::Vocabulary { token: shorten(unk), why: "is the unknown token but has no id" }),
        };
    }
    let needed: Vec<String> = match (byte_level, byte_fallback) {
        (true, _) => alphabet::characters().map(String::from).collect(),
        (false, true) => (0..=255_u8).map(|byte| format!("<{byte:#04X}>")).collect(),
        (false, false) => return Err(refuse("model", "BPE", "has no token for unknown characters")),
    };
    match needed.into_iter().find(|piece| !vocab.contains_key(piece)) {
        Some(token) => Err(Error::Vocabulary { token, why: "stands for a byte and is missing" }),
        None => Ok(()),
    }
}

/// Checks that both halves of every rule and what they make are entries; returns all of them.
fn check_merges<'a>(vocab: &'a HashMap<String, u32>, merges: &[(String, String)]) -> Result<HashSet<&'a str>> {
    let mut members = HashSet::new();
    let mut whole = String::new();
    for (rank, (left, right)) in merges.iter().enumerate() {
        whole.clear();
        whole.push_str(left);
        whole.push_str(right);
        for (piece, why) in [
            (left, "joins a left piece that is no entry"),
            (right, "joins a right piece that is no entry"),
            (&whole, "makes a piece that is no entry"),
        ] {
            match vocab.get_key_value(piece) {
                Some((piece, _)) => members.insert(piece.as_str()),
                None => return Err(Error::Merge { rank, why }),
            };
        }
    }
    Ok(members)
}
