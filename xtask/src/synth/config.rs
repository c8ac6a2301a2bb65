//! The small JSON files of a checkpoint, as transformers 5 writes them.

use autoglm::Shape;
use serde_json::json;

use super::shards::StoredAs;
use super::tokenizer::{EOS, EOS_IDS, id_of};

pub(crate) const CHAT_TEMPLATE: &str = include_str!("../../../models/autoglm-tiny/chat_template.jinja");

const POSITIONS: usize = 65_536;

/// `config.json`.
pub(crate) fn model(shape: &Shape, stored_as: StoredAs) -> String {
    format!("{:#}\n", shape.config(stored_as.torch_name()))
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
        "patch_size": Shape::PATCH,
        "temporal_patch_size": Shape::TEMPORAL_PATCH,
        "merge_size": Shape::MERGE,
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
            assert_eq!(config[field], id_of(token), "{field}");
        }
        assert_eq!(config["text_config"]["eos_token_id"], json!(EOS_IDS));
        assert_eq!(config["text_config"]["pad_token_id"], id_of(EOS));
    }

    #[test]
    fn a_picture_may_have_6144_tokens_of_four_patches_each() {
        let config: Value = serde_json::from_str(&preprocessor()).unwrap();
        let tokens = 6144;
        // Two frames of a picture count, so the bound is on 2·h·w.
        assert_eq!(config["size"]["longest_edge"], tokens * 2 * (Shape::PATCH * Shape::MERGE).pow(2));
    }
}
