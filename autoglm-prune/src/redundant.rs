//! Neurons and heads that can go and nothing changes.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use faer::Mat;

use crate::units::Units;

/// A neuron or head that can go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Redundant {
    pub(crate) unit: usize,
    /// The unit that computes the same, and how many times this one is what that one is; nothing where this one
    /// computes zero or is not read.
    pub(crate) twin: Option<(usize, f32)>,
}

/// Those that can go, the first ones of each group and no more than are to: units that compute zero, that `map` does not
/// read, or that compute a multiple of what an earlier one of their group does, exactly.
///
/// silu(gate) · up is a multiple of another neuron's where gates are equal and `up` rows are multiples. Heads that share
/// keys and values compute the same where their queries are the same; multiples have they none, because of the softmax.
pub(crate) fn find(units: &Units<'_>, map: &Mat<f64>) -> Vec<Redundant> {
    let mut found = Vec::new();
    let mut to_go = vec![units.count / units.groups - units.stay; units.groups];
    let mut alike: HashMap<(usize, u64), Vec<usize>> = HashMap::new();
    let (mut equal, mut scaled, mut other) = (Vec::new(), Vec::new(), Vec::new());
    let zero = |row: &[f32]| row.iter().all(|x| *x == 0.0);
    for unit in 0..units.count {
        let group = units.group(unit);
        if to_go[group] == 0 {
            continue;
        }
        (units.equal)(unit, &mut equal);
        if let Some(weights) = units.scaled {
            weights(unit, &mut scaled);
        }
        let silent = units.scaled.is_some() && (zero(&equal) || zero(&scaled));
        let read = (unit * units.size..(unit + 1) * units.size).any(|j| map.col(j).iter().any(|x| *x != 0.0));
        if silent || !read {
            found.push(Redundant { unit, twin: None });
            to_go[group] -= 1;
            continue;
        }
        let mut hasher = DefaultHasher::new();
        equal.iter().for_each(|x| x.to_bits().hash(&mut hasher));
        let alike = alike.entry((group, hasher.finish())).or_default();
        let twin = alike.iter().find_map(|earlier| {
            (units.equal)(*earlier, &mut other);
            if other != equal {
                return None;
            }
            let Some(weights) = units.scaled else { return Some((*earlier, 1.0)) };
            weights(*earlier, &mut other);
            Some((*earlier, multiple(&scaled, &other)?))
        });
        match twin {
            Some(twin) => {
                found.push(Redundant { unit, twin: Some(twin) });
                to_go[group] -= 1;
            }
            None => alike.push(unit),
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
