//! A feed-forward network with fewer neurons, or whatever else goes by columns of a map.

use std::fmt;

use faer::Mat;

use crate::units::{Left, Units};
use crate::{Criterion, Error, Gram, Result, redundant, refit};

/// Fills a buffer with the row of one neuron, or with the rows of one head.
pub type Row<'a> = dyn Fn(usize, &mut Vec<f32>) + 'a;

/// A gated feed-forward network, W (silu(gate x) · (up x)).
#[derive(Clone, Copy)]
pub struct FeedForward<'a> {
    /// Neurons, f.
    pub width: usize,
    /// Outputs, c.
    pub outputs: usize,
    /// Row j of the gate (c).
    pub gate: &'a Row<'a>,
    /// Row j of `up_proj` (c).
    pub up: &'a Row<'a>,
    /// Row i of `down_proj` (f).
    pub down: &'a Row<'a>,
    /// What each output (c) is multiplied by behind the norm that follows: the norm's weight. None where no norm does.
    pub gains: Option<&'a [f32]>,
}

impl fmt::Debug for FeedForward<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FeedForward of {} neurons", self.width)
    }
}

/// What a network or an attention is to become.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// Neurons, or heads, that stay.
    pub to: usize,
    /// What they are chosen by.
    pub criterion: Criterion,
    /// Whether the weights of those that stay make up for those that go.
    pub refit: bool,
    /// For [`Criterion::Random`].
    pub seed: u64,
}

/// What became of a network or an attention.
#[derive(Debug, Clone, PartialEq)]
pub struct Shrunk {
    /// The neurons or heads that stay, in order.
    pub kept: Vec<usize>,
    /// The new map behind them, row-major: `down_proj` (c, kept), or `o_proj` (c, kept · d).
    pub map: Vec<f32>,
    /// Neurons or heads that went and changed nothing.
    pub redundant: usize,
    /// Σ ω ‖γ ∘ (y − y')‖² / Σ ω ‖γ ∘ y‖² over the rows of the Gram matrix: the error behind the norm where ω is what the norm
    /// divides by.
    pub error: f64,
}

/// Brings a network to `target.to` neurons, by what `gram` remembers of its rows.
///
/// Neurons that change nothing go first, whatever the criterion.
///
/// # Errors
/// - [`Error::Width`] when that is none, or more than there are; [`Error::Rows`] when `gram` is of another width.
/// - [`Error::NothingSeen`] when `gram` has no row and some neurons matter.
/// - [`Error::Singular`] when its sums are not those of any rows.
pub fn shrink(network: &FeedForward<'_>, gram: &Gram, target: Target) -> Result<Shrunk> {
    let (f, to) = (network.width, target.to);
    if to == 0 || to > f {
        return Err(Error::Width { width: f, to });
    }
    let units = Units {
        count: f,
        size: 1,
        groups: 1,
        stay: to,
        equal: network.gate,
        scaled: Some(network.up),
        outputs: network.outputs,
        map: network.down,
        gains: network.gains,
    };
    narrow(&units, gram, target)
}

/// Leaves as many of `units` as are to stay; `target` says how they are chosen.
pub(crate) fn narrow(units: &Units<'_>, gram: &Gram, target: Target) -> Result<Shrunk> {
    let columns = units.count * units.size;
    if gram.width() != columns {
        return Err(Error::Rows { expected: columns, got: gram.width() });
    }
    let gains = units.gains()?;
    let mut all = units.matrix();
    let redundant = redundant::find(units, &all);
    for gone in &redundant {
        let Some((twin, times)) = gone.twin else { continue };
        for j in 0..units.size {
            for i in 0..units.outputs {
                all[(i, twin * units.size + j)] += f64::from(times) * all[(i, gone.unit * units.size + j)];
            }
        }
    }
    let numbers = (0..units.count).filter(|unit| redundant.iter().all(|gone| gone.unit != *unit)).collect();
    let left = Left::new(units, numbers);
    let map = Mat::from_fn(units.outputs, left.columns(), |i, at| all[(i, left.column(at))]);
    drop(all);
    let (kept, map, error) = if left.to_go().iter().all(|to_go| *to_go == 0) {
        (left.numbers, map, 0.0)
    } else {
        if gram.rows() == 0 {
            return Err(Error::NothingSeen);
        }
        let sizes = if target.criterion == Criterion::Magnitude { units.sizes(&left) } else { Vec::new() };
        let places = target.criterion.keep(&left, (gram, &map, &sizes, &gains), target.seed)?;
        let fit = refit::fit(&places, &left, gram, &map, &gains, target.refit)?;
        (places.iter().map(|at| left.numbers[*at]).collect(), fit.map, fit.error)
    };
    let (c, stay) = (map.nrows(), map.ncols());
    let map = (0..c).flat_map(|i| (0..stay).map(move |j| (i, j))).map(|at| map[at] as f32).collect();
    Ok(Shrunk { kept, map, redundant: redundant.len(), error })
}

#[cfg(test)]
mod tests;
