//! A checkpoint whose linear maps were packed before.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use autoglm_core::{
    Before, Checkpoint, DenseSource, Embedding, Error as CoreError, Member, Projection, Result, Run, Source,
    TensorBytes, TensorSpec,
};
use autoglm_kernels::layout::Layout;
use autoglm_kernels::{Isa, hadamard};
use candle_core::Tensor;
use half::f16;

use crate::factors::Factors;
use crate::placement::{ALIGN, Placement, together};
use crate::{Error, Format, Integer, Manifest, Packed, Packing, Prepare};

/// Factors that one worker looks at before it takes the next: 256 KiB.
const LOOKED_AT: usize = 1 << 17;

/// The weights of a packed checkpoint, used where they lie in the mapped file.
///
/// Opening reads scales and factors, to refuse those that are no numbers, and no code. Codes in another
/// order than this machine's are copied into its own.
pub struct PackedSource<'a> {
    checkpoint: Arc<Checkpoint>,
    manifest: Manifest,
    dense: DenseSource,
    isa: Isa,
    run: Run<'a>,
    /// Bytes of the copies, and of what they are copies of.
    copied: AtomicU64,
    replaced: AtomicU64,
}

impl<'a> PackedSource<'a> {
    /// The weights of `checkpoint`, which are packed as `manifest` says, for the kernels of `isa`.
    #[must_use]
    pub fn new(checkpoint: Arc<Checkpoint>, manifest: Manifest, isa: Isa, run: Run<'a>) -> Self {
        let dense = DenseSource::new(Arc::clone(&checkpoint), None);
        Self { checkpoint, manifest, dense, isa, run, copied: AtomicU64::new(0), replaced: AtomicU64::new(0) }
    }

    /// Bytes of everything asked for so far, in the form it has now.
    #[must_use]
    pub fn weights_bytes(&self) -> u64 {
        self.dense.weights_bytes() + self.copied.load(Ordering::Relaxed) - self.replaced.load(Ordering::Relaxed)
    }

    /// What a user should know who wonders where the time and the memory went, on one line.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let (stored, own) = (self.manifest.layout, Layout::of(self.isa));
        (stored != own).then(|| {
            format!(
                "the weights are packed for `{}` and were copied into the order of this machine, `{}`: a file \
                 packed for it opens at once and is used in place",
                stored.name(),
                own.name()
            )
        })
    }

    fn open(&self, members: &[Member], before: &Before, packing: Packing) -> Result<Arc<dyn Projection>> {
        let name = members.first().map_or("", |member| member.name.as_str());
        let format = |source: Error| CoreError::Format { name: name.to_owned(), source: Box::new(source) };
        let packed = self.matrix(members, packing).map_err(|error| match error {
            Found::Core(error) => error,
            Found::Quant(error) => format(error),
        })?;
        let prepare = Prepare::read(before, packed.k(), &self.dense)?;
        Ok(Arc::new(Integer::new(name, self.isa, packed, prepare)?))
    }

    /// The matrix of `members`, in this machine's order.
    fn matrix(&self, members: &[Member], packing: Packing) -> std::result::Result<Packed, Found> {
        let placement = Placement::new(members, packing, self.manifest.layout)?;
        if let Some(stored) = self.grouped_otherwise(members) {
            return Err(stored.into());
        }
        let codes = self.tensor_bytes(&placement.codes)?;
        let channel = self.floats(&placement.channel)?;
        let factors = placement.factors.as_ref().map(|spec| self.factors(spec)).transpose()?;
        let bias = placement.bias.as_ref().map(|spec| self.floats(spec)).transpose()?;
        let (n, k) = (channel.len(), members.first().map_or(0, |member| member.inp));
        let block = if self.manifest.scheme.rotated() { hadamard::block(k) } else { 1 };
        let kind = (packing, self.manifest.layout);
        let factors = factors.unwrap_or_else(|| Factors::Made(Vec::new()));
        let tensor = &placement.codes.name;
        let kernel = |source| Error::Kernel { tensor: tensor.clone(), source };
        let packed = Packed::join(kind, (n, k), block, codes, channel, factors).map_err(kernel)?;
        let packed = packed.with_bias(bias).map_err(kernel)?;
        if kind.1 == Layout::of(self.isa) {
            return Ok(packed);
        }
        let relaid = packed.relaid(&self.run, Layout::of(self.isa), tensor)?;
        self.copied.fetch_add(relaid.bytes(), Ordering::Relaxed);
        self.replaced.fetch_add(packed.bytes(), Ordering::Relaxed);
        Ok(relaid)
    }

    /// Why the file's maps do not lie together as `members`, if some of them are there.
    fn grouped_otherwise(&self, members: &[Member]) -> Option<Error> {
        let asked: Vec<String> = members.iter().map(|member| member.name.clone()).collect();
        let other = asked.iter().find_map(|name| together(&self.checkpoint, name).filter(|stored| *stored != asked))?;
        Some(Error::Together { stored: other.into_iter().map(str::to_owned).collect(), asked })
    }

    /// The bytes of a tensor that is what `spec` says, at a place where a packed file has it.
    fn tensor_bytes(&self, spec: &TensorSpec) -> std::result::Result<TensorBytes, Found> {
        let info = self.checkpoint.info(&spec.name)?;
        if info.shape != spec.shape {
            let (name, expected, got) = (spec.name.clone(), spec.shape.clone(), info.shape.clone());
            return Err(CoreError::Shape { name, expected, got }.into());
        }
        if let Some(expected) = spec.dtype.filter(|dtype| *dtype != info.dtype) {
            return Err(Error::Stored { tensor: spec.name.clone(), expected, got: info.dtype }.into());
        }
        if !info.offset().is_multiple_of(ALIGN) {
            let (tensor, offset) = (spec.name.clone(), info.offset());
            return Err(Error::Misaligned { tensor, offset, align: ALIGN }.into());
        }
        Ok(self.checkpoint.bytes(&spec.name)?)
    }

    /// A tensor of f32, copied, none of which is an infinity or no number.
    fn floats(&self, spec: &TensorSpec) -> std::result::Result<Vec<f32>, Found> {
        let bytes = self.tensor_bytes(spec)?;
        let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
        match values.iter().position(|value| !value.is_finite()) {
            Some(index) => Err(Error::Scale { tensor: spec.name.clone(), index, value: values[index] }.into()),
            None => Ok(values),
        }
    }

    /// The factors of groups, in place, none of which is an infinity or no number.
    fn factors(&self, spec: &TensorSpec) -> std::result::Result<Factors, Found> {
        let factors = Factors::stored(self.tensor_bytes(spec)?);
        let (all, whole) = (factors.as_slice(), AtomicU64::new(0));
        self.run.for_each(all.chunks(LOOKED_AT).collect(), |some| {
            whole.fetch_add(u64::from(all_finite(some)), Ordering::Relaxed);
        });
        if whole.into_inner() == all.len().div_ceil(LOOKED_AT) as u64 {
            return Ok(factors);
        }
        let index = all.iter().position(|factor| !factor.is_finite()).unwrap_or_default();
        let value = all.get(index).map_or(f32::NAN, |factor| factor.to_f32());
        Err(Error::Scale { tensor: spec.name.clone(), index, value }.into())
    }
}

/// Whether no factor is an infinity or no number. Written as a maximum of integers it vectorises.
fn all_finite(factors: &[f16]) -> bool {
    factors.iter().map(|factor| factor.to_bits() & 0x7fff).max().unwrap_or(0) < f16::INFINITY.to_bits()
}

/// An error of this crate, or one that the checkpoint found.
enum Found {
    Core(CoreError),
    Quant(Error),
}

impl From<CoreError> for Found {
    fn from(error: CoreError) -> Self {
        Self::Core(error)
    }
}

impl From<Error> for Found {
    fn from(error: Error) -> Self {
        Self::Quant(error)
    }
}

impl Source for PackedSource<'_> {
    fn projection(&self, members: &[Member], before: &Before) -> Result<Arc<dyn Projection>> {
        match members.first().map_or(Format::Dense, |member| self.manifest.scheme.format(&member.name)) {
            Format::Packed(packing) => self.open(members, before, packing),
            Format::Dense => self.dense.projection(members, before),
        }
    }

    fn embedding(&self, name: &str, vocab_size: usize, width: usize) -> Result<Arc<dyn Embedding>> {
        self.dense.embedding(name, vocab_size, width)
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.dense.tensor(name, shape)
    }

    fn bytes(&self, name: &str) -> Result<TensorBytes> {
        self.dense.bytes(name)
    }
}

impl fmt::Debug for PackedSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackedSource of {:?} as {:?}", self.checkpoint, self.manifest)
    }
}
