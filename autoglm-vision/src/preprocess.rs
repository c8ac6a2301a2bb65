//! A picture into normalised patches, as transformers' `Glm4vImageProcessor` on torchvision.
//!
//! The picture is resized to whole squares of patches, its samples are normalised, and each patch
//! becomes one row. Rows come in merge order: all patches of one square before the next square.

use autoglm_core::fields::{Fields, refuse};
use autoglm_core::rows::from_rows;
use autoglm_core::{Grid, MediaDigest, Run};
use candle_core::Tensor;
use serde_json::{Value, json};

use crate::position::places;
use crate::resize::{SmartResize, resize};
use crate::{Result, Rgb, VisionConfig};

/// Bounds on 2·h·w that transformers assumes when the file names none.
const SHORTEST_EDGE: u64 = 112 * 112;
const LONGEST_EDGE: u64 = 28 * 28 * 15_000;
/// The largest bound on 2·h·w that is accepted: 67 million pixels. A file can ask for enlarging up to
/// its lower bound, so this limits what a hostile one can allocate.
const MAX_EDGE: u64 = 1 << 27;
/// `OPENAI_CLIP_MEAN` and `OPENAI_CLIP_STD` of transformers.
const CLIP_MEAN: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const CLIP_STD: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];
/// `PILImageResampling.BICUBIC`.
const BICUBIC: u64 = 3;

/// How pictures become patches: `preprocessor_config.json`. Every value was checked when it was read.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PreprocessConfig {
    /// Side of a patch in pixels.
    pub patch_size: u32,
    /// Frames in a patch; a still picture is repeated.
    pub temporal_patch_size: u32,
    /// Patches along a side of the squares that are merged into one row.
    pub merge_size: u32,
    /// Least of frames · height · width after resizing (`size.shortest_edge`, despite its name).
    pub min_pixels: u64,
    /// Most of frames · height · width after resizing (`size.longest_edge`, despite its name).
    pub max_pixels: u64,
    /// Subtracted from a sample, in units of the sample: `image_mean` / `rescale_factor`.
    pub mean: [f32; 3],
    /// Divides what remains, in the same units: `image_std` / `rescale_factor`.
    pub std: [f32; 3],
}

impl PreprocessConfig {
    /// Reads a `preprocessor_config.json`, or without one takes the defaults of transformers'
    /// `Glm4vImageProcessor`: 2·h·w between 12 544 and 11 760 000, the mean and deviation of CLIP.
    /// Patch sizes that are absent are those of the tower.
    ///
    /// Bounds are read from `size.shortest_edge` and `size.longest_edge`, or where there is no
    /// `size` from `min_pixels` and `max_pixels`.
    ///
    /// # Errors
    /// [`autoglm_core::Error::Config`] naming the field that asks for something this crate does not
    /// do, contradicts the tower, or can have no such value.
    pub fn from_json(file: Option<&Value>, tower: &VisionConfig) -> Result<Self> {
        let fields = Fields(file);
        for step in ["do_resize", "do_rescale", "do_normalize", "do_convert_rgb"] {
            fields.only(step, &json!(true), "this step cannot be left out")?;
        }
        fields.only("resample", &json!(BICUBIC), "only bicubic resampling (3) is known in this family")?;
        let side = |key, of_tower: usize| -> Result<u32> {
            // The tower's sizes were bounded when they were read, and must be met below.
            Ok(fields.count(key, of_tower as u64, u64::from(u16::MAX))? as u32)
        };
        let (min_pixels, max_pixels) = bounds(fields)?;
        let factor = fields.positive("rescale_factor", 1.0 / 255.0)?;
        // In f32, as torch multiplies a tensor of means by a number.
        let to_samples = (1.0 / factor) as f32;
        let mean = fields.colours("image_mean", CLIP_MEAN)?.map(|x| x as f32 * to_samples);
        let std = fields.colours("image_std", CLIP_STD)?.map(|x| x as f32 * to_samples);
        if !mean.iter().all(|x| x.is_finite()) {
            return Err(refuse("image_mean", format!("{mean:?}"), "must be finite").into());
        }
        if !std.iter().all(|x| x.is_normal() && *x > 0.0) {
            return Err(refuse("image_std", format!("{std:?}"), "must be positive and finite").into());
        }
        let config = Self {
            patch_size: side("patch_size", tower.patch_size)?,
            temporal_patch_size: side("temporal_patch_size", tower.temporal_patch_size)?,
            merge_size: side("merge_size", tower.spatial_merge_size)?,
            min_pixels,
            max_pixels,
            mean,
            std,
        };
        tower.check_preprocess(&config)?;
        Ok(config)
    }

    /// The same with another upper bound on frames · height · width, the unit of `size.longest_edge`:
    /// 2·h·w for a picture.
    ///
    /// # Errors
    /// [`autoglm_core::Error::Config`] when the bound is below the lower one or absurdly large.
    pub fn with_max_pixels(mut self, max_pixels: u64) -> Result<Self> {
        check_bounds(self.min_pixels, max_pixels)?;
        self.max_pixels = max_pixels;
        Ok(self)
    }

    /// How the target size of a picture is found.
    #[must_use]
    pub fn smart_resize(&self) -> SmartResize {
        SmartResize {
            factor: self.patch_size * self.merge_size,
            frames: self.temporal_patch_size,
            min_pixels: self.min_pixels,
            max_pixels: self.max_pixels,
        }
    }

    /// Resizes a picture to whole squares of patches.
    ///
    /// # Errors
    /// [`crate::Error::Aspect`] when one side is more than 200 times the other.
    pub fn patches(&self, run: &Run<'_>, picture: &Rgb) -> Result<Patches> {
        let (height, width) = self.smart_resize().target(picture.height(), picture.width())?;
        let resized = resize(run, picture, width, height)?;
        let grid = Grid { t: 1, h: height / self.patch_size, w: width / self.patch_size };
        Ok(Patches {
            digest: self.digest(&resized),
            places: places(grid.h, grid.w, self.merge_size),
            levels: self.levels(),
            config: self.clone(),
            picture: resized,
            grid,
        })
    }

    /// Every 8-bit sample normalised, per colour.
    fn levels(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|colour| {
            std::array::from_fn(|sample| (sample as f32 - self.mean[colour]) / self.std[colour])
        })
    }

    /// BLAKE3 over everything the patches are made of, each number in a fixed width.
    fn digest(&self, resized: &Rgb) -> MediaDigest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"autoglm-vision patches 1\0");
        for number in [resized.height(), resized.width(), self.patch_size, self.temporal_patch_size, self.merge_size] {
            hasher.update(&number.to_le_bytes());
        }
        for number in self.mean.iter().chain(&self.std) {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(resized.pixels());
        MediaDigest(*hasher.finalize().as_bytes())
    }
}

/// The bounds on frames · height · width.
fn bounds(fields: Fields<'_>) -> Result<(u64, u64)> {
    let (shortest, longest) = if fields.get("size").is_some() {
        let size = fields.inside("size");
        for key in ["shortest_edge", "longest_edge"] {
            if size.get(key).is_none() {
                return Err(refuse(key, "missing", "size must have both edges").into());
            }
        }
        (size.count("shortest_edge", 1, MAX_EDGE)?, size.count("longest_edge", 1, MAX_EDGE)?)
    } else {
        (fields.count("min_pixels", SHORTEST_EDGE, MAX_EDGE)?, fields.count("max_pixels", LONGEST_EDGE, MAX_EDGE)?)
    };
    check_bounds(shortest, longest)?;
    Ok((shortest, longest))
}

fn check_bounds(shortest: u64, longest: u64) -> Result<()> {
    if longest < shortest {
        return Err(refuse("longest_edge", longest, "is below shortest_edge, the least 2·height·width").into());
    }
    if longest > MAX_EDGE {
        return Err(refuse("longest_edge", longest, "is larger than this crate accepts").into());
    }
    Ok(())
}

/// A picture as the tower reads it: resized, and cut and normalised as rows are asked for, because
/// all rows of a screenshot in f32 fill eight times the picture's memory.
#[derive(Debug, Clone)]
pub struct Patches {
    picture: Rgb,
    config: PreprocessConfig,
    levels: [[f32; 256]; 3],
    grid: Grid,
    places: Vec<(u32, u32)>,
    digest: MediaDigest,
}

impl Patches {
    /// Number of patches p.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is no patch at all; a picture has at least one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Numbers in a patch: colours · frames · side².
    #[must_use]
    pub fn width(&self) -> usize {
        let side = self.config.patch_size as usize;
        3 * self.config.temporal_patch_size as usize * side * side
    }

    /// Patches `start..start + len` in merge order, (len, width) in f32. A row runs over colour,
    /// frame, line and column of its patch.
    ///
    /// # Errors
    /// [`autoglm_core::Error::Rows`] when there are fewer patches.
    pub fn rows(&self, run: &Run<'_>, start: usize, len: usize) -> Result<Tensor> {
        let end = start.saturating_add(len);
        let Some(places) = self.places.get(start..end) else {
            let (what, got) = ("patches of a picture", self.places.len());
            return Err(autoglm_core::Error::Rows { what, expected: end, got }.into());
        };
        let width = self.width();
        let mut rows = vec![0f32; places.len() * width];
        run.for_rows(&mut rows, width, 1, |first, rows| {
            rows.chunks_exact_mut(width).zip(&places[first..]).for_each(|(row, place)| self.cut(*place, row));
        });
        Ok(from_rows(rows, &[places.len(), width])?)
    }

    fn cut(&self, (y, x): (u32, u32), row: &mut [f32]) {
        let (side, frames) = (self.config.patch_size as usize, self.config.temporal_patch_size as usize);
        let area = side * side;
        let line = self.picture.width() as usize * 3;
        let corner = y as usize * side * line + x as usize * side * 3;
        for (colour, of_colour) in row.chunks_exact_mut(frames * area).enumerate() {
            let (still, repeats) = of_colour.split_at_mut(area);
            for (i, out) in still.chunks_exact_mut(side).enumerate() {
                let (samples, _) = self.picture.pixels()[corner + i * line..][..side * 3].as_chunks::<3>();
                for (out, sample) in out.iter_mut().zip(samples) {
                    *out = self.levels[colour][usize::from(sample[colour])];
                }
            }
            repeats.chunks_exact_mut(area).for_each(|frame| frame.copy_from_slice(still));
        }
    }

    /// The picture's size in patches.
    #[must_use]
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// Patches along a side of the squares the rows are ordered by.
    #[must_use]
    pub fn merge_size(&self) -> u32 {
        self.config.merge_size
    }

    /// The (row, column) of each patch in the grid, in merge order.
    pub(crate) fn places(&self) -> &[(u32, u32)] {
        &self.places
    }

    /// A digest of the resized samples, their shape, and how they are normalised and cut.
    #[must_use]
    pub fn digest(&self) -> MediaDigest {
        self.digest
    }
}

#[cfg(test)]
mod tests;
