//! Linear maps over f32, f16 and bf16 weights that stay where they are stored.
//!
//! Weights are used in place, in the mapped file, and widened in registers
//! ([`autoglm_kernels::dense`]), so memory stays at the file's size. Work is cut over weight rows: a
//! sum has one order, whatever the number of input rows and of threads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use autoglm_kernels::dense::{Rows, gemm, pairs};
use autoglm_kernels::{Block, Isa};
use candle_core::Tensor;
use half::bf16;

use crate::prepare::Prepare;
use crate::rows::{from_rows, with_rows};
use crate::{
    Before, Checkpoint, Embedding, Error, FloatType, Member, Projection, Result, Run, Source, TensorBytes, TokenId,
};

/// Weight rows per task: enough work to outweigh handing it to a thread, and a multiple of what the
/// kernels hold in registers.
const ROWS_PER_TASK: usize = 96;

/// Dense weights of a checkpoint, in their own type or converted to another.
#[derive(Debug, Clone)]
pub struct DenseSource {
    checkpoint: Arc<Checkpoint>,
    precision: Option<FloatType>,
    converted: Arc<Mutex<Converted>>,
}

/// What was converted so far. A tied head is asked for twice, as embedding and as projection, and is
/// one matrix all the same.
#[derive(Debug, Default)]
struct Converted {
    matrices: HashMap<String, Matrix>,
    stored_bytes: u64,
    bytes: u64,
}

impl DenseSource {
    /// The checkpoint's weights. With a `precision`, linear maps and embeddings stored in another type
    /// are converted (and copied) when they are asked for; without one they stay as they are.
    #[must_use]
    pub fn new(checkpoint: Arc<Checkpoint>, precision: Option<FloatType>) -> Self {
        Self { checkpoint, precision, converted: Arc::default() }
    }

    /// A tensor's numbers in the wanted type, its first dimension, and the product of the others.
    fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Matrix> {
        let info = self.checkpoint.info(name)?;
        let others = info.shape.iter().skip(1).try_fold(1usize, |n, d| n.checked_mul(*d));
        if info.shape.len() < 2 || info.shape.first() != Some(&rows) || others != Some(columns) {
            return Err(Error::Shape { name: name.to_owned(), expected: vec![rows, columns], got: info.shape.clone() });
        }
        let stored = info.float()?;
        let bytes = self.checkpoint.bytes(name)?;
        let Some(kind) = self.precision.filter(|wanted| *wanted != stored) else {
            return Ok(Matrix { bytes, kind: stored, rows, columns });
        };
        let mut converted = self.converted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(matrix) = converted.matrices.get(name) {
            return Ok(matrix.clone());
        }
        let mut wanted = reserve(name, rows, columns * kind.size())?;
        let mut row = Vec::with_capacity(columns);
        for stored_row in bytes.chunks_exact((columns * stored.size()).max(1)) {
            row.clear();
            stored.widen(stored_row, &mut row);
            kind.narrow(&row, &mut wanted);
        }
        converted.stored_bytes += bytes.len() as u64;
        converted.bytes += wanted.len() as u64;
        let matrix = Matrix { bytes: TensorBytes::from(wanted), kind, rows, columns };
        converted.matrices.insert(name.to_owned(), matrix.clone());
        Ok(matrix)
    }

    /// Whether a tensor that was asked for so far was stored in another type, and converted.
    #[must_use]
    pub fn converts(&self) -> bool {
        !self.converted.lock().unwrap_or_else(PoisonError::into_inner).matrices.is_empty()
    }

    /// Bytes of all tensors asked for so far: as they lie in the file, or as they were converted.
    #[must_use]
    pub fn weights_bytes(&self) -> u64 {
        let converted = self.converted.lock().unwrap_or_else(PoisonError::into_inner);
        self.checkpoint.bytes_used() - converted.stored_bytes + converted.bytes
    }
}

impl Source for DenseSource {
    fn projection(&self, members: &[Member], before: &Before) -> Result<Arc<dyn Projection>> {
        let maps = members
            .iter()
            .map(|m| {
                let weight = self.matrix(&format!("{}.weight", m.name), m.out, m.inp)?;
                let bias = m
                    .bias
                    .then(|| self.tensor(&format!("{}.bias", m.name), &[m.out])?.to_vec1().map_err(Error::from))
                    .transpose()?;
                Ok(Map { weight, bias })
            })
            .collect::<Result<Vec<_>>>()?;
        let width = members.first().map_or(0, |m| m.inp);
        if let Some(odd) = members.iter().find(|m| m.inp != width) {
            return Err(Error::Shape {
                name: odd.name.clone(),
                expected: vec![odd.out, width],
                got: vec![odd.out, odd.inp],
            });
        }
        let before = Prepare::load(self, before, width)?;
        Ok(Arc::new(Dense { maps, before, width }))
    }

    fn embedding(&self, name: &str, vocab_size: usize, width: usize) -> Result<Arc<dyn Embedding>> {
        Ok(Arc::new(Table(self.matrix(name, vocab_size, width)?)))
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let info = self.checkpoint.info(name)?;
        if info.shape != shape {
            return Err(Error::Shape { name: name.to_owned(), expected: shape.to_vec(), got: info.shape.clone() });
        }
        let mut values = Vec::new();
        info.float()?.widen(&self.checkpoint.bytes(name)?, &mut values);
        from_rows(values, shape)
    }

    fn bytes(&self, name: &str) -> Result<TensorBytes> {
        self.checkpoint.bytes(name)
    }
}

/// An empty buffer for `rows` of `stride` bytes. Asking before taking turns a tensor that is larger
/// than memory into an error.
fn reserve(name: &str, rows: usize, stride: usize) -> Result<Vec<u8>> {
    let bytes = rows.checked_mul(stride).ok_or(Error::Overflow { what: "bytes of a converted tensor" })?;
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(bytes).map_err(|source| Error::Memory { name: name.to_owned(), bytes, source })?;
    Ok(buffer)
}

/// A stored matrix, (rows, columns).
#[derive(Debug, Clone)]
struct Matrix {
    bytes: TensorBytes,
    kind: FloatType,
    rows: usize,
    columns: usize,
}

impl Matrix {
    fn row(&self, row: usize) -> &[u8] {
        let stride = self.columns * self.kind.size();
        &self.bytes[row * stride..][..stride]
    }

    fn stored(&self) -> Result<Rows<'_>> {
        Ok(Rows::new(&self.bytes, self.kind.kernel(), self.rows, self.columns)?)
    }
}

/// Some rows of a weight and the columns of the answer they make.
struct Task<'a> {
    weights: Rows<'a>,
    bias: Option<&'a [f32]>,
    out: Block<'a>,
}

#[derive(Debug)]
struct Map {
    weight: Matrix,
    bias: Option<Vec<f32>>,
}

/// A [`Projection`] over dense weights.
#[derive(Debug)]
pub struct Dense {
    maps: Vec<Map>,
    before: Prepare,
    width: usize,
}

impl Dense {
    /// Cuts an answer into the columns of each map, and these into tasks.
    fn tasks<'a>(&'a self, out: Block<'a>) -> Result<Vec<Task<'a>>> {
        let (mut tasks, mut rest) = (Vec::new(), out);
        for map in &self.maps {
            let (columns, after) = rest.split_columns(map.weight.rows);
            rest = after;
            let stored = map.weight.stored()?;
            for (i, out) in columns.strips(ROWS_PER_TASK).enumerate() {
                let (first, count) = (i * ROWS_PER_TASK, out.columns());
                let bias = map.bias.as_ref().map(|bias| &bias[first..first + count]);
                tasks.push(Task { weights: stored.slice(first, count), bias, out });
            }
        }
        Ok(tasks)
    }

    /// The input rounded to bf16, where the run may do that, all weights are bf16 and the processor
    /// multiplies pairs of them.
    fn rounded(&self, run: &Run<'_>, x: &[f32]) -> Option<Vec<bf16>> {
        /// Numbers that one task rounds: enough to outweigh handing it to a thread.
        const PER_TASK: usize = 1 << 14;
        let may = run.rounds() && matches!(run.isa(), Isa::Avx512Bf16(_));
        if !may || self.maps.iter().any(|map| map.weight.kind != FloatType::Bf16) {
            return None;
        }
        let mut rounded = vec![bf16::ZERO; x.len()];
        run.for_rows(&mut rounded, 1, PER_TASK, |first, rounded| {
            pairs::round(run.isa(), &x[first..first + rounded.len()], rounded);
        });
        Some(rounded)
    }
}

impl Projection for Dense {
    fn forward(&self, run: &Run<'_>, x: &Tensor) -> Result<Tensor> {
        let (n, width) = x.dims2()?;
        if width != self.width_in() {
            return Err(Error::Shape {
                name: "input of a projection".into(),
                expected: vec![n, self.width_in()],
                got: vec![n, width],
            });
        }
        let x = self.before.apply(run, x)?;
        let total = self.width_out();
        let mut out = run.zeros(n * total);
        if !out.is_empty() {
            let tasks = self.tasks(Block::new(&mut out, total))?;
            with_rows(&x, |x| {
                let rounded = self.rounded(run, x);
                run.try_for_each(tasks, |task| match &rounded {
                    Some(x) => pairs::gemm(run.isa(), x, task.weights, task.bias, task.out),
                    None => gemm(run.isa(), x, task.weights, task.bias, task.out),
                })
            })??;
        }
        from_rows(out, &[n, total])
    }

    fn width_in(&self) -> usize {
        self.before.width_in(self.width)
    }

    fn width_out(&self) -> usize {
        self.maps.iter().map(|m| m.weight.rows).sum()
    }

    fn bytes(&self) -> u64 {
        let bias = |map: &Map| map.bias.as_ref().map_or(0, |bias| 4 * bias.len());
        self.maps.iter().map(|map| (map.weight.bytes.len() + bias(map)) as u64).sum()
    }
}

#[derive(Debug)]
struct Table(Matrix);

impl Embedding for Table {
    fn rows(&self, ids: &[TokenId]) -> Result<Tensor> {
        let mut values = Vec::with_capacity(ids.len() * self.0.columns);
        for id in ids {
            if id.0 as usize >= self.0.rows {
                return Err(Error::TokenOutOfRange { id: *id, vocab_size: self.0.rows });
            }
            self.0.kind.widen(self.0.row(id.0 as usize), &mut values);
        }
        from_rows(values, &[ids.len(), self.0.columns])
    }

    fn vocab_size(&self) -> usize {
        self.0.rows
    }

    fn width(&self) -> usize {
        self.0.columns
    }
}

#[cfg(test)]
mod tests;
