//! Token ids where files of a checkpoint name them.

use std::collections::HashMap;

use autoglm_text::Family;
use serde_json::{Value, json};

/// Fields of `generation_config.json` and of post-processors that list ids, in lists of any depth.
const LISTS: &[&str] =
    &["bad_words_ids", "begin_suppress_tokens", "force_words_ids", "ids", "pad_id", "suppress_tokens"];

/// Every id in `value`, numbers that are none passed over.
pub(super) fn named(value: &Value) -> Vec<u32> {
    let mut ids = Vec::new();
    visit(&mut value.clone(), &mut |value| ids.extend(id(value)));
    ids
}

/// Gives every id in `value` its new number. One without, as there are beyond the embedding table, stays beyond it.
pub(super) fn renumber(value: &mut Value, new: &HashMap<u32, u32>) {
    visit(value, &mut |value| renumber_one(value, new));
}

/// The same of one number.
pub(super) fn renumber_one(value: &mut Value, new: &HashMap<u32, u32>) {
    if let Some(new) = id(value).and_then(|id| new.get(&id)) {
        *value = json!(new);
    }
}

fn id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

/// Shows `see` what stands where an id belongs.
fn visit(value: &mut Value, see: &mut dyn FnMut(&mut Value)) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(|value| visit(value, see)),
        Value::Object(fields) => {
            for (key, value) in fields {
                let ends = ["_token_id", "_token_ids", "_token_index"];
                match (key.as_str(), value) {
                    (key, value) if ends.iter().any(|end| key.ends_with(end)) || LISTS.contains(&key) => {
                        numbers(value, see);
                    }
                    // [place, id], and [[id, …], bias].
                    ("forced_decoder_ids", value) => inside(value, 1, see),
                    ("sequence_bias", value) => inside(value, 0, see),
                    // The ends that `BertProcessing` and its like put to a text, each as [token, id].
                    ("cls" | "sep", Value::Array(pair)) => pair.iter_mut().skip(1).for_each(|id| numbers(id, see)),
                    (_, value) => visit(value, see),
                }
            }
        }
        _ => {}
    }
}

fn numbers(value: &mut Value, see: &mut dyn FnMut(&mut Value)) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(|value| numbers(value, see)),
        value => see(value),
    }
}

fn inside(list: &mut Value, place: usize, see: &mut dyn FnMut(&mut Value)) {
    for entry in list.as_array_mut().into_iter().flatten() {
        if let Some(value) = entry.get_mut(place) {
            numbers(value, see);
        }
    }
}

/// `config.json` of a model with `rows` rows, with the ids that readers take where it names none: they are right in the
/// vocabulary that was trained, and in no other.
pub(in crate::prune) fn spelled_out(mut config: Value, family: Family, rows: usize) -> Value {
    let usual = match family {
        Family::Glm4v => vec![
            ("image_token_id", json!(151_343)),
            ("video_token_id", json!(151_344)),
            ("image_start_token_id", json!(151_339)),
            ("image_end_token_id", json!(151_340)),
            ("video_start_token_id", json!(151_341)),
            ("video_end_token_id", json!(151_342)),
        ],
        Family::Glm4 => {
            vec![("pad_token_id", json!(151_329)), ("eos_token_id", json!([151_329, 151_336, 151_338]))]
        }
        Family::GlmAsr => vec![("audio_token_id", json!(59_260))],
    };
    let fill = |fields: Option<&mut Value>, field: &str, ids: Value| {
        let Some(fields) = fields.and_then(Value::as_object_mut) else { return };
        // A pad of nothing is none, but for an end of nothing readers take the usual one.
        let absent = |value: &Value| field == "eos_token_id" && value.is_null();
        let mut inside = true;
        numbers(&mut ids.clone(), &mut |value| inside &= id(value).is_some_and(|id| (id as usize) < rows));
        if inside && fields.get(field).is_none_or(absent) {
            fields.insert(field.to_owned(), ids);
        }
    };
    for (field, ids) in usual {
        fill(Some(&mut config), field, ids);
    }
    if family == Family::GlmAsr {
        fill(config.get_mut("text_config"), "eos_token_id", json!([59_246, 59_253, 59_255]));
    }
    config
}
