//! Squares of patches into rows the decoder reads.
//!
//! ```text
//! y = proj(x)
//! y = gelu(layer_norm(y))
//! y = down(silu(gate(y)) · up(y))
//! ```

use std::sync::Arc;

use autoglm_core::rows::{from_rows, with_rows};
use autoglm_core::{Before, Member, Projection, Run, Source};
use candle_core::Tensor;
use candle_core::cpu::erf::erf_f64;

use crate::{Result, VisionConfig};

/// torch's default, which `Glm4vVisionPatchMerger` does not change.
const LAYER_NORM_EPS: f64 = 1e-5;

#[derive(Debug)]
pub(crate) struct Merger {
    proj: Arc<dyn Projection>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    gate_up: Arc<dyn Projection>,
    down: Arc<dyn Projection>,
}

impl Merger {
    /// `prefix` names the module: `….merger`.
    pub(crate) fn load(source: &dyn Source, config: &VisionConfig, prefix: &str) -> Result<Self> {
        let (out, inner) = (config.out_hidden_size, config.intermediate_size);
        let map = |name: &str, out, inp| Member::new(format!("{prefix}.{name}"), out, inp);
        let vector = |name: &str| -> Result<Vec<f32>> {
            let name = format!("{prefix}.post_projection_norm.{name}");
            Ok(source.tensor(&name, &[out])?.to_vec1()?)
        };
        let gate_up = [map("gate_proj", inner, out), map("up_proj", inner, out)];
        Ok(Self {
            proj: source.projection(&[map("proj", out, out)], &Before::Nothing)?,
            weight: vector("weight")?,
            bias: vector("bias")?,
            gate_up: source.projection(&gate_up, &Before::Nothing)?,
            down: source.projection(&[map("down_proj", out, inner)], &Before::SiluMul)?,
        })
    }

    /// (n, out) → (n, out).
    pub(crate) fn forward(&self, run: &Run<'_>, x: &Tensor) -> Result<Tensor> {
        let y = self.proj.forward(run, x)?;
        let y = self.norm_gelu(run, &y)?;
        Ok(self.down.forward(run, &self.gate_up.forward(run, &y)?)?)
    }

    /// gelu((y - mean(y)) / sqrt(var(y) + eps) · weight + bias), per row.
    fn norm_gelu(&self, run: &Run<'_>, y: &Tensor) -> Result<Tensor> {
        let (n, c) = y.dims2()?;
        let mut out = with_rows(y, <[f32]>::to_vec)?;
        run.for_rows(&mut out, c, 1, |_, rows| {
            rows.chunks_exact_mut(c).for_each(|row| {
                let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / c as f64;
                let variance = row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / c as f64;
                let scale = (variance + LAYER_NORM_EPS).sqrt().recip();
                for ((x, weight), bias) in row.iter_mut().zip(&self.weight).zip(&self.bias) {
                    *x = gelu((f64::from(*x) - mean) * scale * f64::from(*weight) + f64::from(*bias));
                }
            });
        });
        Ok(from_rows(out, &[n, c])?)
    }
}

/// x · Φ(x) with the normal distribution itself; the usual approximation by tanh is off by up to 5e-4.
fn gelu(x: f64) -> f32 {
    (x * 0.5 * (1.0 + erf_f64(x * std::f64::consts::FRAC_1_SQRT_2))) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gelu_is_the_exact_one() {
        // x · Φ(x) from a table of the normal distribution.
        for (x, want) in
            [(0.0, 0.0), (1.0, 0.841_344_746), (-1.0, -0.158_655_254), (2.0, 1.954_499_736), (-3.0, -0.004_049_694)]
        {
            assert!((f64::from(gelu(x)) - want).abs() < 1e-7, "{x}");
        }
    }
}
