//! The passage between candle tensors and plain f32 slices.

use candle_core::{Device, Storage, Tensor};

use crate::{Error, Result};

/// Lends the elements of `x`, row-major, to `read`. A view that is not contiguous is copied first.
///
/// # Errors
/// [`Error::Tensor`] when `x` is not f32 on the CPU.
pub fn with_rows<R>(x: &Tensor, read: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        return Err(candle_core::Error::Msg("rows live on a device other than the CPU".into()).into());
    };
    let all = storage.as_slice::<f32>()?;
    let (start, end) =
        layout.contiguous_offsets().ok_or_else(|| candle_core::Error::Msg("rows are not contiguous".into()))?;
    Ok(read(&all[start..end]))
}

/// Makes a tensor of `data`, row-major.
///
/// # Errors
/// [`Error::Shape`] when the number of elements is not the shape's product. candle 0.11 checks this
/// in some constructors only.
pub fn from_rows(data: Vec<f32>, shape: &[usize]) -> Result<Tensor> {
    let count = shape
        .iter()
        .try_fold(1usize, |n, d| n.checked_mul(*d))
        .ok_or(Error::Overflow { what: "elements of a tensor" })?;
    if count != data.len() {
        return Err(Error::Shape { name: "rows".into(), expected: shape.to_vec(), got: vec![data.len()] });
    }
    Ok(Tensor::from_vec(data, shape, &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_does_not_fill_its_shape_is_refused() {
        assert!(matches!(from_rows(vec![0.0; 5], &[2, 3]), Err(Error::Shape { .. })));
        assert!(from_rows(vec![0.0; 6], &[2, 3]).is_ok());
    }

    #[test]
    fn a_transposed_view_is_lent_in_its_own_order() {
        let x = from_rows(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]).unwrap();
        with_rows(&x.t().unwrap(), |r| assert_eq!(r, &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0])).unwrap();
        with_rows(&x.narrow(0, 1, 1).unwrap(), |r| assert_eq!(r, &[4.0, 5.0, 6.0])).unwrap();
    }
}
