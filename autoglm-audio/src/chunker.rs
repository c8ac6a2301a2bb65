//! A sound that is encoded while it is being recorded.

use autoglm_core::{Embeds, MediaDigest, Run};
use candle_core::Tensor;

use crate::sound::check_samples;
use crate::{AudioEncoder, Error, FeatureConfig, Result};

/// Takes samples as they come and encodes a window as soon as it is full, so that little is left to do when
/// the speaker stops.
///
/// The encoder reads a window in both directions, so the rows of an open window are not known before it closes:
/// exact rows come in windows, and are the bits that [`AudioEncoder::encode`] gives for the whole sound.
/// [`Chunker::approximate`] guesses at the open one.
#[derive(Debug, Clone)]
pub struct Chunker {
    window: usize,
    /// Rows of the windows that are full.
    closed: Vec<Tensor>,
    /// The open window.
    open: Vec<f32>,
    heard: Heard,
    /// Whether a window could not be encoded: the digest stands for samples that no row stands for.
    broken: bool,
}

impl Chunker {
    /// For an encoder of these features.
    #[must_use]
    pub fn new(features: &FeatureConfig) -> Self {
        let (window, heard) = (features.window(), Heard::new(features));
        Self { window, closed: Vec::new(), open: Vec::new(), heard, broken: false }
    }

    /// Samples so far.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.heard.samples
    }

    /// Takes the next samples, as many per second as [`FeatureConfig::sampling_rate`] says, and encodes each
    /// window that they fill.
    ///
    /// # Errors
    /// - [`Error::NotANumber`] and [`Error::TooLoud`] name a sample that is infinite or no number, or beyond 2^24 times
    ///   full scale; none of the samples is taken then.
    /// - What [`AudioEncoder::encode`] reports; the recording is of no use then, and whatever is asked of it later is
    ///   [`Error::BrokenRecording`].
    pub fn push(&mut self, encoder: &AudioEncoder, run: &Run<'_>, samples: &[f32]) -> Result<()> {
        self.whole()?;
        check_samples(self.heard.samples, samples)?;
        self.heard.push(samples);
        // Until every window is encoded.
        self.broken = true;
        let mut rest = samples;
        while self.open.len() + rest.len() >= self.window {
            let (fills, after) = rest.split_at(self.window - self.open.len());
            self.open.extend_from_slice(fills);
            rest = after;
            self.closed.push(encoder.window(run, &encoder.features().log_mel(run, &self.open)?)?);
            self.open.clear();
        }
        self.open.extend_from_slice(rest);
        self.broken = false;
        Ok(())
    }

    fn whole(&self) -> Result<()> {
        if self.broken { Err(Error::BrokenRecording) } else { Ok(()) }
    }

    /// The rows of the sound as if the recording ended here, those of the open window from one that ends with it:
    /// a fraction of the time, and not the rows that the model was trained on.
    ///
    /// # Errors
    /// - [`Error::BrokenRecording`] when [`Chunker::push`] could not encode a window.
    /// - What [`AudioEncoder::encode`] reports.
    pub fn approximate(&self, encoder: &AudioEncoder, run: &Run<'_>) -> Result<Embeds> {
        self.whole()?;
        if self.open.is_empty() {
            return self.clone().finish(encoder, run);
        }
        let mut rows = self.closed.clone();
        rows.push(encoder.short_window(run, &self.open)?);
        // Approximate rows must never be taken for exact ones.
        encoder.embeds(&rows, self.heard.digest("autoglm 2026-11 approximate rows"))
    }

    /// Ends the recording. → the rows of the whole sound, 12.5 per second; none for up to 60 milliseconds.
    ///
    /// # Errors
    /// - [`Error::BrokenRecording`] when [`Chunker::push`] could not encode a window.
    /// - What [`AudioEncoder::encode`] reports.
    pub fn finish(mut self, encoder: &AudioEncoder, run: &Run<'_>) -> Result<Embeds> {
        self.whole()?;
        if !self.open.is_empty() {
            self.closed.push(encoder.window(run, &encoder.features().log_mel(run, &self.open)?)?);
        }
        encoder.embeds(&self.closed, self.heard.digest(EXACT))
    }
}

const EXACT: &str = "autoglm 2026-11 samples of a sound";

/// What stands for the samples so far.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    hasher: blake3::Hasher,
    samples: usize,
}

impl Heard {
    pub(crate) fn new(features: &FeatureConfig) -> Self {
        let mut hasher = blake3::Hasher::new();
        // Written out, not derived from `Debug`, which promises nothing.
        let FeatureConfig { feature_size, n_fft, hop_length, chunk_length } = *features;
        for number in [feature_size, n_fft, hop_length, chunk_length] {
            hasher.update(&(number as u64).to_le_bytes());
        }
        Self { hasher, samples: 0 }
    }

    pub(crate) fn push(&mut self, samples: &[f32]) {
        let mut bytes = Vec::new();
        for samples in samples.chunks(1 << 12) {
            bytes.clear();
            bytes.extend(samples.iter().flat_map(|sample| sample.to_bits().to_le_bytes()));
            self.hasher.update(&bytes);
        }
        self.samples += samples.len();
    }

    /// The digest of the samples, for exact rows.
    pub(crate) fn exact(&self) -> MediaDigest {
        self.digest(EXACT)
    }

    fn digest(&self, purpose: &str) -> MediaDigest {
        let samples = self.hasher.finalize();
        MediaDigest(*blake3::Hasher::new_derive_key(purpose).update(samples.as_bytes()).finalize().as_bytes())
    }
}
