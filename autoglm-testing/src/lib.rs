//! Goldens and tolerances for the tests of the autoglm crates.
//!
//! A golden case is a complete checkpoint directory under `goldens/cases/`, with a request and the
//! tensors transformers computed for it; `goldens/README.md` lists the names.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, SafeTensors};

mod close;
mod speaking;

pub use close::{assert_close, assert_same, distance};
pub use speaking::speaking;

/// The repository's root.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Tensors that transformers computed, and the files it computed them from.
#[derive(Debug)]
pub struct Golden {
    dir: PathBuf,
    bytes: Vec<u8>,
}

impl Golden {
    /// The case `goldens/cases/NAME`.
    ///
    /// # Panics
    /// When the case is not there.
    #[must_use]
    pub fn case(name: &str) -> Self {
        let dir = repository().join("goldens/cases").join(name);
        Self { bytes: read(&dir.join("expected.safetensors")), dir }
    }

    /// The file `goldens/components/NAME.safetensors`.
    ///
    /// # Panics
    /// When the file is not there.
    #[must_use]
    pub fn component(name: &str) -> Self {
        let dir = repository().join("goldens/components");
        Self { bytes: read(&dir.join(format!("{name}.safetensors"))), dir }
    }

    /// Names of all cases, sorted.
    ///
    /// # Panics
    /// When the folder is not there.
    #[must_use]
    pub fn cases() -> Vec<String> {
        let folder = std::fs::read_dir(repository().join("goldens/cases")).expect("goldens/cases exists");
        let mut names: Vec<_> =
            folder.map(|e| e.expect("a readable folder").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The case's directory: a Hugging Face checkpoint.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A JSON file of the case.
    ///
    /// # Panics
    /// When the file is missing or no JSON.
    #[must_use]
    pub fn json(&self, name: &str) -> serde_json::Value {
        serde_json::from_slice(&read(&self.dir.join(name))).expect("a golden's JSON parses")
    }

    /// Whether the case has this tensor.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.tensors().tensor(name).is_ok()
    }

    /// An f32 tensor.
    ///
    /// # Panics
    /// When the case has no f32 tensor of this name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Tensor {
        let tensors = self.tensors();
        let view = tensors.tensor(name).unwrap_or_else(|e| panic!("golden tensor {name}: {e}"));
        assert_eq!(view.dtype(), Dtype::F32, "golden tensor {name}");
        Tensor::from_raw_buffer(view.data(), DType::F32, view.shape(), &Device::Cpu)
            .expect("a golden's bytes fill its shape")
    }

    /// An i64 tensor's numbers, row-major.
    ///
    /// # Panics
    /// When the case has no i64 tensor of this name.
    #[must_use]
    pub fn integers(&self, name: &str) -> Vec<i64> {
        let tensors = self.tensors();
        let view = tensors.tensor(name).unwrap_or_else(|e| panic!("golden tensor {name}: {e}"));
        assert_eq!(view.dtype(), Dtype::I64, "golden tensor {name}");
        view.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect()
    }

    /// A u8 tensor: its shape and bytes.
    ///
    /// # Panics
    /// When the case has no u8 tensor of this name.
    #[must_use]
    pub fn bytes(&self, name: &str) -> (Vec<usize>, Vec<u8>) {
        let tensors = self.tensors();
        let view = tensors.tensor(name).unwrap_or_else(|e| panic!("golden tensor {name}: {e}"));
        assert_eq!(view.dtype(), Dtype::U8, "golden tensor {name}");
        (view.shape().to_vec(), view.data().to_vec())
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).expect("a golden file is well-formed")
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
