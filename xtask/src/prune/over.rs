//! A layer with new weights before they are written.

use std::collections::BTreeMap;
use std::sync::Arc;

use autoglm_core::{Before, Checkpoint, DenseSource, Embedding, FloatType, Member, Projection, Source, TensorBytes};
use candle_core::Tensor;
use safetensors::tensor::TensorView;

use crate::error::{Error, Result};

/// A tensor as it is going to be stored.
#[derive(Debug)]
pub(super) struct Weights {
    pub(super) kind: FloatType,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: Vec<u8>,
}

impl Weights {
    /// Values in the format of what they take the place of.
    ///
    /// # Errors
    /// [`Error::Range`] for what that format does not hold.
    pub(super) fn new(name: &str, kind: FloatType, shape: Vec<usize>, values: &[f32]) -> Result<Self> {
        // Two bytes of f16 end at 65 504, which a fit may pass.
        let most = match kind {
            FloatType::F16 => f32::from(half::f16::MAX),
            FloatType::Bf16 => f32::from(half::bf16::MAX),
            FloatType::F32 => f32::MAX,
        };
        if let Some(value) = values.iter().find(|x| !x.is_finite() || x.abs() > most) {
            return Err(Error::Range { tensor: name.to_owned(), value: *value, format: "its format" });
        }
        let mut bytes = Vec::new();
        kind.narrow(values, &mut bytes);
        Ok(Self { kind, shape, bytes })
    }
}

/// New tensors by the names that the source has for the old ones.
pub(super) type Tensors = BTreeMap<String, Weights>;

/// A part of a layer, and the norm before it, which a map asks for where its weights are.
pub(super) const ATTENTION: [&str; 2] = ["self_attn", "input_layernorm"];
pub(super) const NETWORK: [&str; 2] = ["mlp", "post_attention_layernorm"];

/// A source some of whose tensors are others.
pub(super) struct Over<'a> {
    below: &'a DenseSource,
    above: DenseSource,
    /// How the names of tensors above begin.
    prefixes: Vec<String>,
}

impl<'a> Over<'a> {
    /// The layer at this path with `tensors` in place of its own. Of a part that has new ones all are taken along, because
    /// several may make one map.
    pub(super) fn new(below: &'a DenseSource, checkpoint: &Checkpoint, at: &str, tensors: &Tensors) -> Result<Self> {
        let mut prefixes = Vec::new();
        let mut copied = BTreeMap::new();
        for [part, norm] in [ATTENTION, NETWORK] {
            let prefix = format!("{at}.{part}.");
            if !tensors.keys().any(|name| name.starts_with(&prefix)) {
                continue;
            }
            let norm = format!("{at}.{norm}.weight");
            for info in checkpoint.tensors() {
                let name: &str = &info.name;
                let own = name.starts_with(&prefix) && !tensors.contains_key(name);
                if own || name == norm {
                    copied.insert(name, (info, below.bytes(name)?));
                }
            }
            prefixes.push(prefix);
        }
        let view = |kind: FloatType, shape: &[usize], bytes| {
            TensorView::new(kind.dtype(), shape.to_vec(), bytes).map_err(|source| Error::Safetensors { source })
        };
        let mut views = Vec::new();
        for (name, weights) in tensors {
            views.push((name.as_str(), view(weights.kind, &weights.shape, &weights.bytes)?));
        }
        for (name, (info, bytes)) in &copied {
            views.push((*name, view(info.float()?, &info.shape, bytes)?));
        }
        let bytes = safetensors::serialize(views, None).map_err(|source| Error::Safetensors { source })?;
        let above = DenseSource::new(Arc::new(Checkpoint::from_bytes(bytes)?), None);
        Ok(Self { below, above, prefixes })
    }

    fn holder(&self, name: &str) -> &DenseSource {
        if self.prefixes.iter().any(|prefix| name.starts_with(prefix)) { &self.above } else { self.below }
    }
}

impl Source for Over<'_> {
    fn projection(&self, members: &[Member], before: &Before) -> autoglm_core::Result<Arc<dyn Projection>> {
        self.holder(members.first().map_or("", |member| &member.name)).projection(members, before)
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
