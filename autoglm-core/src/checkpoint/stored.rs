//! A matrix as it lies in the file, row by row: what other number formats are made of.

use super::{Checkpoint, TensorBytes};
use crate::{Error, FloatType, Result};

/// The numbers of a stored matrix (rows, columns).
#[derive(Debug, Clone)]
pub struct StoredMatrix {
    bytes: TensorBytes,
    kind: FloatType,
    rows: usize,
    columns: usize,
}

impl StoredMatrix {
    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number format.
    #[must_use]
    pub fn kind(&self) -> FloatType {
        self.kind
    }

    /// Replaces `into` with row `row`, widened to f32.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn widen(&self, row: usize, into: &mut Vec<f32>) {
        let stride = self.columns * self.kind.size();
        into.clear();
        self.kind.widen(&self.bytes[row * stride..][..stride], into);
    }
}

impl Checkpoint {
    /// The matrix `name` as it is stored; a tensor of more than two dimensions counts as (first, all
    /// others). It does not count as used, because what its reader keeps is something else.
    ///
    /// # Errors
    /// - [`Error::MissingTensor`].
    /// - [`Error::Shape`] when it is of another shape.
    /// - [`Error::NotFloat`] when it is of another format than F32, F16 and BF16.
    pub fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<StoredMatrix> {
        let entry = self.entry(name)?;
        let info = &entry.info;
        let others = info.shape.iter().skip(1).try_fold(1usize, |n, d| n.checked_mul(*d));
        if info.shape.len() < 2 || info.shape.first() != Some(&rows) || others != Some(columns) {
            return Err(Error::Shape { name: name.to_owned(), expected: vec![rows, columns], got: info.shape.clone() });
        }
        let bytes = TensorBytes::new(self.files[info.file].clone(), info.range.clone());
        Ok(StoredMatrix { bytes, kind: info.float()?, rows, columns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Dtype;

    fn checkpoint() -> Checkpoint {
        let values: Vec<u8> = (0..12).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![2, 3, 2], &values).unwrap();
        Checkpoint::from_bytes(safetensors::serialize([("w", view)], None).unwrap()).unwrap()
    }

    #[test]
    fn rows_are_widened_and_nothing_counts_as_used() {
        let checkpoint = checkpoint();
        let matrix = checkpoint.matrix("w", 2, 6).unwrap();
        let mut row = vec![9.0];
        matrix.widen(1, &mut row);
        assert_eq!(row, [6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
        assert_eq!((matrix.rows(), matrix.kind(), checkpoint.bytes_used()), (2, FloatType::F32, 0));
    }

    #[test]
    fn another_shape_or_name_is_refused() {
        assert!(matches!(checkpoint().matrix("w", 3, 4), Err(Error::Shape { .. })));
        assert!(matches!(checkpoint().matrix("v", 2, 6), Err(Error::MissingTensor { .. })));
    }
}
