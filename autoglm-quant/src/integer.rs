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
    /// The input is (n, 2·k), gate and up side by side; the map sees silu(gate) · up.
    SiluMul,
}

impl Prepare {
    /// What `before` names, for rows of k, read from `source`.
    pub(crate) fn read(before: &autoglm_core::Before, k: usize, source: &dyn Source) -> Result<Self> {
        Ok(match before {
            autoglm_core::Before::Nothing => Self::Nothing,
            autoglm_core::Before::RmsNorm { weight, eps } => {
                Self::RmsNorm { weight: source.tensor(weight, &[k])?.to_vec1()?, eps: *eps }
            }
            autoglm_core::Before::SiluMul => Self::SiluMul,
        })
    }

    fn borrow(&self) -> Before<'_> {
        match self {
            Self::Nothing => Before::Nothing,
            Self::RmsNorm { weight, eps } => Before::RmsNorm { weight, eps: *eps },
            Self::SiluMul => Before::SiluMul,
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
        let panels = weights.panels().div_ceil(PIECES * run.threads()).max(1);
        let strips = Block::new(&mut out, weights.n()).strips(panels * weights.panel());
        let strips = strips.enumerate().map(|(i, strip)| (i * panels, strip)).collect();
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
            Prepare::Nothing | Prepare::RmsNorm { .. } => self.packed.k(),
        }
    }

    fn width_out(&self) -> usize {
        self.packed.n()
    }

    fn bytes(&self) -> u64 {
        self.packed.bytes()
    }
}
