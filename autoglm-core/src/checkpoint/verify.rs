//! A model's expectations held against a checkpoint, all at once.

use std::collections::BTreeSet;
use std::fmt;

use super::printable::{Names, list, printable};
use super::{Checkpoint, Dtype};
use crate::{Error, Result};

/// The head's weight. A model that does not ask for it reads the embedding in its place; some
/// writers store the tied tensor all the same.
const TIED_HEAD: &str = "lm_head.weight";

/// Endings of buffers that older versions of transformers stored although they are computed.
const BUFFERS: [&str; 2] = [".inv_freq", ".position_ids"];

/// A tensor that a model is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its full name.
    pub name: String,
    /// Its dimensions, outermost first.
    pub shape: Vec<usize>,
    /// The format it must have; any of F32, F16 and BF16 where none is given.
    pub dtype: Option<Dtype>,
}

impl TensorSpec {
    /// A tensor of this name and shape, in any format that weights are read in.
    #[must_use]
    pub fn new(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        Self { name: name.into(), shape: shape.into(), dtype: None }
    }

    /// The same tensor in this format and no other.
    #[must_use]
    pub fn stored_as(mut self, dtype: Dtype) -> Self {
        self.dtype = Some(dtype);
        self
    }
}

/// What a checkpoint that fits holds besides the model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// Tensors that belong to modalities that are off.
    pub ignored: usize,
    /// Their size in bytes, none of which is read.
    pub ignored_bytes: u64,
    /// Tensors nobody expected, in order, if they were allowed.
    pub extra: Vec<String>,
}

impl Verified {
    /// One line about the tensors nobody expected, if there are any: up to twenty names and a count.
    #[must_use]
    pub fn extra_names(&self) -> Option<String> {
        let extra = &self.extra;
        (!extra.is_empty()).then(|| format!("{} tensors are read by nothing: {}", extra.len(), Names(extra)))
    }
}

/// Everything about a checkpoint that does not fit a model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mismatch {
    /// Expected, but not there.
    pub missing: Vec<String>,
    /// There, with another shape than expected.
    pub misshaped: Vec<Misshaped>,
    /// There, in a format that is not F32, F16 or BF16.
    pub not_float: Vec<(String, Dtype)>,
    /// There, in another format than the only one that fits.
    pub mistyped: Vec<Mistyped>,
    /// There, but not expected.
    pub unexpected: Vec<String>,
}

/// A tensor with another shape than the model's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misshaped {
    /// The tensor.
    pub name: String,
    /// What the model needs.
    pub expected: Vec<usize>,
    /// What the checkpoint has.
    pub got: Vec<usize>,
}

/// A tensor in another format than the only one that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistyped {
    /// The tensor.
    pub name: String,
    /// What its reader needs.
    pub expected: Dtype,
    /// What the checkpoint has.
    pub got: Dtype,
}

impl Checkpoint {
    /// Holds the header against all tensors a model is made of. No weight is read.
    ///
    /// Tensors whose names start with one of `ignored`, the prefixes of modalities that are off, are
    /// counted and left alone. So are a `lm_head.weight` that is not expected (the head is tied) and
    /// buffers (`*.inv_freq`, `*.position_ids`). Any other tensor that is not expected is an error,
    /// or with `allow_extra` part of the answer.
    ///
    /// # Errors
    /// [`Error::Mismatch`] with every tensor that is missing, has another shape, is not of the format
    /// that is expected, or is not expected at all.
    pub fn verify(&self, expected: &[TensorSpec], ignored: &[&str], allow_extra: bool) -> Result<Verified> {
        let (mut verified, mut mismatch) = (Verified::default(), Mismatch::default());
        for spec in expected {
            let Ok(info) = self.info(&spec.name) else {
                mismatch.missing.push(spec.name.clone());
                continue;
            };
            if info.shape != spec.shape {
                mismatch.misshaped.push(Misshaped {
                    name: spec.name.clone(),
                    expected: spec.shape.clone(),
                    got: info.shape.clone(),
                });
            }
            match spec.dtype {
                None if info.float().is_err() => mismatch.not_float.push((spec.name.clone(), info.dtype)),
                Some(expected) if expected != info.dtype => {
                    mismatch.mistyped.push(Mistyped { name: spec.name.clone(), expected, got: info.dtype });
                }
                _ => {}
            }
        }
        let names: BTreeSet<&str> = expected.iter().map(|spec| spec.name.as_str()).collect();
        for info in self.tensors().filter(|info| !names.contains(&*info.name)) {
            if ignored.iter().any(|prefix| info.name.starts_with(prefix)) {
                verified.ignored += 1;
                verified.ignored_bytes += info.size() as u64;
            } else if &*info.name != TIED_HEAD && !BUFFERS.iter().any(|ending| info.name.ends_with(ending)) {
                let unexpected = if allow_extra { &mut verified.extra } else { &mut mismatch.unexpected };
                unexpected.push(info.name.to_string());
            }
        }
        if mismatch == Mismatch::default() { Ok(verified) } else { Err(Error::Mismatch(Box::new(mismatch))) }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("checkpoint does not fit the model")?;
        if !self.missing.is_empty() {
            write!(f, "; {} missing: {}", self.missing.len(), Names(&self.missing))?;
        }
        if !self.misshaped.is_empty() {
            write!(f, "; {} of another shape: ", self.misshaped.len())?;
            list(f, &self.misshaped, |m, line| {
                line.push_str(&format!("`{}` is {:?}, not {:?}", printable(&m.name), m.got, m.expected))
            })?;
        }
        if !self.not_float.is_empty() {
            write!(f, "; {} not in f32, f16 or bf16: ", self.not_float.len())?;
            list(f, &self.not_float, |(name, dtype), line| {
                line.push_str(&format!("`{}` is {dtype}", printable(name)))
            })?;
        }
        if !self.mistyped.is_empty() {
            write!(f, "; {} of another format: ", self.mistyped.len())?;
            list(f, &self.mistyped, |m, line| {
                line.push_str(&format!("`{}` is {}, not {}", printable(&m.name), m.got, m.expected))
            })?;
        }
        if !self.unexpected.is_empty() {
            write!(f, "; {} unexpected: {}", self.unexpected.len(), Names(&self.unexpected))?;
        }
        Ok(())
    }
}

impl std::error::Error for Mismatch {}
