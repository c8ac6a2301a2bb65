//! One layer after the other with a narrower feed-forward network.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use autoglm::Transcript;
use autoglm_core::checkpoint::StoredMatrix;
use autoglm_core::{
    Before, Checkpoint, DenseSource, Embedding, FloatType, Member, Observe, Projection, Run, Sink, Source, TensorBytes,
};
use autoglm_prune::{FeedForward, Shrunk, Target, shrink};
use autoglm_text::{Decoder, DecoderLayer, Family};
use candle_core::Tensor;
use safetensors::tensor::TensorView;

use super::forward::Collect;
use crate::calibration::input;
use crate::error::{Error, Result};

/// What narrows layers.
#[derive(Debug)]
pub(super) struct Narrow<'a> {
    pub(super) run: &'a Run<'a>,
    pub(super) decoder: &'a Decoder,
    pub(super) checkpoint: &'a Arc<Checkpoint>,
    /// Nothing where networks stay as they are.
    pub(super) target: Option<Target>,
}

/// A layer's new weights.
#[derive(Debug)]
pub(super) struct Narrowed {
    tensors: BTreeMap<String, Vec<u8>>,
    pub(super) shrunk: Shrunk,
}

impl Narrowed {
    /// The new bytes of the tensor that the source calls `name`, if it has any.
    pub(super) fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.tensors.get(name).map(Vec::as_slice)
    }
}

impl Narrow<'_> {
    /// The rows of each calibration sequence before the first layer.
    pub(super) fn states(&self, shown: &[Transcript]) -> Vec<Tensor> {
        if self.target.is_none() {
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
    ) -> Result<Option<Narrowed>> {
        let Some(mut target) = self.target else { return Ok(None) };
        // Chance is another in every layer.
        target.seed = target.seed.wrapping_mul(1 << 16).wrapping_add(index as u64);
        let narrowed = self.narrow(target, index, states, shown, last);
        narrowed.map(Some).map_err(|source| Error::Layer { index, source: Box::new(source) })
    }

    fn narrow(
        &self,
        target: Target,
        index: usize,
        states: &mut [Tensor],
        shown: &[Transcript],
        last: bool,
    ) -> Result<Narrowed> {
        let config = self.decoder.config();
        let at = format!("{}.layers.{index}", config.prefix());
        let source = DenseSource::new(Arc::clone(self.checkpoint), None);
        let behind = (config.family != Family::GlmAsr).then_some(config.rms_norm_eps);
        let collect = self.observe(&source, &at, behind, states, shown)?;
        let network = Network::of(self.checkpoint, &at, config.hidden_size, config.intermediate_size)?;
        let gains: Option<Vec<f32>> = match behind {
            Some(_) => {
                let norm = format!("{at}.post_mlp_layernorm.weight");
                Some(source.tensor(&norm, &[config.hidden_size])?.to_vec1()?)
            }
            None => None,
        };
        let shrunk = collect.with(|gram| network.shrink(gram, target, gains.as_deref()))?;
        // The sums of a large network take more than all of its weights.
        drop(collect);
        let tensors = network.narrow(&shrunk)?;
        if !last {
            let mut narrow = config.clone();
            narrow.intermediate_size = target.to;
            let norm = format!("{at}.post_attention_layernorm.weight");
            let over = Over::new(&source, &tensors, &norm, &network, target.to, self.checkpoint)?;
            let layer = DecoderLayer::load(&over, &narrow, &at)?;
            for (rows, transcript) in states.iter_mut().zip(shown) {
                *rows = layer.whole(self.run, &narrow, &input(rows, &transcript.input)?)?;
            }
        }
        Ok(Narrowed { tensors, shrunk })
    }
}

impl Narrow<'_> {
    /// What flows through the feed-forward network of the layer at this path. Nothing but the answer holds it.
    fn observe(
        &self,
        source: &DenseSource,
        at: &str,
        behind: Option<f32>,
        states: &[Tensor],
        shown: &[Transcript],
    ) -> Result<Arc<Collect>> {
        let config = self.decoder.config();
        let collect = Collect::new(config.intermediate_size, behind)?;
        let observed = Observe::new(source, Arc::clone(&collect) as Arc<dyn Sink>);
        let layer = DecoderLayer::load(&observed, config, at)?;
        for (rows, transcript) in states.iter().zip(shown) {
            let passed = layer.whole(self.run, config, &input(rows, &transcript.input)?);
            passed.map_err(|failure| collect.failure().map_or(Error::from(failure), Error::from))?;
        }
        drop((layer, observed));
        Ok(collect)
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

    fn shrink(&self, gram: &autoglm_prune::Gram, target: Target, gains: Option<&[f32]>) -> Result<Shrunk> {
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
    fn narrow(&self, shrunk: &Shrunk) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut tensors = BTreeMap::new();
        let row = RefCell::new(Vec::new());
        for (number, (name, matrix)) in self.gate_up.iter().enumerate() {
            let parts = if self.gate_up.len() == 1 { 0..2 } else { number..number + 1 };
            let mut bytes = Vec::new();
            for part in parts {
                for j in &shrunk.kept {
                    let (matrix, at) = self.row(part, *j);
                    matrix.widen(at, &mut row.borrow_mut());
                    matrix.kind().narrow(&row.borrow(), &mut bytes);
                }
            }
            debug_assert_eq!(bytes.len() % matrix.kind().size(), 0);
            tensors.insert(name.clone(), bytes);
        }
        let (name, matrix) = &self.down;
        // Two bytes of f16 end at 65 504, which a fit may pass.
        let most = if matrix.kind() == FloatType::F16 { f32::from(half::f16::MAX) } else { f32::MAX };
        if let Some(value) = shrunk.down.iter().find(|x| !x.is_finite() || x.abs() > most) {
            return Err(Error::Range { tensor: name.clone(), value: *value, format: "its format" });
        }
        let mut bytes = Vec::new();
        matrix.kind().narrow(&shrunk.down, &mut bytes);
        tensors.insert(name.clone(), bytes);
        Ok(tensors)
    }
}

/// A source some of whose tensors are others.
struct Over<'a> {
    below: &'a DenseSource,
    above: DenseSource,
    names: Vec<String>,
}

impl<'a> Over<'a> {
    /// `tensors` of a network of `to` neurons above `below`; the norm before it comes along, because a map asks for it
    /// where its weights are.
    fn new(
        below: &'a DenseSource,
        tensors: &BTreeMap<String, Vec<u8>>,
        norm: &str,
        network: &Network,
        to: usize,
        checkpoint: &Checkpoint,
    ) -> Result<Self> {
        let norm_bytes = below.bytes(norm)?;
        let norm_kind = checkpoint.info(norm)?.float()?;
        let mut views = vec![(norm, view(norm_kind, vec![network.c], &norm_bytes)?)];
        for (name, matrix) in network.gate_up.iter().chain([&network.down]) {
            let Some(bytes) = tensors.get(name) else { continue };
            let shape = if *name == network.down.0 {
                vec![network.c, to]
            } else {
                vec![bytes.len() / matrix.kind().size() / network.c, network.c]
            };
            views.push((name.as_str(), view(matrix.kind(), shape, bytes)?));
        }
        let bytes = safetensors::serialize(views, None).map_err(|source| Error::Safetensors { source })?;
        let above = DenseSource::new(Arc::new(Checkpoint::from_bytes(bytes)?), None);
        Ok(Self { below, above, names: tensors.keys().cloned().collect() })
    }

    fn holder(&self, name: &str) -> &DenseSource {
        if self.names.iter().any(|own| own == name) { &self.above } else { self.below }
    }
}

fn view(kind: FloatType, shape: Vec<usize>, bytes: &[u8]) -> Result<TensorView<'_>> {
    TensorView::new(kind.dtype(), shape, bytes).map_err(|source| Error::Safetensors { source })
}

impl Source for Over<'_> {
    fn projection(&self, members: &[Member], before: &Before) -> autoglm_core::Result<Arc<dyn Projection>> {
        let name = members.first().map_or(String::new(), |member| format!("{}.weight", member.name));
        self.holder(&name).projection(members, before)
    }

    fn embedding(&self, name: &str, vocab: usize, width: usize) -> autoglm_core::Result<Arc<dyn Embedding>> {
        self.below.embedding(name, vocab, width)
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> autoglm_core::Result<Tensor> {
        self.holder(name).tensor(name, shape)
    }

    fn bytes(&self, name: &str) -> autoglm_core::Result<TensorBytes> {
        self.holder(name).bytes(name)
    }
}
