//! What `config.json` says about a packed checkpoint.

use autoglm_core::Error;
use autoglm_kernels::layout::Layout;
use serde_json::{Value, json};

use crate::{Format, Scheme};

/// The object of `config.json` that says how weights are stored, as in all of the Hugging Face world.
const OBJECT: &str = "quantization_config";

/// Our value of its field `quant_method`.
const METHOD: &str = "autoglm-packed";

/// The only version so far. Another order, another rotation or another rounding is another version.
const VERSION: u64 = 1;

/// How the weights of a packed checkpoint are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The name under which users know the scheme: `int8`, `int4` or `mixed`.
    pub precision: String,
    /// Which map was packed how.
    pub scheme: Scheme,
    /// The order of the codes.
    pub layout: Layout,
}

/// A field, with its path for messages.
#[derive(Clone, Copy)]
struct Field {
    key: &'static str,
    path: &'static str,
}

macro_rules! field {
    ($key:literal) => {
        Field { key: $key, path: concat!("quantization_config.", $key) }
    };
}

const QUANT_METHOD: Field = field!("quant_method");
const VERSION_FIELD: Field = field!("version");
const LAYOUT: Field = field!("layout");
const PRECISION: Field = field!("precision");
const ROTATED: Field = field!("rotated");
const DECODER: Field = field!("decoder");
const ENCODER: Field = field!("encoder");
const HEAD: Field = field!("head");

impl Manifest {
    /// What the whole of a `config.json` says; nothing when it says nothing about quantisation, and
    /// the weights are floats.
    ///
    /// # Errors
    /// [`Error::Config`] names a field that is absent, unknown or of an unknown value. Weights of
    /// another method than ours are refused here, because as floats they would only seem to be
    /// missing.
    pub fn read(config: &Value) -> Result<Option<Self>, Error> {
        let Some(object) = config.get(OBJECT).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        text(object, QUANT_METHOD, "is no method that weights are read in", |name| (name == METHOD).then_some(()))?;
        let version = |value: &Value| (value.as_u64() == Some(VERSION)).then_some(());
        get(object, VERSION_FIELD, "is no version this program reads, which is 1", version)?;
        let packing = "is no packing this program reads";
        let (decoder, encoder, head) = (
            text(object, DECODER, packing, Format::named)?,
            text(object, ENCODER, packing, Format::named)?,
            text(object, HEAD, packing, Format::named)?,
        );
        let rotated = get(object, ROTATED, "is neither true nor false", Value::as_bool)?;
        let manifest = Self {
            precision: text(object, PRECISION, "is no name", |name| Some(name.to_owned()))?,
            scheme: Scheme::new(decoder, encoder, head).with_rotation(rotated),
            layout: text(object, LAYOUT, "is no order of weights this program reads", Layout::named)?,
        };
        let known = [QUANT_METHOD, VERSION_FIELD, LAYOUT, PRECISION, ROTATED, DECODER, ENCODER, HEAD];
        let is_known = |key: &str| known.iter().any(|field| field.key == key);
        // What an unknown field says might change what the numbers mean.
        match object.as_object().into_iter().flatten().find(|(key, _)| !is_known(key)) {
            Some((key, _)) => Err(refused(OBJECT, &Value::from(key.as_str()), "has a field of this unknown name")),
            None => Ok(Some(manifest)),
        }
    }

    /// `config`, with what [`Manifest::read`] reads in it.
    #[must_use]
    pub fn written_into(&self, mut config: Value) -> Value {
        let (decoder, encoder, head) = self.scheme.formats();
        if let Some(object) = config.as_object_mut() {
            let written = json!({
                QUANT_METHOD.key: METHOD,
                VERSION_FIELD.key: VERSION,
                LAYOUT.key: self.layout.name(),
                PRECISION.key: self.precision,
                ROTATED.key: self.scheme.rotated(),
                DECODER.key: decoder.name(),
                ENCODER.key: encoder.name(),
                HEAD.key: head.name(),
            });
            object.insert(OBJECT.to_owned(), written);
        }
        config
    }
}

/// A field's value as what `read` makes of it.
fn get<T>(object: &Value, field: Field, why: &'static str, read: impl FnOnce(&Value) -> Option<T>) -> Result<T, Error> {
    let value = object.get(field.key).ok_or_else(|| refused(field.path, &Value::Null, "is absent"))?;
    read(value).ok_or_else(|| refused(field.path, value, why))
}

fn text<T>(object: &Value, field: Field, why: &'static str, read: impl FnOnce(&str) -> Option<T>) -> Result<T, Error> {
    get(object, field, why, |value| value.as_str().and_then(read))
}

fn refused(field: &'static str, value: &Value, why: &'static str) -> Error {
    Error::Config { field, got: value.to_string().chars().take(80).collect(), why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Group;

    fn manifest() -> Manifest {
        Manifest {
            precision: "int4".to_owned(),
            scheme: Scheme::int4().with_group(Group::G32).with_rotation(false),
            layout: Layout::I8mm,
        }
    }

    #[test]
    fn what_was_written_is_read() {
        for scheme in [Scheme::int8(), Scheme::int4(), Scheme::mixed(), manifest().scheme] {
            for layout in [Layout::X86, Layout::Dotprod, Layout::I8mm] {
                let manifest = Manifest { scheme, layout, ..manifest() };
                let config = manifest.written_into(json!({"hidden_size": 8}));
                assert_eq!(config["hidden_size"], 8);
                assert_eq!(Manifest::read(&config).unwrap(), Some(manifest));
            }
        }
        assert_eq!(Manifest::read(&json!({"quantization_config": null})).unwrap(), None);
        assert_eq!(Manifest::read(&json!({})).unwrap(), None);
    }

    #[test]
    fn a_field_that_is_absent_or_unknown_is_named() {
        let config = manifest().written_into(json!({}));
        for (key, value) in [
            ("quant_method", json!("compressed-tensors")),
            ("version", json!(2)),
            ("version", json!("1")),
            ("layout", json!("sme")),
            ("precision", json!(4)),
            ("rotated", json!("yes")),
            ("decoder", json!("int3")),
            ("encoder", json!("int8-g16")),
            ("head", json!("")),
        ] {
            for value in [Some(value), None] {
                let mut config = config.clone();
                let object = config[OBJECT].as_object_mut().unwrap();
                match value {
                    Some(value) => object.insert(key.to_owned(), value),
                    None => object.remove(key),
                };
                let error = Manifest::read(&config).unwrap_err().to_string();
                assert!(error.contains(&format!("`quantization_config.{key}`")), "{error}");
            }
        }
        let mut config = config;
        config[OBJECT]["salt"] = json!(1);
        let error = Manifest::read(&config).unwrap_err().to_string();
        assert!(error.contains("\"salt\""), "{error}");
    }
}
