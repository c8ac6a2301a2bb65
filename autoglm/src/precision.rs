//! How weights are stored, and the source that brings them into that form.

use std::marker::PhantomData;
use std::sync::Arc;

use autoglm_core::{Checkpoint, DenseSource, FloatType, KvFormat, Run, Source, TensorSpec};

use crate::OpenOptions;
use crate::stored::Stored;

/// How weights are stored while a model runs. Activations between operations and sums are f32 in any
/// case; integer weights meet activations of 8 bits with a scale of their own per row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precision {
    /// 32-bit floats.
    F32,
    /// The upper half of 32-bit floats.
    Bf16,
    /// 16-bit floats.
    F16,
    /// 16-bit floats, as stored or made of wider ones, and an 8-bit output layer.
    #[cfg(feature = "quant")]
    Mixed,
    /// 8-bit integers for every linear map.
    #[cfg(feature = "quant")]
    Int8,
    /// 4-bit integers for the decoder's layers, 8-bit ones for the output layer and for pictures.
    #[cfg(feature = "quant")]
    Int4,
}

impl Precision {
    /// Every precision of this build.
    pub const ALL: &'static [Self] = &[
        Self::F32,
        Self::Bf16,
        Self::F16,
        #[cfg(feature = "quant")]
        Self::Mixed,
        #[cfg(feature = "quant")]
        Self::Int8,
        #[cfg(feature = "quant")]
        Self::Int4,
    ];

    /// The name used by `--precision` and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            #[cfg(feature = "quant")]
            Self::Mixed => "mixed",
            #[cfg(feature = "quant")]
            Self::Int8 => "int8",
            #[cfg(feature = "quant")]
            Self::Int4 => "int4",
        }
    }

    /// The numbers that attention is computed in, and keys and values kept in: exact ones beside exact
    /// weights, halves where weights are rounded far more than that.
    pub(crate) fn attention(self) -> KvFormat {
        match self {
            Self::F32 | Self::Bf16 | Self::F16 => KvFormat::F32,
            #[cfg(feature = "quant")]
            Self::Mixed | Self::Int8 | Self::Int4 => KvFormat::Bf16,
        }
    }

    /// Whether some of the weights are integers.
    #[cfg(feature = "quant")]
    pub(crate) fn is_integer(self) -> bool {
        matches!(self, Self::Mixed | Self::Int8 | Self::Int4)
    }

    /// Whether activations are rounded to the 16-bit floats of the weights where that is faster.
    pub(crate) fn rounds(self) -> bool {
        match self {
            #[cfg(feature = "quant")]
            Self::Mixed => true,
            _ => false,
        }
    }

    /// The precision of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|precision| precision.name() == name)
    }

    /// Floats, or the scheme that says what becomes integers.
    fn plan(self) -> Plan {
        match self {
            Self::F32 => Plan::Floats(FloatType::F32),
            Self::Bf16 => Plan::Floats(FloatType::Bf16),
            Self::F16 => Plan::Floats(FloatType::F16),
            #[cfg(feature = "quant")]
            Self::Mixed => Plan::Integers(autoglm_quant::Scheme::mixed()),
            #[cfg(feature = "quant")]
            Self::Int8 => Plan::Integers(autoglm_quant::Scheme::int8()),
            #[cfg(feature = "quant")]
            Self::Int4 => Plan::Integers(autoglm_quant::Scheme::int4()),
        }
    }
}

impl From<FloatType> for Precision {
    fn from(kind: FloatType) -> Self {
        match kind {
            FloatType::F32 => Self::F32,
            FloatType::F16 => Self::F16,
            FloatType::Bf16 => Self::Bf16,
        }
    }
}

enum Plan {
    Floats(FloatType),
    #[cfg(feature = "quant")]
    Integers(autoglm_quant::Scheme),
}

/// The body of integer products to run on: of the two widths that some processors have, the one that is
/// faster here. Their results are the same, but for what is rounded on the way, so a process stays with what it found first: a
/// model that wakes has the bits that it had.
#[cfg(feature = "quant")]
fn integer_isa() -> autoglm_kernels::Isa {
    static FASTEST: std::sync::OnceLock<autoglm_kernels::Isa> = std::sync::OnceLock::new();
    *FASTEST.get_or_init(|| {
        let start = std::time::Instant::now();
        autoglm_kernels::integer::fastest(autoglm_kernels::Isa::best(), || start.elapsed())
    })
}

/// A checkpoint in the precision that was asked for.
pub(crate) enum Weights<'a> {
    /// Floats. The run is for the lifetime: what makes integers borrows it.
    Dense(DenseSource, PhantomData<Run<'a>>),
    #[cfg(feature = "quant")]
    Packed { source: Box<autoglm_quant::QuantSource<'a>>, isa: autoglm_kernels::Isa },
    /// What was packed before.
    #[cfg(feature = "quant")]
    Stored { source: Box<autoglm_quant::PackedSource<'a>>, isa: autoglm_kernels::Isa },
    /// Random ones, for measuring.
    #[cfg(feature = "quant")]
    Random { source: Box<autoglm_quant::RandomSource<'a>>, isa: autoglm_kernels::Isa },
}

impl<'a> Weights<'a> {
    /// The weights of a model of the tensors `expected`, brought into form by `run`'s workers.
    #[cfg_attr(
        not(feature = "quant"),
        allow(
            unused_variables,
            clippy::needless_pass_by_value,
            reason = "only integers are made by workers or stored"
        )
    )]
    pub(crate) fn new(
        checkpoint: Arc<Checkpoint>,
        stored: Stored,
        options: &'a OpenOptions,
        run: Run<'a>,
        expected: &[TensorSpec],
    ) -> Self {
        #[cfg(feature = "quant")]
        if let Stored::Packed(manifest, _) = stored {
            let isa = autoglm_kernels::Isa::best();
            let source = autoglm_quant::PackedSource::new(checkpoint, manifest, isa, run);
            return Self::Stored { source: Box::new(source), isa };
        }
        match options.precision.map(Precision::plan) {
            None => Self::Dense(DenseSource::new(checkpoint, None), PhantomData),
            Some(Plan::Floats(kind)) => Self::Dense(DenseSource::new(checkpoint, Some(kind)), PhantomData),
            #[cfg(feature = "quant")]
            Some(Plan::Integers(scheme)) => {
                let isa = integer_isa();
                let mut source = autoglm_quant::QuantSource::new(checkpoint, scheme, isa, run);
                if let Some(progress) = &options.progress {
                    let total = scheme.weights(expected);
                    source = source.watched(move |more| progress.tell(more, total));
                }
                Self::Packed { source: Box::new(source), isa }
            }
        }
    }

    /// Random weights of a model of the tensors `expected`.
    #[cfg(feature = "quant")]
    pub(crate) fn random(options: &OpenOptions, run: Run<'a>, expected: &[TensorSpec]) -> crate::Result<Self> {
        let (scheme, kind) = match options.precision.map(Precision::plan) {
            None => (None, FloatType::Bf16),
            Some(Plan::Floats(kind)) => (None, kind),
            Some(Plan::Integers(scheme)) => (Some(scheme), FloatType::Bf16),
        };
        let isa = integer_isa();
        let source = autoglm_quant::RandomSource::new(expected, scheme, kind, isa, run)?;
        Ok(Self::Random { source: Box::new(source), isa })
    }

    pub(crate) fn source(&self) -> &dyn Source {
        match self {
            Self::Dense(source, _) => source,
            #[cfg(feature = "quant")]
            Self::Packed { source, .. } => &**source,
            #[cfg(feature = "quant")]
            Self::Stored { source, .. } => &**source,
            #[cfg(feature = "quant")]
            Self::Random { source, .. } => &**source,
        }
    }

    /// Bytes of all tensors asked for so far, in the form they have now.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Dense(source, _) => source.weights_bytes(),
            #[cfg(feature = "quant")]
            Self::Packed { source, .. } => source.weights_bytes(),
            #[cfg(feature = "quant")]
            Self::Stored { source, .. } => source.weights_bytes(),
            #[cfg(feature = "quant")]
            Self::Random { source, .. } => source.weights_bytes(),
        }
    }

    /// Whether those asked for so far were made, and are not the files' own.
    pub(crate) fn converts(&self) -> bool {
        match self {
            Self::Dense(source, _) => source.converts(),
            #[cfg(feature = "quant")]
            Self::Packed { .. } | Self::Random { .. } => true,
            #[cfg(feature = "quant")]
            Self::Stored { .. } => false,
        }
    }

    /// The instruction set that products with them run on.
    pub(crate) fn isa(&self) -> &'static str {
        match self {
            #[cfg(feature = "quant")]
            Self::Packed { isa, .. } | Self::Stored { isa, .. } | Self::Random { isa, .. } => isa.name(),
            Self::Dense(..) => autoglm_core::float::isa(),
        }
    }

    /// What a user should know about them, on one line.
    pub(crate) fn warning(&self) -> Option<String> {
        match self {
            #[cfg(feature = "quant")]
            Self::Stored { source, .. } => source.warning(),
            _ => None,
        }
    }
}

/// Hears how far quantising is: weights since the last call, and all there will be.
#[cfg(feature = "quant")]
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(u64, u64) + Send + Sync>);

#[cfg(feature = "quant")]
impl Progress {
    /// Calls `hear` from any worker with the number of weights that were quantised since the last
    /// call, and the number there is in all.
    pub fn new(hear: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hear))
    }

    fn tell(&self, more: u64, total: u64) {
        (self.0)(more, total);
    }
}

#[cfg(feature = "quant")]
impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Progress")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_precision_has_a_name_of_its_own() {
        for precision in Precision::ALL {
            assert_eq!(Precision::named(precision.name()), Some(*precision));
        }
        assert_eq!(Precision::named("int3"), None);
    }
}
