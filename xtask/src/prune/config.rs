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
    "initializer_range",
    "pad_token_id",
    "torch_dtype",
    "use_cache",
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
    let (theta, mut factor) = (text.rope_theta(), text.rotary_dim() as f64 / text.head_dim as f64);
    // Readers multiply and round down.
    if ((text.head_dim as f64 * factor) as usize) < text.rotary_dim() {
        factor = factor.next_up();
    }
    // Where nothing is said, Glm4Config would put in ids of its own.
    for id in ["bos_token_id", "eos_token_id", "pad_token_id"] {
        glm4.entry(id).or_insert(Value::Null);
    }
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
        "vocab_size": text.vocab_size,
        "hidden_size": text.hidden_size,
        "intermediate_size": text.intermediate_size,
        "num_hidden_layers": text.num_hidden_layers,
        "num_attention_heads": text.num_attention_heads,
        "num_key_value_heads": text.num_key_value_heads,
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
    for at in ["/text_config/layer_types", "/layer_types"] {
        let Some(list) = config.pointer_mut(at) else { continue };
        if let Some(kinds) = list.as_array() {
            *list = kept.iter().filter_map(|layer| kinds.get(*layer).cloned()).collect();
        }
    }
}
