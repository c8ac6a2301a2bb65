//! Norms and activations over rows in f32.

use autoglm_kernels::activation::{Before, Recipe};
use candle_core::Tensor;

use crate::rows::{from_rows, with_rows};
use crate::{Error, Result, Run};

/// y = x / sqrt(mean(x²) + eps) · weight, over the last axis (Zhang & Sennrich, "Root Mean Square
/// Layer Normalization").
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Vec<f32>,
    eps: f32,
}

impl RmsNorm {
    /// A norm with this weight (c).
    ///
    /// # Errors
    /// [`Error::Tensor`] when the weight has not one dimension of f32.
    pub fn new(weight: &Tensor, eps: f32) -> Result<Self> {
        Ok(Self { weight: weight.to_vec1()?, eps })
    }

    /// Normalises the rows of `x`, (n, c) → (n, c).
    ///
    /// # Errors
    /// [`Error::Shape`] when `x` has another width.
    pub fn forward(&self, run: &Run<'_>, x: &Tensor) -> Result<Tensor> {
        self.check(x, x.dim(0)?)?;
        self.over_rows(run, x, None)
    }

    /// `onto` plus the normalised rows of `x`, (n, c) each, in one pass: a residual stream takes a
    /// branch that ends in a norm.
    ///
    /// # Errors
    /// [`Error::Shape`] when `x` or `onto` has another shape.
    pub fn add_onto(&self, run: &Run<'_>, x: &Tensor, onto: &Tensor) -> Result<Tensor> {
        self.check(x, x.dim(0)?)?;
        self.check(onto, x.dim(0)?)?;
        with_rows(onto, |onto| self.over_rows(run, x, Some(onto)))?
    }

    fn check(&self, x: &Tensor, n: usize) -> Result<()> {
        let expected = [n, self.weight.len()];
        if x.dims() != expected {
            return Err(Error::Shape {
                name: "input of a norm".into(),
                expected: expected.to_vec(),
                got: x.dims().to_vec(),
            });
        }
        Ok(())
    }

    fn over_rows(&self, run: &Run<'_>, x: &Tensor, onto: Option<&[f32]>) -> Result<Tensor> {
        prepared(run, Before::RmsNorm { weight: &self.weight, eps: self.eps }, self.weight.len(), x, onto)
    }
}

/// y = (x − m) / sqrt(mean((x − m)²) + eps) · weight + bias with m = mean(x), over the last axis (Ba et al.,
/// "Layer Normalization").
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f32,
}

impl LayerNorm {
    /// A norm with this weight and this bias, (c) each.
    ///
    /// # Errors
    /// - [`Error::Tensor`] when one of them has not one dimension of f32.
    /// - [`Error::Shape`] when they differ in length.
    pub fn new(weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Self> {
        let norm = Self { weight: weight.to_vec1()?, bias: bias.to_vec1()?, eps };
        if norm.bias.len() != norm.weight.len() {
            return Err(Error::Shape {
                name: "bias of a norm".into(),
                expected: vec![norm.weight.len()],
                got: vec![norm.bias.len()],
            });
        }
        Ok(norm)
    }

    /// Normalises the rows of `x`, (n, c) → (n, c).
    ///
    /// # Errors
    /// [`Error::Shape`] when `x` has another width.
    pub fn forward(&self, run: &Run<'_>, x: &Tensor) -> Result<Tensor> {
        let before = Before::LayerNorm { weight: &self.weight, bias: &self.bias, eps: self.eps };
        prepared(run, before, self.weight.len(), x, None)
    }
}

/// silu(gate) · up over rows of (gate | up): (n, 2f) → (n, f).
///
/// # Errors
/// [`Error::Shape`] when the width of `x` is odd.
pub fn silu_mul(run: &Run<'_>, x: &Tensor) -> Result<Tensor> {
    let f = x.dims2()?.1 / 2;
    prepared(run, Before::SiluMul, f, x, None)
}

/// x · Φ(x) of every number, with the normal distribution itself: (n, c) → (n, c).
///
/// # Errors
/// [`Error::Tensor`] when `x` has not two dimensions.
pub fn gelu(run: &Run<'_>, x: &Tensor) -> Result<Tensor> {
    prepared(run, Before::Gelu, x.dims2()?.1, x, None)
}

/// What `before` makes of the rows of `x`, k numbers each, added to `onto` where there is one.
fn prepared(run: &Run<'_>, before: Before<'_>, k: usize, x: &Tensor, onto: Option<&[f32]>) -> Result<Tensor> {
    let (n, width) = x.dims2()?;
    let recipe = Recipe::new(before, k, 1, k.max(1))?;
    if width != recipe.width_in() {
        let name = "input of a norm or an activation".into();
        return Err(Error::Shape { name, expected: vec![n, recipe.width_in()], got: vec![n, width] });
    }
    let mut out = run.zeros(n * k);
    if !out.is_empty() {
        with_rows(x, |x| {
            run.for_rows(&mut out, k, 1, |first, out| {
                let rows = out.chunks_exact_mut(k).zip(x.chunks_exact(width).skip(first));
                rows.for_each(|(out, x)| recipe.prepare(run.isa(), x, out));
                if let Some(onto) = onto {
                    out.iter_mut().zip(&onto[first * k..]).for_each(|(out, onto)| *out += onto);
                }
            });
        })?;
    }
    from_rows(out, &[n, k])
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::Workers;

    /// f32 sums of at most 40 terms against f64.
    const CLOSE: f64 = 2e-6;

    fn sample(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.13).collect()
    }

    #[test]
    fn rms_norm_matches_f64_at_every_width() {
        let workers = Workers::new(2).unwrap();
        for c in 1..40 {
            let (x, w) = (sample(3 * c), sample(c));
            let norm = RmsNorm::new(&Tensor::from_slice(&w, c, &Device::Cpu).unwrap(), 1e-5).unwrap();
            let got =
                norm.forward(&Run::new(&workers), &Tensor::from_slice(&x, (3, c), &Device::Cpu).unwrap()).unwrap();
            for (row, got) in x.chunks(c).zip(got.to_vec2::<f32>().unwrap()) {
                let ms = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / c as f64;
                for ((x, w), got) in row.iter().zip(&w).zip(got) {
                    let want = f64::from(*x) / (ms + 1e-5).sqrt() * f64::from(*w);
                    assert!((f64::from(got) - want).abs() <= CLOSE * want.abs().max(1.0), "{c}: {got} {want}");
                }
            }
        }
    }

    #[test]
    fn adding_onto_a_stream_is_the_norm_and_then_the_sum() {
        let workers = Workers::new(2).unwrap();
        let run = Run::new(&workers);
        let tensor = |data: Vec<f32>| Tensor::from_vec(data, (3, 11), &Device::Cpu).unwrap();
        let (x, onto) = (tensor(sample(33)), tensor(sample(34)[1..].to_vec()));
        let norm = RmsNorm::new(&Tensor::from_vec(sample(11), 11, &Device::Cpu).unwrap(), 1e-5).unwrap();
        let apart = (&onto + norm.forward(&run, &x).unwrap()).unwrap();
        let together = norm.add_onto(&run, &x, &onto).unwrap();
        assert_eq!(together.to_vec2::<f32>().unwrap(), apart.to_vec2::<f32>().unwrap());
        assert!(norm.add_onto(&run, &x, &onto.narrow(0, 0, 2).unwrap()).is_err());
    }

    #[test]
    fn silu_mul_matches_f64_and_survives_large_arguments() {
        let workers = Workers::new(1).unwrap();
        let gate = [-200.0f32, -20.0, -1.0, 0.0, 1.0, 20.0, 200.0];
        let up = [1.5f32; 7];
        let x: Vec<f32> = gate.iter().chain(&up).copied().collect();
        let y = silu_mul(&Run::new(&workers), &Tensor::from_vec(x, (1, 14), &Device::Cpu).unwrap()).unwrap();
        for (g, y) in gate.iter().zip(y.to_vec2::<f32>().unwrap().remove(0)) {
            let g = f64::from(*g);
            let want = g / (1.0 + (-g).exp()) * 1.5;
            assert!((f64::from(y) - want).abs() <= CLOSE * want.abs().max(1.0), "{g}: {y} {want}");
        }
    }

    #[test]
    fn layer_norm_and_gelu_match_f64() {
        let workers = Workers::new(2).unwrap();
        let run = Run::new(&workers);
        for c in [1, 11, 40] {
            let [w, b] = [0.5, -1.0].map(|at| {
                let v: Vec<f32> = (0..c).map(|i| at + i as f32 * 0.01).collect();
                Tensor::from_vec(v, c, &Device::Cpu).unwrap()
            });
            let norm = LayerNorm::new(&w, &b, 1e-5).unwrap();
            let x = sample(3 * c);
            let given = Tensor::from_vec(x.clone(), (3, c), &Device::Cpu).unwrap();
            let y = norm.forward(&run, &given).unwrap().to_vec2::<f32>().unwrap();
            for (x, y) in x.chunks(c).zip(y) {
                let x: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
                let mean = x.iter().sum::<f64>() / c as f64;
                let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / c as f64;
                for (i, (x, y)) in x.iter().zip(y).enumerate() {
                    let want = (x - mean) / (variance + 1e-5).sqrt() * (0.5 + i as f64 * 0.01) - 1.0 + i as f64 * 0.01;
                    assert!((f64::from(y) - want).abs() < CLOSE * want.abs().max(1.0), "{c}: {y} {want}");
                }
            }
            let y = gelu(&run, &given).unwrap().to_vec2::<f32>().unwrap().concat();
            assert_eq!(y, x.into_iter().map(autoglm_kernels::gelu::gelu).collect::<Vec<_>>());
        }
        let narrow = Tensor::zeros(2, candle_core::DType::F32, &Device::Cpu).unwrap();
        let wide = Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(matches!(LayerNorm::new(&narrow, &wide, 1e-5), Err(Error::Shape { .. })));
    }
}
