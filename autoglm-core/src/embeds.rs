//! Encoder rows together with the place of each row in its picture.

use candle_core::Tensor;

use crate::rows::{from_rows, with_rows};
use crate::{Error, Keep, MediaDigest, Modality, Result, Unit};

/// Rows an encoder made, each with its local coordinates.
///
/// Rows and coordinates travel as one value, so that whoever drops rows cannot renumber
/// positions: the text after a thinned picture still starts where the whole picture ended.
#[derive(Debug, Clone)]
pub struct Embeds {
    rows: Tensor,          // (n, c)
    coords: Vec<[u32; 3]>, // n × [t, h, w]
    extent: [u32; 3],
    modality: Modality,
    digest: MediaDigest,
    keep: Keep,
}

impl Embeds {
    /// Joins rows (n, c) in f32 with their coordinates, n × \[t, h, w\] in merged units; `extent` is
    /// the size of the coordinate space before any row was dropped.
    ///
    /// # Errors
    /// - [`Error::Rows`] when rows and coordinates differ in number.
    /// - [`Error::Tensor`] when `rows` has not two dimensions.
    pub fn new(
        rows: Tensor,
        coords: Vec<[u32; 3]>,
        extent: [u32; 3],
        modality: Modality,
        digest: MediaDigest,
    ) -> Result<Self> {
        let (n, _) = rows.dims2()?;
        if n != coords.len() {
            return Err(Error::Rows { what: "coordinates of encoder rows", expected: n, got: coords.len() });
        }
        Ok(Self { rows, coords, extent, modality, digest, keep: Keep::ALL })
    }

    /// The rows of a picture that stay, at the places that they have in the whole one. It is another unit of a prompt than the
    /// whole picture, unless all rows stay.
    ///
    /// # Errors
    /// [`Error::NoPicture`] when the rows are not all of one picture in reading order: those of a sound, or of a picture that
    /// was thinned before.
    pub fn keep(&self, keep: Keep) -> Result<Self> {
        let stay = keep.rows(self.len());
        if stay == self.len() {
            return Ok(self.clone());
        }
        let [_, h, w] = self.extent;
        let reading_order = (0..h).flat_map(|y| (0..w).map(move |x| [0, y, x]));
        if self.modality != Modality::Image || !self.coords.iter().copied().eq(reading_order) {
            return Err(Error::NoPicture { rows: self.len(), modality: self.modality, extent: self.extent });
        }
        let (_, c) = self.rows.dims2()?;
        let (chosen, rows) = with_rows(&self.rows, |rows| {
            let chosen = keep.choose(rows, (h as usize, w as usize));
            let rows: Vec<f32> = chosen.iter().flat_map(|i| &rows[i * c..][..c]).copied().collect();
            (chosen, rows)
        })?;
        let coords = chosen.iter().map(|i| self.coords[*i]).collect();
        Ok(Self { rows: from_rows(rows, &[stay, c])?, coords, keep, ..self.clone() })
    }

    /// The rows, (n, c).
    #[must_use]
    pub fn rows(&self) -> &Tensor {
        &self.rows
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.coords.len()
    }

    /// Whether there is no row at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.coords.is_empty()
    }

    /// Local coordinates of each row, n × \[t, h, w\].
    #[must_use]
    pub fn coords(&self) -> &[[u32; 3]] {
        &self.coords
    }

    /// How far the position counter moves over this medium, as [`Unit::advance`] has it.
    #[must_use]
    pub fn advance(&self) -> u32 {
        self.unit().advance()
    }

    /// Which encoder made the rows.
    #[must_use]
    pub fn modality(&self) -> Modality {
        self.modality
    }

    /// The prompt unit these rows are.
    #[must_use]
    pub fn unit(&self) -> Unit {
        let Self { digest, modality, extent, keep, .. } = *self;
        Unit::Media { digest, modality, tokens: self.len(), extent, keep }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    /// A picture of h × w rows, each of which holds its own number.
    fn picture(h: u32, w: u32) -> Embeds {
        let coords: Vec<[u32; 3]> = (0..h).flat_map(|y| (0..w).map(move |x| [0, y, x])).collect();
        let rows = from_rows((0..h * w).map(|i| i as f32).collect(), &[coords.len(), 1]).unwrap();
        Embeds::new(rows, coords, [1, h, w], Modality::Image, MediaDigest([5; 32])).unwrap()
    }

    #[test]
    fn rows_that_stay_keep_their_numbers_and_places() {
        let whole = picture(4, 6);
        for keep in [Keep::share(0.4).unwrap(), Keep::evenly(0.5).unwrap()] {
            let thin = whole.keep(keep).unwrap();
            assert_eq!(thin.len(), keep.rows(24));
            let numbers = thin.rows().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let of_places: Vec<f32> = thin.coords().iter().map(|[_, y, x]| (y * 6 + x) as f32).collect();
            assert_eq!(numbers, of_places);
            assert!(numbers.is_sorted_by(|a, b| a < b));
            assert_eq!(thin.advance(), whole.advance());
        }
    }

    #[test]
    fn a_thinned_picture_is_another_unit_and_one_of_which_all_rows_stay_is_not() {
        let whole = picture(4, 6);
        let [half, even] = [Keep::share(0.5), Keep::evenly(0.5)].map(|keep| whole.keep(keep.unwrap()).unwrap());
        // Both have twelve rows of the same picture.
        assert_eq!((half.len(), even.len()), (12, 12));
        assert!(half.unit() != even.unit() && half.unit() != whole.unit() && even.unit() != whole.unit());
        for keep in [Keep::ALL, Keep::share(0.999).unwrap(), Keep::evenly(0.97).unwrap()] {
            let same = whole.keep(keep).unwrap();
            assert_eq!((same.unit(), same.coords()), (whole.unit(), whole.coords()));
        }
    }

    #[test]
    fn what_is_no_whole_picture_is_not_thinned() {
        let half = Keep::share(0.5).unwrap();
        let thin = picture(4, 6).keep(half).unwrap();
        assert!(matches!(thin.keep(half), Err(Error::NoPicture { rows: 12, extent: [1, 4, 6], .. })));
        let rows = Tensor::zeros((4, 1), DType::F32, &Device::Cpu).unwrap();
        let coords = vec![[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]];
        let sound = Embeds::new(rows, coords, [1, 2, 2], Modality::Audio, MediaDigest([0; 32])).unwrap();
        let refused = sound.keep(half).unwrap_err().to_string();
        assert!(refused.starts_with("4 rows of a sound are no whole picture of 2x2"), "{refused}");
    }

    #[test]
    fn rows_without_coordinates_are_refused() {
        let rows = Tensor::zeros((3, 4), DType::F32, &Device::Cpu).unwrap();
        let made = Embeds::new(rows, vec![[0; 3]; 2], [1, 1, 3], Modality::Image, MediaDigest([0; 32]));
        assert!(matches!(made, Err(Error::Rows { expected: 3, got: 2, .. })));
    }
}
