//! The vision transformer: patches into rows the decoder reads.
//!
//! ```text
//! x = rms_norm(patch_embed(patches), post_conv_layernorm)
//! x += position table, stretched over the picture
//! x = block(x) for each block
//! x = rms_norm(x, post_layernorm)
//! y = merger(downsample(squares of x))
//! ```

use std::sync::Arc;

use autoglm_core::rows::{from_rows, with_rows};
use autoglm_core::{Before, Embeds, Modality, Positions, Projection, RmsNorm, Rope, Run, Source};
use candle_core::Tensor;

use crate::block::{Block, Chunk};
use crate::merger::Merger;
use crate::position::{PositionTable, Stretched};
use crate::{Error, Patches, Result, VisionConfig};

/// Rows that go through a feed-forward network at a time, rounded to whole squares of patches. The
/// real tower widens a row to 2 · 4096 numbers, so a chunk holds 8 MiB of them, which stay in a
/// third-level cache until they are read again; all 13 416 patches of a screenshot would hold 420 MiB.
/// Fewer rows would read the weights, which are fetched anew for each chunk, for too little work.
const ROWS_PER_CHUNK: usize = 256;

/// A loaded tower. It holds weights and nothing that changes.
#[derive(Debug)]
pub struct VisionTower {
    config: VisionConfig,
    patch_embed: Arc<dyn Projection>,
    post_conv_layernorm: RmsNorm,
    positions: PositionTable,
    rope: Rope,
    blocks: Vec<Block>,
    post_layernorm: RmsNorm,
    downsample: Arc<dyn Projection>,
    merger: Merger,
}

impl VisionTower {
    /// Asks `source` for the tensors of [`VisionConfig::expected_tensors`] under `prefix`.
    ///
    /// # Errors
    /// Those of [`Source`]: they name the tensor that is missing or has another shape or type.
    pub fn load(source: &dyn Source, config: &VisionConfig, prefix: &str) -> Result<Self> {
        let (c, side) = (config.hidden_size, config.table_side);
        let norm = |name: &str| -> Result<RmsNorm> {
            let weight = source.tensor(&format!("{prefix}.{name}.weight"), &[c])?;
            Ok(RmsNorm::new(&weight, config.rms_norm_eps)?)
        };
        let table = source.tensor(&format!("{prefix}.embeddings.position_embedding.weight"), &[side * side, c])?;
        Ok(Self {
            patch_embed: source.projection(&[config.patch_embed(prefix)], &Before::Nothing)?,
            post_conv_layernorm: norm("post_conv_layernorm")?,
            positions: PositionTable::new(&table, side)?,
            rope: config.rope()?,
            blocks: (0..config.depth)
                .map(|block| Block::load(source, config, &format!("{prefix}.blocks.{block}")))
                .collect::<Result<_>>()?,
            post_layernorm: norm("post_layernorm")?,
            downsample: source.projection(&[config.downsample(prefix)], &Before::Nothing)?,
            merger: Merger::load(source, config, &format!("{prefix}.merger"))?,
            config: config.clone(),
        })
    }

    /// The tower's blueprint.
    #[must_use]
    pub fn config(&self) -> &VisionConfig {
        &self.config
    }

    /// The rows of a picture, one per merged square in reading order, with their places in units of
    /// squares.
    ///
    /// Besides the patches and the weights it needs memory for four tensors of (p, c) in f32 (rows,
    /// queries, keys and values) and for the feed-forward activations and attention scores of 256
    /// patches: 0.34 GB for the real tower and the 13 416 patches of a 1080×2400 screenshot.
    ///
    /// # Errors
    /// [`Error::Patches`] when the patches were cut for another tower.
    pub fn encode(&self, run: &Run<'_>, patches: &Patches) -> Result<Embeds> {
        self.admit(patches)?;
        let merged = patches.grid().merged(patches.merge_size())?;
        let mut chunks = self.embed(run, patches, ROWS_PER_CHUNK)?;
        for block in &self.blocks {
            block.forward(run, &self.rope, &mut chunks)?;
        }
        let rows = chunks.iter().map(|chunk| self.merger.forward(run, &self.fold(run, &chunk.rows)?));
        let rows = rows.collect::<Result<Vec<_>>>()?;
        let coords = (0..merged.h).flat_map(|y| (0..merged.w).map(move |x| [0, y, x]));
        Ok(Embeds::new(
            Tensor::cat(&rows, 0)?,
            coords.collect(),
            [merged.t, merged.h, merged.w],
            Modality::Image,
            patches.digest(),
        )?)
    }

    fn admit(&self, patches: &Patches) -> Result<()> {
        let (expected, expected_merge) = (self.config.patch_width(), self.config.spatial_merge_size as u32);
        let (got, got_merge) = (patches.width(), patches.merge_size());
        if (got, got_merge) != (expected, expected_merge) {
            return Err(Error::Patches { expected, expected_merge, got, got_merge });
        }
        Ok(())
    }

    /// Patches as rows of the tower with their positions added, in chunks of about `size` rows.
    fn embed(&self, run: &Run<'_>, patches: &Patches, size: usize) -> Result<Vec<Chunk>> {
        let stretched = self.positions.stretch(patches.grid().h, patches.grid().w);
        let square = self.config.merged_patches();
        let size = (size / square).max(1) * square;
        let chunks = patches.places().chunks(size).enumerate().map(|(i, places)| {
            let start = i * size;
            let rows = self.patch_embed.forward(run, &patches.rows(run, start, places.len())?)?;
            let rows = self.post_conv_layernorm.forward(run, &rows)?;
            let rows = add_positions(run, &rows, &stretched, places)?;
            let mut positions = Positions::default();
            places.iter().for_each(|&(y, x)| positions.push([0, y, x]));
            Ok(Chunk { start, rows, angles: self.rope.angles(&positions) })
        });
        chunks.collect()
    }

    /// Squares of patches as one row each, (m, c) → (m / merge², out).
    fn fold(&self, run: &Run<'_>, rows: &Tensor) -> Result<Tensor> {
        let rows = self.post_layernorm.forward(run, rows)?;
        let square = self.config.merged_patches();
        let (m, c) = rows.dims2()?;
        // The convolution's weight is (out, c, i, j); turning the rows leaves the weight in place.
        let turned = rows.reshape((m / square, square, c))?.transpose(1, 2)?;
        Ok(self.downsample.forward(run, &turned.reshape((m / square, c * square))?)?)
    }
}

fn add_positions(run: &Run<'_>, rows: &Tensor, stretched: &Stretched, places: &[(u32, u32)]) -> Result<Tensor> {
    let (m, c) = rows.dims2()?;
    let mut out = with_rows(rows, <[f32]>::to_vec)?;
    run.for_rows(&mut out, c, 1, |first, rows| {
        rows.chunks_exact_mut(c).zip(&places[first..]).for_each(|(row, place)| stretched.add(*place, row));
    });
    Ok(from_rows(out, &[m, c])?)
}

#[cfg(test)]
mod tests;
