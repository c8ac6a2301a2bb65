//! A feed-forward network with fewer neurons.

use std::fmt;

use faer::Mat;

use crate::{Criterion, Error, Gram, Result, redundant, refit};

/// Fills a buffer with the row of one neuron.
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

/// What a network is to become.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// Neurons that stay.
    pub to: usize,
    /// What they are chosen by.
    pub criterion: Criterion,
    /// Whether the weights of those that stay make up for those that go.
    pub refit: bool,
    /// For [`Criterion::Random`].
    pub seed: u64,
}

/// What became of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Shrunk {
    /// The neurons that stay, in order.
    pub kept: Vec<usize>,
    /// The new `down_proj` (c, kept), row-major.
    pub down: Vec<f32>,
    /// Neurons that went and changed nothing.
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
    let (f, c, to) = (network.width, network.outputs, target.to);
    if to == 0 || to > f {
        return Err(Error::Width { width: f, to });
    }
    if gram.width() != f {
        return Err(Error::Rows { expected: f, got: gram.width() });
    }
    if let Some(gains) = network.gains.filter(|gains| gains.len() != c) {
        return Err(Error::Rows { expected: c, got: gains.len() });
    }
    let gains: Vec<f64> = network.gains.map_or(vec![1.0; c], |gains| gains.iter().map(|x| f64::from(*x)).collect());
    let mut down = matrix(network);
    let redundant = redundant::find(network, &down, f - to);
    for gone in &redundant {
        if let Some((twin, times)) = gone.twin {
            for i in 0..c {
                down[(i, twin)] += f64::from(times) * down[(i, gone.neuron)];
            }
        }
    }
    let neurons: Vec<usize> = (0..f).filter(|j| redundant.iter().all(|gone| gone.neuron != *j)).collect();
    let all = down;
    let down = Mat::from_fn(c, neurons.len(), |i, at| all[(i, neurons[at])]);
    drop(all);
    let (kept, down, error) = if neurons.len() == to {
        (neurons, down, 0.0)
    } else {
        if gram.rows() == 0 {
            return Err(Error::NothingSeen);
        }
        let sizes = if target.criterion == Criterion::Magnitude { sizes(network, &neurons) } else { Vec::new() };
        let places = target.criterion.keep(to, &neurons, (gram, &down, &sizes, &gains), target.seed)?;
        let fit = refit::fit(&places, &neurons, gram, &down, &gains, target.refit)?;
        (places.iter().map(|at| neurons[*at]).collect(), fit.down, fit.error)
    };
    let down = (0..c).flat_map(|i| (0..to).map(move |j| (i, j))).map(|at| down[at] as f32).collect();
    Ok(Shrunk { kept, down, redundant: redundant.len(), error })
}

/// `down_proj`, (c, f).
fn matrix(network: &FeedForward<'_>) -> Mat<f64> {
    let mut down = Mat::zeros(network.outputs, network.width);
    let mut row = Vec::new();
    for i in 0..network.outputs {
        (network.down)(i, &mut row);
        row.iter().enumerate().for_each(|(j, x)| down[(i, j)] = f64::from(*x));
    }
    down
}

/// ‖gate_j‖ · ‖up_j‖ of each neuron.
fn sizes(network: &FeedForward<'_>, neurons: &[usize]) -> Vec<f64> {
    let mut row = Vec::new();
    let mut norm = |rows: &Row<'_>, j: usize| {
        rows(j, &mut row);
        row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
    };
    neurons.iter().map(|j| norm(network.gate, *j) * norm(network.up, *j)).collect()
}

#[cfg(test)]
mod tests;
