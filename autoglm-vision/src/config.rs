//! The vision tower's blueprint, read from the `vision_config` of a `config.json`.
//!
//! Field names are the file's. Both generations of files write the same fields; transformers 5 adds
//! `rope_parameters`. A field that is absent has the value of transformers' `Glm4vVisionConfig`,
//! because some versions leave out what equals it.

use autoglm_core::fields::{Fields, refuse};
use autoglm_core::rope::Rope;
use autoglm_core::{Member, TensorSpec};
use serde_json::{Value, json};

use crate::{PreprocessConfig, Result};

/// The widest row or feed-forward network that is accepted, thirty times the real model's.
const MAX_WIDTH: u64 = 1 << 17;
/// The deepest tower that is accepted. Names of tensors are formed from this number.
const MAX_DEPTH: u64 = 1024;
/// Sides of a patch, in pixels.
const MAX_PATCH: u64 = 256;
/// Frames in a patch, and patches along a side of a merged square.
const MAX_FACTOR: u64 = 16;
/// Positions along a side of the learned table.
const MAX_TABLE_SIDE: u64 = 1024;
/// Colours of a pixel; pictures are RGB.
const CHANNELS: usize = 3;

/// A tower's sizes and constants. Every value was checked when it was read.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct VisionConfig {
    /// Number of transformer blocks.
    pub depth: usize,
    /// Width c of a patch's row.
    pub hidden_size: usize,
    /// Attention heads h, each of width d = c / h.
    pub num_heads: usize,
    /// Width of the rows the decoder gets, and inner width of a *block's* feed-forward network.
    pub out_hidden_size: usize,
    /// Inner width of the *merger's* feed-forward network.
    pub intermediate_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Frames in a patch; a still picture is repeated.
    pub temporal_patch_size: usize,
    /// Patches along a side of the squares that are merged into one row.
    pub spatial_merge_size: usize,
    /// Positions along a side of the learned table, `image_size / patch_size`.
    pub table_side: usize,
    /// Whether q, k and v have a bias.
    pub attention_bias: bool,
    /// Added to the mean square in the RMS norms.
    pub rms_norm_eps: f32,
    rope_theta: f64,
}

impl VisionConfig {
    /// Reads a `vision_config`.
    ///
    /// # Errors
    /// [`autoglm_core::Error::Config`] naming the field whose value no tower of the family can have.
    pub fn from_json(vision_config: &Value) -> Result<Self> {
        let fields = Fields(Some(vision_config));
        let width = |key, absent| fields.size(key, absent, MAX_WIDTH);
        let hidden_size = width("hidden_size", 1536)?;
        let num_heads = width("num_heads", 12)?;
        if hidden_size % num_heads != 0 {
            return Err(refuse("num_heads", num_heads, "does not divide hidden_size").into());
        }
        if hidden_size / num_heads % 4 != 0 {
            // A quarter of a head's pairs of dimensions turns with the row and a quarter with the column.
            let got = hidden_size / num_heads;
            return Err(refuse("num_heads", got, "hidden_size / num_heads must be a multiple of four").into());
        }
        fields.only("hidden_act", &json!("silu"), "only silu is known in this family")?;
        fields.only("in_channels", &json!(CHANNELS), "pictures have three colours")?;
        let patch_size = fields.size("patch_size", 14, MAX_PATCH)?;
        let image_size = fields.size("image_size", 336, MAX_PATCH * MAX_TABLE_SIDE)?;
        let table_side = image_size / patch_size;
        if !(1..=MAX_TABLE_SIDE as usize).contains(&table_side) {
            return Err(refuse("image_size", image_size, "gives no table of positions of a usable side").into());
        }
        let eps = fields.positive("rms_norm_eps", 1e-5)?;
        if eps >= 1.0 {
            return Err(refuse("rms_norm_eps", eps, "must be between zero and one").into());
        }
        let rotary = fields.inside("rope_parameters");
        if let Some(kind) = rotary.get("rope_type").filter(|v| !matches!(v.as_str(), Some("axial" | "default"))) {
            return Err(refuse("rope_type", kind, "only the axial scheme is known in this tower").into());
        }
        let config = Self {
            depth: fields.size("depth", 24, MAX_DEPTH)?,
            hidden_size,
            num_heads,
            out_hidden_size: width("out_hidden_size", 4096)?,
            intermediate_size: width("intermediate_size", 13_696)?,
            patch_size,
            temporal_patch_size: fields.size("temporal_patch_size", 2, MAX_FACTOR)?,
            spatial_merge_size: fields.size("spatial_merge_size", 2, MAX_FACTOR)?,
            table_side,
            attention_bias: fields.flag("attention_bias", false)?,
            rms_norm_eps: eps as f32,
            rope_theta: rotary.positive("rope_theta", 10_000.0)?,
        };
        config.rope()?;
        Ok(config)
    }

    /// Width d of a head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_heads
    }

    /// Numbers in a patch: colours · frames · side².
    #[must_use]
    pub fn patch_width(&self) -> usize {
        CHANNELS * self.temporal_patch_size * self.patch_size * self.patch_size
    }

    /// Patches that are merged into one row.
    #[must_use]
    pub fn merged_patches(&self) -> usize {
        self.spatial_merge_size * self.spatial_merge_size
    }

    /// The rotation of queries and keys: rows of patches turn the first half of a head's pairs,
    /// columns the second.
    ///
    /// # Errors
    /// [`autoglm_core::Error::Config`] when theta cannot make angles; not after
    /// [`VisionConfig::from_json`], which tried.
    pub fn rope(&self) -> Result<Rope> {
        Ok(Rope::axial(self.rope_theta, self.head_dim())?)
    }

    /// The base of the rotations' frequencies.
    #[must_use]
    pub fn rope_theta(&self) -> f64 {
        self.rope_theta
    }

    /// Refuses a preprocessor that cuts other patches than this tower reads.
    ///
    /// # Errors
    /// [`autoglm_core::Error::Config`] naming the field of `preprocessor_config.json`.
    pub(crate) fn check_preprocess(&self, preprocess: &PreprocessConfig) -> Result<()> {
        let pairs = [
            ("patch_size", preprocess.patch_size, self.patch_size),
            ("temporal_patch_size", preprocess.temporal_patch_size, self.temporal_patch_size),
            ("merge_size", preprocess.merge_size, self.spatial_merge_size),
        ];
        for (field, cut, read) in pairs {
            if cut as usize != read {
                return Err(refuse(field, cut, "differs between preprocessor_config.json and config.json").into());
            }
        }
        Ok(())
    }

    /// Every tensor the tower reads, under `prefix` (`model.visual` in the published checkpoints).
    #[must_use]
    pub fn expected_tensors(&self, prefix: &str) -> Vec<TensorSpec> {
        let (c, f, out, inner) = (self.hidden_size, self.out_hidden_size, self.out_hidden_size, self.intermediate_size);
        let (p, m) = (self.patch_size, self.spatial_merge_size);
        let at = |name: &str, shape: &[usize]| TensorSpec::new(format!("{prefix}.{name}"), shape);
        let mut all = vec![
            at("patch_embed.proj.weight", &[c, CHANNELS, self.temporal_patch_size, p, p]),
            at("patch_embed.proj.bias", &[c]),
            at("post_conv_layernorm.weight", &[c]),
            at("embeddings.position_embedding.weight", &[self.table_side * self.table_side, c]),
            at("post_layernorm.weight", &[c]),
            at("downsample.weight", &[out, c, m, m]),
            at("downsample.bias", &[out]),
            at("merger.proj.weight", &[out, out]),
            at("merger.post_projection_norm.weight", &[out]),
            at("merger.post_projection_norm.bias", &[out]),
            at("merger.gate_proj.weight", &[inner, out]),
            at("merger.up_proj.weight", &[inner, out]),
            at("merger.down_proj.weight", &[out, inner]),
        ];
        for block in 0..self.depth {
            let mut of_block = |name: &str, shape: &[usize]| all.push(at(&format!("blocks.{block}.{name}"), shape));
            of_block("norm1.weight", &[c]);
            of_block("norm2.weight", &[c]);
            of_block("attn.qkv.weight", &[3 * c, c]);
            if self.attention_bias {
                of_block("attn.qkv.bias", &[3 * c]);
            }
            of_block("attn.proj.weight", &[c, c]);
            of_block("mlp.gate_proj.weight", &[f, c]);
            of_block("mlp.up_proj.weight", &[f, c]);
            of_block("mlp.down_proj.weight", &[c, f]);
        }
        all
    }

    /// The convolution over a patch, as a linear map: its stride is its kernel.
    pub(crate) fn patch_embed(&self, prefix: &str) -> Member {
        Member::new(format!("{prefix}.patch_embed.proj"), self.hidden_size, self.patch_width()).with_bias(true)
    }

    /// The convolution over a square of patches, as a linear map over its rows in (c, i, j) order.
    pub(crate) fn downsample(&self, prefix: &str) -> Member {
        let width = self.hidden_size * self.merged_patches();
        Member::new(format!("{prefix}.downsample"), self.out_hidden_size, width).with_bias(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    fn real() -> Value {
        json!({"depth": 24, "hidden_size": 1536, "num_heads": 12, "out_hidden_size": 4096, "intermediate_size": 13696, "patch_size": 14,
            "temporal_patch_size": 2, "spatial_merge_size": 2, "image_size": 336, "in_channels": 3, "rms_norm_eps": 1e-5,
            "hidden_act": "silu", "attention_bias": false, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "axial"}})
    }

    #[test]
    fn the_real_tower_has_the_tensors_and_parameters_of_the_release() {
        let config = VisionConfig::from_json(&real()).unwrap();
        let tensors = config.expected_tensors("model.visual");
        let parameters: usize = tensors.iter().map(|t| t.shape.iter().product::<usize>()).sum();
        assert_eq!((tensors.len(), parameters), (181, 892_498_432));
        assert_eq!((config.head_dim(), config.patch_width(), config.table_side), (128, 1176, 24));
        assert_eq!(config.rope_theta(), 10_000.0);
    }

    #[test]
    fn an_empty_config_is_the_family_s_default() {
        assert_eq!(VisionConfig::from_json(&json!({})).unwrap(), VisionConfig::from_json(&real()).unwrap());
    }

    #[test]
    fn values_no_tower_can_have_are_refused_by_name() {
        let cases = [
            ("depth", json!(0)),
            ("depth", json!(1e9)),
            ("depth", json!(1_000_000)),
            ("hidden_size", json!(1537)),
            ("hidden_size", json!(u64::MAX)),
            ("hidden_size", json!(-1536)),
            ("num_heads", json!(7)),
            ("num_heads", json!(256)),
            ("num_heads", json!("12")),
            ("out_hidden_size", json!(1.5)),
            ("patch_size", json!(0)),
            ("patch_size", json!([14, 14, 14])),
            ("image_size", json!(13)),
            ("image_size", json!(14 * 4096)),
            ("spatial_merge_size", json!(17)),
            ("in_channels", json!(4)),
            ("hidden_act", json!("gelu")),
            ("attention_bias", json!(1)),
            ("rms_norm_eps", json!(0)),
            ("rms_norm_eps", json!(2.0)),
            ("rope_parameters", json!({"rope_type": "yarn"})),
            ("rope_parameters", json!({"rope_theta": -1.0})),
        ];
        for (field, value) in cases {
            let mut config = real();
            config[field] = value.clone();
            let refused = VisionConfig::from_json(&config);
            assert!(
                matches!(refused, Err(Error::Core(autoglm_core::Error::Config { .. }))),
                "{field} = {value}: {refused:?}"
            );
        }
    }
}
