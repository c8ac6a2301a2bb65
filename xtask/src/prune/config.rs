//! `config.json` of a smaller checkpoint.

use autoglm_text::TextConfig;
use serde_json::{Map, Value, json};

/// Fields of a decoder that mean in `glm4` what they mean in `glm4v`.
const SHARED: &[&str] = &[
    "attention_dropout",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "hidden_act",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "pad_token_id",
    "rms_norm_eps",
    "torch_dtype",
    "use_cache",
    "vocab_size",
];

/// Sets a field of the decoder wherever the file has it: in `text_config`, at the top level, or, as in July 2025, in
/// both.
pub(super) fn set(config: &mut Value, field: &str, value: &Value) {
    let nested = config.get("text_config").is_some_and(Value::is_object);
    if let Some(text) = config.get_mut("text_config").and_then(Value::as_object_mut) {
        text.insert(field.to_owned(), value.clone());
    }
    if let Some(root) = config.as_object_mut()
        && (!nested || root.contains_key(field))
    {
        root.insert(field.to_owned(), value.clone());
    }
}

/// The decoder alone as `Glm4ForCausalLM`. Equal positions on all three axes turn M-RoPE into plain RoPE.
pub(super) fn text_only(config: &Value, text: &TextConfig) -> Value {
    let field = |name: &str| {
        config.get("text_config").and_then(|text| text.get(name)).or_else(|| config.get(name)).filter(|v| !v.is_null())
    };
    let mut glm4: Map<String, Value> =
        SHARED.iter().filter_map(|name| Some(((*name).to_owned(), field(name)?.clone()))).collect();
    let (theta, factor) = (text.rope_theta(), text.rotary_dim() as f64 / text.head_dim as f64);
    let own = json!({
        "architectures": ["Glm4ForCausalLM"],
        "model_type": "glm4",
        "attention_bias": text.attention_bias,
        "head_dim": text.head_dim,
        "rms_norm_eps": field("rms_norm_eps").cloned().unwrap_or_else(|| json!(1e-5)),
        "tie_word_embeddings": text.tie_word_embeddings,
        "rope_parameters": { "rope_type": "default", "rope_theta": theta, "partial_rotary_factor": factor },
        // Where transformers 4 looks for them.
        "rope_theta": theta,
        "partial_rotary_factor": factor,
        // What the published model has where the file says nothing, which is not what Glm4Config has.
        "max_position_embeddings": text.max_position_embeddings,
    });
    if let Value::Object(own) = own {
        glm4.extend(own);
    }
    Value::Object(glm4)
}

/// Takes everything about sounds out.
pub(super) fn without_ears(config: &mut Value) {
    if let Some(root) = config.as_object_mut() {
        root.retain(|key, _| !key.starts_with("audio_"));
    }
}

/// Keeps what lists say of the layers that stay.
pub(super) fn keep_layers(config: &mut Value, kept: &[usize]) {
    set(config, "num_hidden_layers", &json!(kept.len()));
    let lists = [config.pointer_mut("/text_config/layer_types")];
    for list in lists.into_iter().flatten() {
        if let Some(kinds) = list.as_array() {
            *list = kept.iter().filter_map(|layer| kinds.get(*layer).cloned()).collect();
        }
    }
}
