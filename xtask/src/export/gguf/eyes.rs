//! The picture tower as llama.cpp's projector `glm4v`.

use autoglm::Inventory;
use autoglm_core::{Files, FloatType};
use autoglm_vision::{PreprocessConfig, VisionConfig};

use super::container::{Value, Values};
use super::item::{Item, Order};
use super::kind::{Kind, Plan, of_rows};
use crate::error::{Error, Result};

/// Where the tower lies in a checkpoint.
const PREFIX: &str = "model.visual.";

/// Tensors outside of blocks: what the checkpoint calls them and what the file does.
const TOWER: &[(&str, &str)] = &[
    ("patch_embed.proj", "v.patch_embd"),
    ("post_conv_layernorm", "v.norm_embd"),
    ("embeddings.position_embedding", "v.position_embd"),
    ("post_layernorm", "v.post_ln"),
    ("downsample", "mm.patch_merger"),
    ("merger.proj", "mm.model.fc"),
    ("merger.post_projection_norm", "mm.post_norm"),
    ("merger.gate_proj", "mm.gate"),
    ("merger.up_proj", "mm.up"),
    ("merger.down_proj", "mm.down"),
];

/// Those of a block.
const BLOCK: &[(&str, &str)] = &[
    ("norm1", "ln1"),
    ("attn.qkv", "attn_qkv"),
    ("attn.proj", "attn_out"),
    ("norm2", "ln2"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// What a checkpoint says about pictures.
#[derive(Debug)]
pub(super) struct Eyes {
    vision: VisionConfig,
    preprocess: PreprocessConfig,
}

impl Eyes {
    /// Those of a checkpoint, if it has any.
    ///
    /// # Errors
    /// They are none that llama.cpp computes as they are meant: some numbers it takes for granted.
    pub(super) fn read(inventory: &Inventory, files: &Files) -> Result<Option<Self>> {
        let Some(config) = inventory.config.get("vision_config").filter(|config| config.is_object()) else {
            return Ok(None);
        };
        let vision = VisionConfig::from_json(config)?;
        let written: Option<serde_json::Value> = files.json("preprocessor_config.json")?;
        let preprocess = PreprocessConfig::from_json(written.as_ref(), &vision)?;
        let taken_for_granted = [
            ("spatial_merge_size", vision.spatial_merge_size as f64, 2.0),
            ("temporal_patch_size", vision.temporal_patch_size as f64, 2.0),
            ("rope_theta", vision.rope_theta(), 10_000.0),
        ];
        for (field, is, read) in taken_for_granted {
            if is != read {
                let why =
                    format!("`gguf` has no place for `vision_config.{field}`: it is {is}, llama.cpp takes {read}");
                return Err(Error::Usage(why));
            }
        }
        Ok(Some(Self { vision, preprocess }))
    }

    /// The side of what becomes one row, in pixels.
    pub(super) fn square(&self) -> usize {
        self.vision.patch_size * self.vision.spatial_merge_size
    }

    /// The tower's tensors.
    ///
    /// # Errors
    /// A tensor has no name in the format.
    pub(super) fn items(&self, inventory: &Inventory, plan: Plan) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        for spec in inventory.tensors.iter().filter(|spec| spec.name.starts_with(PREFIX)) {
            let (name, suffix) = spec.name.rsplit_once('.').unwrap_or((&spec.name, ""));
            let named = name_of(name).ok_or_else(|| Error::Unnamed { tensor: spec.name.clone() })?;
            let kind = match spec.shape[..] {
                [_, _, _, ..] => plan.kernel(),
                [_, columns] if named != "v.position_embd" => of_rows(plan.matrices, columns),
                _ => Kind::Float(FloatType::F32),
            };
            let item =
                |name: String, shape: Vec<usize>, order| Item { name, source: spec.name.clone(), shape, kind, order };
            match spec.shape[..] {
                // A convolution over time as well becomes one per frame, whose sum is the same.
                [out, colours, frames, height, width] => items.extend((0..frames).map(|at| {
                    let name = if at == 0 { format!("{named}.{suffix}") } else { format!("{named}.{suffix}.{at}") };
                    item(name, vec![out, colours, height, width], Order::Frame { at, frames })
                })),
                _ => items.push(item(format!("{named}.{suffix}"), spec.shape.clone(), Order::Stored)),
            }
        }
        Ok(items)
    }

    /// What the file says about the tower. The bounds on a picture's size have no place in it.
    pub(super) fn values(&self, width: usize) -> Values {
        let vision = &self.vision;
        // Of samples from 0 to 1.
        let colours = |of: [f32; 3]| Value::F32s(of.map(|x| x / 255.0).to_vec());
        let values = [
            ("has_vision_encoder", Value::Bool(true)),
            ("projector_type", Value::Text("glm4v".to_owned())),
            ("use_silu", Value::Bool(true)),
            ("vision.projection_dim", Value::size(width)),
            ("vision.image_size", Value::size(vision.table_side * vision.patch_size)),
            ("vision.patch_size", Value::size(vision.patch_size)),
            ("vision.spatial_merge_size", Value::size(vision.spatial_merge_size)),
            ("vision.embedding_length", Value::size(vision.hidden_size)),
            // Of a block; the merger's inner width is told by its tensors.
            ("vision.feed_forward_length", Value::size(vision.out_hidden_size)),
            ("vision.block_count", Value::size(vision.depth)),
            ("vision.attention.head_count", Value::size(vision.num_heads)),
            ("vision.attention.layer_norm_epsilon", Value::F32(vision.rms_norm_eps)),
            ("vision.image_mean", colours(self.preprocess.mean)),
            ("vision.image_std", colours(self.preprocess.std)),
        ];
        values.into_iter().map(|(name, value)| (format!("clip.{name}"), value)).collect()
    }
}

/// What the file calls the tensors of `name`.
fn name_of(name: &str) -> Option<String> {
    let inner = name.strip_prefix(PREFIX)?;
    let find = |names: &[(&str, &'static str)], name: &str| {
        names.iter().find(|(theirs, _)| *theirs == name).map(|(_, named)| *named)
    };
    match inner.strip_prefix("blocks.") {
        Some(block) => {
            let (index, part) = block.split_once('.')?;
            Some(format!("v.blk.{index}.{}", find(BLOCK, part)?))
        }
        None => find(TOWER, inner).map(str::to_owned),
    }
}
