//! The convention of the `compressed-tensors` package, which vLLM and transformers load.
//!
//! ```text
//! int8   {module}.weight         I8   [n, k]        int4   {module}.weight_packed  I32  [n, k / 8]
//!        {module}.weight_scale        [n, 1]               {module}.weight_scale        [n, k / 64]
//!                                                          {module}.weight_shape   I64  [2]
//! ```
//!
//! Scales have the format of the weights they stand for. Only the decoder's layers are quantised: that
//! is what the convention's readers have kernels for. A map whose input no group divides stays as it is
//! and is listed under `ignore`.

use std::collections::BTreeMap;
use std::path::Path;

use autoglm::Inventory;
use autoglm_core::checkpoint::Dtype;
use autoglm_core::{FloatType, Member, Run, TensorSpec};
use autoglm_quant::{Group, Packing, Parts, Plain, Role};
use serde_json::{Value, json};

use super::calibrated::Calibrated;
use super::{Precision, Progress};
use crate::error::{Error, Result};
use crate::tensor_file::{Place, TensorFile};

/// Columns that share a step with 4 bits, as in the packed format.
const GROUP: Group = Group::G64;

/// Columns in a word of 4-bit codes.
const PER_WORD: usize = 8;

/// What the convention calls the two schemes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// 8-bit weights, 8-bit activations with a step per token found at run time.
    W8A8,
    /// 4-bit weights, activations as they are.
    W4A16,
}

impl Kind {
    pub(super) fn of(precision: Precision) -> Result<Self> {
        match precision {
            Precision::Int8 => Ok(Self::W8A8),
            Precision::Int4 => Ok(Self::W4A16),
            other => Err(other.unknown_to("compressed-tensors", "int8 and int4")),
        }
    }

    fn packing(self) -> Packing {
        match self {
            Self::W8A8 => Packing::Eight { group: None },
            Self::W4A16 => Packing::Four { group: GROUP },
        }
    }

    fn tensors(self, member: &Member, scale: Dtype) -> Vec<TensorSpec> {
        let (n, k) = (member.out, member.inp);
        let at = |name: &str, shape: &[usize], dtype| {
            TensorSpec::new(format!("{}.{name}", member.name), shape).stored_as(dtype)
        };
        match self {
            Self::W8A8 => vec![at("weight", &[n, k], Dtype::I8), at("weight_scale", &[n, 1], scale)],
            Self::W4A16 => vec![
                at("weight_packed", &[n, k / PER_WORD], Dtype::I32),
                at("weight_scale", &[n, k / GROUP.size()], scale),
                at("weight_shape", &[2], Dtype::I64),
            ],
        }
    }

    /// What `config.json` says, with the names of modules that stay floats besides the usual ones.
    fn config(self, ignored: &[String]) -> Value {
        let weights = match self {
            Self::W8A8 => {
                json!({ "num_bits": 8, "type": "int", "symmetric": true, "strategy": "channel", "dynamic": false })
            }
            Self::W4A16 => json!({
                "num_bits": 4, "type": "int", "symmetric": true, "strategy": "group", "group_size": GROUP.size(),
                "dynamic": false,
            }),
        };
        let (format, activations) = match self {
            Self::W8A8 => (
                "int-quantized",
                json!({ "num_bits": 8, "type": "int", "symmetric": true, "strategy": "token", "dynamic": true }),
            ),
            Self::W4A16 => ("pack-quantized", Value::Null),
        };
        // The towers by pattern, because vLLM gives its modules other names.
        let usual =
            ["lm_head", "re:.*visual.*", "re:.*audio_tower.*", "re:.*multi_modal_projector.*"].map(str::to_owned);
        json!({
            "quant_method": "compressed-tensors",
            "format": format,
            "quantization_status": "compressed",
            "config_groups": {
                "group_0": {
                    "targets": ["Linear"],
                    "weights": weights,
                    "input_activations": activations,
                    "output_activations": null,
                },
            },
            "ignore": usual.iter().chain(ignored).collect::<Vec<_>>(),
            "kv_cache_scheme": null,
            "global_compression_ratio": null,
        })
    }
}

/// What is written in one piece.
enum Item<'a> {
    Quantised(&'a Member, FloatType),
    Plain(&'a TensorSpec, Dtype),
}

impl Item<'_> {
    fn tensors(&self, kind: Kind) -> Vec<TensorSpec> {
        match self {
            Self::Quantised(member, float) => kind.tensors(member, float.dtype()),
            Self::Plain(spec, dtype) => vec![(*spec).clone().stored_as(*dtype)],
        }
    }
}

/// Writes the weights of `inventory` to `path`. → `config.json`, and the bytes of weights.
///
/// # Errors
/// A weight is no number, the model cannot be calibrated, or the file cannot be written.
pub(super) fn write(
    inventory: &Inventory,
    kind: Kind,
    run: &Run<'_>,
    calibrated: &mut Option<Calibrated<'_>>,
    path: &Path,
) -> Result<(Value, u64)> {
    let layers = || inventory.maps.iter().flatten().filter(|member| Role::of(&member.name) == Role::Decoder);
    let whole = |member: &&Member| kind == Kind::W8A8 || member.inp.is_multiple_of(GROUP.size());
    let quantised: BTreeMap<String, &Member> =
        layers().filter(whole).map(|member| (format!("{}.weight", member.name), member)).collect();
    let ignored: Vec<String> = layers().filter(|member| !whole(member)).map(|member| member.name.clone()).collect();
    let mut items = Vec::new();
    for spec in &inventory.tensors {
        let info = inventory.checkpoint.info(&spec.name)?;
        items.push(match quantised.get(&spec.name) {
            Some(member) => Item::Quantised(member, info.float()?),
            None => Item::Plain(spec, info.dtype),
        });
    }
    let bytes = |spec: &TensorSpec| crate::shards::bytes(spec);
    // Whatever would leave what follows it at an odd address goes last.
    items.sort_by_key(|item| item.tensors(kind).iter().any(|spec| bytes(spec) % 8 != 0));
    let tensors: Vec<TensorSpec> = items.iter().flat_map(|item| item.tensors(kind)).collect();
    let total = tensors.iter().map(bytes).sum();
    let failed = |source| Error::File { action: "write", path: path.to_owned(), source };
    let mut file = TensorFile::create(path, tensors.into_iter(), Place::Tight).map_err(failed)?;
    let mut progress = Progress::new(total);
    for item in &items {
        match item {
            Item::Quantised(member, float) => {
                progress.step(0, &member.name);
                let name = format!("{}.weight", member.name);
                let matrix = inventory.checkpoint.matrix(&name, member.out, member.inp)?;
                let parts = Parts::new(vec![(name, matrix)], member.inp)?;
                let feedback = match calibrated {
                    Some(calibrated) => calibrated.feedback(member)?,
                    None => None,
                };
                let plain = Plain::quantise(run, kind.packing(), *float, &parts, feedback.as_deref())?;
                file.tensor(|file| file.write_all(&plain.codes)).map_err(failed)?;
                file.tensor(|file| file.write_all(&plain.steps)).map_err(failed)?;
                if kind == Kind::W4A16 {
                    let shape = [member.out, member.inp].map(|size| (size as u64).to_le_bytes()).concat();
                    file.tensor(|file| file.write_all(&shape)).map_err(failed)?;
                }
            }
            Item::Plain(spec, _) => {
                progress.step(0, &spec.name);
                let bytes = inventory.checkpoint.bytes(&spec.name)?;
                file.tensor(|file| file.write_all(&bytes)).map_err(failed)?;
            }
        }
        progress.step(item.tensors(kind).iter().map(bytes).sum(), "");
    }
    file.finish().map_err(failed)?;
    let mut config = inventory.config.clone();
    if let Some(object) = config.as_object_mut() {
        object.insert("quantization_config".to_owned(), kind.config(&ignored));
    }
    Ok((config, total))
}
