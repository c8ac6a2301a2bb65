//! Number formats of a GGUF file, and which tensor gets which.

use autoglm_core::FloatType;
use candle_core::quantized::GgmlDType;

use crate::error::Result;
use crate::export::Precision;

/// Numbers that share a step in the quantised formats.
const BLOCK: u64 = 32;

/// How numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Float(FloatType),
    /// Per 32 numbers an f16 step of a 127th of the largest and 8-bit codes.
    Q8_0,
    /// Per 32 numbers an f16 step of an eighth of the largest and 4-bit codes.
    Q4_0,
}

impl Kind {
    /// What the format calls it.
    pub(super) fn id(self) -> u32 {
        match self {
            Self::Float(FloatType::F32) => 0,
            Self::Float(FloatType::F16) => 1,
            Self::Float(FloatType::Bf16) => 30,
            Self::Q4_0 => 2,
            Self::Q8_0 => 8,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Float(float) => float.name(),
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }

    /// What candle calls it.
    pub(super) fn ggml(self) -> GgmlDType {
        match self {
            Self::Float(FloatType::F32) => GgmlDType::F32,
            Self::Float(FloatType::F16) => GgmlDType::F16,
            Self::Float(FloatType::Bf16) => GgmlDType::BF16,
            Self::Q8_0 => GgmlDType::Q8_0,
            Self::Q4_0 => GgmlDType::Q4_0,
        }
    }

    /// Bytes of so many numbers.
    pub(super) fn bytes(self, numbers: u64) -> u64 {
        match self {
            Self::Float(float) => numbers * float.size() as u64,
            Self::Q8_0 => numbers / BLOCK * (2 + 32),
            Self::Q4_0 => numbers / BLOCK * (2 + 16),
        }
    }

    /// Whether this number has a place in the format: its step must be an f16.
    pub(super) fn holds(self, number: f32) -> bool {
        let largest = half::f16::MAX.to_f32();
        match self {
            Self::Float(FloatType::F32) => number.is_finite(),
            Self::Float(FloatType::F16) => half::f16::from_f32(number).is_finite(),
            Self::Float(FloatType::Bf16) => half::bf16::from_f32(number).is_finite(),
            Self::Q8_0 => number.abs() <= 127.0 * largest,
            Self::Q4_0 => number.abs() <= 8.0 * largest,
        }
    }

    /// What `general.file_type` says of a file most of whose matrices are stored so.
    pub(super) fn file_type(self) -> u32 {
        match self {
            Self::Float(FloatType::F32) => 0,
            Self::Float(FloatType::F16) => 1,
            Self::Float(FloatType::Bf16) => 32,
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
        }
    }
}

/// What the tensors of one file become. Norms, biases and everything else of one dimension is f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// Of the matrices.
    pub(super) matrices: Kind,
}

impl Plan {
    /// The decoder's.
    ///
    /// # Errors
    /// The format has no such precision.
    pub(super) fn text(precision: Precision) -> Result<Self> {
        let matrices = match precision {
            Precision::Bf16 => Kind::Float(FloatType::Bf16),
            Precision::F16 => Kind::Float(FloatType::F16),
            Precision::F32 => Kind::Float(FloatType::F32),
            Precision::Q8_0 => Kind::Q8_0,
            Precision::Q4_0 => Kind::Q4_0,
            other => return Err(other.unknown_to("gguf", "bf16, f16, f32, q8_0 and q4_0")),
        };
        Ok(Self { matrices })
    }

    /// Of the picture tower beside it, which has 8 bits where the decoder has 4.
    pub(super) fn eyes(self) -> Self {
        Self { matrices: self.finer() }
    }

    /// Of what decides between tokens and of whatever is small: 8 bits where the others have 4.
    pub(super) fn finer(self) -> Kind {
        if self.matrices == Kind::Q4_0 { Kind::Q8_0 } else { self.matrices }
    }

    /// A convolution's kernel, for which llama.cpp has no quantised product.
    pub(super) fn kernel(self) -> Kind {
        match self.matrices {
            Kind::Float(FloatType::F16) => self.matrices,
            _ => Kind::Float(FloatType::F32),
        }
    }
}

/// `kind`, or f16 where it cannot store rows of so many numbers.
pub(super) fn of_rows(kind: Kind, columns: usize) -> Kind {
    match kind {
        Kind::Q8_0 | Kind::Q4_0 if !columns.is_multiple_of(BLOCK as usize) => Kind::Float(FloatType::F16),
        _ => kind,
    }
}
