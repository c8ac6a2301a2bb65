//! Ids, one by one, into pieces of text that never split a character.
//!
//! A token of a byte-level vocabulary may end in the middle of a character; its bytes wait here for
//! the rest. The pieces of a reply, put together, are what [`Tokenizer::decode`] makes of all its ids.

use std::str::from_utf8;

use autoglm_core::TokenId;

use crate::{Result, Tokenizer};

/// A reply on its way from ids to text.
///
/// Markers such as `<think>` have text like any other token; the stop token is not pushed.
///
/// ```
/// # fn main() -> autoglm_text::Result<()> {
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/autoglm-tiny/tokenizer.json");
/// # let json = std::fs::read(path).expect("the tiny checkpoint is part of the repository");
/// # let tokenizer = autoglm_text::Tokenizer::from_json(&json)?;
/// let mut stream = autoglm_text::TextStream::new(&tokenizer);
/// let mut reply = String::new();
/// for id in tokenizer.encode_text("👍")? {
///     reply.extend(stream.push(id)?); // None until the last of its bytes
/// }
/// reply.extend(stream.finish()?);
/// assert_eq!(reply, "👍");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TextStream {
    tokenizer: Tokenizer,
    pending: Pending,
}

/// What has been pushed and not printed.
#[derive(Debug)]
enum Pending {
    /// The beginning of a character: at most three bytes.
    Bytes(Vec<u8>),
    /// For decoders that treat the start of a reply differently: a token that was printed before, so
    /// that what follows is not taken for the start, and byte tokens whose run may go on.
    Ids { context: Option<TokenId>, waiting: Vec<TokenId> },
}

impl TextStream {
    /// The start of a reply.
    #[must_use]
    pub fn new(tokenizer: &Tokenizer) -> Self {
        let pending = match tokenizer.is_bytewise() {
            true => Pending::Bytes(Vec::new()),
            false => Pending::Ids { context: None, waiting: Vec::new() },
        };
        Self { tokenizer: tokenizer.clone(), pending }
    }

    /// Takes the next id; returns the text that is complete now, if any.
    ///
    /// # Errors
    /// [`crate::Error::Tokenize`] when a decoder of the library fails; never with a byte-level vocabulary.
    pub fn push(&mut self, id: TokenId) -> Result<Option<String>> {
        let Some(bytes) = self.tokenizer.bytes(id) else { return Ok(None) };
        let piece = match &mut self.pending {
            Pending::Bytes(pending) => {
                pending.extend(bytes);
                complete(pending)
            }
            Pending::Ids { context, waiting } => {
                waiting.push(id);
                // The library decodes a run of byte tokens as a whole: a bad byte at its end turns all
                // of it into U+FFFD. The run waits for its end.
                if self.tokenizer.is_byte_piece(id) {
                    return Ok(None);
                }
                let text = after(&self.tokenizer, *context, waiting)?;
                // A token without text of its own is no context: what a decoder strips from the start
                // would then be taken from the next one.
                if context.is_none() || !self.tokenizer.decode(&[id])?.is_empty() {
                    *context = Some(id);
                }
                waiting.clear();
                text
            }
        };
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }

    /// Ends the reply; returns what was still waiting, a broken character as U+FFFD.
    ///
    /// # Errors
    /// As [`TextStream::push`].
    pub fn finish(self) -> Result<Option<String>> {
        let piece = match self.pending {
            Pending::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Pending::Ids { context, waiting } => after(&self.tokenizer, context, &waiting)?,
        };
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }
}

/// The text of `ids` where they follow `context`. Decoders map piece by piece, so the text of the
/// context alone is the beginning of the text of both.
fn after(tokenizer: &Tokenizer, context: Option<TokenId>, ids: &[TokenId]) -> Result<String> {
    let before = tokenizer.decode(context.as_slice())?;
    let both: Vec<_> = context.iter().chain(ids).copied().collect();
    Ok(tokenizer.decode(&both)?.split_off(before.len()))
}

/// Takes all complete characters, and U+FFFD for each sequence that broke off; what may still become
/// a character stays.
fn complete(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut open = Vec::new();
    let mut chunks = bytes.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        text.push_str(chunk.valid());
        let broken = chunk.invalid();
        if chunks.peek().is_none() && from_utf8(broken).is_err_and(|e| e.error_len().is_none()) {
            open = broken.to_vec();
        } else if !broken.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    *bytes = open;
    text
}

#[cfg(test)]
mod tests;
