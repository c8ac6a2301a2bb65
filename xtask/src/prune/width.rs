//! One layer after the other with fewer heads and a narrower feed-forward network.

use std::sync::Arc;

use autoglm::Transcript;
use autoglm_core::checkpoint::StoredMatrix;
use autoglm_core::{Checkpoint, DenseSource, Observe, Run, Sink, Source};
use autoglm_prune::{FeedForward, Gram, Shrunk, Target, shrink};
use autoglm_text::{Decoder, DecoderLayer, Family, TextConfig};
use candle_core::Tensor;

use super::forward::Collect;
use super::heads::Queries;
use super::over::{Over, Tensors, Weights};
use crate::calibration::input;
use crate::error::{Error, Result};

/// What narrows layers.
#[derive(Debug)]
pub(super) struct Narrow<'a> {
    pub(super) run: &'a Run<'a>,
    pub(super) decoder: &'a Decoder,
    pub(super) checkpoint: &'a Arc<Checkpoint>,
    /// Nothing where all heads stay.
    pub(super) heads: Option<Target>,
    /// Nothing where networks stay as they are.
    pub(super) ffn: Option<Target>,
}

/// A layer's new weights.
#[derive(Debug, Default)]
pub(super) struct Narrowed {
    tensors: Tensors,
    pub(super) heads: Option<Shrunk>,
    pub(super) ffn: Option<Shrunk>,
}

impl Narrowed {
    /// The new bytes of the tensor that the source calls `name`, if it has any.
    pub(super) fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.tensors.get(name).map(|weights| weights.bytes.as_slice())
    }
}

impl Narrow<'_> {
    /// The rows of each calibration sequence before the first layer.
    pub(super) fn states(&self, shown: &[Transcript]) -> Vec<Tensor> {
        if self.heads.is_none() && self.ffn.is_none() {
            return Vec::new();
        }
        shown.iter().map(|transcript| transcript.input.rows().clone()).collect()
    }

    /// Narrows layer `index` by what `states` show of it, and takes them through it; behind the last one they are not
    /// needed.
    pub(super) fn layer(
        &self,
        index: usize,
        states: &mut [Tensor],
        shown: &[Transcript],
        last: bool,
    ) -> Result<Narrowed> {
        if self.heads.is_none() && self.ffn.is_none() {
            return Ok(Narrowed::default());
        }
        let narrowed = self.narrow(index, states, shown, last);
        narrowed.map_err(|source| Error::Layer { index, source: Box::new(source) })
    }

    /// The attention comes first, so that the network is narrowed by what fewer heads leave it.
    fn narrow(&self, index: usize, states: &mut [Tensor], shown: &[Transcript], last: bool) -> Result<Narrowed> {
        let mut config = self.decoder.config().clone();
        let at = format!("{}.layers.{index}", config.prefix());
        let source = DenseSource::new(Arc::clone(self.checkpoint), None);
        let seen = Seen { narrow: self, at: &at, states, shown };
        let mut narrowed = Narrowed::default();
        // Chance is another in every layer.
        let of_layer =
            |target: Target| Target { seed: target.seed.wrapping_mul(1 << 16).wrapping_add(index as u64), ..target };
        if let Some(target) = self.heads.map(of_layer) {
            let queries = Queries::of(self.checkpoint, &at, &config)?;
            let by = seen.by(&source, &config, ["self_attn.o_proj", "post_self_attn_layernorm"])?;
            let shrunk = by.with(|gram, gains| queries.shrink(gram, target, gains))?;
            drop(by);
            narrowed.tensors = queries.narrow(&shrunk)?;
            narrowed.heads = Some(shrunk);
            config.num_attention_heads = target.to;
        }
        if let Some(target) = self.ffn.map(of_layer) {
            let network = Network::of(self.checkpoint, &at, config.hidden_size, config.intermediate_size)?;
            let over = Over::new(&source, self.checkpoint, &at, &narrowed.tensors)?;
            let by = seen.by(&over, &config, ["mlp.down_proj", "post_mlp_layernorm"])?;
            let shrunk = by.with(|gram, gains| network.shrink(gram, target, gains))?;
            drop(by);
            narrowed.tensors.append(&mut network.narrow(&shrunk)?);
            narrowed.ffn = Some(shrunk);
            config.intermediate_size = target.to;
        }
        if !last {
            let over = Over::new(&source, self.checkpoint, &at, &narrowed.tensors)?;
            let layer = DecoderLayer::load(&over, &config, &at)?;
            for (rows, transcript) in states.iter_mut().zip(shown) {
                *rows = layer.whole(self.run, &config, &input(rows, &transcript.input)?)?;
            }
        }
        Ok(narrowed)
    }
}

/// A layer and the rows that come to it.
struct Seen<'a> {
    narrow: &'a Narrow<'a>,
    at: &'a str,
    states: &'a [Tensor],
    shown: &'a [Transcript],
}

/// What is known of a map: what goes through it, and the weight of the norm behind it where there is one.
struct By {
    collect: Arc<Collect>,
    gains: Option<Vec<f32>>,
}

impl By {
    fn with<R>(&self, read: impl FnOnce(&Gram, Option<&[f32]>) -> R) -> R {
        self.collect.with(|gram| read(gram, self.gains.as_deref()))
    }
}

impl Seen<'_> {
    /// Runs the layer of `source` and sums up what flows through `map`, before `norm`. The sums of a large network take
    /// more than all of its weights; nothing but the answer holds them.
    fn by(&self, source: &dyn Source, config: &TextConfig, [map, norm]: [&'static str; 2]) -> Result<By> {
        // The Llama of GLM-ASR has no norm there.
        let behind = (config.family != Family::GlmAsr).then_some(config.rms_norm_eps);
        let gains = match behind {
            Some(_) => Some(source.tensor(&format!("{}.{norm}.weight", self.at), &[config.hidden_size])?.to_vec1()?),
            None => None,
        };
        let width = match map {
            "mlp.down_proj" => config.intermediate_size,
            _ => config.num_attention_heads * config.head_dim,
        };
        let collect = Collect::new(map, width, behind)?;
        let observed = Observe::new(source, Arc::clone(&collect) as Arc<dyn Sink>);
        let layer = DecoderLayer::load(&observed, config, self.at)?;
        for (rows, transcript) in self.states.iter().zip(self.shown) {
            let passed = layer.whole(self.narrow.run, config, &input(rows, &transcript.input)?);
            passed.map_err(|failure| collect.untold.behind(failure))?;
        }
        drop((layer, observed));
        Ok(By { collect, gains })
    }
}

/// A layer's feed-forward network as it is stored.
struct Network {
    /// Each matrix by the name of its tensor; gate and up are one or two.
    gate_up: Vec<(String, StoredMatrix)>,
    down: (String, StoredMatrix),
    c: usize,
    f: usize,
}

impl Network {
    fn of(checkpoint: &Checkpoint, at: &str, c: usize, f: usize) -> Result<Self> {
        let matrix = |name: &str, rows, columns| {
            let name = format!("{at}.mlp.{name}.weight");
            let matrix = checkpoint.matrix(&name, rows, columns)?;
            Ok::<_, Error>((name, matrix))
        };
        let gate_up = if checkpoint.contains(&format!("{at}.mlp.gate_up_proj.weight")) {
            vec![matrix("gate_up_proj", 2 * f, c)?]
        } else {
            vec![matrix("gate_proj", f, c)?, matrix("up_proj", f, c)?]
        };
        Ok(Self { gate_up, down: matrix("down_proj", c, f)?, c, f })
    }

    /// The matrix and the row of `gate`, part 0, or `up`, part 1, of neuron `j`.
    fn row(&self, part: usize, j: usize) -> (&StoredMatrix, usize) {
        match &self.gate_up[..] {
            [(_, both)] => (both, part * self.f + j),
            apart => (&apart[part].1, j),
        }
    }

    fn shrink(&self, gram: &Gram, target: Target, gains: Option<&[f32]>) -> Result<Shrunk> {
        let read = |part: usize| {
            move |j: usize, into: &mut Vec<f32>| {
                let (matrix, row) = self.row(part, j);
                matrix.widen(row, into);
            }
        };
        let (gate, up) = (read(0), read(1));
        let network = FeedForward {
            width: self.f,
            outputs: self.c,
            gate: &gate,
            up: &up,
            down: &|i, into| self.down.1.widen(i, into),
            gains,
        };
        Ok(shrink(&network, gram, target)?)
    }

    /// The new tensors, each in the format of the old one.
    fn narrow(&self, shrunk: &Shrunk) -> Result<Tensors> {
        let mut tensors = Tensors::new();
        let to = shrunk.kept.len();
        let mut row = Vec::new();
        for (number, (name, matrix)) in self.gate_up.iter().enumerate() {
            let parts = if self.gate_up.len() == 1 { 0..2 } else { number..number + 1 };
            let shape = vec![parts.len() * to, self.c];
            let mut bytes = Vec::new();
            for part in parts {
                for j in &shrunk.kept {
                    let (matrix, at) = self.row(part, *j);
                    matrix.widen(at, &mut row);
                    matrix.kind().narrow(&row, &mut bytes);
                }
            }
            tensors.insert(name.clone(), Weights { kind: matrix.kind(), shape, bytes });
        }
        let (name, matrix) = &self.down;
        let down = Weights::new(name, matrix.kind(), vec![self.c, to], &shrunk.map)?;
        tensors.insert(name.clone(), down);
        Ok(tensors)
    }
}
