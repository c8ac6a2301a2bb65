//! The passage between candle tensors and plain f32 slices.

use candle_core::{Device, Storage, Tensor};

use crate::{Error, Result, Run};

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

/// Lends the rows of `x`, (n, …), to `read`: numbers, and the distance between the starts of two rows. A
/// row's own numbers lie side by side. Some columns of a larger tensor are lent in place; a view whose
/// rows do not lie side by side is copied first.
///
/// # Errors
/// [`Error::Tensor`] when `x` is not f32 on the CPU.
pub fn with_strided_rows<R>(x: &Tensor, read: impl FnOnce(&[f32], usize) -> R) -> Result<R> {
    let (dims, strides) = (x.dims(), x.stride());
    let row: usize = dims.iter().skip(1).product();
    let mut below = row;
    let side_by_side = dims.iter().zip(strides).skip(1).all(|(dim, stride)| {
        below /= (*dim).max(1);
        *dim == 1 || *stride == below
    });
    let (Some(n), Some(stride)) = (dims.first().copied(), strides.first().copied()) else {
        return with_rows(x, |x| read(x, x.len()));
    };
    if !side_by_side || n < 2 || row == 0 || stride < row {
        return with_rows(x, |x| read(x, row));
    }
    let (storage, layout) = x.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        return Err(candle_core::Error::Msg("rows live on a device other than the CPU".into()).into());
    };
    let all = storage.as_slice::<f32>()?;
    Ok(read(&all[layout.start_offset()..][..(n - 1) * stride + row], stride))
}

/// a + b, of one shape.
///
/// # Errors
/// [`Error::Shape`] when the shapes differ.
pub fn add(run: &Run<'_>, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    /// Numbers that one task adds: enough to outweigh handing it to a thread.
    const PER_TASK: usize = 1 << 14;
    if a.dims() != b.dims() {
        return Err(Error::Shape {
            name: "terms of a sum".into(),
            expected: a.dims().to_vec(),
            got: b.dims().to_vec(),
        });
    }
    let mut sum = run.zeros(a.elem_count());
    with_rows(a, |a| {
        with_rows(b, |b| {
            run.for_rows(&mut sum, 1, PER_TASK, |first, sum| {
                for ((sum, a), b) in sum.iter_mut().zip(&a[first..]).zip(&b[first..]) {
                    *sum = a + b;
                }
            });
        })
    })??;
    from_rows(sum, a.dims())
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

    #[test]
    fn columns_of_a_larger_tensor_are_lent_in_place() {
        let x = from_rows((0..24).map(|i| i as f32).collect(), &[2, 4, 3]).unwrap();
        let middle = x.narrow(1, 1, 2).unwrap();
        with_strided_rows(&middle, |rows, stride| {
            assert_eq!((rows.len(), stride), (18, 12));
            assert_eq!(
                (&rows[..6], &rows[12..]),
                (&[3.0, 4.0, 5.0, 6.0, 7.0, 8.0][..], &[15.0, 16.0, 17.0, 18.0, 19.0, 20.0][..])
            );
        })
        .unwrap();
        let turned = x.transpose(1, 2).unwrap();
        with_strided_rows(&turned, |rows, stride| {
            assert_eq!((rows.len(), stride), (24, 12));
            assert_eq!(rows[..4], [0.0, 3.0, 6.0, 9.0]);
        })
        .unwrap();
        with_strided_rows(&x.narrow(0, 1, 1).unwrap(), |rows, _| assert_eq!(rows[..2], [12.0, 13.0])).unwrap();
    }

    #[test]
    fn a_sum_is_number_by_number_and_of_one_shape() {
        let workers = crate::Workers::new(2).unwrap();
        let run = Run::new(&workers);
        let x = from_rows((0..40_000).map(|i| i as f32).collect(), &[4, 10_000]).unwrap();
        let sum = add(&run, &x, &x).unwrap();
        with_rows(&sum, |sum| assert!(sum.iter().enumerate().all(|(i, x)| *x == 2.0 * i as f32))).unwrap();
        assert!(matches!(add(&run, &x, &x.t().unwrap()), Err(Error::Shape { .. })));
    }
}
