//! The small JSON files of a checkpoint, as transformers 5 writes them.

use serde_json::json;

use super::shape::{CHANNELS, MERGE, PATCH, Shape, TEMPORAL_PATCH};
use super::shards::StoredAs;
use super::tokenizer::{EOS, EOS_IDS, id_of};

pub(crate) const CHAT_TEMPLATE: &str = include_str!("../../../models/autoglm-tiny/chat_template.jinja");

const POSITIONS: usize = 65_536;
const RMS_NORM_EPS: f64 = 1e-5;

/// `config.json`.
pub(crate) fn model(shape: &Shape, stored_as: StoredAs) -> String {
    let dtype = stored_as.torch_name();
    let vision = &shape.vision;
    let config = json!({
        "architectures": ["Glm4vForConditionalGeneration"],
        "model_type": "glm4v",
        "dtype": dtype,
        "tie_word_embeddings": false,
        "image_start_token_id": id_of("<|begin_of_image|>"),
        "image_end_token_id": id_of("<|end_of_image|>"),
        "image_token_id": id_of("<|image|>"),
        "video_start_token_id": id_of("<|begin_of_video|>"),
        "video_end_token_id": id_of("<|end_of_video|>"),
        "video_token_id": id_of("<|video|>"),
        "text_config": {
            "model_type": "glm4v_text",
            "dtype": dtype,
            "attention_dropout": 0.0,
            "eos_token_id": EOS_IDS,
            "hidden_act": "silu",
            "hidden_size": shape.hidden,
            "initializer_range": 0.02,
            "intermediate_size": shape.intermediate,
            "max_position_embeddings": POSITIONS,
            "num_attention_heads": shape.heads,
            "num_hidden_layers": shape.layers,
            "num_key_value_heads": shape.kv_heads,
            "pad_token_id": id_of(EOS),
            "rms_norm_eps": RMS_NORM_EPS,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "partial_rotary_factor": 0.5,
                "mrope_section": shape.mrope_section,
            },
            "use_cache": true,
            "vocab_size": shape.vocab,
        },
        "vision_config": {
            "model_type": "glm4v_vision",
            "dtype": dtype,
            "attention_bias": false,
            "attention_dropout": 0.0,
            "depth": vision.depth,
            "hidden_act": "silu",
            "hidden_size": vision.hidden,
            "image_size": vision.image_size,
            "in_channels": CHANNELS,
            "initializer_range": 0.02,
            "intermediate_size": vision.intermediate,
            "num_heads": vision.heads,
            "out_hidden_size": shape.hidden,
            "patch_size": PATCH,
            "rms_norm_eps": RMS_NORM_EPS,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": TEMPORAL_PATCH,
        },
    });
    format!("{config:#}\n")
}

/// `generation_config.json`.
pub(crate) fn generation() -> String {
    let config = json!({ "eos_token_id": EOS_IDS, "pad_token_id": id_of(EOS), "do_sample": false });
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
        "patch_size": PATCH,
        "temporal_patch_size": TEMPORAL_PATCH,
        "merge_size": MERGE,
    });
    format!("{config:#}\n")
}

/// `tokenizer_config.json`.
pub(crate) fn tokenizer() -> String {
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": EOS,
        "pad_token": EOS,
        "padding_side": "left",
        "model_max_length": POSITIONS,
        "clean_up_tokenization_spaces": false,
    });
    format!("{config:#}\n")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::shape::Name;
    use super::*;

    #[test]
    fn the_config_says_what_the_real_one_says() {
        let config: Value = serde_json::from_str(&model(&Shape::named(Name::Glm9b), StoredAs::Bf16)).unwrap();
        assert_eq!(config["image_token_id"], 151_343);
        assert_eq!(config["text_config"]["eos_token_id"], json!([151_329, 151_336, 151_338, 151_348]));
        assert_eq!(config["text_config"]["rope_parameters"]["mrope_section"], json!([8, 12, 12]));
        assert_eq!(config["text_config"]["rms_norm_eps"], 1e-5);
        assert_eq!(config["vision_config"]["out_hidden_size"], 4096);
        assert_eq!(config["dtype"], "bfloat16");
    }

    #[test]
    fn a_picture_may_have_6144_tokens_of_four_patches_each() {
        let config: Value = serde_json::from_str(&preprocessor()).unwrap();
        let tokens = 6144;
        // Two frames of a picture count, so the bound is on 2·h·w.
        assert_eq!(config["size"]["longest_edge"], tokens * 2 * (PATCH * MERGE) * (PATCH * MERGE));
    }
}
