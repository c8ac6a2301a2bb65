//! Shapes of the family, for checkpoints and models of random weights.
//!
//! Speed, memory and loading depend on shapes and not on what the weights say, so random ones stand in
//! for checkpoints of many gigabytes.

use serde_json::{Value, json};

/// Rows of the embedding table and of the head. The real vocabulary at every size: the largest
/// matrices of the small shapes, as they are of any model that speaks GLM's vocabulary.
const VOCAB: usize = 151_552;

/// The dimensions of a GLM-4.1V model: all shapes are of this architecture, only the widths differ.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shape {
    /// Rows of the embedding table and of the head.
    pub vocab: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Width c of a decoder row.
    pub hidden: usize,
    /// Width f of the decoder's feed-forward network.
    pub intermediate: usize,
    /// Query heads h.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// How many of a head's rotated pairs turn with time, height and width; the sum is a quarter
    /// of the head's width.
    pub mrope_section: [usize; 3],
    /// The vision tower.
    pub vision: VisionShape,
}

/// The dimensions of a vision tower.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VisionShape {
    /// Blocks; without any there is no tower.
    pub depth: usize,
    /// Width of a patch's row.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the merger's inner layer. A block's inner layer is as wide as the decoder.
    pub intermediate: usize,
    /// Side of the square of pixels that the learned position table covers.
    pub image_size: usize,
}

impl Shape {
    /// The names of [`Shape::named`]:
    /// - `glm-4.1v-9b`, AutoGLM-Phone-9B itself: 40 layers of 4096, a tower of 24 blocks of 1536;
    /// - `glm-4.1v-0.9b`, the same architecture narrowed: 16 layers of 1536, a tower of 12 blocks of 768;
    /// - `tiny`, the widths of the built-in checkpoint: 4 layers of 128, a tower of 3 blocks of 128.
    pub const NAMES: [&str; 3] = ["glm-4.1v-9b", "glm-4.1v-0.9b", "tiny"];

    /// Colours of a picture.
    pub const CHANNELS: usize = 3;
    /// Side of a patch in pixels.
    pub const PATCH: usize = 14;
    /// Frames of a patch.
    pub const TEMPORAL_PATCH: usize = 2;
    /// Side of the square of patches that becomes one row of the decoder.
    pub const MERGE: usize = 2;

    /// The shape of this name, one of [`Shape::NAMES`].
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "glm-4.1v-9b" => Self {
                vocab: VOCAB,
                layers: 40,
                hidden: 4096,
                intermediate: 13_696,
                heads: 32,
                kv_heads: 2,
                mrope_section: [8, 12, 12],
                vision: VisionShape { depth: 24, hidden: 1536, heads: 12, intermediate: 13_696, image_size: 336 },
            },
            "glm-4.1v-0.9b" => Self {
                vocab: VOCAB,
                layers: 16,
                hidden: 1536,
                // Like 13 696 a multiple of 128 but not of 256, so that block formats meet the
                // same ragged rows.
                intermediate: 4992,
                heads: 12,
                kv_heads: 2,
                mrope_section: [8, 12, 12],
                vision: VisionShape { depth: 12, hidden: 768, heads: 6, intermediate: 4992, image_size: 336 },
            },
            "tiny" => Self {
                vocab: VOCAB,
                layers: 4,
                hidden: 128,
                intermediate: 384,
                heads: 4,
                kv_heads: 2,
                mrope_section: [2, 3, 3],
                vision: VisionShape { depth: 3, hidden: 128, heads: 4, intermediate: 256, image_size: 168 },
            },
            _ => return None,
        })
    }

    /// The same shape with another number of decoder layers.
    #[must_use]
    pub fn layers(mut self, layers: impl Into<Option<usize>>) -> Self {
        self.layers = layers.into().unwrap_or(self.layers);
        self
    }

    /// The same shape with another number of vision blocks.
    #[must_use]
    pub fn vision_layers(mut self, depth: impl Into<Option<usize>>) -> Self {
        self.vision.depth = depth.into().unwrap_or(self.vision.depth);
        self
    }

    /// Width d of a head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    /// Multiply-adds of the decoder's linear maps for one row, the head left out: its weights, that is.
    #[must_use]
    pub fn decoder_macs(&self) -> u64 {
        let (c, f, kv) = (self.hidden, self.intermediate, self.kv_heads * self.head_dim());
        (self.layers * (2 * c * c + 2 * c * kv + 3 * c * f)) as u64
    }

    /// `config.json` as transformers 5 writes it, for weights stored as `dtype` (`bfloat16`).
    #[must_use]
    pub fn config(&self, dtype: &str) -> Value {
        let mut config = json!({
            "architectures": ["Glm4vForConditionalGeneration"],
            "model_type": "glm4v",
            "dtype": dtype,
            "tie_word_embeddings": false,
            "image_start_token_id": 151_339,
            "image_end_token_id": 151_340,
            "image_token_id": 151_343,
            "video_start_token_id": 151_341,
            "video_end_token_id": 151_342,
            "video_token_id": 151_344,
            "text_config": {
                "model_type": "glm4v_text",
                "dtype": dtype,
                "attention_dropout": 0.0,
                "eos_token_id": [151_329, 151_336, 151_338, 151_348],
                "hidden_act": "silu",
                "hidden_size": self.hidden,
                "initializer_range": 0.02,
                "intermediate_size": self.intermediate,
                "max_position_embeddings": 65_536,
                "num_attention_heads": self.heads,
                "num_hidden_layers": self.layers,
                "num_key_value_heads": self.kv_heads,
                "pad_token_id": 151_329,
                "rms_norm_eps": 1e-5,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 10_000.0,
                    "partial_rotary_factor": 0.5,
                    "mrope_section": self.mrope_section,
                },
                "use_cache": true,
                "vocab_size": self.vocab,
            },
        });
        if self.vision.depth > 0 {
            config["vision_config"] = json!({
                "model_type": "glm4v_vision",
                "dtype": dtype,
                "attention_bias": false,
                "attention_dropout": 0.0,
                "depth": self.vision.depth,
                "hidden_act": "silu",
                "hidden_size": self.vision.hidden,
                "image_size": self.vision.image_size,
                "in_channels": Self::CHANNELS,
                "initializer_range": 0.02,
                "intermediate_size": self.vision.intermediate,
                "num_heads": self.vision.heads,
                "out_hidden_size": self.hidden,
                "patch_size": Self::PATCH,
                "rms_norm_eps": 1e-5,
                "spatial_merge_size": Self::MERGE,
                "temporal_patch_size": Self::TEMPORAL_PATCH,
            });
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_divides_into_heads_and_sections() {
        for name in Shape::NAMES {
            let shape = Shape::named(name).unwrap();
            assert_eq!(shape.head_dim() * shape.heads, shape.hidden);
            assert_eq!(shape.heads % shape.kv_heads, 0);
            // Half of a head is rotated, in pairs.
            assert_eq!(shape.mrope_section.iter().sum::<usize>() * 4, shape.head_dim());
            assert_eq!(shape.vision.hidden % (4 * shape.vision.heads), 0);
            assert_eq!(shape.vision.image_size % Shape::PATCH, 0);
        }
        assert_eq!(Shape::named("huge"), None);
    }

    #[test]
    fn the_large_shape_is_the_real_one() {
        let shape = Shape::named("glm-4.1v-9b").unwrap();
        assert_eq!(shape.decoder_macs(), 40 * 203_948_032);
        let config = shape.config("bfloat16");
        assert_eq!(config["text_config"]["rope_parameters"]["mrope_section"], json!([8, 12, 12]));
        assert_eq!(config["text_config"]["rms_norm_eps"], 1e-5);
        assert_eq!(config["vision_config"]["out_hidden_size"], 4096);
        assert_eq!(config["dtype"], "bfloat16");
        assert!(shape.vision_layers(0).config("bfloat16").get("vision_config").is_none());
    }
}
