//! The decoder's blueprint, read from `config.json`.
//!
//! Two generations of files exist: July 2025 has the text fields at the top level (and again in
//! `text_config`) with `rope_theta`, `rope_scaling` and `partial_rotary_factor` beside them;
//! transformers 5 nests everything in `text_config` and the rotary fields in `rope_parameters`.

use autoglm_core::rope::{Pairing, Rope};
use autoglm_core::{Member, TensorSpec};
use serde_json::Value;

use crate::{Error, Result};

/// The members of the family this crate decodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `glm4v`: GLM-4.1V and AutoGLM-Phone; M-RoPE.
    Glm4v,
    /// `glm4`: GLM-4-0414; the same layer with one-dimensional RoPE.
    Glm4,
    /// `glmasr`: GLM-ASR, whose decoder is a Llama: no norm behind attention and feed-forward network, gate and up
    /// apart, and all of a head turned in pairs of (j, j + half).
    GlmAsr,
}

impl Family {
    /// A layer's norms, in the order they are applied.
    pub(crate) fn norms(self) -> &'static [&'static str] {
        match self {
            Self::Glm4v | Self::Glm4 => {
                &["input_layernorm", "post_self_attn_layernorm", "post_attention_layernorm", "post_mlp_layernorm"]
            }
            Self::GlmAsr => &["input_layernorm", "post_attention_layernorm"],
        }
    }

    /// What transformers takes for absent fields.
    fn defaults(self) -> Defaults {
        match self {
            Self::Glm4v => Defaults {
                vocab_size: 151_552,
                hidden_size: 4096,
                intermediate_size: 13_696,
                num_hidden_layers: 40,
                num_attention_heads: 32,
                num_key_value_heads: 2,
                max_position_embeddings: 32_768,
                rms_norm_eps: 1e-5,
                partial_rotary_factor: 1.0,
                attention_bias: true,
                tie_word_embeddings: false,
            },
            Self::Glm4 => Defaults {
                max_position_embeddings: 131_072,
                rms_norm_eps: 1.5625e-7,
                partial_rotary_factor: 0.5,
                ..Self::Glm4v.defaults()
            },
            Self::GlmAsr => Defaults {
                vocab_size: 59_264,
                hidden_size: 2048,
                intermediate_size: 6144,
                num_hidden_layers: 28,
                num_attention_heads: 16,
                num_key_value_heads: 4,
                max_position_embeddings: 8192,
                rms_norm_eps: 1e-5,
                partial_rotary_factor: 1.0,
                attention_bias: false,
                tie_word_embeddings: true,
            },
        }
    }
}

struct Defaults {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    partial_rotary_factor: f64,
    attention_bias: bool,
    tie_word_embeddings: bool,
}

/// Where a decoder's tensors live in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Names {
    prefix: &'static str,
    head: &'static str,
}

/// A decoder's sizes and constants. Every value was checked when it was read.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TextConfig {
    /// Which member of the family.
    pub family: Family,
    /// Rows of the embedding table and width of the logits.
    pub vocab_size: usize,
    /// Width c of a row.
    pub hidden_size: usize,
    /// Width f of the gated feed-forward network.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Query heads h.
    pub num_attention_heads: usize,
    /// Key/value heads.
    pub num_key_value_heads: usize,
    /// Width d of a head.
    pub head_dim: usize,
    /// Whether q, k and v have a bias.
    pub attention_bias: bool,
    /// Added to the mean square in every norm.
    pub rms_norm_eps: f32,
    /// Positions the checkpoint was trained for.
    pub max_position_embeddings: usize,
    /// Whether the head is the embedding table.
    pub tie_word_embeddings: bool,
    rope_theta: f64,
    rotary_dim: usize,
    mrope_section: Vec<usize>,
    names: Names,
}

impl TextConfig {
    /// Reads the text part of a `config.json`.
    ///
    /// # Errors
    /// - [`Error::ModelType`] for a model this crate does not decode.
    /// - [`autoglm_core::Error::Config`] naming the field whose value no model of the family can have.
    pub fn from_json(config: &Value) -> Result<Self> {
        let family = match config.get("model_type").and_then(Value::as_str) {
            Some("glm4v") => Family::Glm4v,
            Some("glm4") => Family::Glm4,
            Some("glmasr") => Family::GlmAsr,
            other => return Err(Error::ModelType { got: other.unwrap_or("missing").to_owned() }),
        };
        let fields = Fields { text: config.get("text_config").filter(|v| v.is_object()), root: config };
        let defaults = family.defaults();
        let num_attention_heads = fields.count("num_attention_heads", defaults.num_attention_heads)?;
        let hidden_size = fields.count("hidden_size", defaults.hidden_size)?;
        let head_dim = match fields.get("head_dim") {
            Some(_) => fields.count("head_dim", 0)?,
            None if family == Family::Glm4 => 128,
            None if hidden_size % num_attention_heads == 0 => hidden_size / num_attention_heads,
            None => return Err(refuse("num_attention_heads", &num_attention_heads, "does not divide hidden_size")),
        };
        // transformers reads an explicit null as "one per query head".
        let null = fields.is_null("num_key_value_heads");
        let kv_default = if null { num_attention_heads } else { defaults.num_key_value_heads };
        let num_key_value_heads = fields.count("num_key_value_heads", kv_default)?;
        if num_attention_heads % num_key_value_heads != 0 {
            return Err(refuse("num_key_value_heads", &num_key_value_heads, "does not divide num_attention_heads"));
        }
        if let Some(act) = fields.get("hidden_act")
            && act.as_str() != Some("silu")
        {
            return Err(refuse("hidden_act", act, "only silu is known in this family"));
        }
        let rms_norm_eps = fields.number("rms_norm_eps")?.unwrap_or(defaults.rms_norm_eps);
        if !(rms_norm_eps > 0.0 && rms_norm_eps < 1.0) {
            return Err(refuse("rms_norm_eps", &rms_norm_eps, "must be between zero and one"));
        }
        let rotary = Rotary::read(&fields, defaults.partial_rotary_factor, head_dim)?;
        let attention_bias = fields.flag("attention_bias")?;
        if family == Family::GlmAsr {
            for field in ["attention_bias", "mlp_bias"] {
                if fields.flag(field)? == Some(true) {
                    return Err(refuse(field, "true", "this decoder has no such biases"));
                }
            }
        }
        let config = Self {
            family,
            vocab_size: fields.count("vocab_size", defaults.vocab_size)?,
            hidden_size,
            intermediate_size: fields.count("intermediate_size", defaults.intermediate_size)?,
            num_hidden_layers: fields.count("num_hidden_layers", defaults.num_hidden_layers)?,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            attention_bias: match family {
                // The glm4v attention has its biases whatever the file says.
                Family::Glm4v => true,
                Family::Glm4 | Family::GlmAsr => attention_bias.unwrap_or(defaults.attention_bias),
            },
            rms_norm_eps: rms_norm_eps as f32,
            max_position_embeddings: fields.count("max_position_embeddings", defaults.max_position_embeddings)?,
            tie_word_embeddings: fields.tied(family)?.unwrap_or(defaults.tie_word_embeddings),
            rope_theta: rotary.theta,
            rotary_dim: rotary.dim,
            mrope_section: rotary.sections,
            names: match family {
                Family::Glm4v | Family::GlmAsr => Names { prefix: "model.language_model", head: "lm_head" },
                Family::Glm4 => Names { prefix: "model", head: "lm_head" },
            },
        };
        config.rope()?;
        config.check_widths()?;
        Ok(config)
    }

    /// The rotation of queries and keys.
    ///
    /// # Errors
    /// [`autoglm_core::Error::Config`] when the rotary fields contradict each other; not after
    /// [`TextConfig::from_json`], which tried.
    pub fn rope(&self) -> Result<Rope> {
        Ok(match self.family {
            Family::Glm4v => {
                Rope::sectioned(self.rope_theta, self.rotary_dim, &self.mrope_section, Pairing::Interleaved)?
            }
            Family::Glm4 => Rope::plain(self.rope_theta, self.rotary_dim, Pairing::Interleaved)?,
            Family::GlmAsr => Rope::plain(self.rope_theta, self.rotary_dim, Pairing::HalfSplit)?,
        })
    }

    /// The base of the rotations' frequencies.
    #[must_use]
    pub fn rope_theta(&self) -> f64 {
        self.rope_theta
    }

    /// How many of a head's numbers are turned.
    #[must_use]
    pub fn rotary_dim(&self) -> usize {
        self.rotary_dim
    }

    /// Pairs of dimensions that follow time, row and column, in this order, where positions have all three (`glm4v`).
    #[must_use]
    pub fn mrope_section(&self) -> &[usize] {
        &self.mrope_section
    }

    /// The same decoder where `has` says what tensors the checkpoint has.
    ///
    /// The files of GLM-ASR name the decoder as an older transformers did, and carry a head although its
    /// configuration, where it says nothing, stands for a tied one; the head counts then.
    #[must_use]
    pub fn named_as(mut self, has: impl Fn(&str) -> bool) -> Self {
        if self.family == Family::GlmAsr {
            if has("language_model.model.norm.weight") {
                self.names = Names { prefix: "language_model.model", head: "language_model.lm_head" };
            }
            let heads = [self.names.head, "lm_head", "language_model.lm_head"];
            if let Some(head) = heads.into_iter().find(|head| has(&format!("{head}.weight"))) {
                self.names.head = head;
                self.tie_word_embeddings = false;
            }
        }
        self
    }

    /// Where the decoder's tensors live in the checkpoint.
    #[must_use]
    pub fn prefix(&self) -> &'static str {
        self.names.prefix
    }

    /// Checkpoint path of the output head, without `.weight`.
    pub(crate) fn head_name(&self) -> String {
        if self.tie_word_embeddings { format!("{}.embed_tokens", self.prefix()) } else { self.names.head.into() }
    }

    /// Every tensor the decoder reads. The caller bounds the number of layers by the checkpoint's
    /// number of tensors first.
    #[must_use]
    pub fn expected_tensors(&self) -> Vec<TensorSpec> {
        let (c, f, d) = (self.hidden_size, self.intermediate_size, self.head_dim);
        let (q, kv) = (self.num_attention_heads * d, self.num_key_value_heads * d);
        let spec = |name: String, shape: &[usize]| TensorSpec::new(name, shape);
        let prefix = self.prefix();
        let mut all = vec![
            spec(format!("{prefix}.embed_tokens.weight"), &[self.vocab_size, c]),
            spec(format!("{prefix}.norm.weight"), &[c]),
        ];
        if !self.tie_word_embeddings {
            all.push(spec(format!("{}.weight", self.names.head), &[self.vocab_size, c]));
        }
        for layer in 0..self.num_hidden_layers {
            let at = format!("{prefix}.layers.{layer}");
            for norm in self.family.norms() {
                all.push(spec(format!("{at}.{norm}.weight"), &[c]));
            }
            for (name, out) in [("q_proj", q), ("k_proj", kv), ("v_proj", kv)] {
                all.push(spec(format!("{at}.self_attn.{name}.weight"), &[out, c]));
                if self.attention_bias {
                    all.push(spec(format!("{at}.self_attn.{name}.bias"), &[out]));
                }
            }
            all.push(spec(format!("{at}.self_attn.o_proj.weight"), &[c, q]));
            for map in self.gate_up(&at) {
                all.push(spec(format!("{}.weight", map.name), &[map.out, map.inp]));
            }
            all.push(spec(format!("{at}.mlp.down_proj.weight"), &[c, f]));
        }
        all
    }

    /// The feed-forward network's two maps of one input, in one piece or in two, in the layer at this path.
    pub(crate) fn gate_up(&self, at: &str) -> Vec<Member> {
        let (c, f) = (self.hidden_size, self.intermediate_size);
        match self.family {
            Family::Glm4v | Family::Glm4 => vec![Member::new(format!("{at}.mlp.gate_up_proj"), 2 * f, c)],
            Family::GlmAsr => ["gate_proj", "up_proj"].map(|name| Member::new(format!("{at}.mlp.{name}"), f, c)).into(),
        }
    }

    /// Products of widths that later code forms without looking.
    fn check_widths(&self) -> Result<()> {
        let heads = self.num_attention_heads.checked_mul(self.head_dim);
        let ffn = self.intermediate_size.checked_mul(2);
        for (field, width) in [("num_attention_heads", heads), ("intermediate_size", ffn)] {
            if width.and_then(|w| w.checked_mul(self.hidden_size)).and_then(|n| n.checked_mul(4)).is_none() {
                return Err(refuse(field, "too large", "the layer's weights would not fit into an address space"));
            }
        }
        Ok(())
    }
}

struct Rotary {
    theta: f64,
    dim: usize,
    sections: Vec<usize>,
}

impl Rotary {
    fn read(fields: &Fields<'_>, default_factor: f64, head_dim: usize) -> Result<Self> {
        let parameters = fields.get("rope_parameters").or_else(|| fields.get("rope_scaling"));
        let inner = |key| parameters.and_then(|p| p.get(key));
        for key in ["rope_type", "type"] {
            // The July 2025 files of some relatives call the default scheme "mrope".
            if let Some(kind) = inner(key).filter(|v| !matches!(v.as_str(), Some("default" | "mrope"))) {
                return Err(refuse("rope_type", kind, "only the default scheme is known in this family"));
            }
        }
        let number = |key| match inner(key).filter(|v| !v.is_null()) {
            Some(v) => v.as_f64().map(Some).ok_or_else(|| refuse(key, v, "is no number")),
            None => fields.number(key),
        };
        let theta = number("rope_theta")?.unwrap_or(10_000.0);
        let factor = number("partial_rotary_factor")?.unwrap_or(default_factor);
        if !(factor > 0.0 && factor <= 1.0) {
            return Err(refuse("partial_rotary_factor", &factor, "must be above zero and at most one"));
        }
        let sections = match inner("mrope_section").filter(|v| !v.is_null()) {
            Some(list) => list
                .as_array()
                .and_then(|l| {
                    l.iter().map(|v| v.as_u64().and_then(|n| usize::try_from(n).ok())).collect::<Option<Vec<_>>>()
                })
                .ok_or_else(|| refuse("mrope_section", list, "must be a list of whole numbers"))?,
            None => vec![8, 12, 12],
        };
        Ok(Self { theta, dim: (head_dim as f64 * factor) as usize, sections })
    }
}

/// Looks a field up in `text_config` first and at the top level second.
struct Fields<'a> {
    text: Option<&'a Value>,
    root: &'a Value,
}

impl<'a> Fields<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        let present = |v: &'a Value| v.get(key).filter(|v| !v.is_null());
        self.text.and_then(present).or_else(|| present(self.root))
    }

    /// Whether the head is the embedding table. GLM-ASR's own word for it stands at the top level; a Llama's
    /// default of no, which transformers writes into `text_config`, means nothing there.
    fn tied(&self, family: Family) -> Result<Option<bool>> {
        match family {
            Family::GlmAsr => Fields { text: None, root: self.root }.flag("tie_word_embeddings"),
            Family::Glm4v | Family::Glm4 => self.flag("tie_word_embeddings"),
        }
    }

    fn is_null(&self, key: &str) -> bool {
        self.text.unwrap_or(self.root).get(key).is_some_and(Value::is_null)
    }

    /// A size: a whole number from 1 to 2^31 − 1. An absent one is the default of the published model,
    /// as transformers has it; the tensors' shapes tell whether that was meant.
    fn count(&self, key: &'static str, default: usize) -> Result<usize> {
        let Some(value) = self.get(key) else {
            return Ok(default);
        };
        match value.as_u64().and_then(|n| i32::try_from(n).ok()) {
            Some(n) if n > 0 => Ok(n as usize),
            _ => Err(refuse(key, value, "must be a whole number from 1 to 2147483647")),
        }
    }

    fn number(&self, key: &'static str) -> Result<Option<f64>> {
        self.get(key).map(|v| v.as_f64().ok_or_else(|| refuse(key, v, "is no number"))).transpose()
    }

    fn flag(&self, key: &'static str) -> Result<Option<bool>> {
        self.get(key).map(|v| v.as_bool().ok_or_else(|| refuse(key, v, "must be true or false"))).transpose()
    }
}

fn refuse(field: &'static str, got: &(impl ToString + ?Sized), why: &'static str) -> Error {
    // A hostile file could carry megabytes in one field; the message keeps its head.
    let got = got.to_string().chars().take(80).collect();
    Error::Core(autoglm_core::Error::Config { field, got, why })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn legacy() -> Value {
        json!({"model_type": "glm4v", "vocab_size": 151552, "hidden_size": 4096, "intermediate_size": 13696, "num_hidden_layers": 40,
            "num_attention_heads": 32, "num_key_value_heads": 2, "max_position_embeddings": 65536, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "partial_rotary_factor": 0.5, "rope_scaling": {"type": "default", "mrope_section": [8, 12, 12]}, "hidden_act": "silu"})
    }

    fn nested() -> Value {
        let mut text = legacy();
        let fields = text.as_object_mut().unwrap();
        for key in ["model_type", "rope_theta", "partial_rotary_factor", "rope_scaling"] {
            fields.remove(key);
        }
        fields.insert("rope_parameters".into(), json!({"rope_type": "default", "mrope_section": [8, 12, 12], "partial_rotary_factor": 0.5, "rope_theta": 10000.0}));
        json!({"model_type": "glm4v", "text_config": text})
    }

    #[test]
    fn both_generations_of_files_describe_the_same_decoder() {
        let config = TextConfig::from_json(&legacy()).unwrap();
        assert_eq!(config, TextConfig::from_json(&nested()).unwrap());
        assert_eq!((config.head_dim, config.rotary_dim), (128, 64));
        assert_eq!(config.mrope_section(), [8, 12, 12]);
        // 13 tensors per layer, the embedding, the final norm and the head.
        assert_eq!(config.expected_tensors().len(), 523);
    }

    #[test]
    fn values_no_model_can_have_are_refused_by_name() {
        let cases = [
            ("num_attention_heads", json!(0)),
            ("num_attention_heads", json!(33)),
            ("num_key_value_heads", json!(3)),
            ("hidden_size", json!(-4096)),
            ("hidden_size", json!(1.5)),
            ("hidden_size", json!(1u64 << 40)),
            ("num_hidden_layers", json!("40")),
            ("vocab_size", json!([])),
            ("rms_norm_eps", json!(-1.0)),
            ("rms_norm_eps", json!("1e-5")),
            ("rope_theta", json!(0.0)),
            ("partial_rotary_factor", json!(1e308)),
            ("partial_rotary_factor", json!(0.4)),
            ("hidden_act", json!("gelu")),
            ("head_dim", json!(i32::MAX - 1)),
            ("rope_scaling", json!({"type": "yarn"})),
            ("rope_scaling", json!({"mrope_section": [8, 12, -12]})),
            ("rope_scaling", json!({"mrope_section": [u64::MAX, 12, 12]})),
            ("tie_word_embeddings", json!("no")),
        ];
        for (field, value) in cases {
            let mut config = legacy();
            config[field] = value.clone();
            let refused = TextConfig::from_json(&config);
            assert!(
                matches!(refused, Err(Error::Core(autoglm_core::Error::Config { .. }))),
                "{field} = {value}: {refused:?}"
            );
        }
    }

    #[test]
    fn absent_fields_are_those_of_the_published_model() {
        let bare = json!({"model_type": "glm4v", "rope_parameters": {"partial_rotary_factor": 0.5}});
        let mut published = legacy();
        published["max_position_embeddings"] = json!(32_768);
        assert_eq!(TextConfig::from_json(&bare).unwrap(), TextConfig::from_json(&published).unwrap());
        published["num_key_value_heads"] = Value::Null;
        assert_eq!(TextConfig::from_json(&published).unwrap().num_key_value_heads, 32);
    }

    #[test]
    fn glm_asr_is_a_llama_whose_head_counts_wherever_it_is() {
        let bare = json!({"model_type": "glmasr"});
        let config = TextConfig::from_json(&bare).unwrap();
        assert_eq!((config.hidden_size, config.num_hidden_layers, config.num_key_value_heads), (2048, 28, 4));
        assert_eq!((config.head_dim, config.rotary_dim, config.attention_bias), (128, 128, false));
        let count = |config: &TextConfig| -> usize {
            config.expected_tensors().iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum()
        };
        assert_eq!(count(&config), 1_472_055_296);
        // transformers writes a Llama's default into the text part, where it means nothing.
        let text = json!({"model_type": "glmasr", "text_config": {"tie_word_embeddings": false}});
        assert!(TextConfig::from_json(&text).unwrap().tie_word_embeddings);
        let old = "language_model.model.norm.weight";
        for (names, prefix, head) in [
            (&[][..], "model.language_model", "model.language_model.embed_tokens"),
            (&["lm_head.weight"], "model.language_model", "lm_head"),
            (&[old], "language_model.model", "language_model.model.embed_tokens"),
            (&[old, "language_model.lm_head.weight"], "language_model.model", "language_model.lm_head"),
            (&[old, "lm_head.weight"], "language_model.model", "lm_head"),
        ] {
            let named = config.clone().named_as(|name| names.contains(&name));
            assert_eq!((named.prefix(), named.head_name().as_str()), (prefix, head));
            let all = named.expected_tensors();
            assert!(all.iter().all(|tensor| tensor.name.starts_with(prefix) || tensor.name.starts_with(head)));
            assert_eq!(count(&named), if head.ends_with("lm_head") { 1_593_427_968 } else { 1_472_055_296 });
        }
        for field in ["attention_bias", "mlp_bias"] {
            let biased = TextConfig::from_json(&json!({"model_type": "glmasr", "text_config": {field: true}}));
            assert!(matches!(biased, Err(Error::Core(autoglm_core::Error::Config { .. }))), "{field}");
        }
    }

    #[test]
    fn another_model_is_refused_by_its_type() {
        for config in [json!({"model_type": "llama"}), json!({}), json!([]), json!({"model_type": 4})] {
            assert!(matches!(TextConfig::from_json(&config), Err(Error::ModelType { .. })));
        }
    }
}
