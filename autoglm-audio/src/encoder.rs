//! Everything between samples and a decoder's rows.

use autoglm_core::{Embeds, MediaDigest, Modality, Run, Source};
use candle_core::{DType, Device, Tensor};

use crate::chunker::Heard;
use crate::config::{JOINED, Prefixes};
use crate::features::FRAMES_PER_ROW;
use crate::{
    Adapter, AudioConfig, AudioTower, Chunker, Error, FeatureConfig, Features, LogMel, Result, Sound, resample,
};

/// Features, encoder and adapter of one checkpoint. It holds weights and nothing that changes.
#[derive(Debug)]
pub struct AudioEncoder {
    features: Features,
    tower: AudioTower,
    adapter: Adapter,
    out_hidden_size: usize,
}

impl AudioEncoder {
    /// Asks `source` for the tensors of [`AudioConfig::expected_tensors`] under `names`.
    ///
    /// # Errors
    /// - Those of [`Source`]: they name the tensor that is missing or has another shape or type.
    /// - [`autoglm_core::Error::Config`] when `features` are of another size than the encoder's.
    pub fn load(source: &dyn Source, config: &AudioConfig, features: FeatureConfig, names: Prefixes) -> Result<Self> {
        config.check_features(&features)?;
        Ok(Self {
            features: Features::new(features),
            tower: AudioTower::load(source, config, names.tower)?,
            adapter: Adapter::load(source, config, names.adapter)?,
            out_hidden_size: config.out_hidden_size,
        })
    }

    /// What it hears of a sound.
    #[must_use]
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// The samples that it reads of `sound`, at its own rate.
    ///
    /// # Errors
    /// [`Error::Resampling`] when the resampler refuses.
    pub fn samples(&self, sound: &Sound) -> Result<Vec<f32>> {
        resample(sound, self.features.config().sampling_rate())
    }

    /// The rows of a sound of [`samples`](Self::samples), 12.5 per second, window by window; none for a sound of
    /// up to 60 milliseconds.
    ///
    /// # Errors
    /// - [`Error::NotANumber`] and [`Error::TooLoud`] name a sample that is infinite or no number, or beyond 2^24 times
    ///   full scale.
    /// - [`autoglm_core::Error::Memory`] when the system has not the memory.
    pub fn encode(&self, run: &Run<'_>, samples: &[f32]) -> Result<Embeds> {
        let mut chunker = self.chunker();
        chunker.push(self, run, samples)?;
        chunker.finish(self, run)
    }

    /// What stands for a sound of [`samples`](Self::samples) in caches: equal digests mean equal rows under
    /// the same weights.
    #[must_use]
    pub fn digest(&self, samples: &[f32]) -> MediaDigest {
        let mut heard = Heard::new(self.features.config());
        heard.push(samples);
        heard.exact()
    }

    /// What encodes a sound while it is being recorded.
    #[must_use]
    pub fn chunker(&self) -> Chunker {
        Chunker::new(self.features.config())
    }

    /// The rows of one window that are about its sound, (rows, out).
    pub(crate) fn window(&self, run: &Run<'_>, window: &LogMel) -> Result<Tensor> {
        if window.rows() == 0 {
            return Ok(Tensor::zeros((0, self.out_hidden_size), DType::F32, &Device::Cpu)?);
        }
        self.adapter.forward(run, &self.tower.encode(run, window, JOINED * window.rows())?)
    }

    /// The rows of a window that is no longer than its sound: quicker, and not what the model was trained on.
    pub(crate) fn short_window(&self, run: &Run<'_>, samples: &[f32]) -> Result<Tensor> {
        let whole = self.features.config().hop_length * FRAMES_PER_ROW;
        let frames = samples.len().div_ceil(whole) * FRAMES_PER_ROW;
        self.window(run, &self.features.frames(run, samples, frames.max(FRAMES_PER_ROW))?)
    }

    pub(crate) fn embeds(&self, rows: &[Tensor], digest: MediaDigest) -> Result<Embeds> {
        let some: Vec<&Tensor> = rows.iter().filter(|rows| rows.elem_count() > 0).collect();
        let rows = if some.is_empty() {
            Tensor::zeros((0, self.out_hidden_size), DType::F32, &Device::Cpu)?
        } else {
            Tensor::cat(&some, 0)?
        };
        let n = u32::try_from(rows.dim(0)?).map_err(|_| Error::Core(autoglm_core::Error::Overflow { what: "rows" }))?;
        // Rows of a sound count on as words do, on all three axes.
        Ok(Embeds::new(rows, (0..n).map(|i| [i; 3]).collect(), [n; 3], Modality::Audio, digest)?)
    }
}

#[cfg(test)]
mod tests;
