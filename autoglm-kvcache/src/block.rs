//! Keys and values of thirty-two consecutive tokens, of all layers.

use std::sync::Arc;

use autoglm_kernels::attention::{Line, Stretch};

use crate::Shape;
use crate::ledger::Ledger;

/// A block. Whoever holds it alone may write to it; what several hold is never written to again.
#[derive(Debug)]
pub(crate) struct Block {
    lines: Vec<Line>,
    ledger: Arc<Ledger>,
}

impl Block {
    /// Block `index` of a sequence, all zeros; none where the budget is used up.
    pub(crate) fn new(ledger: &Arc<Ledger>, shape: &Shape, index: usize) -> autoglm_core::Result<Option<Self>> {
        let lines = ledger.take(shape.block_lines(index))?;
        Ok(lines.map(|lines| Self { lines, ledger: Arc::clone(ledger) }))
    }

    /// Takes over what `other`, a block of the same index, holds.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.lines.copy_from_slice(&other.lines);
    }

    /// Appends the lines, little-endian, where this is block `index` and its first `rows` tokens count: what
    /// lies behind them belongs to something else and is written as zeros.
    pub(crate) fn write_rows(&self, shape: &Shape, index: usize, rows: usize, to: &mut Vec<u8>) {
        let head = shape.head_of(index);
        let (keys, values) = shape.cut(index);
        for lines in self.lines.chunks_exact(keys + values) {
            let mut lines = lines.to_vec();
            let (k, v) = lines.split_at_mut(keys);
            head.clear_from(k, v, rows);
            lines.iter().flat_map(Line::words).for_each(|word| to.extend_from_slice(&word.to_le_bytes()));
        }
    }

    /// Takes over what `write_rows` wrote.
    ///
    /// # Panics
    /// When it is of another length: a bug of the caller.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<4>();
        assert!(rest.is_empty() && words.len() == self.lines.len() * 16, "a whole block");
        for (line, words) in self.lines.iter_mut().zip(words.chunks_exact(16)) {
            let mut numbers = [0; 16];
            numbers.iter_mut().zip(words).for_each(|(number, bytes)| *number = u32::from_le_bytes(*bytes));
            *line = Line::from_words(numbers);
        }
    }

    /// Leaves a mark in the place of a token's key, for tests that compute nothing.
    #[cfg(test)]
    pub(crate) fn set_mark(&mut self, token: usize, mark: [u8; 32]) {
        let mut line = [0u32; 16];
        line.iter_mut()
            .zip(mark.chunks(4))
            .for_each(|(to, from)| *to = from.iter().fold(0, |word, byte| word << 8 | u32::from(*byte)));
        self.lines[token] = Line::from_words(line);
    }

    /// The mark of a token.
    #[cfg(test)]
    pub(crate) fn mark(&self, token: usize) -> [u8; 32] {
        let mut mark = [0; 32];
        mark.chunks_mut(4)
            .zip(self.lines[token].words())
            .for_each(|(to, word)| to.copy_from_slice(&word.to_be_bytes()));
        mark
    }

    /// Bytes.
    pub(crate) fn bytes(&self) -> u64 {
        size_of_val(&self.lines[..]) as u64
    }

    /// A head of a layer, where this is block `index`.
    pub(crate) fn stretch(&self, shape: &Shape, index: usize, layer: usize, kv_head: usize) -> Stretch<'_> {
        let (keys, values) = shape.place(index, layer, kv_head);
        Stretch { format: shape.head_of(index).format, keys: &self.lines[keys], values: &self.lines[values] }
    }

    /// The keys and values of all heads of a layer, where this is block `index`.
    pub(crate) fn layer_mut(
        &mut self,
        shape: &Shape,
        index: usize,
        layer: usize,
    ) -> impl Iterator<Item = (&mut [Line], &mut [Line])> {
        let (keys, values) = shape.cut(index);
        let (from, _) = shape.place(index, layer, 0);
        let len = (keys + values) * shape.kv_heads();
        self.lines[from.start..][..len].chunks_exact_mut(keys + values).map(move |head| head.split_at_mut(keys))
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.ledger.give(std::mem::take(&mut self.lines));
    }
}
