//! One transformer layer of the encoder.
//!
//! ```text
//! x += o_proj(attention(rope(q), rope(k), v))     (q, k, v) = layer_norm(x, input_layernorm)
//! x += fc2(gelu(fc1(layer_norm(x, post_attention_layernorm))))
//! ```
//!
//! Every row attends to the whole window, the silence that fills it up included. Rows are worked on in
//! chunks, all but keys and values, which attention needs whole, in the format of [`Run::attention`].

use std::sync::Arc;

use autoglm_core::attention::{Attend, Mask, attend};
use autoglm_core::rope::Angles;
use autoglm_core::rows::add;
use autoglm_core::{Before, KeyValues, Member, Projection, Rope, Run, Source};
use candle_core::Tensor;

use crate::{AudioConfig, Result};

/// torch's default, which `GlmAsrEncoderLayer` does not change.
pub(crate) const LAYER_NORM_EPS: f32 = 1e-5;

/// Some consecutive rows of a window on their way through the encoder.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) rows: Tensor, // (m, c)
    pub(crate) angles: Angles,
}

#[derive(Debug)]
pub(crate) struct Layer {
    qkv: Arc<dyn Projection>,
    o_proj: Arc<dyn Projection>,
    fc1: Arc<dyn Projection>,
    fc2: Arc<dyn Projection>,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

impl Layer {
    /// `prefix` names the layer: `….layers.0`.
    pub(crate) fn load(source: &dyn Source, config: &AudioConfig, prefix: &str) -> Result<Self> {
        let (c, f, d) = (config.hidden_size, config.intermediate_size, config.head_dim());
        let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
        let map = |name: &str, out, inp| Member::new(format!("{prefix}.{name}"), out, inp);
        let norm = |name: &str| Before::LayerNorm {
            weight: format!("{prefix}.{name}.weight"),
            bias: format!("{prefix}.{name}.bias"),
            eps: LAYER_NORM_EPS,
        };
        let qkv = [
            map("self_attn.q_proj", heads * d, c).with_bias(true),
            map("self_attn.k_proj", kv_heads * d, c),
            map("self_attn.v_proj", kv_heads * d, c).with_bias(true),
        ];
        let o_proj = map("self_attn.o_proj", c, heads * d).with_bias(true);
        let [fc1, fc2] = [map("mlp.fc1", f, c), map("mlp.fc2", c, f)].map(|map| map.with_bias(true));
        Ok(Self {
            qkv: source.projection(&qkv, &norm("input_layernorm"))?,
            o_proj: source.projection(&[o_proj], &Before::Nothing)?,
            fc1: source.projection(&[fc1], &norm("post_attention_layernorm"))?,
            fc2: source.projection(&[fc2], &Before::Gelu)?,
            heads,
            kv_heads,
            head_dim: d,
        })
    }

    /// The layer over all rows of a window.
    pub(crate) fn forward(&self, run: &Run<'_>, rope: &Rope, chunks: &mut [Chunk]) -> Result<()> {
        let (h, kv_h, d) = (self.heads, self.kv_heads, self.head_dim);
        let n = chunks.iter().map(|chunk| chunk.rows.dims()[0]).sum();
        let mut past = KeyValues::new(kv_h, d, run.attention());
        past.reserve(n)?;
        let mut queries = Vec::with_capacity(chunks.len());
        for chunk in chunks.iter() {
            let qkv = self.qkv.forward(run, &chunk.rows)?; // (m, (h + 2 kv_h) d)
            let qkv = qkv.reshape((qkv.dim(0)?, h + 2 * kv_h, d))?;
            let part = |from: usize, count: usize| qkv.narrow(1, from, count);
            queries.push(rope.apply(run, &part(0, h)?, &chunk.angles)?);
            past.push(run, &rope.apply(run, &part(h, kv_h)?, &chunk.angles)?, &part(h + kv_h, kv_h)?)?;
        }
        let how = Attend { mask: Mask::Everything, scale: (d as f32).sqrt().recip() };
        for (chunk, q) in chunks.iter_mut().zip(queries) {
            let heads = attend(run, &q, &past.stretches(), how)?; // (m, h, d)
            let x = add(run, &chunk.rows, &self.o_proj.forward(run, &heads.flatten_from(1)?)?)?;
            let y = self.fc2.forward(run, &self.fc1.forward(run, &x)?)?;
            chunk.rows = add(run, &x, &y)?;
        }
        Ok(())
    }
}
