//! Fields of a JSON object, read with their bounds, so that a refusal names the field.

use serde_json::Value;

use crate::error::refuse;
use crate::{Error, Result};

/// A JSON object; anything else, and a missing file, has no fields. `null` counts as absent, as it
/// does in transformers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) Option<&'a Value>);

impl<'a> Fields<'a> {
    pub(crate) fn get(self, key: &str) -> Option<&'a Value> {
        self.0?.get(key).filter(|v| !v.is_null())
    }

    /// The object in a field.
    pub(crate) fn inside(self, key: &str) -> Self {
        Self(self.get(key))
    }

    /// A whole number from 1 to `most`.
    pub(crate) fn count(self, key: &'static str, absent: u64, most: u64) -> Result<u64> {
        let Some(value) = self.get(key) else {
            return Ok(absent);
        };
        match value.as_u64() {
            Some(n) if (1..=most).contains(&n) => Ok(n),
            Some(n) if n > most => Err(refuse(key, value, "is larger than this crate accepts")),
            _ => Err(refuse(key, value, "must be a positive whole number")),
        }
    }

    /// A number above zero whose f32 is finite and above zero as well.
    pub(crate) fn positive(self, key: &'static str, absent: f64) -> Result<f64> {
        let Some(value) = self.get(key) else {
            return Ok(absent);
        };
        match value.as_f64() {
            Some(x) if x as f32 > 0.0 && (x as f32).is_finite() => Ok(x),
            _ => Err(refuse(key, value, "must be a positive number")),
        }
    }

    /// Three numbers, one per colour.
    pub(crate) fn colours(self, key: &'static str, absent: [f64; 3]) -> Result<[f64; 3]> {
        let Some(value) = self.get(key) else {
            return Ok(absent);
        };
        let numbers: Option<Vec<f64>> =
            value.as_array().filter(|list| list.len() == 3).and_then(|list| list.iter().map(Value::as_f64).collect());
        numbers
            .and_then(|list| <[f64; 3]>::try_from(list).ok())
            .ok_or_else(|| refuse(key, value, "must be a list of three numbers"))
    }

    pub(crate) fn flag(self, key: &'static str, absent: bool) -> Result<bool> {
        let Some(value) = self.get(key) else {
            return Ok(absent);
        };
        value.as_bool().ok_or_else(|| refuse(key, value, "must be true or false"))
    }

    /// Refuses a field that has another value than `only`.
    pub(crate) fn only(self, key: &'static str, only: &Value, why: &'static str) -> Result<()> {
        match self.get(key) {
            Some(value) if value != only => Err::<(), Error>(refuse(key, value, why)),
            _ => Ok(()),
        }
    }
}
