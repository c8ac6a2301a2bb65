//! The three floating-point formats a checkpoint stores, read and written as bytes.
//!
//! Bytes of a mapped file carry no alignment promise, so they are read through
//! `from_le_bytes`; the compiler makes plain loads of it.

use autoglm_kernels::Isa;
use autoglm_kernels::dense::Float;
use half::{bf16, f16};
use safetensors::Dtype;

/// A floating-point storage format. All three are little-endian, as safetensors prescribes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FloatType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
}

impl FloatType {
    /// Bytes per number.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// What a safetensors header calls it.
    #[must_use]
    pub const fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }

    /// The name used by `--precision` and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// Appends the numbers stored in `bytes` to `into`, as f32. A ragged tail is not read; callers
    /// hold byte counts to multiples of [`FloatType::size`] when they open a tensor.
    pub fn widen(self, bytes: &[u8], into: &mut Vec<f32>) {
        Simd::detect().0.dispatch(|| match self {
            Self::F32 => into.extend(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b))),
            Self::F16 => into.extend(bytes.as_chunks::<2>().0.iter().map(|b| f16_to_f32(u16::from_le_bytes(*b)))),
            Self::Bf16 => into.extend(bytes.as_chunks::<2>().0.iter().map(|b| bf16_to_f32(u16::from_le_bytes(*b)))),
        });
    }

    /// Appends `values`, rounded to nearest even, to `into`.
    pub fn narrow(self, values: &[f32], into: &mut Vec<u8>) {
        match self {
            Self::F32 => into.extend(values.iter().flat_map(|v| v.to_le_bytes())),
            Self::F16 => into.extend(values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes())),
            Self::Bf16 => into.extend(values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes())),
        }
    }

    /// The name kernels know it by.
    pub(crate) const fn kernel(self) -> Float {
        match self {
            Self::F32 => Float::F32,
            Self::F16 => Float::F16,
            Self::Bf16 => Float::Bf16,
        }
    }
}

/// The name of the instruction set that kernels run on.
#[must_use]
pub fn isa() -> &'static str {
    Isa::best().name()
}

/// The instruction set plain loops are compiled for, detected once per process by pulp.
pub(crate) struct Simd(pub(crate) pulp::Arch);

impl Simd {
    #[inline]
    pub(crate) fn detect() -> Self {
        Self(pulp::Arch::new())
    }
}

#[inline(always)]
fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Widens an f16 without a table or a branch per class, so that loops over it vectorise: the
/// exponent is rebased by a multiplication with 2^112, which also normalises subnormals.
#[inline(always)]
fn f16_to_f32(bits: u16) -> f32 {
    let sign = (u32::from(bits) & 0x8000) << 16;
    let magnitude = u32::from(bits) & 0x7fff;
    // 2^112 as f32 bits: the difference of the two exponent biases.
    let rebased = f32::from_bits(magnitude << 13) * f32::from_bits((112 + 127) << 23);
    // Infinity and NaN keep all exponent bits set.
    let special = f32::from_bits(0x7f80_0000 | (magnitude << 13));
    let value = if magnitude >= 0x7c00 { special } else { rebased };
    f32::from_bits(value.to_bits() | sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_precision_pattern_widens_as_the_half_crate_says() {
        for bits in 0..=u16::MAX {
            for (ours, theirs) in
                [(f16_to_f32(bits), f16::from_bits(bits).to_f32()), (bf16_to_f32(bits), bf16::from_bits(bits).to_f32())]
            {
                assert!(
                    ours == theirs && ours.is_sign_negative() == theirs.is_sign_negative()
                        || ours.is_nan() && theirs.is_nan(),
                    "{bits:04x}"
                );
            }
        }
    }

    #[test]
    fn widening_what_was_narrowed_gives_the_rounded_numbers_back() {
        let values: Vec<f32> = (0..67).map(|i| (i as f32 - 30.0) * 0.37).collect();
        for kind in [FloatType::F32, FloatType::F16, FloatType::Bf16] {
            let (mut bytes, mut back, mut again) = (Vec::new(), Vec::new(), Vec::new());
            kind.narrow(&values, &mut bytes);
            assert_eq!(bytes.len(), values.len() * kind.size());
            kind.widen(&bytes, &mut back);
            kind.narrow(&back, &mut again);
            assert_eq!(bytes, again, "{}", kind.name());
        }
    }
}
