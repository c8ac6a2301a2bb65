//! Looking at what goes into linear maps and what comes out, for calibration.
//!
//! Whoever scores or quantises weights by what flows through them wraps a model's [`Source`] in an
//! [`Observe`] and runs the model; nobody has to know how the model is built.

use std::fmt;
use std::sync::Arc;

use candle_core::Tensor;

use crate::prepare::Prepare;
use crate::{Before, Embedding, Member, Projection, Result, Run, Source, TensorBytes};

/// What is shown the rows of linear maps.
pub trait Sink: fmt::Debug + Send + Sync {
    /// Whether it wants to see the map of these members.
    fn wants(&self, members: &[Member]) -> bool;

    /// Rows on their way through the map of `members`: `x` (n, in) as the product takes them, behind what happens
    /// to them first, and `y` (n, out) as it gives them.
    ///
    /// # Errors
    /// Whatever the sink cannot take; the forward pass ends with it.
    fn see(&self, members: &[Member], x: &Tensor, y: &Tensor) -> Result<()>;
}

/// A source whose maps show their rows to a [`Sink`].
pub struct Observe<'a> {
    source: &'a dyn Source,
    sink: Arc<dyn Sink>,
}

impl<'a> Observe<'a> {
    /// The maps of `source` that `sink` wants, observed; all others as they are.
    #[must_use]
    pub fn new(source: &'a dyn Source, sink: Arc<dyn Sink>) -> Self {
        Self { source, sink }
    }
}

impl Source for Observe<'_> {
    fn projection(&self, members: &[Member], before: &Before) -> Result<Arc<dyn Projection>> {
        if !self.sink.wants(members) {
            return self.source.projection(members, before);
        }
        let product = self.source.projection(members, &Before::Nothing)?;
        let before = Prepare::load(self.source, before, product.width_in())?;
        Ok(Arc::new(Observed { members: members.to_vec(), before, product, sink: Arc::clone(&self.sink) }))
    }

    fn embedding(&self, name: &str, vocab_size: usize, width: usize) -> Result<Arc<dyn Embedding>> {
        self.source.embedding(name, vocab_size, width)
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.source.tensor(name, shape)
    }

    fn bytes(&self, name: &str) -> Result<TensorBytes> {
        self.source.bytes(name)
    }
}

impl fmt::Debug for Observe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Observe for {:?}", self.sink)
    }
}

#[derive(Debug)]
struct Observed {
    members: Vec<Member>,
    before: Prepare,
    product: Arc<dyn Projection>,
    sink: Arc<dyn Sink>,
}

impl Projection for Observed {
    fn forward(&self, run: &Run<'_>, x: &Tensor) -> Result<Tensor> {
        let x = self.before.apply(run, x)?;
        let y = self.product.forward(run, &x)?;
        self.sink.see(&self.members, &x, &y)?;
        Ok(y)
    }

    fn width_in(&self) -> usize {
        self.before.width_in(self.product.width_in())
    }

    fn width_out(&self) -> usize {
        self.product.width_out()
    }

    fn bytes(&self) -> u64 {
        self.product.bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::rows::from_rows;
    use crate::{Checkpoint, DenseSource, Workers};

    #[derive(Debug, Default)]
    struct Seen(Mutex<Vec<[Vec<f32>; 2]>>);

    impl Sink for Seen {
        fn wants(&self, members: &[Member]) -> bool {
            members[0].name == "wanted"
        }

        fn see(&self, _: &[Member], x: &Tensor, y: &Tensor) -> Result<()> {
            self.0.lock().unwrap().push([x.flatten_all()?.to_vec1()?, y.flatten_all()?.to_vec1()?]);
            Ok(())
        }
    }

    #[test]
    fn an_observed_map_gives_the_same_bits_and_shows_its_rows() {
        let numbers: Vec<u8> = (0..6).flat_map(|i| (i as f32 - 2.5).to_le_bytes()).collect();
        let dtype = crate::checkpoint::Dtype::F32;
        let matrix = || safetensors::tensor::TensorView::new(dtype, vec![2, 3], &numbers).unwrap();
        let vector = || safetensors::tensor::TensorView::new(dtype, vec![3], &numbers[..12]).unwrap();
        let tensors = [
            ("wanted.weight", matrix()),
            ("other.weight", matrix()),
            ("norm.weight", vector()),
            ("norm.bias", vector()),
        ];
        let bytes = safetensors::serialize(tensors, None).unwrap();
        let source = DenseSource::new(Arc::new(Checkpoint::from_bytes(bytes).unwrap()), None);
        let workers = Workers::new(1).unwrap();
        let run = Run::new(&workers);
        let (weight, bias) = ("norm.weight".to_owned(), "norm.bias".to_owned());
        let befores = [
            Before::Nothing,
            Before::RmsNorm { weight: weight.clone(), eps: 1e-5 },
            Before::LayerNorm { weight, bias, eps: 1e-5 },
            Before::SiluMul,
            Before::Gelu,
        ];
        for before in befores {
            let width = if before == Before::SiluMul { 6 } else { 3 };
            let x = from_rows((0..2 * width).map(|i| i as f32 * 0.3 - 1.0).collect(), &[2, width]).unwrap();
            let seen = Arc::new(Seen::default());
            let observe = Observe::new(&source, Arc::clone(&seen) as Arc<dyn Sink>);
            let answers: Vec<Vec<f32>> = ["wanted", "other"]
                .into_iter()
                .map(|name| {
                    let map = observe.projection(&[Member::new(name, 2, 3)], &before).unwrap();
                    assert_eq!((map.width_in(), map.width_out()), (width, 2));
                    map.forward(&run, &x).unwrap().flatten_all().unwrap().to_vec1().unwrap()
                })
                .collect();
            assert_eq!(answers[0], answers[1], "{before:?}");
            let seen = seen.0.lock().unwrap();
            assert_eq!(seen.len(), 1, "only the map that is wanted is shown");
            assert_eq!((seen[0][0].len(), &seen[0][1]), (6, &answers[0]));
        }
    }
}
