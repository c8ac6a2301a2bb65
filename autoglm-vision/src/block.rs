//! One transformer block of the tower.
//!
//! ```text
//! x += proj(attention(rope(q), rope(k), v))     (q, k, v) = qkv(rms_norm(x, norm1))
//! x += down(silu(gate(y)) · up(y))              y = rms_norm(x, norm2)
//! ```
//!
//! Rows are worked on in chunks, all but keys and values, which attention needs whole, in the format of
//! [`Run::attention`].

use std::sync::Arc;

use autoglm_core::attention::{Attend, Mask, attend};
use autoglm_core::rope::Angles;
use autoglm_core::rows::add;
use autoglm_core::{Before, KeyValues, Member, Projection, Rope, Run, Source};
use candle_core::Tensor;

use crate::{Result, VisionConfig};

/// Some consecutive patches of one frame on their way through the tower.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Index of the first patch in the frame.
    pub(crate) start: usize,
    pub(crate) rows: Tensor, // (m, c)
    pub(crate) angles: Angles,
}

#[derive(Debug)]
pub(crate) struct Block {
    qkv: Arc<dyn Projection>,
    proj: Arc<dyn Projection>,
    gate_up: Arc<dyn Projection>,
    down: Arc<dyn Projection>,
    heads: usize,
    head_dim: usize,
}

impl Block {
    /// `prefix` names the block: `….blocks.0`.
    pub(crate) fn load(source: &dyn Source, config: &VisionConfig, prefix: &str) -> Result<Self> {
        // The block's inner width is the decoder's, not `intermediate_size`, which is the merger's.
        let (c, f) = (config.hidden_size, config.out_hidden_size);
        let member = |name: &str, out, inp| Member::new(format!("{prefix}.{name}"), out, inp);
        let norm = |name: &str| Before::RmsNorm { weight: format!("{prefix}.{name}.weight"), eps: config.rms_norm_eps };
        let qkv = member("attn.qkv", 3 * c, c).with_bias(config.attention_bias);
        let gate_up = [member("mlp.gate_proj", f, c), member("mlp.up_proj", f, c)];
        Ok(Self {
            qkv: source.projection(&[qkv], &norm("norm1"))?,
            proj: source.projection(&[member("attn.proj", c, c)], &Before::Nothing)?,
            gate_up: source.projection(&gate_up, &norm("norm2"))?,
            down: source.projection(&[member("mlp.down_proj", c, f)], &Before::SiluMul)?,
            heads: config.num_heads,
            head_dim: config.head_dim(),
        })
    }

    /// The block over all patches of one frame.
    pub(crate) fn forward(&self, run: &Run<'_>, rope: &Rope, chunks: &mut [Chunk]) -> Result<()> {
        let (h, d) = (self.heads, self.head_dim);
        let n = chunks.last().map_or(0, |chunk| chunk.start + chunk.rows.dims()[0]);
        let mut past = KeyValues::new(h, d, run.attention());
        past.reserve(n)?;
        let mut queries = Vec::with_capacity(chunks.len());
        for chunk in chunks.iter() {
            let qkv = self.qkv.forward(run, &chunk.rows)?; // (m, 3·c)
            let qkv = qkv.reshape((qkv.dim(0)?, 3 * h, d))?;
            let part = |i: usize| qkv.narrow(1, i * h, h);
            queries.push(rope.apply(run, &part(0)?, &chunk.angles)?);
            past.push(run, &rope.apply(run, &part(1)?, &chunk.angles)?, &part(2)?)?;
        }
        let how = Attend { mask: Mask::Everything, scale: (d as f32).sqrt().recip() };
        for (chunk, q) in chunks.iter_mut().zip(queries) {
            let heads = attend(run, &q, &past.stretches(), how)?; // (m, h, d)
            let x = add(run, &chunk.rows, &self.proj.forward(run, &heads.flatten_from(1)?)?)?;
            let y = self.down.forward(run, &self.gate_up.forward(run, &x)?)?;
            chunk.rows = add(run, &x, &y)?;
        }
        Ok(())
    }
}
