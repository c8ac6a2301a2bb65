//! The factors of groups, made at load or used where they lie in a file.

use std::borrow::Cow;

use autoglm_core::TensorBytes;
use half::f16;

/// Factors, as many as a matrix has groups. The default is none.
#[derive(Debug)]
pub(crate) enum Factors {
    Made(Vec<f16>),
    Stored(TensorBytes),
}

impl Factors {
    /// The factors that `bytes` are, little-endian: in place where they lie at an address that a
    /// factor may lie at, or else a copy.
    pub(crate) fn stored(bytes: TensorBytes) -> Self {
        if in_place(&bytes).is_some() {
            return Self::Stored(bytes);
        }
        Self::Made(bytes.as_chunks::<2>().0.iter().map(|two| f16::from_le_bytes(*two)).collect())
    }

    pub(crate) fn as_slice(&self) -> &[f16] {
        match self {
            Self::Made(factors) => factors,
            // It was possible when this was made, and bytes stay where they are.
            Self::Stored(bytes) => in_place(bytes).unwrap_or_default(),
        }
    }

    /// The factors as a file has them.
    pub(crate) fn bytes(&self) -> Cow<'_, [u8]> {
        let factors = self.as_slice();
        if cfg!(target_endian = "little") {
            return Cow::Borrowed(bytemuck::cast_slice(factors));
        }
        Cow::Owned(factors.iter().flat_map(|factor| factor.to_le_bytes()).collect())
    }
}

fn in_place(bytes: &[u8]) -> Option<&[f16]> {
    if cfg!(target_endian = "big") {
        return None;
    }
    bytemuck::try_cast_slice(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_read_wherever_they_lie() {
        let factors = [1.0, 0.5, -0.125].map(f16::from_f32);
        let bytes: Vec<u8> = factors.iter().flat_map(|factor| factor.to_le_bytes()).collect();
        // An allocation is aligned for more than a byte in practice, one byte further it is not.
        let stored = Factors::stored(TensorBytes::from(bytes.clone()));
        assert_eq!(stored.as_slice(), factors);
        assert_eq!(*stored.bytes(), bytes);
        assert!(in_place(&[&[0], &bytes[..]].concat()[1..]).is_none() || cfg!(target_endian = "big"));
        assert_eq!(Factors::Made(factors.to_vec()).bytes(), bytes);
    }
}
