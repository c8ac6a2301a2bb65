//! Reading a checkpoint: a Hugging Face directory whose weights are safetensors, whole or sharded.
//!
//! Nothing in the directory is trusted. Names inside it cannot lead out of it, only regular files
//! are opened, sizes are checked before anything is allocated, and every offset is checked against
//! the file before the first tensor is handed out. Opening costs as much as the headers do; weights
//! stay in the mapped file until a tensor is read.

mod buffer;
mod bytes;
mod files;
mod header;
mod index;
mod json;
mod map;
mod printable;
mod stored;
mod verify;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub use buffer::Buffer;
pub use bytes::TensorBytes;
pub use files::{CONFIG_LIMIT, FileError, Files};
pub use header::HeaderError;
pub use index::IndexError;
pub use json::JsonError;
pub use safetensors::Dtype;
pub use stored::StoredMatrix;
pub use verify::{Mismatch, Misshaped, Mistyped, TensorSpec, Verified};

use crate::{Error, FloatType, Result};
use bytes::Backing;
use index::Index;

/// The file that holds all weights of a checkpoint that is not sharded.
const SINGLE: &str = "model.safetensors";
/// The file that says which shard holds which tensor.
const INDEX: &str = "model.safetensors.index.json";

/// What a header says about one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The tensor's full name.
    pub name: Arc<str>,
    /// Its number format.
    pub dtype: Dtype,
    /// Its dimensions, outermost first. The product of those that are not zero is known to fit
    /// into `usize`, and so is that product in bytes.
    pub shape: Vec<usize>,
    file: usize,
    range: Range<usize>,
}

impl TensorInfo {
    /// The tensor's format, if it is one that weights are read in.
    ///
    /// # Errors
    /// [`Error::NotFloat`] for every format but F32, F16 and BF16.
    pub fn float(&self) -> Result<FloatType> {
        match self.dtype {
            Dtype::F32 => Ok(FloatType::F32),
            Dtype::F16 => Ok(FloatType::F16),
            Dtype::BF16 => Ok(FloatType::Bf16),
            dtype => Err(Error::NotFloat { name: self.name.to_string(), dtype }),
        }
    }

    /// Its first byte in its file.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.range.start
    }

    /// Bytes it fills in its file.
    #[must_use]
    pub fn size(&self) -> usize {
        self.range.len()
    }
}

/// The weights of a checkpoint: every tensor's place, and the mapped files they lie in.
pub struct Checkpoint {
    files: Vec<Backing>,
    tensors: BTreeMap<Arc<str>, Entry>,
    bytes_used: AtomicU64,
}

struct Entry {
    info: TensorInfo,
    used: AtomicBool,
}

impl Checkpoint {
    /// Opens the weights among `files`: `model.safetensors` if it is there, as transformers prefers
    /// it, or else the shards that `model.safetensors.index.json` lists.
    ///
    /// # Errors
    /// - [`Error::NoWeights`] when neither file is there.
    /// - [`Error::File`] or [`Error::Read`] when a file cannot be opened safely.
    /// - [`Error::Header`] when a safetensors file contradicts itself.
    /// - [`Error::Json`] or [`Error::Index`] when the index is malformed or contradicts the shards.
    pub fn open(files: &Files) -> Result<Self> {
        if let Some((path, backing)) = files.backing(SINGLE)? {
            return Self::whole(&path, backing);
        }
        match index::read(files, INDEX)? {
            Some(index) => Self::sharded(files, &index),
            None => Err(Error::NoWeights { path: files.root() }),
        }
    }

    /// A checkpoint in memory: `bytes` are one whole safetensors file.
    ///
    /// # Errors
    /// [`Error::Header`] when the file contradicts itself.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        Self::whole(Path::new(SINGLE), Backing::Owned(Arc::new(bytes)))
    }

    /// A checkpoint in memory: `bytes`, all of what holds them, are one whole safetensors file.
    ///
    /// # Errors
    /// [`Error::Header`] when the file contradicts itself.
    pub fn from_buffer(bytes: TensorBytes) -> Result<Self> {
        Self::whole(Path::new(SINGLE), bytes.into_backing())
    }

    fn whole(path: &Path, backing: Backing) -> Result<Self> {
        let tensors = read_header(path, &backing, 0)?.map(|info| (Arc::clone(&info.name), Entry::new(info))).collect();
        Ok(Self { files: vec![backing], tensors, bytes_used: AtomicU64::new(0) })
    }

    fn sharded(files: &Files, index: &Index) -> Result<Self> {
        let mut backings = Vec::with_capacity(index.shards.len());
        let mut tensors: BTreeMap<Arc<str>, Entry> = BTreeMap::new();
        for (file, shard) in index.shards.iter().enumerate() {
            let (path, backing) =
                files.backing(shard)?.ok_or_else(|| index.fault(IndexError::MissingShard { shard: shard.clone() }))?;
            let held: Vec<TensorInfo> = read_header(&path, &backing, file)?.collect();
            index.lists_all(file, held.iter().map(|info| &*info.name))?;
            for info in held {
                if let Some(earlier) = tensors.insert(Arc::clone(&info.name), Entry::new(info)) {
                    return Err(index.held_twice(&earlier.info.name, earlier.info.file, file));
                }
            }
            backings.push(backing);
        }
        index.is_met_by(|name| tensors.get(name).map(|entry| entry.info.file))?;
        Ok(Self { files: backings, tensors, bytes_used: AtomicU64::new(0) })
    }

    /// What the header says about `name`.
    ///
    /// # Errors
    /// [`Error::MissingTensor`].
    pub fn info(&self, name: &str) -> Result<&TensorInfo> {
        Ok(&self.entry(name)?.info)
    }

    /// The bytes of `name` as they lie in the file, uncopied; they keep the file mapped.
    ///
    /// # Errors
    /// [`Error::MissingTensor`].
    pub fn bytes(&self, name: &str) -> Result<TensorBytes> {
        let entry = self.entry(name)?;
        let backing = self.files[entry.info.file].clone();
        let bytes = TensorBytes::new(backing, entry.info.range.clone());
        if !entry.used.swap(true, Ordering::Relaxed) {
            self.bytes_used.fetch_add(entry.info.range.len() as u64, Ordering::Relaxed);
        }
        Ok(bytes)
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.tensors.get(name).ok_or_else(|| Error::MissingTensor { name: name.to_owned() })
    }

    /// All tensors, ordered by name.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.values().map(|entry| &entry.info)
    }

    /// All tensor names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(|name| &**name)
    }

    /// Whether there is a tensor of this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Number of tensors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is no tensor.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Size of the weight files, headers included.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.files.iter().map(|backing| backing.as_slice().len() as u64).sum()
    }

    /// Size of the distinct tensors that were handed out so far. A tensor nobody asked for was not
    /// read, so this is how a modality that is off proves that it costs nothing.
    #[must_use]
    pub fn bytes_used(&self) -> u64 {
        self.bytes_used.load(Ordering::Relaxed)
    }

    /// Holds a configured number of layers against the header, before names are made of it: each
    /// layer has at least one tensor.
    ///
    /// # Errors
    /// [`Error::Config`] when `layers` is larger than the number of tensors.
    pub fn bound_layers(&self, field: &'static str, layers: usize) -> Result<()> {
        if layers > self.len() {
            return Err(Error::Config {
                field,
                got: layers.to_string(),
                why: "the checkpoint has fewer tensors than that",
            });
        }
        Ok(())
    }
}

impl Entry {
    fn new(info: TensorInfo) -> Self {
        Self { info, used: AtomicBool::new(false) }
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checkpoint of {} tensors in {} files", self.len(), self.files.len())
    }
}

/// The tensors of one file, as number `file` of the checkpoint.
fn read_header(path: &Path, backing: &Backing, file: usize) -> Result<impl Iterator<Item = TensorInfo> + use<>> {
    let placed =
        header::parse(backing.as_slice()).map_err(|source| Error::Header { path: PathBuf::from(path), source })?;
    Ok(placed.into_iter().map(move |p| TensorInfo {
        name: p.name.into(),
        dtype: p.dtype,
        shape: p.shape,
        file,
        range: p.range,
    }))
}
