//! The Hugging Face layout itself, with weights as another kind of floats: safetensors in files of five gigabytes.

use std::io;
use std::path::Path;

use autoglm::Inventory;
use autoglm_core::{FloatType, TensorSpec};
use serde_json::Value;

use super::Progress;
use crate::error::{Error, Result};
use crate::shards::{SHARD_BYTES, Shards, bytes};

/// Numbers that are converted at once.
const NUMBERS_AT_ONCE: usize = 1 << 20;

/// Writes the weights of `inventory` into `directory` as `float`. → `config.json`, and the bytes of weights.
///
/// # Errors
/// A weight has no place in the format, or a file cannot be written.
pub(super) fn write(inventory: &Inventory, float: FloatType, directory: &Path) -> Result<(Value, u64)> {
    let specs: Vec<TensorSpec> = inventory.tensors.iter().map(|spec| spec.clone().stored_as(float.dtype())).collect();
    let total = specs.iter().map(bytes).sum();
    let mut progress = Progress::new(total);
    let mut shards = Shards::new(directory, specs.clone(), SHARD_BYTES);
    for spec in &specs {
        progress.step(0, &spec.name);
        let kind = inventory.checkpoint.info(&spec.name)?.float()?;
        let stored = inventory.checkpoint.bytes(&spec.name)?;
        if kind == float {
            shards.tensor(|file| file.write_all(&stored))?;
        } else {
            // Looked for first, because a file that was begun cannot say which tensor it was.
            let (mut wide, mut narrow) = (Vec::new(), Vec::new());
            let chunks = || stored.chunks(NUMBERS_AT_ONCE * kind.size());
            for chunk in chunks().filter(|_| float == FloatType::F16) {
                wide.clear();
                kind.widen(chunk, &mut wide);
                if let Some(value) = wide.iter().find(|x| x.is_finite() && half::f16::from_f32(**x).is_infinite()) {
                    return Err(Error::Range { tensor: spec.name.clone(), value: *value, format: "f16" });
                }
            }
            shards.tensor(|file| {
                for chunk in chunks() {
                    wide.clear();
                    narrow.clear();
                    kind.widen(chunk, &mut wide);
                    float.narrow(&wide, &mut narrow);
                    file.write_all(&narrow)?;
                }
                Ok::<_, io::Error>(())
            })?;
        }
        progress.step(bytes(spec), "");
    }
    shards.finish()?;
    let mut config = inventory.config.clone();
    name_dtype(&mut config, torch_name(float));
    if let Some(root) = config.as_object_mut() {
        root.insert("dtype".to_owned(), torch_name(float).into());
        // The name of transformers 4, which would contradict.
        root.remove("torch_dtype");
    }
    Ok((config, total))
}

fn torch_name(float: FloatType) -> &'static str {
    match float {
        FloatType::F32 => "float32",
        FloatType::F16 => "float16",
        FloatType::Bf16 => "bfloat16",
    }
}

/// Renames the format wherever the file names one.
fn name_dtype(config: &mut Value, name: &str) {
    for (key, value) in config.as_object_mut().into_iter().flatten() {
        if matches!(key.as_str(), "dtype" | "torch_dtype") && value.is_string() {
            *value = name.into();
        } else {
            name_dtype(value, name);
        }
    }
}
