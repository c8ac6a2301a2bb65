//! How much room keys and values take, and where they lie in a block.
//!
//! ```text
//! block of 32 tokens:  [layer][kv head] { keys of 32 tokens, values of 32 tokens }
//! ```
//!
//! Inside, keys and values are in the order of the attention's kernels
//! ([`autoglm_kernels::attention`]), so that they are read where they lie.

use std::ops::Range;

use autoglm_core::KvFormat;
use autoglm_kernels::attention::{Head, Line};

use crate::{Error, Result};

/// Tokens of a block.
pub const BLOCK_TOKENS: usize = 32;

/// The size of a decoder's keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    layers: usize,
    kv_heads: usize,
    head: Head,
    lines: Lines,
    sink: Lines,
}

/// Lines of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lines {
    head: Head,
    keys: usize,
    values: usize,
    all: usize,
}

impl Lines {
    fn new(layers: usize, kv_heads: usize, head: Head) -> Option<Self> {
        let (keys, values) = (head.key_lines(BLOCK_TOKENS), head.value_lines(BLOCK_TOKENS));
        let all = keys.checked_add(values)?.checked_mul(kv_heads)?.checked_mul(layers)?;
        all.checked_mul(size_of::<Line>())?;
        Some(Self { head, keys, values, all })
    }
}

impl Shape {
    /// Keys and values of `kv_heads` heads of `head_dim` numbers in each of `layers` layers.
    ///
    /// # Errors
    /// [`Error::Shape`] for sizes of zero and for those whose product no machine addresses.
    pub fn new(layers: usize, kv_heads: usize, head_dim: usize, format: KvFormat) -> Result<Self> {
        let head = Head { dim: head_dim, format };
        let sink = Head { dim: head_dim, format: sink_format(format) };
        let lines = Lines::new(layers, kv_heads, head).zip(Lines::new(layers, kv_heads, sink));
        match lines {
            Some((lines, sink)) if layers > 0 && kv_heads > 0 && head_dim > 0 => {
                Ok(Self { layers, kv_heads, head, lines, sink })
            }
            _ => Err(Error::Shape { layers, kv_heads, head_dim }),
        }
    }

    /// Layers.
    #[must_use]
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// Key heads of a layer.
    #[must_use]
    pub fn kv_heads(&self) -> usize {
        self.kv_heads
    }

    /// One head.
    #[must_use]
    pub fn head(&self) -> Head {
        self.head
    }

    /// Bytes that one more token takes, a block's share.
    #[must_use]
    pub fn bytes_per_token(&self) -> u64 {
        self.block_bytes(1) / BLOCK_TOKENS as u64
    }

    /// Bytes of `tokens` tokens, in whole blocks.
    #[must_use]
    pub fn bytes(&self, tokens: usize) -> u64 {
        let blocks = tokens.div_ceil(BLOCK_TOKENS) as u64;
        let first = if blocks > 0 { self.block_bytes(0) } else { 0 };
        first.saturating_add(blocks.saturating_sub(1).saturating_mul(self.block_bytes(1)))
    }

    /// Bytes of block `index` of a sequence.
    #[must_use]
    pub fn block_bytes(&self, index: usize) -> u64 {
        (self.block_lines(index) * size_of::<Line>()) as u64
    }

    pub(crate) fn block_lines(&self, index: usize) -> usize {
        self.lines(index).all
    }

    /// How a head is held in block `index` of a sequence.
    pub(crate) fn head_of(&self, index: usize) -> Head {
        self.lines(index).head
    }

    /// Where the keys and the values of a head of a layer lie in block `index`.
    pub(crate) fn place(&self, index: usize, layer: usize, kv_head: usize) -> (Range<usize>, Range<usize>) {
        let Lines { keys, values, .. } = self.lines(index);
        let start = (layer * self.kv_heads + kv_head) * (keys + values);
        (start..start + keys, start + keys..start + keys + values)
    }

    /// Lines of the keys and of the values of one head in block `index`.
    pub(crate) fn cut(&self, index: usize) -> (usize, usize) {
        let lines = self.lines(index);
        (lines.keys, lines.values)
    }

    /// The first block holds the attention sinks, the first tokens, which every later token attends to
    /// with large weights and whose keys stand out; in a pool of integers it is held in bf16.
    fn lines(&self, index: usize) -> &Lines {
        if index == 0 { &self.sink } else { &self.lines }
    }
}

/// (Xiao et al., "Efficient streaming language models with attention sinks", 2023.)
fn sink_format(format: KvFormat) -> KvFormat {
    match format {
        KvFormat::F32 => KvFormat::F32,
        _ => KvFormat::Bf16,
    }
}
