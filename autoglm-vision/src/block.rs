//! One transformer block of the tower.
//!
//! ```text
//! x += proj(attention(rope(q), rope(k), v))     (q, k, v) = qkv(rms_norm(x, norm1))
//! x += down(silu(gate(y)) · up(y))              y = rms_norm(x, norm2)
//! ```
//!
//! Rows are worked on in chunks, all but keys and values, which attention needs whole.

use std::sync::Arc;

use autoglm_core::attention::{Attend, Mask, attend};
use autoglm_core::rope::Angles;
use autoglm_core::rows::{from_rows, with_rows};
use autoglm_core::{Before, Member, Projection, Rope, Run, Source};
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
        let (mut k, mut v) = (vec![0f32; h * n * d], vec![0f32; h * n * d]);
        let mut queries = Vec::with_capacity(chunks.len());
        for chunk in chunks.iter() {
            let qkv = self.qkv.forward(run, &chunk.rows)?; // (m, 3·c)
            let m = qkv.dim(0)?;
            let part = |i: usize| qkv.narrow(1, i * h * d, h * d)?.reshape((m, h, d));
            queries.push(rope.apply(run, &part(0)?, &chunk.angles)?);
            head_by_head(&rope.apply(run, &part(1)?, &chunk.angles)?, chunk.start, n, &mut k)?;
            head_by_head(&part(2)?, chunk.start, n, &mut v)?;
        }
        let (k, v) = (from_rows(k, &[h, n, d])?, from_rows(v, &[h, n, d])?);
        let how = Attend { mask: Mask::Everything, scale: (d as f32).sqrt().recip() };
        for (chunk, q) in chunks.iter_mut().zip(queries) {
            let heads = attend(run, &q, &k, &v, how)?; // (m, h, d)
            let x = (&chunk.rows + self.proj.forward(run, &heads.flatten_from(1)?)?)?;
            let y = self.down.forward(run, &self.gate_up.forward(run, &x)?)?;
            chunk.rows = (x + y)?;
        }
        Ok(())
    }
}

/// Copies rows (m, h, d) to their place in `all`, (h, n, d).
fn head_by_head(rows: &Tensor, start: usize, n: usize, all: &mut [f32]) -> Result<()> {
    let (_, h, d) = rows.dims3()?;
    with_rows(rows, |rows| {
        for (i, row) in rows.chunks_exact(h * d).enumerate() {
            for (head, values) in row.chunks_exact(d).enumerate() {
                all[(head * n + start + i) * d..][..d].copy_from_slice(values);
            }
        }
    })?;
    Ok(())
}
