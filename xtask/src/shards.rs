//! A checkpoint's weights as safetensors files of a bounded size, written front to back.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use autoglm_core::TensorSpec;
use serde_json::json;

use crate::error::{Error, Result};
use crate::publish::write_file;
use crate::tensor_file::{Place, TensorFile};

/// Bytes of a file at most, unless one tensor is larger: what transformers writes.
pub(crate) const SHARD_BYTES: u64 = 5_000_000_000;

/// Weight files whose tensors follow in the order they were announced in.
#[derive(Debug)]
pub(crate) struct Shards {
    directory: PathBuf,
    /// How many there will be, the index not counted.
    pub(crate) files: usize,
    /// What is still to be begun: the files' names and tensors.
    waiting: std::vec::IntoIter<(String, Vec<TensorSpec>)>,
    open: Option<Open>,
    index: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: TensorFile,
    left: usize,
}

/// Bytes that a tensor of a known format fills.
pub(crate) fn bytes(spec: &TensorSpec) -> u64 {
    let values: u64 = spec.shape.iter().map(|d| *d as u64).product();
    values * spec.dtype.map_or(0, |dtype| dtype.bitsize()) as u64 / 8
}

impl Shards {
    /// Weights of `tensors`, each of which says what it is stored as, in `directory`: `model.safetensors`, or, if they
    /// are more than `limit` bytes, numbered files and an index.
    pub(crate) fn new(directory: &Path, tensors: Vec<TensorSpec>, limit: u64) -> Self {
        let (mut files, mut filled) = (vec![Vec::new()], 0);
        let (total, count) = (tensors.iter().map(bytes).sum::<u64>(), tensors.len());
        for tensor in tensors {
            let size = bytes(&tensor);
            if filled > 0 && filled + size > limit {
                files.push(Vec::new());
                filled = 0;
            }
            filled += size;
            if let Some(last) = files.last_mut() {
                last.push(tensor);
            }
        }
        let shards = files.len();
        let name = |number: usize| match shards {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{shards:05}.safetensors", number + 1),
        };
        let files: Vec<_> = files.into_iter().enumerate().map(|(number, tensors)| (name(number), tensors)).collect();
        let index = (shards > 1).then(|| {
            let places = files.iter().flat_map(|(name, tensors)| tensors.iter().map(move |t| (t.name.as_str(), name)));
            let map: BTreeMap<&str, &String> = places.collect();
            debug_assert_eq!(map.len(), count, "tensors have names of their own");
            format!("{:#}\n", json!({ "metadata": { "total_size": total }, "weight_map": map })).into_bytes()
        });
        Self { directory: directory.to_owned(), files: shards, waiting: files.into_iter(), open: None, index }
    }

    /// Lets `write` write the next tensor.
    ///
    /// # Errors
    /// The disk is full, or what was written is not what was announced.
    pub(crate) fn tensor(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
        if self.open.as_ref().is_none_or(|open| open.left == 0) {
            self.close()?;
            let (name, tensors) =
                self.waiting.next().ok_or_else(|| self.failed(io::Error::other("one tensor too many")))?;
            let (path, left) = (self.directory.join(name), tensors.len());
            let file = TensorFile::create(&path, tensors.into_iter(), Place::Tight);
            self.open = Some(Open { file: file.map_err(Error::file("write", &path))?, path, left });
        }
        match &mut self.open {
            Some(open) => {
                open.left = open.left.saturating_sub(1);
                open.file.tensor(write).map_err(Error::file("write", &open.path))
            }
            None => Ok(()),
        }
    }

    /// Waits until all of it is on the disk.
    ///
    /// # Errors
    /// The disk is full, or tensors are missing.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.close()?;
        if self.waiting.next().is_some() {
            return Err(self.failed(io::Error::other("a tensor is missing")));
        }
        match &self.index {
            Some(index) => write_file(&self.directory.join("model.safetensors.index.json"), index),
            None => Ok(()),
        }
    }

    fn close(&mut self) -> Result<()> {
        match self.open.take() {
            Some(open) => open.file.finish().map_err(Error::file("write", &open.path)),
            None => Ok(()),
        }
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::File { action: "write weights to", path: self.directory.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use autoglm_core::checkpoint::Dtype;
    use autoglm_core::{Checkpoint, Files};

    use super::*;

    #[test]
    fn weights_are_cut_into_files_that_open_as_one_checkpoint() {
        for (limit, files) in [(u64::MAX, 1), (100, 3), (1, 4)] {
            let folder = tempfile::tempdir().unwrap();
            let sizes = [60usize, 40, 90, 20];
            let spec = |(i, size): (usize, &usize)| TensorSpec::new(format!("t{i}"), [*size]).stored_as(Dtype::U8);
            let specs = sizes.iter().enumerate().map(spec).collect();
            let mut shards = Shards::new(folder.path(), specs, limit);
            for (i, size) in sizes.iter().enumerate() {
                shards.tensor(|file| file.write_all(&vec![i as u8; *size])).unwrap();
            }
            shards.finish().unwrap();
            let written = std::fs::read_dir(folder.path()).unwrap().count();
            assert_eq!(written, files + usize::from(files > 1), "{limit}");
            let checkpoint = Checkpoint::open(&Files::directory(folder.path()).unwrap()).unwrap();
            for (i, size) in sizes.iter().enumerate() {
                assert_eq!(checkpoint.bytes(&format!("t{i}")).unwrap()[..], vec![i as u8; *size]);
            }
        }
    }

    #[test]
    fn a_tensor_too_few_or_too_many_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let spec = TensorSpec::new("t", [1]).stored_as(Dtype::U8);
        let mut shards = Shards::new(folder.path(), vec![spec.clone()], u64::MAX);
        shards.tensor(|file| file.write_all(&[1])).unwrap();
        assert!(shards.tensor(|_| Ok(())).is_err());
        let other = tempfile::tempdir().unwrap();
        assert!(Shards::new(other.path(), vec![spec], u64::MAX).finish().is_err());
    }
}
