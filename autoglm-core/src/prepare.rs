//! What happens to an input before a linear map, done as it is written down.

use candle_core::Tensor;

use crate::norm::{gelu, silu_mul};
use crate::{Before, LayerNorm, Result, RmsNorm, Run, Source};

/// [`Before`] with the tensors that it names.
#[derive(Debug)]
pub(crate) enum Prepare {
    Nothing,
    RmsNorm(RmsNorm),
    LayerNorm(LayerNorm),
    SiluMul,
    Gelu,
}

impl Prepare {
    /// For a map of `width` inputs.
    pub(crate) fn load(source: &dyn Source, before: &Before, width: usize) -> Result<Self> {
        Ok(match before {
            Before::Nothing => Self::Nothing,
            Before::RmsNorm { weight, eps } => Self::RmsNorm(RmsNorm::new(&source.tensor(weight, &[width])?, *eps)?),
            Before::LayerNorm { weight, bias, eps } => Self::LayerNorm(LayerNorm::new(
                &source.tensor(weight, &[width])?,
                &source.tensor(bias, &[width])?,
                *eps,
            )?),
            Before::SiluMul => Self::SiluMul,
            Before::Gelu => Self::Gelu,
        })
    }

    /// Rows as they are given (n, [`width_in`](Self::width_in)) into rows as the product takes them.
    pub(crate) fn apply(&self, run: &Run<'_>, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Nothing => Ok(x.contiguous()?),
            Self::RmsNorm(norm) => norm.forward(run, x),
            Self::LayerNorm(norm) => norm.forward(run, x),
            Self::SiluMul => silu_mul(run, x),
            Self::Gelu => gelu(run, x),
        }
    }

    /// Width of the rows that are given to a map of `width` inputs.
    pub(crate) fn width_in(&self, width: usize) -> usize {
        if matches!(self, Self::SiluMul) { 2 * width } else { width }
    }
}
