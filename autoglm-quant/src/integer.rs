//! A linear map over packed weights.

use autoglm_core::rows::{from_rows, with_rows};
use autoglm_core::{Error, Projection, Result, Run, Source};
use autoglm_kernels::activation::{Before, Recipe};
use autoglm_kernels::integer::{Rows, Weights, gemm};
use autoglm_kernels::{Block, Isa};
use candle_core::Tensor;

use crate::Packed;

/// Pieces of work per worker. A core that is slower, or busy elsewhere, then leaves its share to the
/// others, and the longest wait is for an eighth of it.
const PIECES: usize = 8;

/// A strip of answers is at most this part of a thread's share of what is left.
const SHARE: usize = 3;

/// What happens to the input before it is quantised.
#[derive(Debug)]
pub enum Prepare {
    /// Nothing.
    Nothing,
    /// Root-mean-square normalisation with this weight (k).
    RmsNorm {
        /// The norm's weight.
        weight: Vec<f32>,
        /// Added to the mean square.
        eps: f32,
    },
    /// Layer normalisation with this weight and bias (k).
    LayerNorm {
        /// The norm's weight.
        weight: Vec<f32>,
        /// The norm's bias.
        bias: Vec<f32>,
        /// Added to the variance.
        eps: f32,
    },
    /// The input is (n, 2·k), gate and up side by side; the map sees silu(gate) · up.
    SiluMul,
    /// x · Φ(x).
    Gelu,
}

impl Prepare {
    /// What `before` names, for rows of k, read from `source`.
    pub(crate) fn read(before: &autoglm_core::Before, k: usize, source: &dyn Source) -> Result<Self> {
        let vector = |name: &str| Ok::<_, Error>(source.tensor(name, &[k])?.to_vec1()?);
        Ok(match before {
            autoglm_core::Before::Nothing => Self::Nothing,
            autoglm_core::Before::RmsNorm { weight, eps } => Self::RmsNorm { weight: vector(weight)?, eps: *eps },
            autoglm_core::Before::LayerNorm { weight, bias, eps } => {
                Self::LayerNorm { weight: vector(weight)?, bias: vector(bias)?, eps: *eps }
            }
            autoglm_core::Before::SiluMul => Self::SiluMul,
            autoglm_core::Before::Gelu => Self::Gelu,
        })
    }

    fn borrow(&self) -> Before<'_> {
        match self {
            Self::Nothing => Before::Nothing,
            Self::RmsNorm { weight, eps } => Before::RmsNorm { weight, eps: *eps },
            Self::LayerNorm { weight, bias, eps } => Before::LayerNorm { weight, bias, eps: *eps },
            Self::SiluMul => Before::SiluMul,
            Self::Gelu => Before::Gelu,
        }
    }
}

/// A [`Projection`] over packed weights. Each row of the input is prepared, rotated and quantised to
/// 8 bits with one scale in a single pass, and all members read that; a row's answer is the same bits
/// whichever rows are beside it and however many workers there are.
#[derive(Debug)]
pub struct Integer {
    name: String,
    isa: Isa,
    packed: Packed,
    prepare: Prepare,
}

impl Integer {
    /// The map of `packed`, which lies in the order that `isa` reads, behind `prepare`. Errors carry
    /// `name`.
    ///
    /// # Errors
    /// [`Error::Format`] when a norm's weight has another width.
    pub fn new(name: impl Into<String>, isa: Isa, packed: Packed, prepare: Prepare) -> Result<Self> {
        let map = Self { name: name.into(), isa, packed, prepare };
        map.parts()?;
        Ok(map)
    }

    /// The packed weights.
    #[must_use]
    pub fn packed(&self) -> &Packed {
        &self.packed
    }

    fn parts(&self) -> Result<(Weights<'_>, Recipe<'_>)> {
        let parts = || {
            let weights = self.packed.weights()?;
            let recipe = Recipe::new(self.prepare.borrow(), self.packed.k(), self.packed.block(), weights.sum_width())?;
            Ok::<_, autoglm_kernels::Error>((weights, recipe))
        };
        parts().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: autoglm_kernels::Error) -> Error {
        Error::Format { name: self.name.clone(), source: Box::new(source) }
    }

    /// The answers to `rows` rows of x, (rows, out).
    fn multiply(&self, run: &Run<'_>, x: &[f32], rows: usize) -> Result<Vec<f32>> {
        let (weights, recipe) = self.parts()?;
        let mut codes = vec![0i8; rows * recipe.codes()];
        let (mut sums, mut scales) = (vec![0i32; rows * recipe.sums()], vec![0f32; rows]);
        self.quantise(run, &recipe, x, &mut codes, &mut sums, &mut scales);
        let quantised = Rows::new(&weights, &codes, &scales, &sums).map_err(|source| self.failed(source))?;

        let mut out = run.zeros(rows * weights.n());
        // One row is as fast as memory, which likes long strips; several rows are as fast as the last thread.
        let least = if rows == 1 { weights.panels().div_ceil(PIECES * run.threads()) } else { 1 };
        let widths = widths(weights.panels(), least, run.threads());
        let strips = strips(Block::new(&mut out, weights.n()), weights.panel(), widths);
        run.for_each(strips, |(first, strip)| gemm(self.isa, &weights, quantised, first, strip));
        Ok(out)
    }

    fn quantise(
        &self,
        run: &Run<'_>,
        recipe: &Recipe<'_>,
        x: &[f32],
        codes: &mut [i8],
        sums: &mut [i32],
        scales: &mut [f32],
    ) {
        let rows = scales.len().div_ceil(PIECES * run.threads()).max(1);
        let pieces = x.chunks(rows * recipe.width_in()).zip(codes.chunks_mut(rows * recipe.codes()));
        let pieces = pieces.zip(sums.chunks_mut(rows * recipe.sums())).zip(scales.chunks_mut(rows));
        run.for_each(pieces.collect(), |(((x, codes), sums), scales)| {
            let mut scratch = vec![0f32; self.packed.k()];
            let rows = x.chunks_exact(recipe.width_in()).zip(codes.chunks_exact_mut(recipe.codes()));
            let rows = rows.zip(sums.chunks_exact_mut(recipe.sums())).zip(scales);
            for (((x, codes), sums), scale) in rows {
                *scale = recipe.quantise(self.isa, x, &mut scratch, codes, sums);
            }
        });
    }
}

/// How many of `panels` panels each strip has: all `least` where that is more than one, else fewer and fewer
/// towards the end, where a thread that is done waits for the others.
fn widths(panels: usize, least: usize, threads: usize) -> Vec<usize> {
    let (mut widths, mut left) = (Vec::new(), panels);
    while left > 0 {
        let share = if least > 1 { least } else { (left / (SHARE * threads)).max(1) };
        widths.push(share.min(left));
        left -= share.min(left);
    }
    widths
}

/// Cuts answers into strips of so many panels of `panel` outputs, each with its first panel.
fn strips(answers: Block<'_>, panel: usize, widths: Vec<usize>) -> Vec<(usize, Block<'_>)> {
    let (mut rest, mut first) = (answers, 0);
    let cut = |panels: usize| {
        let columns = (panels * panel).min(rest.columns());
        let all = std::mem::replace(&mut rest, Block::new(&mut [], 1));
        let (strip, after) = all.split_columns(columns);
        rest = after;
        first += panels;
        (first - panels, strip)
    };
    widths.into_iter().map(cut).collect()
}

impl Projection for Integer {
    fn forward(&self, run: &Run<'_>, x: &Tensor) -> Result<Tensor> {
        let (rows, width) = x.dims2()?;
        if width != self.width_in() {
            return Err(Error::Shape {
                name: "input of a projection".into(),
                expected: vec![rows, self.width_in()],
                got: vec![rows, width],
            });
        }
        let out = with_rows(x, |x| self.multiply(run, x, rows))??;
        from_rows(out, &[rows, self.width_out()])
    }

    fn width_in(&self) -> usize {
        match self.prepare {
            Prepare::SiluMul => 2 * self.packed.k(),
            Prepare::Nothing | Prepare::RmsNorm { .. } | Prepare::LayerNorm { .. } | Prepare::Gelu => self.packed.k(),
        }
    }

    fn width_out(&self) -> usize {
        self.packed.n()
    }

    fn bytes(&self) -> u64 {
        self.packed.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_cover_the_panels_once_and_get_narrower() {
        for (panels, threads) in [(1, 1), (1, 8), (7, 2), (428, 2), (64, 3), (2368, 16)] {
            let narrowing = widths(panels, 1, threads);
            assert_eq!(narrowing.iter().sum::<usize>(), panels);
            assert!(narrowing.is_sorted_by(|a, b| a >= b) && narrowing.last() == Some(&1));
            assert!(narrowing.len() <= 20 * SHARE * threads);
            let even = widths(panels, 5, threads);
            assert_eq!((even.iter().sum::<usize>(), even.len()), (panels, panels.div_ceil(5)));
        }
        let mut answers = vec![0f32; 2 * 250];
        let strips = strips(Block::new(&mut answers, 250), 64, vec![2, 1, 1]);
        let cut: Vec<(usize, usize)> = strips.iter().map(|(first, strip)| (*first, strip.columns())).collect();
        assert_eq!(cut, [(0, 128), (2, 64), (3, 58)]);
    }
}
