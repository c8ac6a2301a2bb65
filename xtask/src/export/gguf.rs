//! GGUF files as llama.cpp reads them: the decoder as `model-….gguf`, the picture tower as `mmproj-….gguf`.
//!
//! Both are written front to back. Names, shapes and row orders are those of llama.cpp's `glm4` and of its projector
//! `glm4v`; docs/gguf.md states what is moved where.

mod container;
mod eyes;
mod item;
mod kind;
mod text;
mod vocabulary;

use std::path::Path;

use autoglm::Inventory;
use autoglm_core::{Files, FloatType};
use autoglm_text::{Family, TextConfig};

use self::container::{Announced, Value, Values};
use self::eyes::Eyes;
use self::item::Item;
use self::kind::{Kind, Plan};
use self::vocabulary::Vocabulary;
use super::{Precision, Progress};
use crate::error::{Error, Result};

/// What was written.
#[derive(Debug)]
pub(super) struct Written {
    /// Bytes of weights.
    pub(super) bytes: u64,
    /// What the files are without, a line each.
    pub(super) notes: Vec<String>,
}

/// Writes the model of `inventory`, whose other `files` are read as well, into `directory`.
///
/// # Errors
/// The model or its tokenizer has no place in the format, a weight has none, or a file cannot be written.
pub(super) fn write(inventory: &Inventory, files: &Files, precision: Precision, directory: &Path) -> Result<Written> {
    let plan = Plan::text(precision)?;
    let text = TextConfig::from_json(&inventory.config)?;
    if text.family == Family::GlmAsr {
        return Err(Error::Usage("`gguf` takes glm4v and glm4 checkpoints, not glmasr".to_owned()));
    }
    let name = files.path("").file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    text::check(&text)?;
    let vocabulary = Vocabulary::read(files, &inventory.config, text.vocab_size, text.family)?;
    let mut notes = vocabulary.notes;
    let mut values = general("model", "glm4", &name, plan.matrices);
    values.extend(text::values(&text));
    values.extend(vocabulary.values);
    let mut outputs =
        vec![(format!("model-{}.gguf", plan.matrices.name()), values, text::items(inventory, &text, plan)?)];
    if let Some(eyes) = Eyes::read(inventory, files)? {
        let plan = plan.eyes();
        let mut values = general("mmproj", "clip", &name, plan.matrices);
        values.extend(eyes.values(text.hidden_size));
        notes.push(format!(
            "llama.cpp puts black bars beside a picture whose sides are no multiples of {}: stretch it to such before, or \
             taps are beside what they mean",
            eyes.square()
        ));
        outputs.push((format!("mmproj-{}.gguf", plan.matrices.name()), values, eyes.items(inventory, plan)?));
    }
    if inventory.config.get("audio_config").is_some_and(serde_json::Value::is_object) {
        notes.push("ears have no place in the format and are left out".to_owned());
    }
    let half = Kind::Float(FloatType::F16);
    let unquantised = outputs.iter().flat_map(|(_, _, items)| items).filter(|item| item.kind == half).count();
    if matches!(plan.matrices, Kind::Q8_0 | Kind::Q4_0) && unquantised > 0 {
        notes.push(format!("{unquantised} matrices are f16, because no blocks of 32 fit their rows"));
    }
    let announced = |items: &[Item]| items.iter().map(|item| item.announced().bytes()).sum::<u64>();
    let bytes = outputs.iter().map(|(_, _, items)| announced(items)).sum();
    let mut progress = Progress::new(bytes);
    for (name, values, items) in &outputs {
        let path = directory.join(name);
        let tensors: Vec<Announced<'_>> = items.iter().map(Item::announced).collect();
        let mut file = container::create(&path, values, &tensors).map_err(Error::file("write", &path))?;
        for item in items {
            progress.step(0, &item.name);
            item.write(&inventory.checkpoint, &mut file, &path)?;
            progress.step(item.announced().bytes(), "");
        }
        file.finish().map_err(Error::file("write", &path))?;
    }
    Ok(Written { bytes, notes })
}

/// What every file says about itself.
fn general(kind: &str, architecture: &str, name: &str, matrices: Kind) -> Values {
    let text = |text: &str| Value::Text(text.to_owned());
    let values = [
        ("architecture", text(architecture)),
        ("type", text(kind)),
        ("name", text(name)),
        ("file_type", Value::U32(matrices.file_type())),
        // Of the quantised formats' own layout.
        ("quantization_version", Value::U32(2)),
    ];
    values.into_iter().map(|(name, value)| (format!("general.{name}"), value)).collect()
}

#[cfg(test)]
mod tests;
