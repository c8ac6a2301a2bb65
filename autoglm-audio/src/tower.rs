//! The acoustic encoder: log-mel frames into rows that know their whole window.
//!
//! ```text
//! x = gelu(conv1(frames))          three frames each
//! x = gelu(conv2(x))               three rows each, every second place
//! x = layer(x) for each layer
//! x = layer_norm(x, norm)
//! ```
//!
//! Whisper's encoder with rotary positions in place of learned ones (transformers' `GlmAsrEncoder`).

use std::sync::Arc;

use autoglm_core::norm::gelu;
use autoglm_core::rows::{from_rows, with_rows};
use autoglm_core::{Before, LayerNorm, Positions, Projection, Rope, Run, Source};
use candle_core::Tensor;

use crate::config::TAPS;
use crate::layer::{Chunk, LAYER_NORM_EPS, Layer};
use crate::{AudioConfig, LogMel, Result};

/// Rows that go through a layer at a time. The real encoder widens a row to 5120 numbers, so a chunk holds
/// 5 MiB of them, which stay in a third-level cache until they are read again.
const ROWS_PER_CHUNK: usize = 256;

/// A loaded encoder. It holds weights and nothing that changes.
#[derive(Debug)]
pub struct AudioTower {
    conv1: Arc<dyn Projection>,
    conv2: Arc<dyn Projection>,
    rope: Rope,
    layers: Vec<Layer>,
    norm: LayerNorm,
}

impl AudioTower {
    /// Asks `source` for the encoder's tensors under `prefix`.
    ///
    /// # Errors
    /// Those of [`Source`]: they name the tensor that is missing or has another shape or type.
    pub fn load(source: &dyn Source, config: &AudioConfig, prefix: &str) -> Result<Self> {
        let vector = |name: &str| source.tensor(&format!("{prefix}.norm.{name}"), &[config.hidden_size]);
        Ok(Self {
            conv1: source.projection(&[config.conv1(prefix)], &Before::Nothing)?,
            conv2: source.projection(&[config.conv2(prefix)], &Before::Nothing)?,
            rope: config.rope()?,
            layers: (0..config.num_hidden_layers)
                .map(|layer| Layer::load(source, config, &format!("{prefix}.layers.{layer}")))
                .collect::<Result<_>>()?,
            norm: LayerNorm::new(&vector("weight")?, &vector("bias")?, LAYER_NORM_EPS)?,
        })
    }

    /// The first `rows` rows, (rows, c), of the two per four frames that a window has.
    ///
    /// # Errors
    /// [`autoglm_core::Error::Shape`] when frames have another number of bands than the encoder reads.
    pub fn encode(&self, run: &Run<'_>, window: &LogMel, rows: usize) -> Result<Tensor> {
        let mut chunks = self.embed(run, window)?;
        for layer in &self.layers {
            layer.forward(run, &self.rope, &mut chunks)?;
        }
        let all: Vec<&Tensor> = chunks.iter().map(|chunk| &chunk.rows).collect();
        let all = Tensor::cat(&all, 0)?;
        Ok(self.norm.forward(run, &all.narrow(0, 0, rows.min(all.dim(0)?))?)?)
    }

    /// What the convolutions make of a window, in chunks.
    fn embed(&self, run: &Run<'_>, window: &LogMel) -> Result<Vec<Chunk>> {
        let frames = from_rows(window.data().to_vec(), &[window.frames(), window.bands()])?;
        let x = gelu(run, &convolved(run, &*self.conv1, &frames, 1)?)?;
        let x = gelu(run, &convolved(run, &*self.conv2, &x, 2)?)?;
        let n = x.dim(0)?;
        let starts = (0..n).step_by(ROWS_PER_CHUNK);
        let chunk = |start: usize| {
            let m = ROWS_PER_CHUNK.min(n - start);
            let positions = Positions::text(start as u32, m)?;
            Ok(Chunk { rows: x.narrow(0, start, m)?, angles: self.rope.angles(&positions) })
        };
        starts.map(chunk).collect()
    }
}

/// A convolution of three taps over the rows of `x` (n, c), with silence before the first and behind the last:
/// (⌈n / stride⌉, out). Its weight is (out, c, tap), so that a linear map over (c, tap) is what it is.
fn convolved(run: &Run<'_>, map: &dyn Projection, x: &Tensor, stride: usize) -> Result<Tensor> {
    let (n, c) = x.dims2()?;
    let places = n.div_ceil(stride);
    let chunks = (0..places).step_by(ROWS_PER_CHUNK).map(|start| {
        let m = ROWS_PER_CHUNK.min(places - start);
        let mut unfolded = run.zeros(m * c * TAPS);
        with_rows(x, |x| {
            run.for_rows(&mut unfolded, c * TAPS, 1, |first, rows| {
                for (i, row) in rows.chunks_exact_mut(c * TAPS).enumerate() {
                    for tap in 0..TAPS {
                        // The middle tap stands on the place itself.
                        let at = ((start + first + i) * stride + tap).checked_sub(1).filter(|at| *at < n);
                        let from = at.map(|at| &x[at * c..][..c]);
                        for (k, to) in row.iter_mut().skip(tap).step_by(TAPS).enumerate() {
                            *to = from.map_or(0.0, |from| from[k]);
                        }
                    }
                }
            });
        })?;
        Ok(map.forward(run, &from_rows(unfolded, &[m, c * TAPS])?)?)
    });
    let chunks: Vec<Tensor> = chunks.collect::<Result<_>>()?;
    Ok(Tensor::cat(&chunks, 0)?)
}

#[cfg(test)]
impl AudioTower {
    /// What each stage makes of a window, for comparing.
    pub(crate) fn stages(&self, run: &Run<'_>, window: &LogMel, mut see: impl FnMut(&str, &Tensor)) {
        let joined = |chunks: &[Chunk]| {
            let rows: Vec<&Tensor> = chunks.iter().map(|chunk| &chunk.rows).collect();
            Tensor::cat(&rows, 0).unwrap()
        };
        let frames = from_rows(window.data().to_vec(), &[window.frames(), window.bands()]).unwrap();
        see("conv1", &gelu(run, &convolved(run, &*self.conv1, &frames, 1).unwrap()).unwrap());
        let mut chunks = self.embed(run, window).unwrap();
        see("conv2", &joined(&chunks));
        for (i, layer) in self.layers.iter().enumerate() {
            layer.forward(run, &self.rope, &mut chunks).unwrap();
            see(&format!("layer.{i}"), &joined(&chunks));
        }
        see("norm", &self.norm.forward(run, &joined(&chunks)).unwrap());
    }
}
