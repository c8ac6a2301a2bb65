//! Shapes of the family, for checkpoints and models of random weights.
//!
//! Speed, memory and loading depend on shapes and not on what the weights say, so random ones stand in
//! for checkpoints of many gigabytes.

mod config;

/// Rows of the embedding table and of the head. The real vocabulary at every size: the largest
/// matrices of the small shapes, as they are of any model that speaks GLM's vocabulary.
const VOCAB: usize = 151_552;

/// Rows of GLM-ASR's embedding table.
const ASR_VOCAB: usize = 59_264;

/// GLM-ASR's ears, which no published model with eyes has: their depth is zero until it is asked for.
const EARS: AudioShape = AudioShape { depth: 0, hidden: 1280, heads: 20 };

/// Which architecture a shape is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// `Glm4vForConditionalGeneration`, with ears where [`AudioShape::depth`] says so.
    Glm4v,
    /// `GlmAsrForConditionalGeneration`.
    GlmAsr,
}

/// The dimensions of a model of the family.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shape {
    /// Whose layers it has.
    pub architecture: Architecture,
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
    /// The audio tower.
    pub audio: AudioShape,
}

/// The dimensions of an audio tower; its feed-forward network is four times as wide as a row.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AudioShape {
    /// Layers; without any there is no tower.
    pub depth: usize,
    /// Width of a row.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
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
    /// - `glm-asr-nano`, GLM-ASR-Nano-2512 itself: 28 layers of 2048, an audio tower of 32 layers of 1280;
    /// - `tiny`, the widths of the built-in checkpoint: 4 layers of 128, a tower of 3 blocks of 128.
    pub const NAMES: [&str; 4] = ["glm-4.1v-9b", "glm-4.1v-0.9b", "glm-asr-nano", "tiny"];

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
                architecture: Architecture::Glm4v,
                vocab: VOCAB,
                layers: 40,
                hidden: 4096,
                intermediate: 13_696,
                heads: 32,
                kv_heads: 2,
                mrope_section: [8, 12, 12],
                vision: VisionShape { depth: 24, hidden: 1536, heads: 12, intermediate: 13_696, image_size: 336 },
                audio: EARS,
            },
            "glm-4.1v-0.9b" => Self {
                architecture: Architecture::Glm4v,
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
                audio: EARS,
            },
            "glm-asr-nano" => Self {
                architecture: Architecture::GlmAsr,
                vocab: ASR_VOCAB,
                layers: 28,
                hidden: 2048,
                intermediate: 6144,
                heads: 16,
                kv_heads: 4,
                mrope_section: [0; 3],
                vision: VisionShape { depth: 0, hidden: 0, heads: 1, intermediate: 0, image_size: 0 },
                audio: AudioShape { depth: 32, ..EARS },
            },
            "tiny" => Self {
                architecture: Architecture::Glm4v,
                vocab: VOCAB,
                layers: 4,
                hidden: 128,
                intermediate: 384,
                heads: 4,
                kv_heads: 2,
                mrope_section: [2, 3, 3],
                vision: VisionShape { depth: 3, hidden: 128, heads: 4, intermediate: 256, image_size: 168 },
                audio: AudioShape { depth: 0, hidden: 96, heads: 4 },
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

    /// The same shape with another number of layers of the audio tower.
    #[must_use]
    pub fn audio_layers(mut self, depth: impl Into<Option<usize>>) -> Self {
        self.audio.depth = depth.into().unwrap_or(self.audio.depth);
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
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_shape_divides_into_heads_and_sections() {
        for name in Shape::NAMES {
            let shape = Shape::named(name).unwrap();
            assert_eq!(shape.head_dim() * shape.heads, shape.hidden);
            assert_eq!(shape.heads % shape.kv_heads, 0);
            assert_eq!(shape.audio.hidden % (4 * shape.audio.heads), 0);
            if shape.architecture == Architecture::GlmAsr {
                continue;
            }
            // Half of a head is rotated, in pairs.
            assert_eq!(shape.mrope_section.iter().sum::<usize>() * 4, shape.head_dim());
            assert_eq!(shape.vision.hidden % (4 * shape.vision.heads), 0);
            assert_eq!(shape.vision.image_size % Shape::PATCH, 0);
        }
        assert_eq!(Shape::named("huge"), None);
    }

    #[test]
    fn glm_asr_is_the_real_one() {
        let shape = Shape::named("glm-asr-nano").unwrap();
        let config = shape.config("bfloat16");
        assert_eq!(config["model_type"], "glmasr");
        assert_eq!(config["audio_config"]["intermediate_size"], 5120);
        assert_eq!(config["text_config"]["eos_token_id"], json!([59_246, 59_253, 59_255]));
        // With the table and the norms these are the 1 472 055 296 parameters of the release.
        assert_eq!(shape.decoder_macs(), 28 * 48_234_496);
        let fused = Shape::named("glm-4.1v-9b").unwrap().audio_layers(32).config("bfloat16");
        assert_eq!((&fused["model_type"], &fused["audio_config"]["hidden_size"]), (&json!("glm4v"), &json!(1280)));
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
