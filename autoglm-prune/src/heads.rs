//! An attention with fewer query heads.

use std::fmt;

use crate::shrink::narrow;
use crate::units::Units;
use crate::{Error, Gram, Result, Row, Shrunk, Target};

/// Attention whose query heads share keys and values in groups, W · (one softmax(q kᵀ) v behind the other).
///
/// Heads 0 to h / g − 1 are the first group, and so on, as transformers repeats keys and values.
#[derive(Clone, Copy)]
pub struct Attention<'a> {
    /// Query heads, h.
    pub heads: usize,
    /// Groups of them, g: heads of keys and values.
    pub groups: usize,
    /// Width d of a head.
    pub head_dim: usize,
    /// Outputs, c.
    pub outputs: usize,
    /// Head j's rows of `q_proj` (d · c) and, where there are any, what is added to them (d).
    pub q: &'a Row<'a>,
    /// Row i of `o_proj` (h · d).
    pub o: &'a Row<'a>,
    /// What each output (c) is multiplied by behind the norm that follows: the norm's weight. None where no norm does.
    pub gains: Option<&'a [f32]>,
}

impl fmt::Debug for Attention<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attention of {} heads in {} groups", self.heads, self.groups)
    }
}

/// Brings an attention to `target.to` heads, equally many in each group, by what `gram` remembers of the rows (h · d) that
/// `o_proj` took.
///
/// Heads that change nothing go first, whatever the criterion: those that `o_proj` does not read, and those whose queries
/// are an earlier one's of their group, which takes over their columns. Of the others goes the one whose removal costs
/// least among the groups that still have too many.
///
/// # Errors
/// - [`Error::Heads`] when as many cannot be left in equal groups; [`Error::Rows`] when `gram` is of another width.
/// - [`Error::NothingSeen`] when `gram` has no row and some heads matter.
/// - [`Error::Singular`] when its sums are not those of any rows.
pub fn shrink_heads(attention: &Attention<'_>, gram: &Gram, target: Target) -> Result<Shrunk> {
    let (heads, groups, to) = (attention.heads, attention.groups, target.to);
    let grouped = |heads: usize| groups > 0 && heads > 0 && heads.is_multiple_of(groups);
    if !grouped(heads) || !grouped(to) || to > heads {
        return Err(Error::Heads { heads, groups, to });
    }
    let units = Units {
        count: heads,
        size: attention.head_dim,
        groups,
        stay: to / groups,
        equal: attention.q,
        scaled: None,
        outputs: attention.outputs,
        map: attention.o,
        gains: attention.gains,
    };
    narrow(&units, gram, target)
}

#[cfg(test)]
mod tests;
