//! Turn speech into embedding rows a text decoder can read: the acoustic side of GLM-ASR.
//!
//! A sound passes through, in this order: [`mod@decode`] (a file into samples, within limits), [`mod@resample`] (to
//! 16 kHz), [`log_mel`] (bands of frequencies over time, as Whisper measures them), [`tower`] (the acoustic
//! encoder), [`adapter`] (four rows into one of the decoder's width). [`encoder`] joins them, [`chunker`] does so
//! while a sound is being recorded, and [`features`] and [`config`] read the blueprints.
//!
//! ```
//! use autoglm_audio::{FeatureConfig, Features, Sound};
//! use autoglm_core::{Run, Workers};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let features = Features::new(FeatureConfig::from_json(None, None)?);
//! let workers = Workers::new(1)?;
//! let second = Sound::new(16_000, vec![0.1; 16_000])?;
//! let window = features.log_mel(&Run::new(&workers), second.samples())?;
//! // A window is 30 seconds long; twelve rows of it are about the sound.
//! assert_eq!((window.frames(), window.bands(), window.rows()), (3_000, 128, 12));
//! # Ok(())
//! # }
//! ```

pub mod adapter;
pub mod chunker;
pub mod config;
pub mod decode;
pub mod encoder;
mod error;
pub mod features;
mod layer;
pub mod log_mel;
mod mel;
pub mod resample;
mod sound;
pub mod tower;

pub use adapter::Adapter;
pub use chunker::Chunker;
pub use config::{AudioConfig, Prefixes};
pub use decode::{Limits, decode};
pub use encoder::AudioEncoder;
pub use error::{Error, Result};
pub use features::FeatureConfig;
pub use log_mel::{Features, LogMel};
pub use resample::resample;
pub use sound::Sound;
pub use tower::AudioTower;
