//! Random weights, made in the form they are used in: for measuring speed and memory without a
//! checkpoint.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use autoglm_core::checkpoint::Buffer;
use autoglm_core::{
    Before, Checkpoint, DenseSource, Embedding, Error as CoreError, FloatType, Member, Projection, Result, Run, Source,
    TensorBytes, TensorSpec,
};
use autoglm_kernels::Isa;
use autoglm_kernels::integer::Groups;
use autoglm_kernels::layout::{Bits, Layout};
use candle_core::Tensor;
use half::f16;

use crate::{Error, Format, Integer, Packed, Packing, Prepare, Scheme};

/// Bytes that one worker fills at a time.
const PIECE: usize = 1 << 20;

/// A checkpoint of random weights that never existed as floats: what a [`Scheme`] packs is made
/// packed, the rest as floats. Magnitudes are such that activations keep their size.
pub struct RandomSource<'a> {
    dense: DenseSource,
    scheme: Option<Scheme>,
    isa: Isa,
    run: Run<'a>,
    packed_bytes: AtomicU64,
}

impl<'a> RandomSource<'a> {
    /// Weights of these tensors; what is not packed, or everything where no scheme is given, is stored
    /// as `kind`.
    ///
    /// # Errors
    /// [`CoreError::Format`] when there is no room.
    pub fn new(specs: &[TensorSpec], scheme: Option<Scheme>, kind: FloatType, isa: Isa, run: Run<'a>) -> Result<Self> {
        let packs = |spec: &TensorSpec| scheme.is_some_and(|scheme| scheme.packs(spec));
        let floats: Vec<&TensorSpec> = specs.iter().filter(|spec| !packs(spec)).collect();
        let checkpoint = Arc::new(Checkpoint::from_buffer(file(&floats, kind, &run)?)?);
        Ok(Self { dense: DenseSource::new(checkpoint, None), scheme, isa, run, packed_bytes: AtomicU64::new(0) })
    }

    /// Bytes of everything asked for so far.
    #[must_use]
    pub fn weights_bytes(&self) -> u64 {
        self.dense.weights_bytes() + self.packed_bytes.load(Ordering::Relaxed)
    }

    fn packed(&self, members: &[Member], packing: Packing) -> std::result::Result<Packed, Error> {
        let (n, k) = (members.iter().map(|m| m.out).sum(), members.first().map_or(0, |m| m.inp));
        let tensor = || members.first().map_or_else(String::new, |m| m.name.clone());
        let layout = Layout::of(self.isa);
        let kernel = |source| Error::Kernel { tensor: tensor(), source };
        let bytes = layout.bytes(packing.bits(), n, k).map_err(kernel)?;
        let memory = |source| Error::Memory { tensor: tensor(), bytes, source };
        let mut codes = Buffer::zeroed(bytes).map_err(memory)?;
        self.run.for_rows(&mut codes, PIECE, 1, |first, part| fill(first as u64 + 1, part));
        // Codes are uniform, of deviation 74 and 4.6: this makes a row of the matrix as long as 1.
        let deviation = if packing.bits() == Bits::Eight { 74.0 } else { 4.6 };
        let channel = vec![1.0 / ((k as f32).sqrt() * deviation); n];
        let factors = packing.group().map_or_else(Vec::new, |size| vec![f16::ONE; Groups::len(layout, size, n, k)]);
        let block = if self.scheme.is_some_and(|s| s.rotated()) { autoglm_kernels::hadamard::block(k) } else { 1 };
        let codes = codes.freeze().map_err(memory)?;
        let packed = Packed::new(packing, layout, (n, k), block, codes, channel, factors).map_err(kernel)?;
        let bias = members.iter().any(|m| m.bias).then(|| vec![0.0; n]);
        packed.with_bias(bias).map_err(kernel)
    }
}

impl Source for RandomSource<'_> {
    fn projection(&self, members: &[Member], before: &Before) -> Result<Arc<dyn Projection>> {
        let name = members.first().map_or("", |member| member.name.as_str());
        let Some(Format::Packed(packing)) = self.scheme.map(|scheme| scheme.format(name)) else {
            return self.dense.projection(members, before);
        };
        let packed = self.packed(members, packing);
        let packed = packed.map_err(|source| CoreError::Format { name: name.to_owned(), source: Box::new(source) })?;
        let prepare = Prepare::read(before, packed.k(), self)?;
        self.packed_bytes.fetch_add(packed.bytes(), Ordering::Relaxed);
        Ok(Arc::new(Integer::new(name, self.isa, packed, prepare)?))
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

impl fmt::Debug for RandomSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RandomSource of {:?} and {:?}", self.scheme, self.dense)
    }
}

/// A safetensors file of random numbers.
fn file(specs: &[&TensorSpec], kind: FloatType, run: &Run<'_>) -> Result<TensorBytes> {
    let mut header = serde_json::Map::new();
    let mut end = 0usize;
    let mut places = Vec::with_capacity(specs.len());
    for spec in specs {
        let count = spec.shape.iter().try_fold(kind.size(), |n, d| n.checked_mul(*d));
        let stop = count.and_then(|bytes| end.checked_add(bytes));
        let stop = stop.ok_or(CoreError::Overflow { what: "bytes of random weights" })?;
        let dtype = kind.name().to_uppercase();
        let entry = serde_json::json!({"dtype": dtype, "shape": spec.shape, "data_offsets": [end, stop]});
        header.insert(spec.name.clone(), entry);
        places.push(end..stop);
        end = stop;
    }
    let mut header = serde_json::Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let start = 8 + header.len();
    let bytes = start + end;
    let memory = |source| CoreError::Format {
        name: "random weights".to_owned(),
        source: Box::new(Error::Memory { tensor: "random weights".to_owned(), bytes, source }),
    };
    let mut buffer = Buffer::zeroed(bytes).map_err(memory)?;
    buffer[..8].copy_from_slice(&(header.len() as u64).to_le_bytes());
    buffer[8..start].copy_from_slice(&header);
    for (spec, place) in specs.iter().zip(places) {
        let values = &mut buffer[start + place.start..start + place.end];
        match *spec.shape {
            [_] if spec.name.ends_with(".bias") => {}
            [_] => {
                let mut one = Vec::new();
                kind.narrow(&[1.0], &mut one);
                values.chunks_exact_mut(one.len()).for_each(|value| value.copy_from_slice(&one));
            }
            _ => {
                let width: usize = spec.shape[1..].iter().product();
                // ±[1, 2) · 2^e has a deviation of 1.53 · 2^e.
                let exponent = -(1.53 * (width as f32).sqrt()).log2().round() as i32;
                run.for_rows(values, PIECE, 1, |first, part| {
                    fill(first as u64 + 1, part);
                    shape_floats(kind, exponent, part);
                });
            }
        }
    }
    buffer.freeze().map_err(memory)
}

/// Fills `bytes` with the output of Vigna's SplitMix64 from `seed`.
fn fill(seed: u64, bytes: &mut [u8]) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for chunk in bytes.chunks_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..chunk.len()]);
    }
}

/// Gives random bits the exponent `exponent`; sign and fraction stay random.
fn shape_floats(kind: FloatType, exponent: i32, bytes: &mut [u8]) {
    match kind {
        FloatType::F32 => bytes.chunks_exact_mut(4).for_each(|b| {
            let bits = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            b.copy_from_slice(&(bits & 0x807f_ffff | ((exponent + 127) as u32) << 23).to_le_bytes());
        }),
        FloatType::F16 => bytes.chunks_exact_mut(2).for_each(|b| {
            let bits = u16::from_le_bytes([b[0], b[1]]);
            b.copy_from_slice(&(bits & 0x83ff | ((exponent + 15) as u16) << 10).to_le_bytes());
        }),
        FloatType::Bf16 => bytes.chunks_exact_mut(2).for_each(|b| {
            let bits = u16::from_le_bytes([b[0], b[1]]);
            b.copy_from_slice(&(bits & 0x807f | ((exponent + 127) as u16) << 7).to_le_bytes());
        }),
    }
}

#[cfg(test)]
mod tests {
    use autoglm_core::Workers;
    use autoglm_core::rows::from_rows;

    use super::*;

    #[test]
    fn activations_keep_their_size_in_every_form() {
        let workers = Workers::new(2).unwrap();
        let run = Run::new(&workers);
        let specs = [
            TensorSpec::new("model.layers.0.mlp.down_proj.weight", [96, 512]),
            TensorSpec::new("model.layers.0.norm.weight", [512]),
            TensorSpec::new("model.embed_tokens.weight", [10, 512]),
            TensorSpec::new("lm_head.weight", [10, 512]),
        ];
        let schemes = [None, Some(Scheme::int8()), Some(Scheme::int4()), Some(Scheme::mixed())];
        for kind in [FloatType::F32, FloatType::F16, FloatType::Bf16] {
            for scheme in schemes {
                let source = RandomSource::new(&specs, scheme, kind, Isa::best(), run).unwrap();
                let map = source
                    .projection(
                        &[Member::new("model.layers.0.mlp.down_proj", 96, 512)],
                        &Before::RmsNorm { weight: "model.layers.0.norm.weight".into(), eps: 1e-5 },
                    )
                    .unwrap();
                let x = (0..512).map(|i| ((i * 37 % 101) as f32 - 50.0) / 29.0).collect();
                let y = map.forward(&run, &from_rows(x, &[1, 512]).unwrap()).unwrap();
                let y: Vec<f32> = y.flatten_all().unwrap().to_vec1().unwrap();
                let size = (y.iter().map(|v| v * v).sum::<f32>() / 96.0).sqrt();
                assert!((0.4..2.5).contains(&size), "{kind:?} {scheme:?}: {size}");
                assert!(source.weights_bytes() > 0);
                assert_eq!(source.embedding("model.embed_tokens.weight", 10, 512).unwrap().width(), 512);
            }
        }
    }
}
