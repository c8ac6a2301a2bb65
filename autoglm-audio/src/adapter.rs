//! Encoder rows into rows the decoder reads: four side by side through a small network.
//!
//! ```text
//! y = linear_2(gelu(linear_1(x₀ | x₁ | x₂ | x₃)))
//! ```

use std::sync::Arc;

use autoglm_core::{Before, Member, Projection, Run, Source};
use candle_core::Tensor;

use crate::config::JOINED;
use crate::{AudioConfig, Result};

/// transformers' `GlmAsrMultiModalProjector`.
#[derive(Debug)]
pub struct Adapter {
    linear_1: Arc<dyn Projection>,
    linear_2: Arc<dyn Projection>,
}

impl Adapter {
    /// Asks `source` for the adapter's tensors under `prefix`.
    ///
    /// # Errors
    /// Those of [`Source`]: they name the tensor that is missing or has another shape or type.
    pub fn load(source: &dyn Source, config: &AudioConfig, prefix: &str) -> Result<Self> {
        let (joined, out) = (config.intermediate_size, config.out_hidden_size);
        let map = |name: &str, out, inp| Member::new(format!("{prefix}.{name}"), out, inp).with_bias(true);
        Ok(Self {
            linear_1: source.projection(&[map("linear_1", 2 * out, joined)], &Before::Nothing)?,
            linear_2: source.projection(&[map("linear_2", out, 2 * out)], &Before::Gelu)?,
        })
    }

    /// (4·n, c) → (n, out).
    ///
    /// # Errors
    /// [`autoglm_core::Error::Shape`] when the rows have another width, and the tensor library's error when
    /// they are not a multiple of four.
    pub fn forward(&self, run: &Run<'_>, rows: &Tensor) -> Result<Tensor> {
        let (n, c) = rows.dims2()?;
        let joined = rows.reshape((n / JOINED, JOINED * c))?;
        Ok(self.linear_2.forward(run, &self.linear_1.forward(run, &joined)?)?)
    }
}
