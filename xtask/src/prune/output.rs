//! What the smaller checkpoint consists of, and where each tensor comes from.

use std::path::Path;
use std::sync::Arc;

use autoglm::{Inventory, Transcript};
use autoglm_core::checkpoint::Dtype;
use autoglm_core::{Files, TensorSpec};
use autoglm_text::TextConfig;
use serde_json::{Value, json};

use super::fold::{self, Fold};
use super::width::Narrow;
use super::{Dropped, Job, config, heads, step, vocab};
use crate::calibration::bar;
use crate::error::{Error, Result};
use crate::shards::{SHARD_BYTES, Shards, bytes};

/// How tensors of the decoder are called in the result.
#[derive(Debug, Clone, Copy)]
pub(super) struct Renamed {
    from: &'static str,
    to: &'static str,
}

impl Renamed {
    pub(super) fn of(text: &TextConfig, alone: bool) -> Self {
        let from = text.prefix();
        Self { from, to: if alone { "model" } else { from } }
    }

    fn name(self, name: &str) -> String {
        match name.strip_prefix(self.from) {
            Some(rest) => format!("{}{rest}", self.to),
            None => name.to_owned(),
        }
    }
}

/// A tensor of the result.
#[derive(Debug)]
struct Piece {
    spec: TensorSpec,
    /// Its name in the source.
    from: String,
    /// Which of its rows, where these are not the first ones.
    rows: Option<Arc<[u32]>>,
}

/// All tensors of the result, in the order they are written: first those outside the layers, then layer by layer.
#[derive(Debug)]
pub(super) struct Output {
    outside: Vec<Piece>,
    layers: Vec<Vec<Piece>>,
    pub(super) config: Value,
}

impl Output {
    pub(super) fn plan(
        inventory: &Inventory,
        text: &TextConfig,
        names: Renamed,
        job: &Job,
        kept: &[usize],
    ) -> Result<Self> {
        let layer_of = |name: &str| -> Option<usize> {
            name.strip_prefix(text.prefix())?.strip_prefix(".layers.")?.split('.').next()?.parse().ok()
        };
        let (mut outside, mut layers) = (Vec::new(), Vec::new());
        layers.resize_with(kept.len(), Vec::new);
        for tensor in &inventory.tensors {
            let name = tensor.name.as_str();
            let mut shape = tensor.shape.clone();
            let dtype = inventory.checkpoint.info(name)?.dtype;
            if let Some(old) = layer_of(name) {
                let Some(new) = kept.iter().position(|layer| *layer == old) else { continue };
                if let Some(to) = job.ffn {
                    if name.ends_with(".mlp.gate_up_proj.weight") {
                        shape[0] = 2 * to;
                    } else if name.ends_with(".mlp.gate_proj.weight") || name.ends_with(".mlp.up_proj.weight") {
                        shape[0] = to;
                    } else if name.ends_with(".mlp.down_proj.weight") {
                        shape[1] = to;
                    }
                }
                if let Some(to) = job.heads {
                    heads::reshape(name, &mut shape, to, text.head_dim);
                }
                let prefix = format!("{}.layers.", text.prefix());
                let rest =
                    name.strip_prefix(&prefix).and_then(|rest| rest.split_once('.')).map_or("", |(_, rest)| rest);
                let spec = TensorSpec::new(names.name(&format!("{prefix}{new}.{rest}")), shape).stored_as(dtype);
                layers[new].push(Piece { spec, from: name.to_owned(), rows: None });
                continue;
            }
            let ears = name.contains("audio_tower.") || name.contains("multi_modal_projector.");
            let eyes = name.starts_with("model.visual.");
            if (job.drop.is_some() && ears) || (job.drop == Some(Dropped::Vision) && eyes) {
                continue;
            }
            let mut rows = None;
            let of_tokens = ["embed_tokens.weight", "lm_head.weight", "lm_head.bias"];
            if let Some(vocab) = job.vocab
                && shape.first() == Some(&text.vocab_size)
                && of_tokens.iter().any(|end| name.ends_with(end))
            {
                shape[0] = vocab;
                rows = job.reduced.as_ref().map(|reduced| Arc::clone(&reduced.old));
            }
            let mut dtype = dtype;
            if job.fold.is_some() && name == fold::KERNEL {
                shape[2] = 1;
                dtype = fold::STORED.dtype();
            }
            let spec = TensorSpec::new(names.name(name), shape).stored_as(dtype);
            outside.push(Piece { spec, from: name.to_owned(), rows });
        }
        let mut config = match &job.reduced {
            Some(_) => vocab::spelled_out(inventory.config.clone(), text.family, text.vocab_size),
            None => inventory.config.clone(),
        };
        match job.drop {
            Some(Dropped::Vision) => config = config::text_only(&config, text),
            Some(Dropped::Audio) => config::without_ears(&mut config),
            None => {}
        }
        if job.layers.is_some() {
            config::keep_layers(&mut config, kept);
        }
        if let Some(to) = job.ffn {
            config::set(&mut config, "intermediate_size", &json!(to));
        }
        if let Some(to) = job.heads {
            heads::set(&mut config, to, text.head_dim);
        }
        if let Some(vocab) = job.vocab {
            config::set(&mut config, "vocab_size", &json!(vocab));
        }
        if job.fold.is_some() {
            Fold::say(&mut config);
        }
        if let Some(reduced) = &job.reduced {
            reduced.renumber(&mut config);
        }
        Ok(Self { outside, layers, config })
    }

    fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.outside.iter().chain(self.layers.iter().flatten())
    }

    /// Parameters and bytes.
    pub(super) fn sizes(&self) -> [u64; 2] {
        total(self.pieces().map(|piece| piece.spec.clone()))
    }

    /// Writes all weights. → the steps that only writing tells.
    ///
    /// # Errors
    /// A weight is no number, a network cannot be narrowed, or a file cannot be written.
    pub(super) fn write(
        &self,
        directory: &Path,
        inventory: &Inventory,
        fold: Option<&Fold>,
        narrow: &Narrow<'_>,
        shown: &[Transcript],
        kept: &[usize],
    ) -> Result<Vec<Value>> {
        let specs: Vec<TensorSpec> = self.pieces().map(|piece| piece.spec.clone()).collect();
        let mut shards = Shards::new(directory, specs, SHARD_BYTES);
        for piece in &self.outside {
            match fold.filter(|_| piece.from == fold::KERNEL) {
                Some(fold) => {
                    let folded = fold.kernel(&inventory.checkpoint, &piece.from)?;
                    shards.tensor(|file| file.write_all(&folded))?;
                }
                None => copy(&mut shards, inventory, piece)?,
            }
        }
        let mut steps = Vec::new();
        let mut states = narrow.states(shown);
        let bar = bar("layers", kept.len());
        for (pieces, old) in self.layers.iter().zip(kept) {
            let narrowed = narrow.layer(*old, &mut states, shown, kept.last() == Some(old))?;
            for piece in pieces {
                match narrowed.bytes(&piece.from) {
                    Some(bytes) => shards.tensor(|file| file.write_all(bytes))?,
                    None => copy(&mut shards, inventory, piece)?,
                }
            }
            // Of heads there are few, and which they are is worth a line.
            let heads = narrowed.heads.as_ref().map(|shrunk| ("heads", json!(shrunk.kept), shrunk));
            let neurons = narrowed.ffn.as_ref().map(|shrunk| ("ffn", json!(shrunk.kept.len()), shrunk));
            for (op, kept, shrunk) in heads.into_iter().chain(neurons) {
                let mut done = step(op, Some(*old), &kept);
                done["redundant"] = json!(shrunk.redundant);
                done["error"] = json!(shrunk.error);
                steps.push(done);
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        shards.finish()?;
        Ok(steps)
    }
}

/// The first bytes of a tensor, which are all of them unless rows at its end go, or some of its rows.
fn copy(shards: &mut Shards, inventory: &Inventory, piece: &Piece) -> Result<()> {
    let stored = inventory.checkpoint.bytes(&piece.from)?;
    let length = bytes(&piece.spec) as usize;
    shards.tensor(|file| match &piece.rows {
        None => file.write_all(&stored[..length]),
        Some(rows) => {
            let width = length / rows.len().max(1);
            rows.iter().try_for_each(|row| file.write_all(&stored[*row as usize * width..][..width]))
        }
    })
}

/// Parameters and bytes of the model's tensors.
pub(super) fn sizes(inventory: &Inventory) -> [u64; 2] {
    let stored = |spec: &TensorSpec| {
        let dtype = inventory.checkpoint.info(&spec.name).map_or(Dtype::F32, |info| info.dtype);
        spec.clone().stored_as(dtype)
    };
    total(inventory.tensors.iter().map(stored))
}

fn total(specs: impl Iterator<Item = TensorSpec>) -> [u64; 2] {
    specs.fold([0; 2], |[values, size], spec| {
        [values + spec.shape.iter().map(|d| *d as u64).product::<u64>(), size + bytes(&spec)]
    })
}

/// Rows that some token needs: one more than the largest id in the tokenizer and in what names ids beside it.
///
/// # Errors
/// There is no tokenizer, or it is none.
pub(super) fn tokens(files: &Files, config: &Value) -> Result<usize> {
    let path = files.path("tokenizer.json");
    let content = files
        .read("tokenizer.json", vocab::TOKENIZER_BYTES)?
        .ok_or_else(|| Error::Usage("--vocab padding: the checkpoint has no tokenizer.json".to_owned()))?;
    let tokenizer: Value = serde_json::from_slice(&content).map_err(|source| Error::Json { path, source })?;
    let words = tokenizer.pointer("/model/vocab").and_then(Value::as_object).into_iter().flatten();
    let added = tokenizer.get("added_tokens").and_then(Value::as_array).into_iter().flatten();
    let ids = words.map(|(_, id)| id).chain(added.filter_map(|token| token.get("id"))).filter_map(Value::as_u64);
    let named = vocab::named(files, config)?;
    let largest = ids.chain(named.into_iter().map(u64::from)).max();
    let largest = largest.and_then(|id| usize::try_from(id).ok()?.checked_add(1));
    largest.ok_or_else(|| Error::Usage("--vocab padding: tokenizer.json lists no token".to_owned()))
}
