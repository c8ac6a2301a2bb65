//! The sound encoder, where the build and the checkpoint have one.

use autoglm_core::{Checkpoint, Embeds, Files, Run, Source, TensorSpec};
use serde_json::Value;

use crate::{Error, Part, Result};

/// The sound encoder, where the build and the checkpoint have one.
#[derive(Debug)]
pub(crate) struct Ears {
    #[cfg(feature = "audio")]
    hearing: Option<Hearing>,
}

#[cfg(feature = "audio")]
#[derive(Debug)]
struct Hearing {
    encoder: autoglm_audio::AudioEncoder,
    /// What was heard last: a command that is given again under the next screenshot.
    #[cfg(feature = "kvcache")]
    heard: autoglm_kvcache::EmbedsCache,
}

/// Sounds whose rows are kept. Those of half a minute take 3 MB.
#[cfg(all(feature = "audio", feature = "kvcache"))]
const SOUNDS_KEPT: usize = 2;

/// What a checkpoint says about sounds, before any tensor is read.
#[derive(Debug)]
pub(crate) struct EarsConfig {
    #[cfg(feature = "audio")]
    hearing: Option<(autoglm_audio::FeatureConfig, autoglm_audio::AudioConfig, autoglm_audio::Prefixes)>,
}

/// Prefixes of a sound encoder's tensors.
#[cfg(not(feature = "audio"))]
const PREFIXES: &[&str] =
    &["model.audio_tower.", "model.multi_modal_projector.", "audio_tower.", "multi_modal_projector."];

#[cfg(feature = "audio")]
impl EarsConfig {
    pub(crate) fn read(files: &Files, config: &Value, width: usize, checkpoint: &Checkpoint) -> Result<Self> {
        let [processor, preprocessor] =
            ["processor_config.json", "preprocessor_config.json"].map(|name| files.json(name));
        // Any of them: the name of the one that is missing should be in the generation that the others are in.
        let nested = checkpoint.names().any(|name| name.starts_with(autoglm_audio::Prefixes::NESTED.tower));
        let names = if nested { autoglm_audio::Prefixes::NESTED } else { autoglm_audio::Prefixes::FLAT };
        let read = Self::of(config, width, (processor?.as_ref(), preprocessor?.as_ref()), names)?;
        if let Some((_, audio, _)) = &read.hearing {
            checkpoint.bound_layers("num_hidden_layers", audio.num_hidden_layers)?;
        }
        Ok(read)
    }

    /// What `config.json` alone says, for models without files.
    #[cfg(feature = "quant")]
    pub(crate) fn new(config: &Value, width: usize) -> Result<Self> {
        Self::of(config, width, (None, None), autoglm_audio::Prefixes::NESTED)
    }

    fn of(
        config: &Value,
        width: usize,
        (processor, preprocessor): (Option<&Value>, Option<&Value>),
        names: autoglm_audio::Prefixes,
    ) -> Result<Self> {
        let Some(audio) = autoglm_audio::AudioConfig::from_json(config, width)? else {
            return Ok(Self { hearing: None });
        };
        let features = autoglm_audio::FeatureConfig::from_json(processor, preprocessor)?;
        audio.check_features(&features)?;
        Ok(Self { hearing: Some((features, audio, names)) })
    }

    /// Tensors the encoder will read.
    pub(crate) fn expected_tensors(&self) -> Vec<TensorSpec> {
        self.hearing.as_ref().map_or(Vec::new(), |(_, audio, names)| audio.expected_tensors(*names))
    }

    /// Whether there is an encoder.
    pub(crate) fn hears(&self) -> bool {
        self.hearing.is_some()
    }

    /// Prefixes of tensors that belong to a modality this build leaves out.
    pub(crate) fn unread_prefixes(&self) -> &'static [&'static str] {
        &[]
    }

    pub(crate) fn load(self, source: &dyn Source) -> Result<Ears> {
        let hearing = self.hearing.map(|(features, audio, names)| {
            Ok::<_, Error>(Hearing {
                encoder: autoglm_audio::AudioEncoder::load(source, &audio, features, names)?,
                #[cfg(feature = "kvcache")]
                heard: autoglm_kvcache::EmbedsCache::new(SOUNDS_KEPT),
            })
        });
        Ok(Ears { hearing: hearing.transpose()? })
    }
}

#[cfg(not(feature = "audio"))]
impl EarsConfig {
    #[allow(clippy::unnecessary_wraps, reason = "with the feature `audio` it can fail")]
    pub(crate) fn read(_: &Files, _: &Value, _: usize, _: &Checkpoint) -> Result<Self> {
        Ok(Self {})
    }

    #[cfg(feature = "quant")]
    #[allow(clippy::unnecessary_wraps, reason = "with the feature `audio` it can fail")]
    pub(crate) fn new(_: &Value, _: usize) -> Result<Self> {
        Ok(Self {})
    }

    pub(crate) fn expected_tensors(&self) -> Vec<TensorSpec> {
        Vec::new()
    }

    pub(crate) fn hears(&self) -> bool {
        false
    }

    pub(crate) fn unread_prefixes(&self) -> &'static [&'static str] {
        PREFIXES
    }

    #[allow(clippy::unnecessary_wraps, reason = "with the feature `audio` it can fail")]
    pub(crate) fn load(self, _: &dyn Source) -> Result<Ears> {
        Ok(Ears {})
    }
}

impl Ears {
    /// Sounds that the encoder encoded so far.
    #[cfg(all(feature = "audio", feature = "kvcache"))]
    pub(crate) fn encoded(&self) -> u64 {
        self.hearing.as_ref().map_or(0, |hearing| hearing.heard.encoded())
    }

    /// Whether there is an encoder.
    pub(crate) fn hears(&self) -> bool {
        #[cfg(feature = "audio")]
        return self.hearing.is_some();
        #[cfg(not(feature = "audio"))]
        false
    }

    /// The encoder.
    ///
    /// # Errors
    /// [`Error::ModalityOff`] when the checkpoint has none.
    #[cfg(feature = "audio")]
    pub(crate) fn encoder(&self) -> Result<&autoglm_audio::AudioEncoder> {
        let missing = Error::ModalityOff { modality: "sounds", why: "its checkpoint has no audio tower" };
        self.hearing.as_ref().map(|hearing| &hearing.encoder).ok_or(missing)
    }

    /// The rows of a sound in a context of `limit`, of which `taken` are taken. Whether they fit is known
    /// before the encoder runs, which takes seconds.
    #[cfg(feature = "audio")]
    pub(crate) fn hear(
        &self,
        run: &Run<'_>,
        _salt: [u8; 32],
        sound: &Part,
        taken: usize,
        limit: usize,
    ) -> Result<Embeds> {
        let encoder = self.encoder()?;
        let sound = match sound {
            Part::Audio(bytes) => autoglm_audio::decode(bytes, &autoglm_audio::Limits::default())?,
            Part::Samples { rate, samples } => autoglm_audio::Sound::new(*rate, samples.clone())?,
            Part::Text(_) | Part::Image(_) | Part::Pixels { .. } => {
                return Err(Error::ModalityOff {
                    modality: "words and pictures as sounds",
                    why: "they cannot be heard",
                });
            }
        };
        let samples = encoder.samples(&sound)?;
        let rows = encoder.features().config().rows(samples.len()).saturating_add(taken);
        if rows > limit {
            return Err(autoglm_fusion::Error::Oversize { rows, limit }.into());
        }
        let encode = || Ok(encoder.encode(run, &samples)?);
        #[cfg(feature = "kvcache")]
        if let Some(hearing) = &self.hearing {
            return hearing.heard.get_or_encode(_salt, encoder.digest(&samples), encode);
        }
        encode()
    }

    #[cfg(not(feature = "audio"))]
    pub(crate) fn hear(&self, _: &Run<'_>, _: [u8; 32], _: &Part, _: usize, _: usize) -> Result<Embeds> {
        Err(Error::ModalityOff { modality: "sounds", why: "it was built without the feature `audio`" })
    }
}
