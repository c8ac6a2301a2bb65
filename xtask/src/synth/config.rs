//! The small JSON files of a checkpoint, as transformers 5 writes them.

use autoglm::{Architecture, Shape};
use serde_json::json;

use super::shards::StoredAs;
use super::tokenizer::{ASR_EOS_IDS, EOS, EOS_IDS, GLM_4_1V, GLM_ASR, Special};

pub(crate) const CHAT_TEMPLATE: &str = include_str!("../../../models/autoglm-tiny/chat_template.jinja");

/// The added tokens of a shape's vocabulary.
pub(crate) fn special(shape: &Shape) -> Special {
    match shape.architecture {
        Architecture::Glm4v => GLM_4_1V,
        Architecture::GlmAsr => GLM_ASR,
    }
}

/// `config.json`.
pub(crate) fn model(shape: &Shape, stored_as: StoredAs) -> String {
    format!("{:#}\n", shape.config(stored_as.torch_name()))
}

/// `generation_config.json`.
pub(crate) fn generation(shape: &Shape) -> String {
    let ends = match shape.architecture {
        Architecture::Glm4v => &EOS_IDS[..],
        Architecture::GlmAsr => &ASR_EOS_IDS,
    };
    let config = json!({ "eos_token_id": ends, "pad_token_id": special(shape).id_of(EOS), "do_sample": false });
    format!("{config:#}\n")
}

/// `preprocessor_config.json`: GLM-4.1V's bounds, at most 6144 picture tokens.
pub(crate) fn preprocessor() -> String {
    let config = json!({
        "image_processor_type": "Glm4vImageProcessor",
        "processor_class": "Glm4vProcessor",
        "do_convert_rgb": true,
        "do_resize": true,
        "resample": 3,
        "size": { "shortest_edge": 112 * 112, "longest_edge": 9_633_792 },
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "patch_size": Shape::PATCH,
        "temporal_patch_size": Shape::TEMPORAL_PATCH,
        "merge_size": Shape::MERGE,
    });
    format!("{config:#}\n")
}

/// `processor_config.json`: how GLM-ASR hears, as its processor writes it.
pub(crate) fn processor() -> String {
    let config = json!({
        "audio_token": "<|pad|>",
        "default_transcription_prompt": "Please transcribe this audio into text",
        "feature_extractor": {
            "chunk_length": 30,
            "dither": 0.0,
            "feature_extractor_type": "WhisperFeatureExtractor",
            "feature_size": 128,
            "hop_length": 160,
            "n_fft": 400,
            "n_samples": 480_000,
            "nb_max_frames": 3000,
            "padding_side": "right",
            "padding_value": 0.0,
            "return_attention_mask": false,
            "sampling_rate": 16_000,
        },
        "max_audio_len": 655,
        "processor_class": "GlmAsrProcessor",
    });
    format!("{config:#}\n")
}

/// `tokenizer_config.json`.
pub(crate) fn tokenizer(shape: &Shape) -> String {
    let positions = &shape.config("bfloat16")["text_config"]["max_position_embeddings"];
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": EOS,
        "pad_token": EOS,
        "padding_side": "left",
        "model_max_length": positions,
        "clean_up_tokenization_spaces": false,
    });
    format!("{config:#}\n")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_config_names_the_tokenizer_s_ids() {
        let shape = Shape::named("glm-4.1v-9b").unwrap();
        let config: Value = serde_json::from_str(&model(&shape, StoredAs::Bf16)).unwrap();
        for (field, token) in [
            ("image_start_token_id", "<|begin_of_image|>"),
            ("image_end_token_id", "<|end_of_image|>"),
            ("image_token_id", "<|image|>"),
            ("video_start_token_id", "<|begin_of_video|>"),
            ("video_end_token_id", "<|end_of_video|>"),
            ("video_token_id", "<|video|>"),
        ] {
            assert_eq!(config[field], GLM_4_1V.id_of(token), "{field}");
        }
        assert_eq!(config["text_config"]["eos_token_id"], json!(EOS_IDS));
        assert_eq!(config["text_config"]["pad_token_id"], GLM_4_1V.id_of(EOS));
    }

    #[test]
    fn the_config_of_glm_asr_names_its_tokenizer_s_ids() {
        let shape = Shape::named("glm-asr-nano").unwrap();
        let config: Value = serde_json::from_str(&model(&shape, StoredAs::Bf16)).unwrap();
        assert_eq!(config["audio_token_id"], GLM_ASR.id_of("<|pad|>"));
        assert_eq!(config["text_config"]["eos_token_id"], json!(ASR_EOS_IDS));
        assert_eq!(config["text_config"]["pad_token_id"], GLM_ASR.id_of(EOS));
    }

    #[test]
    fn a_picture_may_have_6144_tokens_of_four_patches_each() {
        let config: Value = serde_json::from_str(&preprocessor()).unwrap();
        let tokens = 6144;
        // Two frames of a picture count, so the bound is on 2·h·w.
        assert_eq!(config["size"]["longest_edge"], tokens * 2 * (Shape::PATCH * Shape::MERGE).pow(2));
    }
}
