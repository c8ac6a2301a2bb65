//! How a checkpoint's weights are stored, as its `config.json` says, before any is read.

use autoglm_core::checkpoint::Verified;
use autoglm_core::{Checkpoint, TensorSpec};
use serde_json::Value;

use crate::{Error, OpenOptions, Precision, Result};

/// Floats, or what was packed before.
#[derive(Debug)]
pub(crate) enum Stored {
    Floats,
    #[cfg(feature = "quant")]
    Packed(autoglm_quant::Manifest, Precision),
}

impl Stored {
    /// What `config` says, held against the precision that is asked for.
    ///
    /// # Errors
    /// - [`Error::Core`] names a field of `quantization_config` that is unknown.
    /// - [`Error::Packed`] when packed weights are asked for in another precision than their own.
    #[cfg(feature = "quant")]
    pub(crate) fn read(config: &Value, options: &OpenOptions) -> Result<Self> {
        let Some(manifest) = autoglm_quant::Manifest::read(config)? else {
            return Ok(Self::Floats);
        };
        let own = Precision::named(&manifest.precision).filter(|own| own.is_integer());
        let own = own.ok_or_else(|| autoglm_core::Error::Config {
            field: "quantization_config.precision",
            got: manifest.precision.chars().take(80).collect(),
            why: "is none of mixed, int8 and int4",
        })?;
        match options.precision.filter(|asked| *asked != own) {
            Some(asked) => Err(Error::Packed { stored: own.name(), asked: asked.name() }),
            None => Ok(Self::Packed(manifest, own)),
        }
    }

    /// What `config` says; this build reads floats only.
    ///
    /// # Errors
    /// [`Error::Core`] when there is a `quantization_config`.
    #[cfg(not(feature = "quant"))]
    pub(crate) fn read(config: &Value, _: &OpenOptions) -> Result<Self> {
        match config.get("quantization_config").filter(|value| !value.is_null()) {
            None => Ok(Self::Floats),
            Some(value) => Err(Error::Core(autoglm_core::Error::Config {
                field: "quantization_config",
                got: value.to_string().chars().take(80).collect(),
                why: "this program was built without the feature `quant`",
            })),
        }
    }

    /// The precision of packed weights.
    pub(crate) fn precision(&self) -> Option<Precision> {
        match self {
            Self::Floats => None,
            #[cfg(feature = "quant")]
            Self::Packed(_, own) => Some(*own),
        }
    }

    /// Holds `checkpoint` against a model of the dense tensors `expected`.
    ///
    /// # Errors
    /// Those of [`Checkpoint::verify`].
    pub(crate) fn verify(
        &self,
        checkpoint: &Checkpoint,
        expected: &[TensorSpec],
        ignored: &[&str],
        allow_extra: bool,
    ) -> Result<Verified> {
        match self {
            Self::Floats => Ok(checkpoint.verify(expected, ignored, allow_extra)?),
            #[cfg(feature = "quant")]
            Self::Packed(manifest, _) => {
                let expected = manifest.expected(checkpoint, expected);
                let ignored = [ignored, &[autoglm_quant::PADDING]].concat();
                Ok(checkpoint.verify(&expected, &ignored, allow_extra)?)
            }
        }
    }
}
