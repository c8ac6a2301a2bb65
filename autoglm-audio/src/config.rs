//! The acoustic encoder's blueprint, read from the `audio_config` of a `config.json`.
//!
//! Field names are the file's. A field that is absent has the value of transformers' `GlmAsrEncoderConfig`,
//! because files leave out what equals it.

use autoglm_core::fields::{Fields, refuse};
use autoglm_core::rope::{Pairing, Rope};
use autoglm_core::{Member, TensorSpec};
use serde_json::{Value, json};

use crate::{FeatureConfig, Result};

/// The widest row or feed-forward network that is accepted, a hundred times the real model's.
const MAX_WIDTH: u64 = 1 << 17;
/// The deepest encoder that is accepted. Names of tensors are formed from this number.
const MAX_DEPTH: u64 = 1024;
/// Neighbouring frames that a convolution reads.
pub(crate) const TAPS: usize = 3;
/// Encoder rows that the adapter joins into one.
pub(crate) const JOINED: usize = 4;

/// An encoder's sizes and constants, and those of the adapter behind it. Every value was checked when it was
/// read.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AudioConfig {
    /// Width c of a row.
    pub hidden_size: usize,
    /// Width f of the feed-forward network, and of four rows side by side.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Query heads h, each of width d = c / h.
    pub num_attention_heads: usize,
    /// Key/value heads.
    pub num_key_value_heads: usize,
    /// Bands of frequencies in a frame.
    pub num_mel_bins: usize,
    /// Width of a decoder's row, which the adapter makes.
    pub out_hidden_size: usize,
    rope_theta: f64,
    rotary_dim: usize,
}

impl AudioConfig {
    /// Reads the `audio_config` and the `projector_hidden_act` of `config`, whose decoder has rows of
    /// `out_hidden_size`. Nothing where there is no `audio_config`.
    ///
    /// # Errors
    /// [`autoglm_core::Error::Config`] naming the field whose value no encoder of the family can have.
    pub fn from_json(config: &Value, out_hidden_size: usize) -> Result<Option<Self>> {
        let Some(audio) = config.get("audio_config").filter(|audio| audio.is_object()) else {
            return Ok(None);
        };
        let fields = Fields(Some(audio));
        fields.only("model_type", &json!("glmasr_encoder"), "only GLM-ASR's encoder is known")?;
        fields.only("hidden_act", &json!("gelu"), "only gelu is known in this encoder")?;
        Fields(Some(config)).only("projector_hidden_act", &json!("gelu"), "only gelu is known in this adapter")?;
        let hidden_size = fields.size("hidden_size", 1280, MAX_WIDTH)?;
        let intermediate_size = fields.size("intermediate_size", 5120, MAX_WIDTH)?;
        if intermediate_size != JOINED * hidden_size {
            let why = "must be four times hidden_size: the adapter reads four rows side by side";
            return Err(refuse("intermediate_size", intermediate_size, why).into());
        }
        let num_attention_heads = fields.size("num_attention_heads", 20, MAX_WIDTH)?;
        if !hidden_size.is_multiple_of(num_attention_heads) {
            return Err(refuse("num_attention_heads", num_attention_heads, "does not divide hidden_size").into());
        }
        let num_key_value_heads = fields.size("num_key_value_heads", num_attention_heads as u64, MAX_WIDTH)?;
        if !num_attention_heads.is_multiple_of(num_key_value_heads) {
            let why = "does not divide num_attention_heads";
            return Err(refuse("num_key_value_heads", num_key_value_heads, why).into());
        }
        let head_dim = hidden_size / num_attention_heads;
        if let Some(got) = fields.get("head_dim").filter(|got| got.as_u64() != Some(head_dim as u64)) {
            return Err(refuse("head_dim", got, "must be hidden_size / num_attention_heads").into());
        }
        let rope = fields.inside("rope_parameters");
        rope.only("rope_type", &json!("default"), "only the default scheme is known in this encoder")?;
        // Files of before transformers 5 have the factor beside the other fields.
        let beside = fields.positive("partial_rotary_factor", 0.5)?;
        let factor = rope.positive("partial_rotary_factor", beside)?;
        if factor > 1.0 {
            return Err(refuse("partial_rotary_factor", factor, "must be at most one").into());
        }
        let config = Self {
            hidden_size,
            intermediate_size,
            num_hidden_layers: fields.size("num_hidden_layers", 32, MAX_DEPTH)?,
            num_attention_heads,
            num_key_value_heads,
            num_mel_bins: fields.size("num_mel_bins", 128, MAX_WIDTH)?,
            out_hidden_size,
            rope_theta: rope.positive("rope_theta", fields.positive("rope_theta", 10_000.0)?)?,
            rotary_dim: (head_dim as f64 * factor) as usize,
        };
        config.rope()?;
        Ok(Some(config))
    }

    /// Width d of a head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// The rotation of queries and keys: half of a head turns, in pairs of (j, j + half).
    ///
    /// # Errors
    /// [`autoglm_core::Error::Config`] when theta or the width cannot make angles; not after
    /// [`AudioConfig::from_json`], which tried.
    pub fn rope(&self) -> Result<Rope> {
        Ok(Rope::plain(self.rope_theta, self.rotary_dim, Pairing::HalfSplit)?)
    }

    /// Refuses features that this encoder does not read.
    ///
    /// # Errors
    /// [`autoglm_core::Error::Config`] naming the field of the feature extractor.
    pub fn check_features(&self, features: &FeatureConfig) -> Result<()> {
        if features.feature_size != self.num_mel_bins {
            let why = "differs from num_mel_bins of the encoder";
            return Err(refuse("feature_size", features.feature_size, why).into());
        }
        Ok(())
    }

    /// Every tensor that encoder and adapter read, under their prefixes.
    #[must_use]
    pub fn expected_tensors(&self, names: Prefixes) -> Vec<TensorSpec> {
        let (c, f, out) = (self.hidden_size, self.intermediate_size, self.out_hidden_size);
        let (q, kv) = (c, self.num_key_value_heads * self.head_dim());
        let mut all = Vec::new();
        let mut push = |name: String, shape: &[usize]| all.push(TensorSpec::new(name, shape));
        let mut both = |module: String, shape: &[usize]| {
            push(format!("{module}.weight"), shape);
            push(format!("{module}.bias"), &shape[..1]);
        };
        let tower = names.tower;
        both(format!("{tower}.conv1"), &[c, self.num_mel_bins, TAPS]);
        both(format!("{tower}.conv2"), &[c, c, TAPS]);
        both(format!("{tower}.norm"), &[c]);
        both(format!("{}.linear_1", names.adapter), &[2 * out, f]);
        both(format!("{}.linear_2", names.adapter), &[out, 2 * out]);
        for layer in 0..self.num_hidden_layers {
            let at = |name: &str| format!("{tower}.layers.{layer}.{name}");
            both(at("input_layernorm"), &[c]);
            both(at("post_attention_layernorm"), &[c]);
            both(at("self_attn.q_proj"), &[q, c]);
            both(at("self_attn.v_proj"), &[kv, c]);
            both(at("self_attn.o_proj"), &[c, q]);
            both(at("mlp.fc1"), &[f, c]);
            both(at("mlp.fc2"), &[c, f]);
        }
        // Keys alone have no bias: softmax would not notice it.
        for layer in 0..self.num_hidden_layers {
            push(format!("{tower}.layers.{layer}.self_attn.k_proj.weight"), &[kv, c]);
        }
        all
    }

    /// The first convolution, as a linear map over three frames in (band, frame) order.
    pub(crate) fn conv1(&self, tower: &str) -> Member {
        Member::new(format!("{tower}.conv1"), self.hidden_size, TAPS * self.num_mel_bins).with_bias(true)
    }

    /// The second convolution, as a linear map over three rows in (c, row) order.
    pub(crate) fn conv2(&self, tower: &str) -> Member {
        Member::new(format!("{tower}.conv2"), self.hidden_size, TAPS * self.hidden_size).with_bias(true)
    }
}

/// Where the tensors of the encoder and of the adapter live in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefixes {
    /// Of the encoder.
    pub tower: &'static str,
    /// Of the adapter.
    pub adapter: &'static str,
}

impl Prefixes {
    /// As transformers 5 holds them in memory, and as fused checkpoints have them.
    pub const NESTED: Self = Self { tower: "model.audio_tower", adapter: "model.multi_modal_projector" };
    /// As the files of GLM-ASR have them since December 2025.
    pub const FLAT: Self = Self { tower: "audio_tower", adapter: "multi_modal_projector" };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_encoder_has_the_parameters_of_the_release() {
        let config = AudioConfig::from_json(&json!({"audio_config": {}}), 2048).unwrap().unwrap();
        let tensors = config.expected_tensors(Prefixes::FLAT);
        let count = |prefix: &str| -> usize {
            let of = tensors.iter().filter(|t| t.name.starts_with(prefix));
            of.map(|t| t.shape.iter().product::<usize>()).sum()
        };
        assert_eq!((count("audio_tower."), count("multi_modal_projector.")), (635_048_960, 29_366_272));
        assert_eq!((config.head_dim(), config.rotary_dim), (64, 32));
        assert_eq!(AudioConfig::from_json(&json!({"audio_config": null}), 2048).unwrap(), None);
    }

    #[test]
    fn values_no_encoder_can_have_are_refused_by_name() {
        let cases = [
            ("model_type", json!("whisper")),
            ("hidden_act", json!("relu")),
            ("hidden_size", json!(0)),
            ("hidden_size", json!(1281)),
            ("hidden_size", json!(u64::MAX)),
            ("intermediate_size", json!(4096)),
            ("num_attention_heads", json!(7)),
            ("num_key_value_heads", json!(3)),
            ("num_hidden_layers", json!(1_000_000)),
            ("head_dim", json!(65)),
            ("rope_parameters", json!({"rope_type": "yarn"})),
            ("rope_parameters", json!({"rope_theta": 0.5})),
            ("rope_parameters", json!({"partial_rotary_factor": 2.0})),
            ("rope_parameters", json!({"partial_rotary_factor": 0.05})),
            ("num_mel_bins", json!("128")),
        ];
        for (field, value) in cases {
            let mut audio = json!({});
            audio[field] = value.clone();
            let refused = AudioConfig::from_json(&json!({"audio_config": audio}), 2048);
            let named = matches!(&refused, Err(crate::Error::Core(autoglm_core::Error::Config { .. })));
            assert!(named, "{field} = {value}: {refused:?}");
        }
    }
}
