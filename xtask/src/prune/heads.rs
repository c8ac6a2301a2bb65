//! A layer's attention with fewer query heads.

use autoglm_core::checkpoint::StoredMatrix;
use autoglm_core::{Checkpoint, FloatType};
use autoglm_prune::{Attention, Gram, Shrunk, Target, shrink_heads};
use autoglm_text::{Family, TextConfig};
use serde_json::{Value, json};

use super::config;
use super::over::{Tensors, Weights};
use crate::error::{Error, Result};

/// Holds a number of heads against the model.
///
/// # Errors
/// [`Error::Usage`] for what are not equally many for each head of keys and values.
pub(super) fn check(to: usize, text: &TextConfig) -> Result<()> {
    let (heads, groups) = (text.num_attention_heads, text.num_key_value_heads);
    if to == 0 || to > heads || !to.is_multiple_of(groups) {
        return Err(Error::Usage(format!(
            "--heads {to}: a multiple of the {groups} heads of keys and values, up to the {heads} heads that there are"
        )));
    }
    Ok(())
}

/// Whether transformers reads a decoder of so many heads.
///
/// Its `glm4v` takes hidden_size / num_attention_heads, rounded down, for the width of a head, whatever the file says; its
/// `glm4` and Llama read `head_dim`.
pub(crate) fn standard(text: &TextConfig, heads: usize, alone: bool) -> bool {
    alone || text.family != Family::Glm4v || text.hidden_size / heads == text.head_dim
}

/// Brings the shape of a tensor to `to` heads.
pub(super) fn reshape(name: &str, shape: &mut [usize], to: usize, head_dim: usize) {
    if name.ends_with(".self_attn.q_proj.weight") || name.ends_with(".self_attn.q_proj.bias") {
        shape[0] = to * head_dim;
    } else if name.ends_with(".self_attn.o_proj.weight") {
        shape[1] = to * head_dim;
    }
}

/// Says `to` heads of their old width.
pub(super) fn set(config: &mut Value, to: usize, head_dim: usize) {
    config::set(config, "num_attention_heads", &json!(to));
    config::set(config, "head_dim", &json!(head_dim));
}

/// The queries of a layer's attention and its last map, as they are stored.
pub(super) struct Queries {
    at: String,
    q: StoredMatrix,
    bias: Option<(FloatType, Vec<f32>)>,
    o: StoredMatrix,
    heads: usize,
    groups: usize,
    /// Widths of a head and of a row.
    d: usize,
    c: usize,
}

impl Queries {
    /// Of the layer at this path.
    ///
    /// # Errors
    /// A tensor is missing, or of another shape or type.
    pub(super) fn of(checkpoint: &Checkpoint, at: &str, text: &TextConfig) -> Result<Self> {
        let at = format!("{at}.self_attn");
        let (heads, groups, d, c) =
            (text.num_attention_heads, text.num_key_value_heads, text.head_dim, text.hidden_size);
        let bias = if text.attention_bias {
            let name = format!("{at}.q_proj.bias");
            let kind = checkpoint.info(&name)?.float()?;
            let mut values = Vec::new();
            kind.widen(&checkpoint.bytes(&name)?, &mut values);
            Some((kind, values))
        } else {
            None
        };
        let q = checkpoint.matrix(&format!("{at}.q_proj.weight"), heads * d, c)?;
        let o = checkpoint.matrix(&format!("{at}.o_proj.weight"), c, heads * d)?;
        Ok(Self { at, q, bias, o, heads, groups, d, c })
    }

    /// Which heads stay, by what `gram` remembers of the rows that went through the last map.
    pub(super) fn shrink(&self, gram: &Gram, target: Target, gains: Option<&[f32]>) -> Result<Shrunk> {
        let attention = Attention {
            heads: self.heads,
            groups: self.groups,
            head_dim: self.d,
            outputs: self.c,
            q: &|head, into| self.rows(head, into, true),
            o: &|i, into| self.o.widen(i, into),
            gains,
        };
        Ok(shrink_heads(&attention, gram, target)?)
    }

    /// A head's rows, and with `bias` what is added to them.
    fn rows(&self, head: usize, into: &mut Vec<f32>, bias: bool) {
        let mut row = Vec::new();
        into.clear();
        for at in head * self.d..(head + 1) * self.d {
            self.q.widen(at, &mut row);
            into.extend_from_slice(&row);
        }
        if let Some((_, values)) = self.bias.as_ref().filter(|_| bias) {
            into.extend_from_slice(&values[head * self.d..][..self.d]);
        }
    }

    /// The new tensors, each in the format of the old one.
    ///
    /// # Errors
    /// A weight is larger than its format holds.
    pub(super) fn narrow(&self, shrunk: &Shrunk) -> Result<Tensors> {
        let width = shrunk.kept.len() * self.d;
        let mut tensors = Tensors::new();
        let mut insert = |name: &str, kind, shape, values: &[f32]| {
            let name = format!("{}.{name}", self.at);
            let weights = Weights::new(&name, kind, shape, values)?;
            tensors.insert(name, weights);
            Ok::<_, Error>(())
        };
        let (mut rows, mut all) = (Vec::new(), Vec::new());
        for head in &shrunk.kept {
            self.rows(*head, &mut rows, false);
            all.extend_from_slice(&rows);
        }
        insert("q_proj.weight", self.q.kind(), vec![width, self.c], &all)?;
        if let Some((kind, values)) = &self.bias {
            let kept: Vec<f32> =
                shrunk.kept.iter().flat_map(|head| &values[head * self.d..][..self.d]).copied().collect();
            insert("q_proj.bias", *kind, vec![width], &kept)?;
        }
        insert("o_proj.weight", self.o.kind(), vec![self.c, width], &shrunk.map)?;
        Ok(tensors)
    }
}
