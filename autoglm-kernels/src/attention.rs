//! Softmax attention over key tiles, in one pass: never a matrix of all queries by all keys.
//!
//! ```text
//! for each tile of 128 keys, at absolute indices:
//!     s ← (q · scale) · kᵀ
//!     m' ← max(m, max of the s that are seen);   a ← exp(m − m')
//!     p ← exp(s − m') where seen, else 0
//!     l ← a · l + Σ p;   o ← a · o + p · v;   m ← m'
//! out ← o / l
//! ```
//!
//! (Milakov & Gimelshein, "Online normalizer calculation for softmax"; Dao et al., "FlashAttention".)
//!
//! Tiles stand at absolute indices and every sum has one order, so a query's bits depend on the query
//! and the keys it sees, and not on the queries that share the call or on how a prompt was chunked: a
//! dot product is one chain over the head's dimensions, o one chain over the tile's keys, l sixteen
//! interleaved chains and the tree of [`crate::dense`]. A key that is not seen adds an exact zero. This
//! holds while keys and values are finite numbers.
//!
//! # Storage
//!
//! Keys and values lie as the inner loops read them, in [`Line`]s of sixteen 32-bit words. A word is
//! one number in [`Format::F32`] and two in [`Format::Bf16`]: dimensions 2j and 2j + 1 of a key, or
//! tokens 2i and 2i + 1 of a value. In lines of sixteen words,
//!
//! ```text
//! keys    [t / 16][d / per word]     word w of a line is key 16·i + w
//! values  [t / per word][d / 16]     word w of a line is dimension 16·j + w
//! ```
//!
//! so that a cache of one head grows at its end. In [`Format::Int8`] a word is four signed bytes, the
//! lowest first: dimensions 4j to 4j + 3 of a key, or tokens 4r to 4r + 3 of a value. There a group of
//! sixteen tokens ends with one line of their f32 scales, of keys with the keys and of values with the
//! values, and the next group begins behind it:
//!
//! ```text
//! keys    [t / 16][d / 4 + 1]         word w of the last line is the scale of key 16·i + w
//! values  [t / 16][4 · d / 16 + 1]    word w of the last line is the scale of value 16·i + w
//! ```
//!
//! # Formats
//!
//! [`Format::F32`] is exact: fused multiply-adds of what was stored. [`Format::Bf16`] rounds keys,
//! values, scaled queries and weights to bf16 and multiplies and adds in f32, the odd product of a word
//! first, each fused: that is what `vdpbf16ps` does, and other instruction sets do it in two steps with
//! the same bits. Only where a sum gets below 2^-126 may they differ, because the instruction flushes
//! it to zero.
//!
//! [`Format::Int8`] holds a row x as scale = max|x| / 127 and the integers nearest to x / scale, ties to
//! even. A tile is widened to bf16, which integers up to 127 are exactly, and multiplied as bf16 is; a
//! score is multiplied by its key's scale behind its chain, and a weight by its value's scale before it is
//! rounded, while l adds weights that are not rounded. A row that is not finite has a scale that is not a
//! number, and so has every answer to a query that sees it. Stretches of such a head may be held in
//! [`Format::Bf16`]: they are multiplied where they lie, with scales of one.

mod body;
mod format;
mod int8;

use crate::isa::Isa;
use crate::{Block, Error, Result};

/// Keys of a tile.
pub(crate) const TILE: usize = 128;

/// Sixteen 32-bit words on a cache line of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Line(pub(crate) [u32; 16]);

const _: () = assert!(size_of::<Line>() == 64);

impl Line {
    /// Sixteen zeros, what buffers start from.
    pub const ZERO: Self = Self([0; 16]);

    /// A line of these words.
    #[must_use]
    pub const fn from_words(words: [u32; 16]) -> Self {
        Self(words)
    }

    /// Its words.
    #[must_use]
    pub const fn words(&self) -> &[u32; 16] {
        &self.0
    }
}

/// The numbers that keys and values are held and multiplied in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// Exact: f32 throughout.
    #[default]
    F32,
    /// Keys, values, queries and weights rounded to bf16; products and sums in f32.
    Bf16,
    /// Keys and values rounded to 8-bit integers with one f32 scale per token and head, and multiplied as
    /// [`Format::Bf16`] multiplies: queries and weights are bf16.
    Int8,
}

impl Format {
    /// Bytes per number, without scales.
    #[must_use]
    pub const fn size(self) -> usize {
        4 / self.per_word()
    }

    const fn per_word(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16 => 2,
            Self::Int8 => 4,
        }
    }
}

/// One head's keys and values: how wide, and in which numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// d.
    pub dim: usize,
    /// How they are held.
    pub format: Format,
}

impl Head {
    /// The same head in the words that are multiplied: integers are widened first.
    fn wide(self) -> Self {
        let format = if self.format == Format::Int8 { Format::Bf16 } else { self.format };
        Self { format, ..self }
    }

    /// Words per key.
    fn steps(self) -> usize {
        self.dim.div_ceil(self.format.per_word())
    }

    /// Lines per word of values.
    fn value_width(self) -> usize {
        self.dim.div_ceil(16)
    }

    /// Lines that the keys of `t` tokens take.
    #[must_use]
    pub fn key_lines(self, t: usize) -> usize {
        let scales = usize::from(self.format == Format::Int8);
        t.div_ceil(16).saturating_mul(self.steps().saturating_add(scales))
    }

    /// Lines that the values of `t` tokens take.
    #[must_use]
    pub fn value_lines(self, t: usize) -> usize {
        match self.format {
            Format::Int8 => t.div_ceil(16).saturating_mul(self.value_width().saturating_mul(4).saturating_add(1)),
            _ => t.div_ceil(self.format.per_word()).saturating_mul(self.value_width()),
        }
    }

    /// Lines of scratch that `queries` queries of `group` heads take in [`attend`].
    #[must_use]
    pub fn scratch_lines(self, queries: usize, group: usize) -> usize {
        let rows = queries.saturating_mul(group).saturating_mul(body::lines_per_row(self));
        rows.saturating_add(body::lines_per_task(self))
    }

    /// Writes the key of token `at`.
    ///
    /// # Panics
    /// When `keys` has no room for the token, or `key` has another width.
    pub fn store_key(self, keys: &mut [Line], at: usize, key: &[f32]) {
        assert_eq!(key.len(), self.dim, "a key is as wide as its head");
        let lines = &mut keys[self.key_lines(at / 16 * 16)..][..self.key_lines(1)];
        match self.format {
            Format::F32 => lines.iter_mut().zip(key).for_each(|(line, x)| line.0[at % 16] = x.to_bits()),
            Format::Bf16 => {
                for (line, pair) in lines.iter_mut().zip(key.chunks(2)) {
                    line.0[at % 16] = format::pair(pair[0], pair.get(1).copied().unwrap_or(0.0));
                }
            }
            Format::Int8 => int8::store_key(lines, at % 16, key),
        }
    }

    /// Writes the value of token `at`. In [`Format::Bf16`] an even token clears its odd neighbour, and in
    /// [`Format::Int8`] a token clears the later ones of its word of four and, as its key does, the later
    /// scales of its sixteen, so that nothing a cache has forgotten is ever multiplied; tokens are therefore
    /// stored in ascending order.
    ///
    /// # Panics
    /// When `values` has no room for the token, or `value` has another width.
    pub fn store_value(self, values: &mut [Line], at: usize, value: &[f32]) {
        assert_eq!(value.len(), self.dim, "a value is as wide as its head");
        if self.format == Format::Int8 {
            let lines = &mut values[self.value_lines(at / 16 * 16)..][..self.value_lines(1)];
            return int8::store_value(lines, at % 16, value);
        }
        let width = self.value_width();
        let lines = &mut values[at / self.format.per_word() * width..][..width];
        for (line, numbers) in lines.iter_mut().zip(value.chunks(16)) {
            for (word, x) in line.0.iter_mut().zip(numbers) {
                *word = match self.format {
                    Format::Bf16 if at.is_multiple_of(2) => format::pair(*x, 0.0),
                    Format::Bf16 => *word & 0xffff | format::pair(0.0, *x),
                    _ => x.to_bits(),
                };
            }
        }
    }
}

impl Head {
    /// Makes nothing of the tokens from `from` on in a stretch of keys and values, as if they had never
    /// been stored.
    pub fn clear_from(self, keys: &mut [Line], values: &mut [Line], from: usize) {
        if self.format == Format::Int8 {
            return int8::clear_from(self, keys, values, from);
        }
        let (whole, word) = (self.key_lines(from / 16 * 16), from % 16);
        let (group, rest) = keys[whole..].split_at_mut(if word == 0 { 0 } else { self.steps() });
        group.iter_mut().for_each(|line| line.0[word..].fill(0));
        rest.fill(Line::ZERO);
        let per_word = self.format.per_word();
        let half = !from.is_multiple_of(per_word);
        let (row, rest) =
            values[from / per_word * self.value_width()..].split_at_mut(if half { self.value_width() } else { 0 });
        // The lower half is the token before.
        row.iter_mut().flat_map(|line| &mut line.0).for_each(|word| *word &= 0xffff);
        rest.fill(Line::ZERO);
    }
}

/// How many keys each query sees, counted from the first key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Every query sees this many.
    All(usize),
    /// The first query sees this many and each one after it one more.
    Causal(usize),
}

impl Seen {
    /// Keys that query `i` sees.
    #[must_use]
    pub fn by(self, i: usize) -> usize {
        match self {
            Self::All(t) => t,
            Self::Causal(first) => first + i,
        }
    }
}

/// Some queries of the heads that share one key head.
#[derive(Debug, Clone, Copy)]
pub struct Queries<'a> {
    /// Head g of query i is the `dim` numbers from `i · stride + g · dim` on.
    pub rows: &'a [f32],
    /// Distance between queries.
    pub stride: usize,
    /// How many queries.
    pub count: usize,
    /// Query heads that share the key head.
    pub group: usize,
}

/// One head's past: stretches of equally many tokens, so that a cache may grow by blocks.
#[derive(Debug, Clone, Copy)]
pub struct Past<'a> {
    /// How it is held.
    pub head: Head,
    /// In the order of their tokens.
    pub stretches: &'a [Stretch<'a>],
    /// Tokens of each stretch but the last, a multiple of sixteen; [`WHOLE`] where there is only one.
    pub tokens: usize,
}

/// [`Past::tokens`] of a past in one piece.
pub const WHOLE: usize = usize::MAX / 16 * 16;

/// Keys and values of consecutive tokens, the first of which is its token 0.
#[derive(Debug, Clone, Copy)]
pub struct Stretch<'a> {
    /// As [`Head::store_key`] wrote them.
    pub keys: &'a [Line],
    /// As [`Head::store_value`] wrote them.
    pub values: &'a [Line],
    /// How they are held: as the head of their past is, or [`Format::Bf16`] where that is [`Format::Int8`],
    /// so that a cache may keep exact what many queries look at.
    pub format: Format,
}

impl Stretch<'_> {
    /// A head of `dim` dimensions as this stretch holds it.
    #[must_use]
    pub fn head(&self, dim: usize) -> Head {
        Head { dim, format: self.format }
    }
}

impl Past<'_> {
    /// Whether the first `t` tokens are there.
    fn check(&self, t: usize) -> Result<()> {
        let Self { head, stretches, tokens } = *self;
        if tokens == 0 || !tokens.is_multiple_of(16) {
            let why = "multiples of sixteen";
            return Err(Error::Size { what: "the tokens of a stretch", got: tokens, why });
        }
        let needed = t.div_ceil(tokens);
        let length = |what, expected, got| Err(Error::Length { what, expected, got });
        if stretches.len() < needed {
            return length("stretches of an attention", needed, stretches.len());
        }
        for (i, stretch) in stretches[..needed].iter().enumerate() {
            let here = (t - i * tokens).min(tokens);
            if !matches!((head.format, stretch.format), (Format::Int8, Format::Bf16)) && head.format != stretch.format {
                let why = "those of its head, or two where that has one";
                return Err(Error::Size { what: "the bytes per number of a stretch", got: stretch.format.size(), why });
            }
            let head = stretch.head(head.dim);
            if stretch.keys.len() < head.key_lines(here) {
                return length("keys of an attention", head.key_lines(here), stretch.keys.len());
            }
            if stretch.values.len() < head.value_lines(here) {
                return length("values of an attention", head.value_lines(here), stretch.values.len());
            }
        }
        Ok(())
    }
}

/// Answers some queries: `out` has a row of `group · dim` numbers for each. `scale` multiplies the
/// scores.
///
/// # Errors
/// - [`Error::Length`] when a buffer is too short, or `out` has another shape.
/// - [`Error::Size`] for stretches that no group of sixteen keys fits, or that are held in a format that
///   their head does not allow.
pub fn attend(
    isa: Isa,
    queries: Queries<'_>,
    past: Past<'_>,
    seen: Seen,
    scale: f32,
    scratch: &mut [Line],
    out: Block<'_>,
) -> Result<()> {
    let Queries { rows, stride, count, group } = queries;
    let head = past.head;
    let length = |what, expected: Option<usize>, got, fits: bool| match expected {
        Some(_) if fits => Ok(()),
        other => Err(Error::Length { what, expected: other.unwrap_or(usize::MAX), got }),
    };
    let width = group.checked_mul(head.dim);
    let needed = match (count.checked_sub(1), width) {
        (None, _) => Some(0),
        (Some(last), Some(width)) => last.checked_mul(stride).and_then(|n| n.checked_add(width)),
        (Some(_), None) => None,
    };
    length("queries of an attention", needed, rows.len(), needed.is_some_and(|n| n <= rows.len()))?;
    length("columns of an attention", width, out.columns(), width == Some(out.columns()))?;
    length("rows of an attention", Some(count), out.rows(), count == out.rows())?;
    if count == 0 {
        return Ok(());
    }
    let most = seen.by(count - 1);
    past.check(most)?;
    let expected = head.scratch_lines(count, group);
    length("scratch of an attention", Some(expected), scratch.len(), expected <= scratch.len())?;
    body::attend(isa, body::Job { queries, past, seen, scale }, scratch, out);
    Ok(())
}

#[cfg(test)]
mod tests;
