//! The decoder as llama.cpp's architecture `glm4`, which has M-RoPE where the file has its sections.

use autoglm::Inventory;
use autoglm_text::{Family, TextConfig};

use super::container::{Value, Values};
use super::item::{Item, Order};
use super::kind::{Kind, Plan, of_rows};
use crate::error::{Error, Result};

/// A layer's tensors: what the checkpoint calls them and what the file does.
const LAYER: &[(&str, &str)] = &[
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("post_self_attn_layernorm", "post_attention_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    // Gate and up in one piece, in the order that both sides take apart.
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("post_mlp_layernorm", "post_ffw_norm"),
];

/// Whether llama.cpp turns queries and keys as the checkpoint does.
///
/// # Errors
/// [`Error::Usage`] for sections that it takes for plain RoPE: those without time or without rows.
pub(super) fn check(text: &TextConfig) -> Result<()> {
    let sections = text.mrope_section();
    let read = sections.len() >= 2 && sections[..2].iter().all(|pairs| *pairs > 0);
    match text.family != Family::Glm4v || read {
        true => Ok(()),
        false => Err(Error::Usage(format!("`gguf` has no place for `mrope_section` {sections:?}"))),
    }
}

/// The decoder's tensors.
///
/// # Errors
/// A tensor has no name in the format.
pub(super) fn items(inventory: &Inventory, text: &TextConfig, plan: Plan) -> Result<Vec<Item>> {
    let of_decoder = |name: &str| name.starts_with("lm_head.") || name.starts_with(&format!("{}.", text.prefix()));
    let specs = inventory.tensors.iter().filter(|spec| of_decoder(&spec.name));
    let items = specs.map(|spec| {
        let (name, suffix) = spec.name.rsplit_once('.').unwrap_or((&spec.name, ""));
        let named = name_of(name, text.prefix()).ok_or_else(|| Error::Unnamed { tensor: spec.name.clone() })?;
        let head = named == "output" || text.tie_word_embeddings && named == "token_embd";
        let kind = match spec.shape[..] {
            [_, columns] if head => of_rows(plan.finer(), columns),
            [_, columns] => of_rows(plan.matrices, columns),
            _ => Kind::Float(autoglm_core::FloatType::F32),
        };
        let order = match name.rsplit('.').next() {
            // llama.cpp turns (j, j + half) under M-RoPE, and (2j, 2j + 1), as the checkpoint has it, without.
            Some("q_proj" | "k_proj") if text.family == Family::Glm4v => {
                Order::Halves { head: text.head_dim, turned: text.rotary_dim() }
            }
            _ => Order::Stored,
        };
        Ok(Item {
            name: format!("{named}.{suffix}"),
            source: spec.name.clone(),
            shape: spec.shape.clone(),
            kind,
            order,
        })
    });
    items.collect()
}

/// What the file calls the tensors of `name`.
fn name_of(name: &str, prefix: &str) -> Option<String> {
    if name == "lm_head" {
        return Some("output".to_owned());
    }
    match name.strip_prefix(prefix)?.strip_prefix('.')? {
        "embed_tokens" => Some("token_embd".to_owned()),
        "norm" => Some("output_norm".to_owned()),
        inner => {
            let (index, part) = inner.strip_prefix("layers.")?.split_once('.')?;
            let (_, named) = LAYER.iter().find(|(theirs, _)| *theirs == part)?;
            Some(format!("blk.{index}.{named}"))
        }
    }
}

/// What the file says about the decoder.
pub(super) fn values(text: &TextConfig) -> Values {
    let mut values = vec![
        ("block_count", Value::size(text.num_hidden_layers)),
        ("context_length", Value::size(text.max_position_embeddings)),
        ("embedding_length", Value::size(text.hidden_size)),
        ("feed_forward_length", Value::size(text.intermediate_size)),
        ("vocab_size", Value::size(text.vocab_size)),
        ("attention.head_count", Value::size(text.num_attention_heads)),
        ("attention.head_count_kv", Value::size(text.num_key_value_heads)),
        ("attention.key_length", Value::size(text.head_dim)),
        ("attention.value_length", Value::size(text.head_dim)),
        ("attention.layer_norm_rms_epsilon", Value::F32(text.rms_norm_eps)),
        ("rope.freq_base", Value::F32(text.rope_theta() as f32)),
        ("rope.dimension_count", Value::size(text.rotary_dim())),
    ];
    if text.family == Family::Glm4v {
        // Pairs that follow time, row and column, and a fourth axis that only others have.
        let mut sections: Vec<i32> =
            text.mrope_section().iter().map(|pairs| i32::try_from(*pairs).unwrap_or(i32::MAX)).collect();
        sections.resize(4, 0);
        values.push(("rope.dimension_sections", Value::I32s(sections)));
    }
    values.into_iter().map(|(name, value)| (format!("glm4.{name}"), value)).collect()
}
