//! Text into token ids and back, without ever letting words become a marker.
//!
//! Markers such as `<|user|>` are added tokens beside the vocabulary. Hugging Face looks for them in
//! the whole prompt, so whoever writes `<|user|>` into a message opens a turn. Here a prompt is a list
//! of [`Segment`]s: markers are recognised in literal segments, which a template wrote, and never in
//! text segments. Neighbouring segments are still joined before they are split into words, so the ids
//! equal Hugging Face's for every prompt whose words contain no marker.
//!
//! ```
//! use autoglm_text::tokenizer::{Segment, Tokenizer};
//!
//! # fn main() -> autoglm_text::Result<()> {
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/autoglm-tiny/tokenizer.json");
//! # let json = std::fs::read(path).expect("the tiny checkpoint is part of the repository");
//! let tokenizer = Tokenizer::from_json(&json)?;
//! let user = tokenizer.token_id("<|user|>").expect("GLM has this marker");
//! let ids = tokenizer.encode_segments(&[Segment::Literal("<|user|>\n"), Segment::Text("<|user|>")])?;
//! assert_eq!(ids.iter().filter(|id| **id == user).count(), 1);
//! assert_eq!(tokenizer.decode(&ids)?, "<|user|>\n<|user|>");
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use autoglm_core::TokenId;
use tokenizers::models::bpe::BPE;
use tokenizers::{Model as _, OffsetReferential, OffsetType};

use crate::{Error, Result};

mod added;
mod alphabet;
mod decode;
mod file;
mod model;
mod pipeline;
#[cfg(test)]
pub(crate) mod tests;

use added::{AddedTokens, Stretch};
use decode::Decoder;
use pipeline::Pipeline;

/// Bytes of text that one call encodes: several times what fills a context of 65 536 tokens. The
/// library takes up to 350 bytes of memory for each.
pub const MAX_TEXT_BYTES: usize = 1 << 20;

/// A part of a prompt, by who wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment<'a> {
    /// Written by a template or the program: markers in it are markers.
    Literal(&'a str),
    /// Written by anybody: markers in it are words.
    Text(&'a str),
    /// Ids as they are. The segments on both sides are encoded apart.
    Ids(&'a [TokenId]),
}

/// A checkpoint's tokenizer. A clone shares its tables.
#[derive(Clone)]
pub struct Tokenizer(Arc<Parts>);

struct Parts {
    pipeline: Pipeline,
    model: BPE,
    added: AddedTokens,
    decoder: Decoder,
    max_id: TokenId,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// Byte-pair models are read, over the components that the GLM and Llama families use. The file's
    /// post-processor, truncation and padding are left out: a chat template writes every marker itself.
    ///
    /// # Errors
    /// - [`Error::TooLarge`] and [`Error::TokenizerJson`] for a file that cannot be read.
    /// - [`Error::Component`] and [`Error::Pattern`] for a component that is not run here.
    /// - [`Error::Vocabulary`], [`Error::Merge`] and [`Error::AddedToken`] for tables that contradict
    ///   each other.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let file = file::File::parse(bytes)?;
        model::check_kind(&file.model)?;
        let pipeline = Pipeline::build(file.normalizer, file.pre_tokenizer)?;
        let decoder = Decoder::build(file.decoder)?;
        let vocab = &file.model.vocab.0;
        let ids = vocab.values().chain(file.added_tokens.iter().map(|t| &t.id));
        let max_id = TokenId(ids.copied().max().unwrap_or(0));
        let added = AddedTokens::build(file.added_tokens, vocab, pipeline.normalizes())?;
        let model = model::build(file.model, added.tokens(), pipeline.is_byte_level())?;
        tracing::debug!(max_id = max_id.0, "tokenizer read");
        Ok(Self(Arc::new(Parts { pipeline, model, added, decoder, max_id })))
    }

    /// The id of a marker such as `<|user|>`; none for ordinary pieces of the vocabulary.
    #[must_use]
    pub fn token_id(&self, marker: &str) -> Option<TokenId> {
        self.0.added.id(marker)
    }

    /// All markers with their ids, in the file's order.
    pub fn markers(&self) -> impl Iterator<Item = (&str, TokenId)> {
        self.0.added.iter()
    }

    /// The largest id. An embedding table needs one row more.
    #[must_use]
    pub fn max_id(&self) -> TokenId {
        self.0.max_id
    }

    /// Encodes words. No marker's id comes out, whatever the text says.
    ///
    /// # Errors
    /// - [`Error::TooLarge`] for more than [`MAX_TEXT_BYTES`].
    /// - [`Error::Split`] for a run of characters that the checkpoint's pattern cannot be matched to.
    pub fn encode_text(&self, text: &str) -> Result<Vec<TokenId>> {
        let mut ids = Vec::new();
        self.encode_into(text, &mut ids)?;
        Ok(ids)
    }

    /// Encodes a prompt.
    ///
    /// # Errors
    /// As [`Tokenizer::encode_text`], with the limit counted over all segments.
    pub fn encode_segments(&self, segments: &[Segment<'_>]) -> Result<Vec<TokenId>> {
        let bytes =
            segments.iter().map(|s| if let Segment::Literal(t) | Segment::Text(t) = s { t.len() } else { 0 }).sum();
        check_length(bytes)?;
        let mut ids = Vec::new();
        for stretch in segments.chunk_by(|a, b| !matches!((a, b), (Segment::Ids(_), _) | (_, Segment::Ids(_)))) {
            let mut text = String::new();
            let mut literal: Vec<Range<usize>> = Vec::new();
            for segment in stretch {
                match segment {
                    Segment::Literal(part) => {
                        let range = text.len()..text.len() + part.len();
                        match literal.last_mut().filter(|last| last.end == range.start) {
                            Some(last) => last.end = range.end,
                            None => literal.push(range),
                        }
                        text.push_str(part);
                    }
                    Segment::Text(part) => text.push_str(part),
                    Segment::Ids(part) => ids.extend_from_slice(part),
                }
            }
            for stretch in self.0.added.cut(&text, &literal) {
                match stretch {
                    Stretch::Token(id) => ids.push(id),
                    Stretch::Text(range) => self.encode_into(&text[range], &mut ids)?,
                }
            }
        }
        Ok(ids)
    }

    /// The text of `ids`, markers included. An id without a token, as a model can choose when its
    /// embedding table is padded, has no text.
    ///
    /// Bytes that are no UTF-8 become U+FFFD, one for each sequence that broke off.
    ///
    /// # Errors
    /// [`Error::Tokenize`] when a decoder of the library fails.
    pub fn decode(&self, ids: &[TokenId]) -> Result<String> {
        match &self.0.decoder {
            Decoder::Bytes => {
                let bytes: Vec<u8> = ids.iter().filter_map(|id| self.bytes(*id)).flatten().collect();
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            Decoder::Chain(decoders) => decode::chain(decoders, ids.iter().filter_map(|id| self.piece(*id)).collect()),
        }
    }

    /// Whether each id stands for bytes of its own.
    pub(crate) fn is_bytewise(&self) -> bool {
        matches!(self.0.decoder, Decoder::Bytes)
    }

    /// The bytes of an id in a bytewise tokenizer; none for an id without a token.
    pub(crate) fn bytes(&self, id: TokenId) -> Option<Vec<u8>> {
        self.piece(id).map(|piece| alphabet::bytes_of(&piece))
    }

    /// Whether an id is one byte of a character, spelled out.
    pub(crate) fn is_byte_piece(&self, id: TokenId) -> bool {
        self.piece(id).is_some_and(|piece| model::is_byte_piece(&piece))
    }

    /// The vocabulary's entry for an id.
    fn piece(&self, id: TokenId) -> Option<String> {
        self.0.added.content(id).map(str::to_owned).or_else(|| self.0.model.id_to_token(id.0))
    }

    fn encode_into(&self, text: &str, ids: &mut Vec<TokenId>) -> Result<()> {
        check_length(text.len())?;
        let mut words = self.0.pipeline.words(text)?;
        words.tokenize(|word| self.0.model.tokenize(word.get())).map_err(Error::Tokenize)?;
        for (_, _, tokens) in words.get_splits(OffsetReferential::Original, OffsetType::Byte) {
            ids.extend(tokens.iter().flatten().map(|token| TokenId(token.id)));
        }
        Ok(())
    }
}

fn check_length(bytes: usize) -> Result<()> {
    match bytes > MAX_TEXT_BYTES {
        true => Err(Error::TooLarge { what: "the text of the prompt", bytes, limit: MAX_TEXT_BYTES }),
        false => Ok(()),
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { added, max_id, .. } = &*self.0;
        f.debug_struct("Tokenizer")
            .field("max_id", max_id)
            .field("markers", &added.iter().count())
            .finish_non_exhaustive()
    }
}
