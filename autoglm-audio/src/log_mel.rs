//! Samples into log-mel frames, as `WhisperFeatureExtractor` computes them.
//!
//! ```text
//! x: a window of samples, filled up with zeros, reflected by n_fft / 2 at both ends
//! X = rfft(frame · hann)                       frames every hop_length samples; the last one is left out
//! m = log10(max(filters · |X|², 1e-10))
//! m = (max(m, max over the window − 8) + 4) / 4
//! ```
//!
//! Spectra are formed in f64: eight decades below a loud tone f32 is all rounding, and a band there would
//! tell more about the transform than about the sound.

use std::f64::consts::TAU;
use std::fmt;
use std::sync::Arc;

use autoglm_core::Run;
use realfft::{RealFftPlanner, RealToComplex};

use crate::mel::{Filter, filters};
use crate::{FeatureConfig, Result};

/// Power below which a band counts as silent.
const SILENCE: f64 = 1e-10;
/// Decades below the loudest band that are heard.
const DECADES: f32 = 8.0;

/// A window's bands of frequencies over time.
#[derive(Debug, Clone, PartialEq)]
pub struct LogMel {
    data: Vec<f32>, // (frames, bands)
    bands: usize,
    rows: usize,
}

impl LogMel {
    /// The numbers, (frames, bands), row-major. Transformers has bands first.
    #[must_use]
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// Number of frames.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.data.len() / self.bands
    }

    /// Number of bands.
    #[must_use]
    pub fn bands(&self) -> usize {
        self.bands
    }

    /// Rows for the decoder, after the adapter has joined four of the encoder's, that are about the sound: those of
    /// [`FeatureConfig::rows`], 12.5 per second. The rest is about the silence behind it.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }
}

/// What turns samples into log-mel frames: a window function, a transform, and filters.
#[derive(Clone)]
pub struct Features {
    config: FeatureConfig,
    hann: Vec<f64>,
    fft: Arc<dyn RealToComplex<f64>>,
    filters: Vec<Filter>,
}

impl Features {
    /// Prepares what `config` needs.
    #[must_use]
    pub fn new(config: FeatureConfig) -> Self {
        let n = config.n_fft;
        // Periodic: one period of the cosine is n, not n − 1.
        let hann = (0..n).map(|i| 0.5 - 0.5 * (TAU * i as f64 / n as f64).cos()).collect();
        Self {
            hann,
            fft: RealFftPlanner::new().plan_fft_forward(n),
            filters: filters(config.feature_size, n / 2 + 1, config.sampling_rate()),
            config,
        }
    }

    /// The numbers that it was made of.
    #[must_use]
    pub fn config(&self) -> &FeatureConfig {
        &self.config
    }

    /// The frames of one window of samples at [`FeatureConfig::sampling_rate`]. What is missing of the window
    /// is silence.
    ///
    /// # Errors
    /// - [`autoglm_core::Error::Rows`] when there are more samples than a window has.
    /// - [`Error::NotANumber`](crate::Error::NotANumber) and [`Error::TooLoud`](crate::Error::TooLoud) name a sample that
    ///   is infinite or no number, or beyond 2^24 times full scale.
    pub fn log_mel(&self, run: &Run<'_>, samples: &[f32]) -> Result<LogMel> {
        // The comparison with silence would take what is no number for silence.
        crate::sound::check_samples(0, samples)?;
        self.frames(run, samples, self.config.frames())
    }

    /// As [`log_mel`](Self::log_mel), of a window that is only so many frames long.
    pub(crate) fn frames(&self, run: &Run<'_>, samples: &[f32], frames: usize) -> Result<LogMel> {
        let FeatureConfig { n_fft, hop_length, feature_size: bands, .. } = self.config;
        let window = frames * hop_length;
        if samples.len() > window {
            let what = "samples of a window";
            return Err(autoglm_core::Error::Rows { what, expected: window, got: samples.len() }.into());
        }
        let padded = reflected(samples, window, n_fft / 2);
        let mut data = run.zeros(frames * bands);
        run.for_rows(&mut data, bands, 16, |first, rows| {
            let mut frame = self.fft.make_input_vec();
            let mut spectrum = self.fft.make_output_vec();
            let mut scratch = self.fft.make_scratch_vec();
            for (i, row) in rows.chunks_exact_mut(bands).enumerate() {
                let from = &padded[(first + i) * hop_length..][..n_fft];
                for ((frame, sample), weight) in frame.iter_mut().zip(from).zip(&self.hann) {
                    *frame = f64::from(*sample) * weight;
                }
                let transformed = self.fft.process_with_scratch(&mut frame, &mut spectrum, &mut scratch);
                transformed.expect("the buffers are those that the transform made for itself");
                for (band, filter) in row.iter_mut().zip(&self.filters) {
                    let bins = &spectrum[filter.first..][..filter.weights.len()];
                    let power: f64 = bins.iter().zip(&filter.weights).map(|(x, w)| x.norm_sqr() * w).sum();
                    *band = power.max(SILENCE).log10() as f32;
                }
            }
        });
        let loudest = data.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        data.iter_mut().for_each(|band| *band = (band.max(loudest - DECADES) + 4.0) / 4.0);
        Ok(LogMel { data, bands, rows: self.config.rows(samples.len()).min(frames / crate::features::FRAMES_PER_ROW) })
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Features of {:?}", self.config)
    }
}

/// Samples and the silence behind them, with `edge` samples mirrored at both ends, the outermost not repeated.
fn reflected(samples: &[f32], window: usize, edge: usize) -> Vec<f32> {
    let at = |i: usize| samples.get(i).copied().unwrap_or(0.0);
    let mut padded = Vec::with_capacity(window + 2 * edge);
    padded.extend((1..=edge).rev().map(at));
    padded.extend_from_slice(samples);
    padded.resize(edge + window, 0.0);
    padded.extend((1..=edge).map(|i| at(window - 1 - i)));
    padded
}

#[cfg(test)]
mod tests;
