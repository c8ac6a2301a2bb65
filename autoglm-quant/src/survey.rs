//! Which linear maps a model asks its source for, without making any.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use autoglm_core::{
    Before, Checkpoint, DenseSource, Embedding, Error, Member, Projection, Result, Run, Source, TensorBytes,
};
use candle_core::Tensor;

/// A source that writes down what it is asked for. The maps it gives know their widths and nothing
/// else; small tensors are the checkpoint's own, because a model may compute with them at load.
pub struct Survey {
    dense: DenseSource,
    maps: Mutex<Vec<Vec<Member>>>,
}

impl Survey {
    /// Of a model that is loaded from `checkpoint`.
    #[must_use]
    pub fn new(checkpoint: Arc<Checkpoint>) -> Self {
        Self { dense: DenseSource::new(checkpoint, None), maps: Mutex::default() }
    }

    /// The members of each map that was asked for, in the order of asking.
    #[must_use]
    pub fn into_maps(self) -> Vec<Vec<Member>> {
        self.maps.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Survey {
    fn projection(&self, members: &[Member], before: &Before) -> Result<Arc<dyn Projection>> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner).push(members.to_vec());
        let width = members.first().map_or(0, |member| member.inp);
        let width_in = if *before == Before::SiluMul { 2 * width } else { width };
        Ok(Arc::new(Outline { width_in, width_out: members.iter().map(|member| member.out).sum() }))
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

impl fmt::Debug for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Survey of {:?}", self.dense)
    }
}

/// A map without weights.
#[derive(Debug)]
struct Outline {
    width_in: usize,
    width_out: usize,
}

impl Projection for Outline {
    fn forward(&self, _: &Run<'_>, _: &Tensor) -> Result<Tensor> {
        Err(Error::MissingTensor { name: "the weight of a map that was only asked about".to_owned() })
    }

    fn width_in(&self) -> usize {
        self.width_in
    }

    fn width_out(&self) -> usize {
        self.width_out
    }

    fn bytes(&self) -> u64 {
        0
    }
}
