//! The GLM-4 decoder, and the Llama decoder of GLM-ASR, which lacks two of its norms.
//!
//! ```text
//! x ← embeddings
//! per layer:
//!   x ← x + rms(Wo · attention(rope(Wq·a + bq), rope(Wk·a + bk), Wv·a + bv)),   a = rms(x)
//!   x ← x + rms(Wdown · (silu(gate) · up)),   (gate | up) = Wgate_up · rms(x)
//! logits = Whead · rms(x)
//! ```
//!
//! The four norms of a layer are, in this order, `input_layernorm`, `post_self_attn_layernorm`,
//! `post_attention_layernorm` (which despite its name stands before the feed-forward network) and
//! `post_mlp_layernorm`. A Llama layer has the first and the third, and adds what attention and feed-forward
//! network give as it is. Source: transformers' `modeling_glm4v.py`, `modeling_glm4.py` and `modeling_llama.py`.

use std::sync::Arc;

use autoglm_core::cache::Step;
use autoglm_core::rope::Angles;
use autoglm_core::rows::add;
use autoglm_core::{
    Before, DecoderInput, DenseCache, Embedding, KvCache, KvFormat, Member, Positions, Projection, RmsNorm, Rope, Run,
    Source, Want,
};
use candle_core::Tensor;

use crate::{Result, TextConfig};

/// One sequence's share of a step: what goes in, and the past it is attended to with.
pub type Sequence<'a> = (&'a DecoderInput, &'a mut dyn KvCache);

/// A decoder's parameters. It holds no state: what changes is passed in.
#[derive(Debug)]
pub struct Decoder {
    config: TextConfig,
    rope: Rope,
    embed_tokens: Arc<dyn Embedding>,
    layers: Vec<DecoderLayer>,
    lm_head: Arc<dyn Projection>,
}

impl Decoder {
    /// Asks `source` for every parameter that `config` names.
    ///
    /// # Errors
    /// Names the tensor that is missing or has another shape or type.
    pub fn load(source: &dyn Source, config: TextConfig) -> Result<Self> {
        let prefix = config.prefix();
        let c = config.hidden_size;
        let final_norm = Before::RmsNorm { weight: format!("{prefix}.norm.weight"), eps: config.rms_norm_eps };
        Ok(Self {
            rope: config.rope()?,
            embed_tokens: source.embedding(&format!("{prefix}.embed_tokens.weight"), config.vocab_size, c)?,
            layers: (0..config.num_hidden_layers)
                .map(|i| DecoderLayer::load(source, &config, &format!("{prefix}.layers.{i}")))
                .collect::<Result<_>>()?,
            lm_head: source.projection(&[Member::new(config.head_name(), config.vocab_size, c)], &final_norm)?,
            config,
        })
    }

    /// The blueprint.
    #[must_use]
    pub fn config(&self) -> &TextConfig {
        &self.config
    }

    /// Its layers, first to last, for tools that take a model apart.
    #[must_use]
    pub fn layers(&self) -> &[DecoderLayer] {
        &self.layers
    }

    /// The last norm and the output layer: rows that left the last layer (n, c) into logits (n, v).
    ///
    /// # Errors
    /// [`autoglm_core::Error::Shape`] when the rows have another width.
    pub fn head(&self, run: &Run<'_>, x: &Tensor) -> Result<Tensor> {
        Ok(self.lm_head.forward(run, x)?)
    }

    /// The table that turns token ids into rows.
    #[must_use]
    pub fn embed_tokens(&self) -> &dyn Embedding {
        &*self.embed_tokens
    }

    /// An empty cache for at most `limit` rows of one sequence.
    #[must_use]
    pub fn dense_cache(&self, limit: usize, format: KvFormat) -> DenseCache {
        let TextConfig { num_hidden_layers, num_key_value_heads, head_dim, .. } = self.config;
        DenseCache::new(num_hidden_layers, num_key_value_heads, head_dim, limit, format)
    }

    /// Bytes of weights that a step of one row reads: every layer's and the head's.
    #[must_use]
    pub fn bytes_per_step(&self) -> u64 {
        let of_layer = |layer: &DecoderLayer| {
            let maps =
                [&layer.self_attn.qkv_proj, &layer.self_attn.o_proj, &layer.mlp.gate_up_proj, &layer.mlp.down_proj];
            maps.into_iter().map(|map| map.bytes()).sum::<u64>()
        };
        self.layers.iter().map(of_layer).sum::<u64>() + self.lm_head.bytes()
    }

    /// Runs one step for one sequence. The answer is (rows, vocab) in f32: no row, the last one or
    /// all, as the input wants.
    ///
    /// After an error the cache's layers may differ in length; [`KvCache::truncate`] to the length
    /// before the step makes it whole again.
    ///
    /// # Errors
    /// - [`autoglm_core::Error::ContextFull`] when the cache cannot take the rows.
    /// - [`autoglm_core::Error::Shape`] when the rows have another width.
    pub fn forward(&self, run: &Run<'_>, input: &DecoderInput, cache: &mut dyn KvCache) -> Result<Option<Tensor>> {
        let mut logits = self.step(run, &mut [(input, cache)])?;
        Ok(logits.pop().flatten())
    }

    /// Runs one step for several sequences, whose rows share every matrix product; one answer each.
    ///
    /// # Errors
    /// As for [`Decoder::forward`].
    pub fn step(&self, run: &Run<'_>, sequences: &mut [Sequence<'_>]) -> Result<Vec<Option<Tensor>>> {
        let all: Vec<&Tensor> = sequences.iter().map(|(input, _)| input.rows()).collect();
        let mut x = Tensor::cat(&all, 0)?; // (n, c)
        let angles: Vec<Angles> = sequences.iter().map(|(input, _)| self.rope.angles(input.positions())).collect();
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(run, i, &x, &self.rope, &angles, sequences)?;
        }
        let mut start = 0;
        sequences
            .iter()
            .map(|(input, _)| {
                let n = input.len();
                let wanted = match input.want() {
                    Want::Nothing => None,
                    Want::Last => Some((start + n - 1, 1)),
                    Want::All => Some((start, n)),
                };
                start += n;
                wanted.map(|(at, rows)| Ok(self.lm_head.forward(run, &x.narrow(0, at, rows)?)?)).transpose()
            })
            .collect()
    }

    /// Rows and positions of a run of text that starts at `start`, for callers without pictures.
    ///
    /// # Errors
    /// [`autoglm_core::Error::TokenOutOfRange`] for an id beyond the vocabulary.
    pub fn text_input(&self, ids: &[autoglm_core::TokenId], start: u32, want: Want) -> Result<DecoderInput> {
        Ok(DecoderInput::new(self.embed_tokens.rows(ids)?, Positions::text(start, ids.len())?, want)?)
    }
}

/// One layer's parameters.
#[derive(Debug)]
pub struct DecoderLayer {
    self_attn: Attention,
    post_self_attn_layernorm: Option<RmsNorm>,
    mlp: Mlp,
    post_mlp_layernorm: Option<RmsNorm>,
}

impl DecoderLayer {
    /// Asks `source` for the parameters of the layer at this path, `{prefix}.layers.{index}`.
    ///
    /// # Errors
    /// Names the tensor that is missing or has another shape or type.
    pub fn load(source: &dyn Source, config: &TextConfig, at: &str) -> Result<Self> {
        let norm = |name: &str| {
            if !config.family.norms().contains(&name) {
                return Ok(None);
            }
            let weight = source.tensor(&format!("{at}.{name}.weight"), &[config.hidden_size])?;
            Ok::<_, crate::Error>(Some(RmsNorm::new(&weight, config.rms_norm_eps)?))
        };
        Ok(Self {
            self_attn: Attention::load(source, config, at)?,
            post_self_attn_layernorm: norm("post_self_attn_layernorm")?,
            mlp: Mlp::load(source, config, at)?,
            post_mlp_layernorm: norm("post_mlp_layernorm")?,
        })
    }

    /// A whole sequence through this layer alone: its rows as they entered (n, c) into those that leave, in f32
    /// throughout.
    ///
    /// # Errors
    /// As for [`Decoder::forward`].
    pub fn whole(&self, run: &Run<'_>, config: &TextConfig, input: &DecoderInput) -> Result<Tensor> {
        let rope = config.rope()?;
        let angles = [rope.angles(input.positions())];
        let mut cache = DenseCache::new(1, config.num_key_value_heads, config.head_dim, input.len(), KvFormat::F32);
        self.forward(run, 0, input.rows(), &rope, &angles, &mut [(input, &mut cache)])
    }

    fn forward(
        &self,
        run: &Run<'_>,
        index: usize,
        x: &Tensor,
        rope: &Rope,
        angles: &[Angles],
        sequences: &mut [Sequence<'_>],
    ) -> Result<Tensor> {
        let attended = self.self_attn.forward(run, index, x, rope, angles, sequences)?;
        let x = added(run, self.post_self_attn_layernorm.as_ref(), &attended, x)?;
        let fed = self.mlp.forward(run, &x)?;
        added(run, self.post_mlp_layernorm.as_ref(), &fed, &x)
    }
}

/// A branch, normalised where it ends in a norm, onto the residual stream.
fn added(run: &Run<'_>, norm: Option<&RmsNorm>, branch: &Tensor, onto: &Tensor) -> Result<Tensor> {
    Ok(match norm {
        Some(norm) => norm.add_onto(run, branch, onto)?,
        None => add(run, branch, onto)?,
    })
}

#[derive(Debug)]
struct Attention {
    qkv_proj: Arc<dyn Projection>,
    o_proj: Arc<dyn Projection>,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

impl Attention {
    fn load(source: &dyn Source, config: &TextConfig, at: &str) -> Result<Self> {
        let (c, d) = (config.hidden_size, config.head_dim);
        let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
        let member = |name: &str, h: usize| {
            Member::new(format!("{at}.self_attn.{name}"), h * d, c).with_bias(config.attention_bias)
        };
        let before = Before::RmsNorm { weight: format!("{at}.input_layernorm.weight"), eps: config.rms_norm_eps };
        Ok(Self {
            qkv_proj: source.projection(
                &[member("q_proj", heads), member("k_proj", kv_heads), member("v_proj", kv_heads)],
                &before,
            )?,
            o_proj: source
                .projection(&[Member::new(format!("{at}.self_attn.o_proj"), c, heads * d)], &Before::Nothing)?,
            heads,
            kv_heads,
            head_dim: d,
        })
    }

    fn forward(
        &self,
        run: &Run<'_>,
        layer: usize,
        x: &Tensor,
        rope: &Rope,
        angles: &[Angles],
        sequences: &mut [Sequence<'_>],
    ) -> Result<Tensor> {
        let (h, kv_h, d) = (self.heads, self.kv_heads, self.head_dim);
        let qkv = self.qkv_proj.forward(run, x)?; // (n, (h + 2 kv_h) d)
        let qkv = qkv.reshape((qkv.dim(0)?, h + 2 * kv_h, d))?;
        let mut start = 0;
        let mut answers = Vec::with_capacity(sequences.len());
        for ((input, cache), angles) in sequences.iter_mut().zip(angles) {
            let n = input.len();
            let rows = qkv.narrow(0, start, n)?;
            start += n;
            let part = |from: usize, count: usize| rows.narrow(1, from, count);
            let q = rope.apply(run, &part(0, h)?, angles)?;
            let k = rope.apply(run, &part(h, kv_h)?, angles)?;
            let v = part(h + kv_h, kv_h)?;
            let step = Step { q: &q, k: &k, v: &v, scale: (d as f32).powf(-0.5) };
            answers.push(cache.attend(run, layer, step)?.reshape((n, h * d))?);
        }
        Ok(self.o_proj.forward(run, &Tensor::cat(&answers, 0)?)?)
    }
}

#[derive(Debug)]
struct Mlp {
    gate_up_proj: Arc<dyn Projection>,
    down_proj: Arc<dyn Projection>,
}

impl Mlp {
    fn load(source: &dyn Source, config: &TextConfig, at: &str) -> Result<Self> {
        let (c, f) = (config.hidden_size, config.intermediate_size);
        let before =
            Before::RmsNorm { weight: format!("{at}.post_attention_layernorm.weight"), eps: config.rms_norm_eps };
        Ok(Self {
            gate_up_proj: source.projection(&config.gate_up(at), &before)?,
            down_proj: source.projection(&[Member::new(format!("{at}.mlp.down_proj"), c, f)], &Before::SiluMul)?,
        })
    }

    fn forward(&self, run: &Run<'_>, x: &Tensor) -> Result<Tensor> {
        Ok(self.down_proj.forward(run, &self.gate_up_proj.forward(run, x)?)?)
    }
}

#[cfg(test)]
mod tests;
