//! A tensor on its way: the rows of one in the checkpoint, in another order and another number format.

use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;

use autoglm_core::checkpoint::TensorBytes;
use autoglm_core::{Checkpoint, FloatType};
use candle_core::quantized::QTensor;
use candle_core::{Device, Tensor};

use super::container::Announced;
use super::kind::Kind;
use crate::error::{Error, Result};
use crate::tensor_file::TensorFile;

/// Numbers that are converted at once; more where a row has more.
const NUMBERS_AT_ONCE: usize = 1 << 20;

/// A tensor of the file and what it is made of.
#[derive(Debug)]
pub(super) struct Item {
    /// Its name in the file.
    pub(super) name: String,
    /// The checkpoint's name of it.
    pub(super) source: String,
    /// Dimensions in the file, outermost first.
    pub(super) shape: Vec<usize>,
    pub(super) kind: Kind,
    pub(super) order: Order,
}

/// Which row of the checkpoint's tensor stands where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As it is.
    Stored,
    /// Of each head of `head` rows, the first `turned` are pairs (2j, 2j + 1) that turn together. All their first rows
    /// come first, then all their second ones, so that they are pairs (j, j + turned / 2).
    Halves { head: usize, turned: usize },
    /// One of the `frames` of a patch: a tensor (out, colours, frames, height, width) without its third dimension.
    Frame { at: usize, frames: usize },
}

impl Order {
    /// The checkpoint's row that becomes row `row`.
    pub(super) fn source(self, row: usize) -> usize {
        match self {
            Self::Stored => row,
            Self::Halves { head, turned } => {
                let (first, at, half) = (row - row % head, row % head, turned / 2);
                match at {
                    at if at < half => first + 2 * at,
                    at if at < turned => first + 2 * (at - half) + 1,
                    _ => row,
                }
            }
            Self::Frame { at, frames } => row * frames + at,
        }
    }
}

impl Item {
    pub(super) fn announced(&self) -> Announced<'_> {
        Announced { name: &self.name, shape: &self.shape, kind: self.kind }
    }

    /// Numbers that move as one: a row, or of a patch what one frame has of one colour.
    fn width(&self) -> usize {
        let outer = if matches!(self.order, Order::Frame { .. }) { 2 } else { 1 };
        self.shape.iter().skip(outer).product()
    }

    /// Appends the tensor to `file`, which lies at `path`.
    ///
    /// # Errors
    /// A number has no place in the format, or the disk is full.
    pub(super) fn write(&self, checkpoint: &Checkpoint, file: &mut TensorFile, path: &Path) -> Result<()> {
        let float = checkpoint.info(&self.source)?.float()?;
        let stored = checkpoint.bytes(&self.source)?;
        let rows = Rows { stored, float, width: self.width().max(1), order: self.order };
        let numbers: usize = self.shape.iter().product();
        let (count, step) = (numbers / rows.width, (NUMBERS_AT_ONCE / rows.width).max(1));
        let chunks = || (0..count).step_by(step).map(|from| from..(from + step).min(count));
        let (mut wide, mut narrow) = (Vec::new(), Vec::new());
        // Looked for first, because a file that was begun cannot say which tensor it was.
        for chunk in chunks().filter(|_| self.kind != Kind::Float(float)) {
            rows.widen(chunk, &mut wide);
            if let Some(value) = wide.iter().find(|value| !self.kind.holds(**value)) {
                return Err(Error::Range { tensor: self.source.clone(), value: *value, format: self.kind.name() });
            }
        }
        let write = |file: &mut dyn Write| {
            for mut chunk in chunks() {
                match self.kind {
                    Kind::Float(wanted) if wanted == float => {
                        chunk.try_for_each(|row| file.write_all(rows.row(row)))?;
                    }
                    Kind::Float(wanted) => {
                        rows.widen(chunk, &mut wide);
                        narrow.clear();
                        wanted.narrow(&wide, &mut narrow);
                        file.write_all(&narrow)?;
                    }
                    Kind::Q8_0 | Kind::Q4_0 => {
                        let height = chunk.len();
                        rows.widen(chunk, &mut wide);
                        let quantised = Tensor::from_slice(&wide, (height, rows.width), &Device::Cpu)
                            .and_then(|numbers| QTensor::quantize(&numbers, self.kind.ggml()))
                            .map_err(io::Error::other)?;
                        file.write_all(&quantised.data().map_err(io::Error::other)?)?;
                    }
                }
            }
            Ok(())
        };
        file.tensor(write).map_err(Error::file("write", path))
    }
}

/// The numbers of a checkpoint's tensor, row by row.
struct Rows {
    stored: TensorBytes,
    float: FloatType,
    width: usize,
    order: Order,
}

impl Rows {
    /// The bytes of what becomes row `row`.
    fn row(&self, row: usize) -> &[u8] {
        let bytes = self.width * self.float.size();
        &self.stored[self.order.source(row) * bytes..][..bytes]
    }

    /// Replaces `into` with these rows as f32.
    fn widen(&self, rows: Range<usize>, into: &mut Vec<f32>) {
        into.clear();
        rows.for_each(|row| self.float.widen(self.row(row), into));
    }
}
