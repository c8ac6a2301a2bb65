//! JSON without duplicate keys.
//!
//! serde's maps keep the last of two equal keys, other readers keep the first: a file that says two
//! things is refused, so that a tool that inspected it cannot have seen another file than the
//! one that is loaded. Nesting is bounded by `serde_json` (128 levels).

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::printable::printable;

/// Most names of one object that is kept: the largest published checkpoints have some 100 000
/// tensors. The bound keeps a file from growing tenfold in memory.
const MOST_NAMES: usize = 1 << 18;

/// Why a document was refused, with the place.
///
/// The text is cut and cleaned, because the parser quotes what it stumbled over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why} (line {line}, column {column})")]
pub struct JsonError {
    /// What the parser says.
    pub why: String,
    /// Line, from 1; 0 when the parser does not know.
    pub line: usize,
    /// Column, from 1; 0 when the parser does not know.
    pub column: usize,
}

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        let why = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
        Self { why: printable(why), line, column }
    }
}

/// Reads a `T` from a document none of whose objects has a key twice.
pub(crate) fn parse<T: DeserializeOwned>(document: &[u8]) -> Result<T, JsonError> {
    // A pass of its own, because `T` may skip parts of the document.
    serde_json::from_slice::<Distinct>(document)?;
    Ok(serde_json::from_slice(document)?)
}

/// Any value, read only for the keys of its objects.
struct Distinct;

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Distinct {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if seen.contains(&key) {
                return Err(duplicate(&key));
            }
            seen.insert(key);
            map.next_value::<Self>()?;
        }
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }
}

/// An object from names to `T`. A name that occurs twice, or a value that is no `T`, is an error
/// that names the name.
pub(crate) struct Named<T>(pub(crate) BTreeMap<String, T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    let value = map.next_value().map_err(|why| of_name(&name, &why))?;
                    add(&mut entries, name, value)?;
                }
                Ok(Named(entries))
            }
        }

        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// An error that says which name of an object its value belongs to.
pub(crate) fn of_name<E: Error>(name: &str, why: &E) -> E {
    E::custom(format_args!("`{}`: {why}", printable(name)))
}

/// Adds an entry, if its name is new and one more may be kept.
pub(crate) fn add<T, E: Error>(entries: &mut BTreeMap<String, T>, name: String, value: T) -> Result<(), E> {
    if entries.len() == MOST_NAMES {
        return Err(E::custom(format_args!("more than {MOST_NAMES} names")));
    }
    if entries.contains_key(&name) {
        return Err(duplicate(&name));
    }
    entries.insert(name, value);
    Ok(())
}

/// The error for a key that occurs twice.
pub(crate) fn duplicate<E: Error>(key: &str) -> E {
    E::custom(format_args!("duplicate key `{}`", printable(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(document: &str) -> String {
        parse::<serde_json::Value>(document.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_key_that_occurs_twice_is_refused_at_any_depth() {
        assert_eq!(refusal(r#"{"a": 1, "a": 1}"#), "duplicate key `a` (line 1, column 12)");
        assert!(refusal(r#"[{"x": {"b": [], "b": null}}]"#).starts_with("duplicate key `b`"));
        assert!(refusal(r#"{"model_type": 1, "model\u005ftype": 2}"#).starts_with("duplicate key `model_type`"));
    }

    #[test]
    fn equal_keys_of_different_objects_are_fine() {
        let value: serde_json::Value = parse(br#"{"a": {"a": [{"a": 1.5}, {"a": -1}]}, "b": {"a": true}}"#).unwrap();
        assert_eq!(value["a"]["a"][1]["a"], -1);
    }

    #[test]
    fn a_skipped_part_of_the_document_is_checked_too() {
        #[derive(Debug, Deserialize)]
        struct Wanted {
            #[serde(rename = "a")]
            _a: u32,
        }
        assert!(parse::<Wanted>(br#"{"a": 1, "other": {"x": 1, "y": 2}}"#).is_ok());
        assert!(parse::<Wanted>(br#"{"a": 1, "other": {"x": 1, "x": 2}}"#).is_err());
    }

    #[test]
    fn nesting_deeper_than_the_stack_allows_is_an_error() {
        for depth in [129, 60_000, 1_000_000] {
            assert!(refusal(&"[".repeat(depth)).contains("recursion limit"));
            assert!(refusal(&r#"{"a":"#.repeat(depth)).contains("recursion limit"));
        }
    }

    #[test]
    fn documents_that_are_no_json_say_where() {
        assert_eq!(refusal("{\n  \"a\": nope}"), "expected ident (line 2, column 9)");
        assert!(parse::<serde_json::Value>(b"\xff\xfe{}").is_err());
        assert!(parse::<serde_json::Value>(b"\"\xff\"").is_err());
        assert!(parse::<serde_json::Value>(b"{} {}").is_err());
        assert!(parse::<serde_json::Value>(b"").is_err());
    }

    #[test]
    fn what_the_parser_quotes_is_cut() {
        let long = format!("\"{}\"", "x\\u001b[2J".repeat(100_000));
        let why = parse::<u32>(long.as_bytes()).unwrap_err().to_string();
        assert!(why.chars().count() < 300 && !why.contains('\u{1b}'), "{why}");
    }
}
