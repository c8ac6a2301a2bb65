//! A prompt laid out row by row.
//!
//! Positions follow transformers' `get_rope_index`: a run of text counts on from the cursor, equal
//! on all three axes; a picture's rows take their own coordinates plus the cursor, and the cursor
//! then moves by the larger side of the picture, not by its number of rows. Rows of a sound count on as
//! text does.

use std::ops::Range;

use autoglm_core::{DecoderInput, Embedding, Embeds, Positions, TokenId, Unit, Want};
use candle_core::Tensor;

use crate::{Error, Placeholders, Result};

/// A prompt's rows: which are tokens, which are media, and where each one stands.
#[derive(Debug, Clone)]
pub struct Assembly {
    spans: Vec<Span>,
    positions: Positions,
    next_position: u32,
    limit: usize,
}

/// Consecutive rows of one origin.
#[derive(Debug, Clone)]
enum Span {
    Tokens(Vec<TokenId>),
    Media(Embeds),
}

impl Span {
    fn rows(&self) -> usize {
        match self {
            Self::Tokens(ids) => ids.len(),
            Self::Media(embeds) => embeds.len(),
        }
    }
}

impl Assembly {
    /// An empty prompt for a context of `limit` rows.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { spans: Vec::new(), positions: Positions::default(), next_position: 0, limit }
    }

    /// Appends `ids`, in which each of `placeholders` stands for the next of `media`. Nothing is appended when
    /// something is wrong.
    ///
    /// # Errors
    /// - [`Error::LonePlaceholder`], [`Error::CountMismatch`] and [`Error::Order`] when placeholders and media
    ///   differ.
    /// - [`Error::Oversize`] when the rows would not fit, or what follows a picture with fewer rows than its side is long
    ///   would have a place beyond the context.
    pub fn append(&mut self, ids: &[TokenId], media: &[Embeds], placeholders: Placeholders) -> Result<()> {
        let order = placeholders.expect(ids, |of| media.iter().filter(|medium| medium.modality() == of).count())?;
        for (index, (expected, medium)) in order.into_iter().zip(media).enumerate() {
            if medium.modality() != expected {
                return Err(Error::Order { index, expected, got: medium.modality() });
            }
        }
        let stands = |id: &TokenId| placeholders.modality(*id).is_some();
        let tokens = ids.len() - media.len();
        let added = media.iter().try_fold(tokens, |sum, m| sum.checked_add(m.len()));
        // A picture that rows were left out of moves what follows by its longer side all the same.
        let moved = media.iter().try_fold(tokens, |sum, m| sum.checked_add(m.advance() as usize));
        let places = moved.and_then(|n| n.checked_add(self.next_position as usize)).unwrap_or(usize::MAX);
        let rows = added.and_then(|n| n.checked_add(self.len())).unwrap_or(usize::MAX).max(places);
        if rows > self.limit {
            return Err(Error::Oversize { rows, limit: self.limit });
        }
        self.check_positions(tokens, media)?;
        let mut media = media.iter();
        for run in ids.split_inclusive(stands) {
            match run.split_last() {
                Some((last, text)) if stands(last) => {
                    self.push_tokens(text)?;
                    media.next().into_iter().for_each(|embeds| self.push_media(embeds));
                }
                _ => self.push_tokens(run)?,
            }
        }
        Ok(())
    }

    /// Appends one generated token.
    ///
    /// # Errors
    /// [`Error::Oversize`] when the context is full.
    pub fn push(&mut self, id: TokenId) -> Result<()> {
        let rows = self.len().max(self.next_position as usize);
        if rows >= self.limit {
            return Err(Error::Oversize { rows: rows.saturating_add(1), limit: self.limit });
        }
        self.push_tokens(&[id])
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// Whether there is no row yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// Absolute position of every row.
    #[must_use]
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Position of the next text row.
    #[must_use]
    pub fn next_position(&self) -> u32 {
        self.next_position
    }

    /// The prompt's units in order, for whoever compares prompts.
    pub fn units(&self) -> impl Iterator<Item = Unit> + '_ {
        self.spans.iter().flat_map(|span| match span {
            Span::Tokens(ids) => ids.iter().map(|id| Unit::Token(*id)).collect::<Vec<_>>(),
            Span::Media(embeds) => vec![embeds.unit()],
        })
    }

    /// Rows that this prompt and `other` have in common from the start, counted in whole units: a
    /// picture is either shared or not.
    #[must_use]
    pub fn common_rows(&self, other: &Self) -> usize {
        self.units().zip(other.units()).take_while(|(a, b)| a == b).map(|(a, _)| a.rows()).sum()
    }

    /// Rows `range` as a decoder input; token rows are read from `embed_tokens`.
    ///
    /// # Errors
    /// - [`Error::Range`] when there are no such rows.
    /// - [`Error::Width`] when media rows are of another width than the table's.
    /// - [`autoglm_core::Error::TokenOutOfRange`] for an id beyond the table.
    pub fn input(&self, range: Range<usize>, embed_tokens: &dyn Embedding, want: Want) -> Result<DecoderInput> {
        let Range { start, end } = range;
        if start >= end || end > self.len() {
            return Err(Error::Range { start, end, rows: self.len() });
        }
        let mut parts = Vec::new();
        let mut at = 0;
        for span in &self.spans {
            let here = at..at + span.rows();
            at = here.end;
            let (from, to) = (start.max(here.start), end.min(here.end));
            if from >= to {
                continue;
            }
            let (from, len) = (from - here.start, to - from);
            parts.push(match span {
                Span::Tokens(ids) => embed_tokens.rows(&ids[from..from + len])?,
                Span::Media(embeds) => {
                    let (_, got) = embeds.rows().dims2()?;
                    if got != embed_tokens.width() {
                        return Err(Error::Width { expected: embed_tokens.width(), got });
                    }
                    embeds.rows().narrow(0, from, len)?
                }
            });
        }
        Ok(DecoderInput::new(Tensor::cat(&parts, 0)?, self.positions.narrow(start, end - start)?, want)?)
    }

    /// Whether every position that `tokens` tokens and `media` will take fits into 32 bits, so that
    /// appending cannot fail half-way.
    fn check_positions(&self, tokens: usize, media: &[Embeds]) -> Result<()> {
        let largest = media.iter().flat_map(|m| m.coords()).flatten().copied().max().unwrap_or(0);
        media
            .iter()
            .try_fold(u32::try_from(tokens).ok(), |end, m| Some(end?.checked_add(m.advance())))
            .flatten()
            .and_then(|moved| self.next_position.checked_add(moved)?.checked_add(largest))
            .map(|_| ())
            .ok_or(Error::Core(autoglm_core::Error::Overflow { what: "positions of a prompt" }))
    }

    fn push_tokens(&mut self, ids: &[TokenId]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        self.positions.push_text(self.next_position, ids.len())?;
        // Cannot wrap: `push_text` refuses a run whose end leaves 32 bits.
        self.next_position += ids.len() as u32;
        match self.spans.last_mut() {
            Some(Span::Tokens(run)) => run.extend_from_slice(ids),
            _ => self.spans.push(Span::Tokens(ids.to_vec())),
        }
        Ok(())
    }

    fn push_media(&mut self, embeds: &Embeds) {
        let cursor = self.next_position;
        for coords in embeds.coords() {
            self.positions.push(coords.map(|v| v + cursor));
        }
        self.next_position += embeds.advance();
        // A sound that is too short for a row is no unit that a cache could hold.
        if !embeds.is_empty() {
            self.spans.push(Span::Media(embeds.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
