//! The nouns of the domain: tokens, grids of patches, media digests and prompt units.

use crate::{Error, Keep, Result};

/// One entry of the tokenizer's vocabulary, and one row of the embedding table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenId(pub u32);

/// What a stretch of decoder rows was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Modality {
    /// Rows of a picture.
    Image,
    /// Rows of a sound.
    Audio,
}

impl Modality {
    /// The one that a number stands for.
    #[must_use]
    pub fn numbered(number: u8) -> Option<Self> {
        [Self::Image, Self::Audio].into_iter().find(|modality| modality.number() == number)
    }

    /// What a person calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "picture",
            Self::Audio => "sound",
        }
    }

    /// A number that stands for it in digests and files; it never changes.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Image => 1,
            Self::Audio => 2,
        }
    }
}

impl std::fmt::Display for Modality {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A picture's size in patches: `t` frames of `h` × `w` (the checkpoint's `grid_thw`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Grid {
    /// Temporal patches; 1 for a still picture.
    pub t: u32,
    /// Rows of patches.
    pub h: u32,
    /// Columns of patches.
    pub w: u32,
}

impl Grid {
    /// Number of patches, t·h·w.
    ///
    /// # Errors
    /// [`Error::Overflow`] when the product does not fit into `usize`.
    pub fn patches(&self) -> Result<usize> {
        (self.t as usize)
            .checked_mul(self.h as usize)
            .and_then(|n| n.checked_mul(self.w as usize))
            .ok_or(Error::Overflow { what: "patches of a picture" })
    }

    /// The grid after `merge` × `merge` patches were folded into one row each.
    ///
    /// # Errors
    /// [`Error::Grid`] when a side is no positive multiple of `merge`.
    pub fn merged(&self, merge: u32) -> Result<Self> {
        let divisible = merge > 0 && [self.h, self.w].iter().all(|side| *side > 0 && side % merge == 0);
        if self.t == 0 || !divisible {
            return Err(Error::Grid { grid: *self, merge });
        }
        Ok(Self { t: self.t, h: self.h / merge, w: self.w / merge })
    }
}

/// A digest of what an encoder saw: resized pixels, their shape, and how they were normalised.
///
/// Equal digests mean equal encoder rows under the same weights, so caches key on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MediaDigest(pub [u8; 32]);

/// The smallest piece of a prompt that is either kept or recomputed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// One token, one row.
    Token(TokenId),
    /// One picture or sound, `tokens` rows.
    Media {
        /// What the encoder saw.
        digest: MediaDigest,
        /// Which encoder.
        modality: Modality,
        /// Rows it fills in the decoder.
        tokens: usize,
        /// Size of its space of coordinates, \[t, h, w\], before any row was dropped.
        extent: [u32; 3],
        /// Which of its rows these are: the digest is that of all of them.
        keep: Keep,
    },
}

impl Unit {
    /// Decoder rows this unit fills.
    #[must_use]
    pub fn rows(&self) -> usize {
        match self {
            Self::Token(_) => 1,
            Self::Media { tokens, .. } => *tokens,
        }
    }

    /// How far the position counter moves over this unit: by one, or by the larger side of a picture
    /// (`max(h, w) // merge` in transformers' `get_rope_index`), or by each row of a sound.
    #[must_use]
    pub fn advance(&self) -> u32 {
        match self {
            Self::Token(_) => 1,
            Self::Media { extent: [_, h, w], .. } => (*h).max(*w),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_that_does_not_divide_names_itself() {
        let grid = Grid { t: 1, h: 5, w: 4 };
        assert!(matches!(grid.merged(2), Err(Error::Grid { grid: g, merge: 2 }) if g == grid));
        assert!(grid.merged(0).is_err());
        assert_eq!(Grid { t: 1, h: 6, w: 4 }.merged(2).unwrap(), Grid { t: 1, h: 3, w: 2 });
    }

    #[test]
    fn patches_of_an_absurd_grid_are_an_error() {
        let grid = Grid { t: u32::MAX, h: u32::MAX, w: u32::MAX };
        assert!(matches!(grid.patches(), Err(Error::Overflow { .. })));
    }
}
