//! A packed matrix: codes in the order of the kernels, steps, and a bias.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use autoglm_core::checkpoint::{Buffer, StoredMatrix};
use autoglm_core::{Run, TensorBytes};
use autoglm_kernels::integer::{Groups, Weights};
use autoglm_kernels::layout::{Bits, Layout, code, pack_output, padded_inputs};
use autoglm_kernels::{Isa, hadamard};
use half::f16;

use crate::codes::{ends, quantise};
use crate::factors::Factors;
use crate::feedback::{self, Feedback};
use crate::{Error, Packing, Result};

/// Outputs that one worker quantises before it takes the next: a panel of the widest layout.
const OUTPUTS: usize = 64;

/// Weights (n, k) in integers, in the order that one instruction set reads.
#[derive(Debug)]
pub struct Packed {
    packing: Packing,
    layout: Layout,
    n: usize,
    k: usize,
    block: usize,
    codes: TensorBytes,
    channel: Vec<f32>,
    factors: Factors,
    bias: Option<Vec<f32>>,
}

/// Stored matrices that are packed one below the other, each with its tensor's name. They have one
/// width.
#[derive(Debug)]
pub struct Parts {
    parts: Vec<(String, StoredMatrix)>,
    n: usize,
    k: usize,
}

impl Parts {
    /// Matrices of k columns.
    ///
    /// # Errors
    /// [`Error::NoMembers`] when there is none.
    pub fn new(parts: Vec<(String, StoredMatrix)>, k: usize) -> Result<Self> {
        if parts.is_empty() {
            return Err(Error::NoMembers);
        }
        let n = parts.iter().map(|(_, matrix)| matrix.rows()).sum();
        Ok(Self { parts, n, k })
    }

    /// The part that output `n` is in, and its row there.
    pub(crate) fn place(&self, mut n: usize) -> (&str, &StoredMatrix, usize) {
        for (name, matrix) in &self.parts {
            if n < matrix.rows() {
                return (name, matrix, n);
            }
            n -= matrix.rows();
        }
        unreachable!("an output beyond the last part")
    }

    /// Outputs and inputs, (n, k).
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.n, self.k)
    }

    /// # Errors
    /// [`Error::Width`] when `feedback` is about another number of inputs.
    pub(crate) fn check(&self, feedback: Option<&Feedback>) -> Result<()> {
        match feedback.map(Feedback::width).filter(|width| *width != self.k) {
            Some(expected) => Err(Error::Width { tensor: self.name(), expected, got: self.k }),
            None => Ok(()),
        }
    }

    /// The name that errors about the whole carry.
    pub(crate) fn name(&self) -> String {
        self.parts[0].0.clone()
    }
}

/// Some outputs of a matrix that is being packed.
struct Strip<'a> {
    first: usize,
    codes: &'a mut [u8],
    channel: &'a mut [f32],
    factors: &'a mut [f16],
}

impl Packed {
    /// Quantises `parts`, a strip of outputs per worker at a time, for the kernels of `isa`; `done`
    /// hears how many weights were packed. Besides the result it needs memory for one row per worker.
    ///
    /// # Errors
    /// - [`Error::NotFinite`] and [`Error::TooLarge`] name the first bad weight.
    /// - [`Error::Memory`] and [`Error::Kernel`] when the matrix has no room or an impossible size.
    pub fn quantise(
        run: &Run<'_>,
        isa: Isa,
        packing: Packing,
        rotated: bool,
        parts: &Parts,
        done: &(dyn Fn(u64) + Sync),
    ) -> Result<Self> {
        Self::quantise_for(Layout::of(isa), run, isa, packing, rotated, parts, None, done)
    }

    /// The same by the instructions of `isa` into the order of `layout`, which may be another
    /// machine's; `feedback`, about inputs that are rotated if weights are, chooses other codes than the nearest.
    ///
    /// # Errors
    /// As for [`Packed::quantise`], and [`Error::Width`] when `feedback` is about another number of inputs.
    #[expect(clippy::too_many_arguments, reason = "each says another thing of the one matrix that is made")]
    pub fn quantise_for(
        layout: Layout,
        run: &Run<'_>,
        isa: Isa,
        packing: Packing,
        rotated: bool,
        parts: &Parts,
        feedback: Option<&Feedback>,
        done: &(dyn Fn(u64) + Sync),
    ) -> Result<Self> {
        parts.check(feedback)?;
        let (n, k) = (parts.n, parts.k);
        let kernel = |source| Error::Kernel { tensor: parts.name(), source };
        let bytes = layout.bytes(packing.bits(), n, k).map_err(kernel)?;
        let count = packing.group().map_or(0, |size| Groups::count(size, k));
        let memory = |bytes| move |source| Error::Memory { tensor: parts.name(), bytes, source };
        let mut codes = Buffer::zeroed(bytes).map_err(memory(bytes))?;
        let mut channel = zeros(n, 0f32).map_err(memory(n * 4))?;
        let factor_count = layout.padded_outputs(n) * count;
        let mut factors = zeros(factor_count, f16::ZERO).map_err(memory(factor_count * 2))?;
        let block = if rotated { hadamard::block(k) } else { 1 };

        let strip_bytes = OUTPUTS * (bytes / layout.padded_outputs(n).max(1));
        let mut factor_strips = factors.chunks_mut((OUTPUTS * count).max(1));
        let strips = codes.chunks_mut(strip_bytes.max(1)).zip(channel.chunks_mut(OUTPUTS)).enumerate();
        let strips = strips.map(|(i, (codes, channel))| Strip {
            first: i * OUTPUTS,
            codes,
            channel,
            factors: factor_strips.next().unwrap_or_default(),
        });
        let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
        run.for_each(strips.collect(), |mut strip: Strip<'_>| {
            let (first, weights) = (strip.first, strip.channel.len() * k);
            match pack((isa, layout, packing, block), parts, feedback, &mut strip) {
                Ok(()) => done(weights as u64),
                Err(error) => {
                    // The first bad weight is named, whichever worker was faster.
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    if failed.as_ref().is_none_or(|(earlier, _)| first < *earlier) {
                        *failed = Some((first, error));
                    }
                }
            }
        });
        if let Some((_, error)) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let codes = codes.freeze().map_err(memory(bytes))?;
        Self::new(packing, layout, (n, k), block, codes, channel, factors).map_err(kernel)
    }

    /// Joins what was packed before, in the order of `layout`: codes of weights that were rotated in
    /// blocks of `block`, one scale per output, and the factors of groups where `packing` has some.
    ///
    /// # Errors
    /// Those of [`Weights::new`], for lengths that do not fit.
    pub fn new(
        packing: Packing,
        layout: Layout,
        (n, k): (usize, usize),
        block: usize,
        codes: TensorBytes,
        channel: Vec<f32>,
        factors: Vec<f16>,
    ) -> autoglm_kernels::Result<Self> {
        Self::join((packing, layout), (n, k), block, codes, channel, Factors::Made(factors))
    }

    pub(crate) fn join(
        (packing, layout): (Packing, Layout),
        (n, k): (usize, usize),
        block: usize,
        codes: TensorBytes,
        channel: Vec<f32>,
        factors: Factors,
    ) -> autoglm_kernels::Result<Self> {
        let packed = Self { packing, layout, n, k, block, codes, channel, factors, bias: None };
        packed.weights()?;
        Ok(packed)
    }

    /// The same matrix with a bias (n).
    ///
    /// # Errors
    /// [`autoglm_kernels::Error::Length`] when there is not one per output.
    pub fn with_bias(mut self, bias: Option<Vec<f32>>) -> autoglm_kernels::Result<Self> {
        self.bias = bias;
        self.weights()?;
        Ok(self)
    }

    /// The weights as the kernels take them.
    ///
    /// # Errors
    /// None that [`Packed::new`] would not have found.
    pub fn weights(&self) -> autoglm_kernels::Result<Weights<'_>> {
        let groups = self.packing.group().map(|size| Groups { size, factors: self.factors.as_slice() });
        let kind = (self.packing.bits(), self.layout);
        Weights::new(kind, (self.n, self.k), &self.codes, &self.channel, groups)?.with_bias(self.bias.as_deref())
    }

    /// The codes, in the order of [`Packed::layout`].
    #[must_use]
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// The scale of each output.
    #[must_use]
    pub fn channel(&self) -> &[f32] {
        &self.channel
    }

    /// The factors of groups as a file has them: f16, little-endian.
    #[must_use]
    pub fn factor_bytes(&self) -> Cow<'_, [u8]> {
        self.factors.bytes()
    }

    /// The order of the codes.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The width of the rotated blocks; one where nothing is rotated.
    #[must_use]
    pub fn block(&self) -> usize {
        self.block
    }

    /// How the weights are packed.
    #[must_use]
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// Outputs.
    #[must_use]
    pub fn n(&self) -> usize {
        self.n
    }

    /// Inputs.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// Bytes of codes and steps; a bias is no larger than it was in the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.codes.len() + 4 * self.channel.len() + 2 * self.factors.as_slice().len()) as u64
    }

    /// The same weights in the order of `layout`, code by code: exact, and a copy.
    ///
    /// # Errors
    /// [`Error::Memory`] and [`Error::Kernel`], about `tensor`.
    pub fn relaid(&self, run: &Run<'_>, layout: Layout, tensor: &str) -> Result<Self> {
        let (n, k, bits) = (self.n, self.k, self.packing.bits());
        let kernel = |source| Error::Kernel { tensor: tensor.to_owned(), source };
        let memory = |bytes| move |source| Error::Memory { tensor: tensor.to_owned(), bytes, source };
        let bytes = layout.bytes(bits, n, k).map_err(kernel)?;
        let mut codes = Buffer::zeroed(bytes).map_err(memory(bytes))?;
        let strip_bytes = OUTPUTS * (bytes / layout.padded_outputs(n).max(1));
        let strips = codes.chunks_mut(strip_bytes.max(1)).enumerate();
        run.for_each(strips.collect(), |(strip, into)| {
            let mut row = vec![0i8; k];
            let outputs = into.len() / (strip_bytes / OUTPUTS).max(1);
            for i in 0..outputs {
                let output = strip * OUTPUTS + i;
                let of = |k_at| match output < n {
                    true => code(self.layout, bits, &self.codes, padded_inputs(k), output, k_at) as i8,
                    false => 0,
                };
                row.iter_mut().enumerate().for_each(|(k_at, code)| *code = of(k_at));
                pack_output(layout, bits, &row, i, into);
            }
        });
        let codes = codes.freeze().map_err(memory(bytes))?;
        let count = self.packing.group().map_or(0, |size| Groups::count(size, k));
        let factor_count = layout.padded_outputs(n) * count;
        let mut factors = zeros(factor_count, f16::ZERO).map_err(memory(factor_count * 2))?;
        for output in 0..n {
            for group in 0..count {
                let stored = self.factors.as_slice()[Groups::place(self.layout, count, output, group)];
                factors[Groups::place(layout, count, output, group)] = stored;
            }
        }
        let kind = (self.packing, layout);
        let packed = Self::join(kind, (n, k), self.block, codes, self.channel.clone(), Factors::Made(factors))
            .map_err(kernel)?;
        packed.with_bias(self.bias.clone()).map_err(kernel)
    }
}

/// Quantises the outputs of one strip.
fn pack(
    (isa, layout, packing, block): (Isa, Layout, Packing, usize),
    parts: &Parts,
    feedback: Option<&Feedback>,
    strip: &mut Strip<'_>,
) -> Result<()> {
    let k = parts.k;
    let count = packing.group().map_or(0, |size| Groups::count(size, k));
    let together = if feedback.is_some() { feedback::ROWS } else { 1 };
    let mut rows = Vec::with_capacity(together * k);
    let (mut codes, mut factors) = (vec![0i8; together * k], vec![f16::ZERO; together * count]);
    let (mut weights, mut steps) = (Vec::with_capacity(k), Vec::new());
    for (number, channels) in strip.channel.chunks_mut(together).enumerate() {
        let first = number * together;
        rows.clear();
        steps.clear();
        for (i, channel) in channels.iter_mut().enumerate() {
            let (tensor, matrix, row) = parts.place(strip.first + first + i);
            matrix.widen(row, &mut weights);
            if block > 1 {
                hadamard::rotate(isa, block, &mut weights);
            }
            let (codes, factors) = (&mut codes[i * k..(i + 1) * k], &mut factors[i * count..(i + 1) * count]);
            *channel = quantise(packing, &weights, codes, factors);
            if !channel.is_finite() {
                return Err(bad_row(tensor, matrix, row));
            }
            if feedback.is_some() {
                rows.extend_from_slice(&weights);
                match count {
                    0 => steps.push(*channel),
                    _ => steps.extend(factors.iter().map(|factor| factor.to_f32() * *channel)),
                }
            }
        }
        if let Some(feedback) = feedback {
            let codes = &mut codes[..rows.len()];
            feedback.choose(&mut rows, &steps, packing.group().unwrap_or(k), ends(packing), codes);
        }
        for i in 0..channels.len() {
            pack_output(layout, packing.bits(), &codes[i * k..(i + 1) * k], first + i, strip.codes);
            for (group, factor) in factors[i * count..(i + 1) * count].iter().enumerate() {
                strip.factors[Groups::place(layout, count, first + i, group)] = *factor;
            }
        }
    }
    // What fills the last panel is zeros, whose code is not the byte 0 in every layout.
    let codes = vec![0i8; k];
    let output_bytes = match packing.bits() {
        Bits::Eight => padded_inputs(k),
        Bits::Four => padded_inputs(k) / 2,
    };
    let outputs = strip.codes.len() / output_bytes;
    for i in strip.channel.len()..outputs {
        pack_output(layout, packing.bits(), &codes, i, strip.codes);
    }
    Ok(())
}

/// Why a row that gave no finite step did not.
pub(crate) fn bad_row(tensor: &str, matrix: &StoredMatrix, row: usize) -> Error {
    let mut weights = Vec::new();
    matrix.widen(row, &mut weights);
    match weights.iter().position(|w| !w.is_finite()) {
        Some(column) => Error::NotFinite { tensor: tensor.to_owned(), row, column, value: weights[column] },
        None => Error::TooLarge { tensor: tensor.to_owned(), row },
    }
}

/// `count` times `zero`, or the reason why there is no room.
fn zeros<T: Clone>(count: usize, zero: T) -> std::io::Result<Vec<T>> {
    let mut values = Vec::new();
    let out_of_memory = |source| std::io::Error::new(std::io::ErrorKind::OutOfMemory, source);
    values.try_reserve_exact(count).map_err(out_of_memory)?;
    values.resize(count, zero);
    Ok(values)
}
