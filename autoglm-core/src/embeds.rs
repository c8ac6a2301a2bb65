//! Encoder rows together with the place of each row in its picture.

use candle_core::Tensor;

use crate::{Error, MediaDigest, Modality, Result, Unit};

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
        Ok(Self { rows, coords, extent, modality, digest })
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
        Unit::Media { digest: self.digest, modality: self.modality, tokens: self.len(), extent: self.extent }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn rows_without_coordinates_are_refused() {
        let rows = Tensor::zeros((3, 4), DType::F32, &Device::Cpu).unwrap();
        let made = Embeds::new(rows, vec![[0; 3]; 2], [1, 1, 3], Modality::Image, MediaDigest([0; 32]));
        assert!(matches!(made, Err(Error::Rows { expected: 3, got: 2, .. })));
    }
}
