//! The picture encoder, where the build and the checkpoint have one.

use autoglm_core::{Checkpoint, Embeds, Files, Keep, Run, Source, TensorSpec};
use serde_json::Value;

use crate::{Error, OpenOptions, Part, Result};

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
    /// What was seen last: after a tap that did nothing the same screen comes again.
    #[cfg(feature = "kvcache")]
    seen: autoglm_kvcache::EmbedsCache,
}

/// Pictures whose rows are kept: this step's and the one's before. Those of a whole screen take 50 MB.
#[cfg(all(feature = "vision", feature = "kvcache"))]
const PICTURES_KEPT: usize = 2;

/// What a checkpoint says about pictures, before any tensor is read.
#[derive(Debug)]
pub(crate) struct EyesConfig {
    #[cfg(feature = "vision")]
    seeing: Option<(autoglm_vision::PreprocessConfig, autoglm_vision::VisionConfig)>,
}

impl EyesConfig {
    #[cfg(feature = "vision")]
    pub(crate) fn read(files: &Files, config: &Value, checkpoint: &Checkpoint, options: &OpenOptions) -> Result<Self> {
        let written: Option<Value> = files.json("preprocessor_config.json")?;
        let read = Self::new(config, written.as_ref(), options)?;
        if let Some((_, vision)) = &read.seeing {
            checkpoint.bound_layers("depth", vision.depth)?;
        }
        Ok(read)
    }

    /// What `config.json` and, where there is one, `preprocessor_config.json` say.
    #[cfg(feature = "vision")]
    pub(crate) fn new(config: &Value, written: Option<&Value>, options: &OpenOptions) -> Result<Self> {
        let Some(vision) = config.get("vision_config").filter(|v| v.is_object()) else {
            return Ok(Self { seeing: None });
        };
        let vision = autoglm_vision::VisionConfig::from_json(vision)?;
        let mut preprocess = autoglm_vision::PreprocessConfig::from_json(written, &vision)?;
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

    #[cfg(not(feature = "vision"))]
    #[cfg_attr(not(feature = "quant"), allow(dead_code, reason = "only random models have no files"))]
    pub(crate) fn new(_: &Value, _: Option<&Value>, _: &OpenOptions) -> Result<Self> {
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
            Ok::<_, Error>(Seeing {
                preprocess,
                tower,
                #[cfg(feature = "kvcache")]
                seen: autoglm_kvcache::EmbedsCache::new(PICTURES_KEPT),
            })
        });
        Ok(Eyes { seeing: seeing.transpose()? })
    }

    #[cfg(not(feature = "vision"))]
    pub(crate) fn load(self, _: &dyn Source) -> Result<Eyes> {
        Ok(Eyes {})
    }
}

impl Eyes {
    /// Pictures that the tower encoded so far.
    #[cfg(all(feature = "vision", feature = "kvcache"))]
    pub(crate) fn encoded(&self) -> u64 {
        self.seeing.as_ref().map_or(0, |seeing| seeing.seen.encoded())
    }

    /// The rows of a picture that stay in a context of `limit`, of which `taken` are taken. Whether they fit is known
    /// before the tower runs, which takes seconds.
    #[cfg(feature = "vision")]
    pub(crate) fn see(
        &self,
        run: &Run<'_>,
        _salt: [u8; 32],
        picture: &Part,
        keep: Keep,
        taken: usize,
        limit: usize,
    ) -> Result<Embeds> {
        let Some(seeing) = &self.seeing else {
            return Err(Error::ModalityOff { modality: "pictures", why: "its checkpoint has no vision tower" });
        };
        let limits = autoglm_vision::Limits::default();
        let picture = match picture {
            Part::Image(bytes) => autoglm_vision::decode(bytes, &limits)?,
            Part::Pixels { width, height, rgb } => autoglm_vision::Rgb::new(*width, *height, rgb.clone())?,
            Part::Text(_) | Part::Audio(_) | Part::Samples { .. } => {
                return Err(Error::ModalityOff {
                    modality: "words and sounds as pictures",
                    why: "they have no pixels",
                });
            }
        };
        let patches = seeing.preprocess.patches(run, &picture)?;
        let rows = keep.rows(patches.grid().merged(patches.merge_size())?.patches()?).saturating_add(taken);
        if rows > limit {
            return Err(autoglm_fusion::Error::Oversize { rows, limit }.into());
        }
        let encode = || Ok::<_, Error>(seeing.tower.encode(run, &patches)?);
        // All of its rows are remembered, whichever of them this prompt takes.
        #[cfg(feature = "kvcache")]
        let whole = seeing.seen.get_or_encode(_salt, patches.digest(), encode)?;
        #[cfg(not(feature = "kvcache"))]
        let whole = encode()?;
        Ok(whole.keep(keep)?)
    }

    #[cfg(not(feature = "vision"))]
    pub(crate) fn see(&self, _: &Run<'_>, _: [u8; 32], _: &Part, _: Keep, _: usize, _: usize) -> Result<Embeds> {
        Err(Error::ModalityOff { modality: "pictures", why: "it was built without the feature `vision`" })
    }
}
