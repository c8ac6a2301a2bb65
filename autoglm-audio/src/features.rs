//! How sound is cut and measured before it is encoded: the numbers of a `WhisperFeatureExtractor`.

use autoglm_core::fields::{Fields, refuse};
use serde_json::{Value, json};

use crate::Result;

/// Seconds of the longest window that is accepted; the real model has 30.
const MAX_CHUNK_LENGTH: u64 = 120;
/// The most bands that are accepted.
const MAX_BANDS: u64 = 512;
/// The most frames of a window; the real model has 3000, and attention goes with their square.
const MAX_FRAMES: usize = 12_000;
/// The longest frame, in samples.
const MAX_FRAME: u64 = 4096;
/// Samples per second: the filters end at 8 kHz.
const SAMPLING_RATE: u32 = 16_000;
/// Frames that become one row: the second convolution takes every second one, the adapter four of those.
pub(crate) const FRAMES_PER_ROW: usize = 8;

/// How sound is cut into windows and these into bands of frequencies.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeatureConfig {
    /// Bands of frequencies.
    pub feature_size: usize,
    /// Samples of a frame.
    pub n_fft: usize,
    /// Samples from one frame to the next.
    pub hop_length: usize,
    /// Seconds of a window. The encoder sees one window at a time, the last one filled up with silence.
    pub chunk_length: usize,
}

impl FeatureConfig {
    /// Reads `processor_config.json`, whose `feature_extractor` transformers 5 writes, or
    /// `preprocessor_config.json`, which is all of it in older checkpoints. What is absent is Whisper's, with
    /// the 128 bands of GLM-ASR.
    ///
    /// # Errors
    /// [`autoglm_core::Error::Config`] naming the field that has a value which cannot be computed with.
    pub fn from_json(processor: Option<&Value>, preprocessor: Option<&Value>) -> Result<Self> {
        let nested = Fields(processor).get("feature_extractor");
        let alone = preprocessor.filter(|file| Fields(Some(file)).get("feature_extractor_type").is_some());
        let fields = Fields(nested.or(alone));
        fields.only(
            "feature_extractor_type",
            &json!("WhisperFeatureExtractor"),
            "only Whisper's way to hear is known in this family",
        )?;
        fields.only("sampling_rate", &json!(SAMPLING_RATE), "encoders of this family hear 16000 samples per second")?;
        if let Some(dither) = fields.get("dither").filter(|dither| dither.as_f64() != Some(0.0)) {
            return Err(refuse("dither", dither, "noise would make answers differ from run to run").into());
        }
        fields.only("do_normalize", &json!(false), "encoders of this family hear loudness as it is")?;
        let config = Self {
            feature_size: fields.size("feature_size", 128, MAX_BANDS)?,
            n_fft: fields.size("n_fft", 400, MAX_FRAME)?,
            hop_length: fields.size("hop_length", 160, MAX_FRAME)?,
            chunk_length: fields.size("chunk_length", 30, MAX_CHUNK_LENGTH)?,
        };
        if !config.n_fft.is_multiple_of(2) {
            return Err(refuse("n_fft", config.n_fft, "must be even").into());
        }
        let samples = config.window();
        if !samples.is_multiple_of(config.hop_length) || !config.frames().is_multiple_of(FRAMES_PER_ROW) {
            return Err(refuse("chunk_length", config.chunk_length, "a window must be a whole number of rows").into());
        }
        if config.frames() > MAX_FRAMES {
            return Err(
                refuse("hop_length", config.hop_length, "makes more frames of a window than are accepted").into()
            );
        }
        // A window is mirrored by half a frame at its ends, and the shortest one is a row long.
        if FRAMES_PER_ROW * config.hop_length <= config.n_fft / 2 {
            return Err(refuse("n_fft", config.n_fft, "half a frame must be shorter than a row").into());
        }
        Ok(config)
    }

    /// Samples per second.
    #[must_use]
    pub fn sampling_rate(&self) -> u32 {
        SAMPLING_RATE
    }

    /// Samples of a window.
    #[must_use]
    pub fn window(&self) -> usize {
        self.chunk_length * SAMPLING_RATE as usize
    }

    /// Frames of a window.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.window() / self.hop_length
    }

    /// Rows that a sound of so many samples becomes: 12.5 per second. Frames that have a sample of the sound are
    /// halved by the second convolution, rounded up, and joined by four, rounded down
    /// (`GlmAsrModel.get_audio_features`).
    #[must_use]
    pub fn rows(&self, samples: usize) -> usize {
        let (whole, rest) = (samples / self.window(), samples % self.window());
        whole * (self.frames() / FRAMES_PER_ROW) + rest.div_ceil(self.hop_length).div_ceil(2) / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn real() -> FeatureConfig {
        FeatureConfig::from_json(None, None).unwrap()
    }

    #[test]
    fn a_window_of_the_real_model_is_375_rows() {
        let config = real();
        assert_eq!((config.window(), config.frames(), config.rows(config.window())), (480_000, 3_000, 375));
        // (samples, rows) by `_get_audio_token_length`.
        let table = [(0, 0), (1, 0), (960, 0), (961, 1), (16_000, 12), (479_999, 375), (480_001, 375), (481_280, 376)];
        for (samples, rows) in table {
            assert_eq!(config.rows(samples), rows, "{samples}");
        }
    }

    #[test]
    fn both_files_are_read_and_a_picture_s_is_not() {
        let four =
            json!({"feature_extractor_type": "WhisperFeatureExtractor", "chunk_length": 4, "sampling_rate": 16000});
        let nested = json!({"feature_extractor": four, "processor_class": "GlmAsrProcessor"});
        let picture = json!({"image_processor_type": "Glm4vImageProcessor", "chunk_length": 8});
        let length = |processor, preprocessor| FeatureConfig::from_json(processor, preprocessor).unwrap().chunk_length;
        assert_eq!(length(Some(&nested), Some(&picture)), 4);
        assert_eq!(length(None, Some(&four)), 4);
        assert_eq!(length(None, Some(&picture)), 30);
    }

    #[test]
    fn values_that_cannot_be_computed_with_are_refused_by_name() {
        let cases = [
            ("feature_extractor_type", json!("EncodecFeatureExtractor")),
            ("sampling_rate", json!(8_000)),
            ("dither", json!(0.1)),
            ("do_normalize", json!(true)),
            ("feature_size", json!(0)),
            ("feature_size", json!(1 << 20)),
            ("n_fft", json!(401)),
            ("hop_length", json!(0)),
            ("hop_length", json!(7)),
            ("hop_length", json!(1)),
            ("hop_length", json!(20)),
            ("chunk_length", json!(1)),
            ("chunk_length", json!(u64::MAX)),
            ("chunk_length", json!(2.5)),
        ];
        for (field, value) in cases {
            let mut file = json!({"feature_extractor_type": "WhisperFeatureExtractor"});
            file[field] = value.clone();
            let refused = FeatureConfig::from_json(None, Some(&file));
            let named = matches!(&refused, Err(crate::Error::Core(autoglm_core::Error::Config { .. })));
            assert!(named, "{field} = {value}: {refused:?}");
        }
    }
}
