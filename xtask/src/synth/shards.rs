//! Weight files: safetensors written front to back, so that no tensor is ever whole in memory.

use std::path::Path;

use autoglm_core::{FloatType, TensorSpec};

use super::noise::Noise;
use super::plan::Tensor;
use crate::error::Result;
use crate::shards::Shards;

/// Values drawn before they are written: the largest piece of weights in memory, 16 MB in f32.
const BLOCK: usize = 1 << 22;

/// How a weight is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum StoredAs {
    /// The upper half of an f32, as the real checkpoint is stored
    Bf16,
    F32,
}

impl StoredAs {
    fn float(self) -> FloatType {
        match self {
            Self::Bf16 => FloatType::Bf16,
            Self::F32 => FloatType::F32,
        }
    }

    /// Bytes per value.
    pub(crate) fn size(self) -> usize {
        self.float().size()
    }

    pub(crate) fn torch_name(self) -> &'static str {
        match self {
            Self::Bf16 => "bfloat16",
            Self::F32 => "float32",
        }
    }
}

/// What [`write()`] wrote.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Written {
    pub(crate) parameters: u64,
    /// Bytes of weights, headers not counted.
    pub(crate) bytes: u64,
    pub(crate) files: usize,
}

/// Writes `tensors` into `directory`, in files of at most `shard_bytes` unless one tensor is larger.
///
/// # Errors
/// A file cannot be written.
pub(crate) fn write(
    directory: &Path,
    tensors: &[Tensor],
    stored_as: StoredAs,
    seed: u64,
    shard_bytes: u64,
) -> Result<Written> {
    let spec = |tensor: &Tensor| {
        TensorSpec::new(tensor.name.clone(), tensor.shape.clone()).stored_as(stored_as.float().dtype())
    };
    let mut shards = Shards::new(directory, tensors.iter().map(spec).collect(), shard_bytes);
    let mut written = Written { files: shards.files, ..Written::default() };
    let mut buffer = Vec::new();
    for tensor in tensors {
        let noise = Noise::new(seed, &tensor.name);
        shards.tensor(|file| {
            let mut done = 0;
            while done < tensor.values() {
                let values = (tensor.values() - done).min(BLOCK as u64);
                buffer.resize(values as usize * stored_as.size(), 0);
                noise.fill(tensor, done, stored_as, &mut buffer);
                file.write_all(&buffer)?;
                done += values;
            }
            Ok(())
        })?;
        written.parameters += tensor.values();
        written.bytes += tensor.values() * stored_as.size() as u64;
    }
    shards.finish()?;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use safetensors::SafeTensors;
    use serde_json::Value;

    use super::super::plan;
    use super::*;
    use crate::error::Error;
    use autoglm::Shape;
    use autoglm_core::checkpoint::Dtype;

    /// The tiny shape with hardly any vocabulary: half a megabyte.
    fn tensors() -> Vec<Tensor> {
        let mut shape = Shape::named("tiny").unwrap();
        (shape.vocab, shape.layers, shape.vision.depth) = (64, 1, 1);
        plan::tensors(&shape)
    }

    #[test]
    fn a_small_checkpoint_is_one_file_that_safetensors_reads() {
        let directory = tempfile::tempdir().unwrap();
        let tensors = tensors();
        for (stored_as, dtype) in [(StoredAs::Bf16, Dtype::BF16), (StoredAs::F32, Dtype::F32)] {
            let written = write(directory.path(), &tensors, stored_as, 3, u64::MAX).unwrap();
            let path = directory.path().join("model.safetensors");
            let bytes = fs::read(&path).unwrap();
            let read = SafeTensors::deserialize(&bytes).unwrap();
            assert_eq!(read.len(), tensors.len());
            for tensor in &tensors {
                let view = read.tensor(&tensor.name).unwrap();
                assert_eq!((view.shape(), view.dtype()), (&tensor.shape[..], dtype), "{}", tensor.name);
                let mut expected = vec![0; view.data().len()];
                Noise::new(3, &tensor.name).fill(tensor, 0, stored_as, &mut expected);
                assert!(view.data() == expected, "{}", tensor.name);
            }
            let values: u64 = tensors.iter().map(Tensor::values).sum();
            assert_eq!(written, Written { parameters: values, bytes: values * stored_as.size() as u64, files: 1 });
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn a_large_checkpoint_is_cut_into_files_that_the_index_names() {
        let directory = tempfile::tempdir().unwrap();
        let tensors = tensors();
        let limit = 200_000;
        let written = write(directory.path(), &tensors, StoredAs::Bf16, 0, limit).unwrap();
        assert!(written.files > 2);
        let index: Value =
            serde_json::from_slice(&fs::read(directory.path().join("model.safetensors.index.json")).unwrap()).unwrap();
        assert_eq!(index["metadata"]["total_size"], written.bytes);
        let map = index["weight_map"].as_object().unwrap();
        assert_eq!(map.len(), tensors.len());
        let mut seen = 0;
        for shard in 1..=written.files {
            let name = format!("model-{shard:05}-of-{:05}.safetensors", written.files);
            let bytes = fs::read(directory.path().join(&name)).unwrap();
            let read = SafeTensors::deserialize(&bytes).unwrap();
            let weights: usize = read.tensors().iter().map(|(_, view)| view.data().len()).sum();
            assert!(weights as u64 <= limit || read.len() == 1, "{name}");
            assert!(read.names().iter().all(|tensor| map[*tensor] == name.as_str()));
            seen += read.len();
        }
        assert_eq!(seen, tensors.len());
    }

    #[test]
    fn a_file_in_the_way_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("model.safetensors"), b"precious").unwrap();
        let failure = write(directory.path(), &tensors(), StoredAs::Bf16, 0, u64::MAX).unwrap_err();
        assert!(matches!(failure, Error::File { action: "write", .. }));
        assert_eq!(fs::read(directory.path().join("model.safetensors")).unwrap(), b"precious");
    }
}
