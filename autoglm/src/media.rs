//! What a user says, and the encoders that turn media into rows.

use autoglm_core::{Checkpoint, Embeds, Files, Run, Source, TensorSpec};
use serde_json::Value;

use crate::{Error, OpenOptions, Result};

/// A piece of a user's turn.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Part {
    /// Text. It enters as text: whatever it contains, it cannot forge a turn marker or a picture.
    Text(String),
    /// An encoded picture: the bytes of a PNG, JPEG or WebP file.
    Image(Vec<u8>),
}

impl Part {
    /// Text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A picture: the bytes of a PNG, JPEG or WebP file.
    #[must_use]
    pub fn image(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Image(bytes.into())
    }
}

/// Where the vision tower's tensors live.
#[cfg(feature = "vision")]
const VISION_PREFIX: &str = "model.visual";

/// The picture encoder, where the build and the checkpoint have one.
#[derive(Debug)]
pub(crate) struct Eyes {
    #[cfg(feature = "vision")]
    seeing: Option<Seeing>,
}

#[cfg(feature = "vision")]
#[derive(Debug)]
struct Seeing {
    preprocess: autoglm_vision::PreprocessConfig,
    tower: autoglm_vision::VisionTower,
}

/// What a checkpoint says about pictures, before any tensor is read.
#[derive(Debug)]
pub(crate) struct EyesConfig {
    #[cfg(feature = "vision")]
    seeing: Option<(autoglm_vision::PreprocessConfig, autoglm_vision::VisionConfig)>,
}

impl EyesConfig {
    #[cfg(feature = "vision")]
    pub(crate) fn read(files: &Files, config: &Value, checkpoint: &Checkpoint, options: &OpenOptions) -> Result<Self> {
        let Some(vision) = config.get("vision_config").filter(|v| v.is_object()) else {
            return Ok(Self { seeing: None });
        };
        let vision = autoglm_vision::VisionConfig::from_json(vision)?;
        checkpoint.bound_layers("depth", vision.depth)?;
        let written: Option<Value> = files.json("preprocessor_config.json")?;
        let mut preprocess = autoglm_vision::PreprocessConfig::from_json(written.as_ref(), &vision)?;
        if let Some(max_pixels) = options.max_pixels {
            preprocess = preprocess
                .with_max_pixels(max_pixels)
                .map_err(|e| Error::Option { option: "max_pixels", source: Box::new(e.into()) })?;
        }
        Ok(Self { seeing: Some((preprocess, vision)) })
    }

    #[cfg(not(feature = "vision"))]
    pub(crate) fn read(_: &Files, _: &Value, _: &Checkpoint, _: &OpenOptions) -> Result<Self> {
        Ok(Self {})
    }

    /// Tensors the encoder will read.
    pub(crate) fn expected_tensors(&self) -> Vec<TensorSpec> {
        #[cfg(feature = "vision")]
        if let Some((_, vision)) = &self.seeing {
            return vision.expected_tensors(VISION_PREFIX);
        }
        Vec::new()
    }

    /// Prefixes of tensors that belong to a modality this build leaves out.
    pub(crate) fn unread_prefixes(&self) -> &'static [&'static str] {
        if cfg!(feature = "vision") { &[] } else { &["model.visual."] }
    }

    #[cfg(feature = "vision")]
    pub(crate) fn load(self, source: &dyn Source) -> Result<Eyes> {
        let seeing = self.seeing.map(|(preprocess, vision)| {
            let tower = autoglm_vision::VisionTower::load(source, &vision, VISION_PREFIX)?;
            Ok::<_, Error>(Seeing { preprocess, tower })
        });
        Ok(Eyes { seeing: seeing.transpose()? })
    }

    #[cfg(not(feature = "vision"))]
    pub(crate) fn load(self, _: &dyn Source) -> Result<Eyes> {
        Ok(Eyes {})
    }
}

impl Eyes {
    /// The rows of an encoded picture.
    #[cfg(feature = "vision")]
    pub(crate) fn see(&self, run: &Run<'_>, bytes: &[u8]) -> Result<Embeds> {
        let Some(seeing) = &self.seeing else {
            return Err(Error::ModalityOff { modality: "pictures", why: "its checkpoint has no vision tower" });
        };
        let picture = autoglm_vision::decode(bytes, &autoglm_vision::Limits::default())?;
        let patches = seeing.preprocess.patches(run, &picture)?;
        Ok(seeing.tower.encode(run, &patches)?)
    }

    #[cfg(not(feature = "vision"))]
    pub(crate) fn see(&self, _: &Run<'_>, _: &[u8]) -> Result<Embeds> {
        Err(Error::ModalityOff { modality: "pictures", why: "it was built without the feature `vision`" })
    }
}
