//! Fields of a JSON object of a configuration, read with their bounds, so that a refusal names the field.

use serde_json::Value;

use crate::{Error, Result};

/// A JSON object; anything else, and a missing file, has no fields. `null` counts as absent, as it
/// does in transformers.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(pub Option<&'a Value>);

impl<'a> Fields<'a> {
    /// A field that is there and not `null`.
    #[must_use]
    pub fn get(self, key: &str) -> Option<&'a Value> {
        self.0?.get(key).filter(|v| !v.is_null())
    }

    /// The object in a field.
    #[must_use]
    pub fn inside(self, key: &str) -> Self {
        Self(self.get(key))
    }

    /// A whole number from 1 to `most`.
    ///
    /// # Errors
    /// [`Error::Config`] names the field.
    pub fn count(self, key: &'static str, absent: u64, most: u64) -> Result<u64> {
        let Some(value) = self.get(key) else {
            return Ok(absent);
        };
        match value.as_u64() {
            Some(n) if (1..=most).contains(&n) => Ok(n),
            Some(n) if n > most => Err(refuse(key, value, "is larger than this crate accepts")),
            _ => Err(refuse(key, value, "must be a positive whole number")),
        }
    }

    /// As [`count`](Self::count), of something that is held in memory.
    ///
    /// # Errors
    /// [`Error::Config`] names the field.
    pub fn size(self, key: &'static str, absent: u64, most: u64) -> Result<usize> {
        let n = self.count(key, absent, most)?;
        usize::try_from(n).map_err(|_| refuse(key, n, "does not fit into an address"))
    }

    /// A number above zero whose f32 is finite and above zero as well.
    ///
    /// # Errors
    /// [`Error::Config`] names the field.
    pub fn positive(self, key: &'static str, absent: f64) -> Result<f64> {
        let Some(value) = self.get(key) else {
            return Ok(absent);
        };
        match value.as_f64() {
            Some(x) if x as f32 > 0.0 && (x as f32).is_finite() => Ok(x),
            _ => Err(refuse(key, value, "must be a positive number")),
        }
    }

    /// Three numbers, one per colour.
    ///
    /// # Errors
    /// [`Error::Config`] names the field.
    pub fn colours(self, key: &'static str, absent: [f64; 3]) -> Result<[f64; 3]> {
        let Some(value) = self.get(key) else {
            return Ok(absent);
        };
        let numbers: Option<Vec<f64>> =
            value.as_array().filter(|list| list.len() == 3).and_then(|list| list.iter().map(Value::as_f64).collect());
        numbers
            .and_then(|list| <[f64; 3]>::try_from(list).ok())
            .ok_or_else(|| refuse(key, value, "must be a list of three numbers"))
    }

    /// True or false.
    ///
    /// # Errors
    /// [`Error::Config`] names the field.
    pub fn flag(self, key: &'static str, absent: bool) -> Result<bool> {
        let Some(value) = self.get(key) else {
            return Ok(absent);
        };
        value.as_bool().ok_or_else(|| refuse(key, value, "must be true or false"))
    }

    /// Refuses a field that has another value than `only`.
    ///
    /// # Errors
    /// [`Error::Config`] names the field.
    pub fn only(self, key: &'static str, only: &Value, why: &'static str) -> Result<()> {
        match self.get(key) {
            Some(value) if value != only => Err(refuse(key, value, why)),
            _ => Ok(()),
        }
    }
}

/// The error for a field of a configuration.
pub fn refuse(field: &'static str, got: impl std::fmt::Display, why: &'static str) -> Error {
    // A hostile file could carry megabytes in one field; the message keeps its head.
    let got = got.to_string().chars().take(80).collect();
    Error::Config { field, got, why }
}
