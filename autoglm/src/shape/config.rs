//! The `config.json` of a shape.

use serde_json::{Value, json};

use super::{Architecture, Shape};

impl Shape {
    /// `config.json` as transformers 5 writes it, for weights stored as `dtype` (`bfloat16`).
    #[must_use]
    pub fn config(&self, dtype: &str) -> Value {
        let mut config = match self.architecture {
            Architecture::Glm4v => self.glm4v(dtype),
            Architecture::GlmAsr => self.glm_asr(dtype),
        };
        if self.audio.depth > 0 {
            config["audio_config"] = self.audio(dtype);
            if self.architecture == Architecture::Glm4v {
                // No published model has both eyes and ears: the ids after the last one of GLM-4.1V.
                config["audio_start_token_id"] = json!(151_349);
                config["audio_end_token_id"] = json!(151_350);
                config["audio_token_id"] = json!(151_351);
            }
        }
        config
    }

    fn glm4v(&self, dtype: &str) -> Value {
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

    fn glm_asr(&self, dtype: &str) -> Value {
        json!({
            "architectures": ["GlmAsrForConditionalGeneration"],
            "model_type": "glmasr",
            "dtype": dtype,
            "tie_word_embeddings": false,
            "audio_token_id": 59_260,
            "projector_hidden_act": "gelu",
            "text_config": {
                "model_type": "llama",
                "dtype": dtype,
                "attention_bias": false,
                "attention_dropout": 0.0,
                "eos_token_id": [59_246, 59_253, 59_255],
                "head_dim": self.head_dim(),
                "hidden_act": "silu",
                "hidden_size": self.hidden,
                "initializer_range": 0.02,
                "intermediate_size": self.intermediate,
                "max_position_embeddings": 8192,
                "mlp_bias": false,
                "num_attention_heads": self.heads,
                "num_hidden_layers": self.layers,
                "num_key_value_heads": self.kv_heads,
                "pad_token_id": 59_246,
                "rms_norm_eps": 1e-5,
                "rope_parameters": { "rope_type": "default", "rope_theta": 10_000.0 },
                "use_cache": true,
                "vocab_size": self.vocab,
            },
        })
    }

    fn audio(&self, dtype: &str) -> Value {
        json!({
            "model_type": "glmasr_encoder",
            "dtype": dtype,
            "attention_dropout": 0.0,
            "hidden_act": "gelu",
            "hidden_size": self.audio.hidden,
            "initializer_range": 0.02,
            "intermediate_size": 4 * self.audio.hidden,
            "max_position_embeddings": 1500,
            "num_attention_heads": self.audio.heads,
            "num_hidden_layers": self.audio.depth,
            "num_key_value_heads": self.audio.heads,
            "num_mel_bins": 128,
            "rope_parameters": { "rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5 },
        })
    }
}
