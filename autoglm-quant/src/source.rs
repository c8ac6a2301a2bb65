//! A checkpoint of floats, read as integers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use autoglm_core::checkpoint::Dtype;
use autoglm_core::{
    Before, Checkpoint, DenseSource, Embedding, Error as CoreError, FloatType, Member, Projection, Result, Run, Source,
    TensorBytes, TensorSpec,
};
use autoglm_kernels::Isa;
use candle_core::Tensor;

use crate::{Error, Format, Integer, Packed, Packing, Parts, Prepare, Scheme};

/// A dense checkpoint whose linear maps are quantised when they are asked for, as a [`Scheme`] says.
///
/// The stored weights are read row by row from the mapped file and not kept: memory is the packed
/// weights and what stays dense. Embeddings, norms and position tables stay as they are stored; a
/// tied head is quantised from the embedding, which stays dense beside it.
pub struct QuantSource<'a> {
    checkpoint: Arc<Checkpoint>,
    dense: DenseSource,
    halved: DenseSource,
    scheme: Scheme,
    isa: Isa,
    run: Run<'a>,
    done: Box<dyn Fn(u64) + Send + Sync + 'a>,
    packed_bytes: AtomicU64,
}

impl<'a> QuantSource<'a> {
    /// The weights of `checkpoint`, quantised by `run`'s workers for the kernels of `isa`.
    #[must_use]
    pub fn new(checkpoint: Arc<Checkpoint>, scheme: Scheme, isa: Isa, run: Run<'a>) -> Self {
        Self {
            dense: DenseSource::new(Arc::clone(&checkpoint), None),
            halved: DenseSource::new(Arc::clone(&checkpoint), Some(FloatType::F16)),
            checkpoint,
            scheme,
            isa,
            run,
            done: Box::new(|_| {}),
            packed_bytes: AtomicU64::new(0),
        }
    }

    /// The same source; `done` hears, from any worker, how many more weights were quantised. How many
    /// there will be says [`Scheme::weights`].
    #[must_use]
    pub fn watched(mut self, done: impl Fn(u64) + Send + Sync + 'a) -> Self {
        self.done = Box::new(done);
        self
    }

    /// Bytes of everything asked for so far: packed codes and steps, and the tensors that stayed
    /// dense, biases among them.
    #[must_use]
    pub fn weights_bytes(&self) -> u64 {
        // Both dense sources count what was handed out of the checkpoint, and only one converts.
        self.halved.weights_bytes() + self.packed_bytes.load(Ordering::Relaxed)
    }

    fn pack(&self, members: &[Member], before: &Before, packing: Packing) -> Result<Arc<dyn Projection>> {
        let name = members.first().map_or("", |member| member.name.as_str());
        let format = |source: Error| CoreError::Format { name: name.to_owned(), source: Box::new(source) };
        let width = members.first().map_or(0, |member| member.inp);
        let mut parts = Vec::with_capacity(members.len());
        for member in members {
            let tensor = format!("{}.weight", member.name);
            if member.inp != width {
                return Err(format(Error::Width { tensor, expected: width, got: member.inp }));
            }
            let matrix = self.checkpoint.matrix(&tensor, member.out, member.inp)?;
            parts.push((tensor, matrix));
        }
        let parts = Parts::new(parts, width).map_err(format)?;
        let packed = Packed::quantise(&self.run, self.isa, packing, self.scheme.rotated(), &parts, &*self.done);
        let packed = packed.map_err(format)?.with_bias(self.bias(members)?);
        let packed = packed.map_err(|source| format(Error::Kernel { tensor: name.to_owned(), source }))?;
        let prepare = Prepare::read(before, width, &self.dense)?;
        self.packed_bytes.fetch_add(packed.bytes(), Ordering::Relaxed);
        Ok(Arc::new(Integer::new(name, self.isa, packed, prepare)?))
    }

    /// The members' biases one after the other; a member without one has zeros beside one that has.
    fn bias(&self, members: &[Member]) -> Result<Option<Vec<f32>>> {
        if members.iter().all(|member| !member.bias) {
            return Ok(None);
        }
        let mut all = Vec::with_capacity(members.iter().map(|member| member.out).sum());
        for member in members {
            if member.bias {
                let bias = self.dense.tensor(&format!("{}.bias", member.name), &[member.out])?;
                all.extend(bias.to_vec1::<f32>()?);
            } else {
                all.resize(all.len() + member.out, 0.0);
            }
        }
        Ok(Some(all))
    }
}

impl Source for QuantSource<'_> {
    fn projection(&self, members: &[Member], before: &Before) -> Result<Arc<dyn Projection>> {
        let format = members.first().map_or(Format::Dense, |member| self.scheme.format(&member.name));
        match format {
            Format::Packed(packing) => self.pack(members, before, packing),
            Format::Dense => {
                let wide = |member: &Member| {
                    let info = self.checkpoint.info(&format!("{}.weight", member.name))?;
                    Ok::<_, CoreError>(info.dtype == Dtype::F32)
                };
                let any = members.iter().try_fold(false, |any, member| Ok::<_, CoreError>(any | wide(member)?))?;
                let source = if any { &self.halved } else { &self.dense };
                source.projection(members, before)
            }
        }
    }

    fn embedding(&self, name: &str, vocab_size: usize, width: usize) -> Result<Arc<dyn Embedding>> {
        self.dense.embedding(name, vocab_size, width)
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.dense.tensor(name, shape)
    }

    fn bytes(&self, name: &str) -> Result<TensorBytes> {
        self.dense.bytes(name)
    }
}

impl fmt::Debug for QuantSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QuantSource of {:?} as {:?}", self.checkpoint, self.scheme)
    }
}

impl Scheme {
    /// Whether this tensor is a linear map that becomes integers. A table that rows are read from is
    /// none.
    pub(crate) fn packs(&self, spec: &TensorSpec) -> bool {
        let module = spec.name.strip_suffix(".weight").unwrap_or_default();
        let table = module.ends_with("position_embedding") || module.ends_with("embed_tokens");
        spec.shape.len() >= 2 && !table && self.format(module) != Format::Dense
    }

    /// How many weights of a model of these tensors are quantised: the length of a progress bar.
    #[must_use]
    pub fn weights(&self, tensors: &[TensorSpec]) -> u64 {
        let tied = tensors.iter().all(|spec| !spec.name.ends_with("lm_head.weight"));
        let packed = |spec: &&TensorSpec| self.packs(spec) || tied && spec.name.ends_with("embed_tokens.weight");
        tensors.iter().filter(packed).map(|spec| spec.shape.iter().map(|d| *d as u64).product::<u64>()).sum()
    }
}

#[cfg(test)]
mod tests;
