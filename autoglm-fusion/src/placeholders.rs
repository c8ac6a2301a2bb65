//! Which token stands for a picture, and which for a sound.

use autoglm_core::{Modality, TokenId};

use crate::{Error, Result};

/// The tokens of a checkpoint that stand for media. A conversation has one for each medium, however many rows
/// that has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Placeholders {
    /// Stands for a picture.
    pub image: Option<TokenId>,
    /// Stands for a sound.
    pub audio: Option<TokenId>,
}

impl Placeholders {
    /// The one of this modality.
    #[must_use]
    pub fn of(&self, modality: Modality) -> Option<TokenId> {
        match modality {
            Modality::Image => self.image,
            Modality::Audio => self.audio,
            _ => None,
        }
    }

    /// What a token stands for; nothing where it is a word.
    #[must_use]
    pub fn modality(&self, id: TokenId) -> Option<Modality> {
        [Modality::Image, Modality::Audio].into_iter().find(|modality| self.of(*modality) == Some(id))
    }

    /// What the placeholders among `ids` stand for, in their order, where that is what there is: `count` of each
    /// modality. Known before any medium is encoded.
    ///
    /// # Errors
    /// [`Error::LonePlaceholder`] and [`Error::CountMismatch`] when it is not.
    pub fn expect(&self, ids: &[TokenId], count: impl Fn(Modality) -> usize) -> Result<Vec<Modality>> {
        let all: Vec<(usize, Modality)> =
            ids.iter().enumerate().filter_map(|(i, id)| Some((i, self.modality(*id)?))).collect();
        for modality in [Modality::Image, Modality::Audio] {
            let places: Vec<usize> = all.iter().filter(|(_, of)| *of == modality).map(|(i, _)| *i).collect();
            match (places.first(), count(modality)) {
                (Some(index), 0) => return Err(Error::LonePlaceholder { modality, index: *index }),
                (_, media) if places.len() != media => {
                    return Err(Error::CountMismatch { modality, placeholders: places.len(), media });
                }
                _ => {}
            }
        }
        Ok(all.into_iter().map(|(_, modality)| modality).collect())
    }
}
