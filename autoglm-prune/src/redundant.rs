//! Neurons that can go and nothing changes.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use faer::Mat;

use crate::FeedForward;

/// A neuron that can go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Redundant {
    pub(crate) neuron: usize,
    /// The neuron that computes the same, and how many times this one is what that one is; nothing where this one
    /// computes zero or is not read.
    pub(crate) twin: Option<(usize, f32)>,
}

/// The first `most` neurons that can go: those that compute zero, that `down` (c, f) does not read, or that compute a
/// multiple of what an earlier one does, exactly.
///
/// silu(gate) · up is a multiple of another neuron's where gates are equal and `up` rows are multiples.
pub(crate) fn find(network: &FeedForward<'_>, down: &Mat<f64>, most: usize) -> Vec<Redundant> {
    let mut found = Vec::new();
    let mut by_gate: HashMap<u64, Vec<usize>> = HashMap::new();
    let (mut gate, mut up, mut other) = (Vec::new(), Vec::new(), Vec::new());
    for neuron in 0..network.width {
        if found.len() == most {
            break;
        }
        (network.gate)(neuron, &mut gate);
        (network.up)(neuron, &mut up);
        let zero = |row: &[f32]| row.iter().all(|x| *x == 0.0);
        if zero(&gate) || zero(&up) || down.col(neuron).iter().all(|x| *x == 0.0) {
            found.push(Redundant { neuron, twin: None });
            continue;
        }
        let mut hasher = DefaultHasher::new();
        gate.iter().for_each(|x| x.to_bits().hash(&mut hasher));
        let alike = by_gate.entry(hasher.finish()).or_default();
        let twin = alike.iter().find_map(|earlier| {
            (network.gate)(*earlier, &mut other);
            if other != gate {
                return None;
            }
            (network.up)(*earlier, &mut other);
            Some((*earlier, multiple(&up, &other)?))
        });
        match twin {
            Some(twin) => found.push(Redundant { neuron, twin: Some(twin) }),
            None => alike.push(neuron),
        }
    }
    found
}

/// How many times `of` the row `x` is, if it is that exactly.
fn multiple(x: &[f32], of: &[f32]) -> Option<f32> {
    let largest = (0..of.len()).max_by(|a, b| of[*a].abs().total_cmp(&of[*b].abs()))?;
    let times = x[largest] / of[largest];
    x.iter().zip(of).all(|(x, of)| *x == times * of).then_some(times)
}
