//! Which configurations are considered, and which are tried first.

use super::curve::Phase;
use crate::{Configuration, Share, Topology};

/// What of a cluster may take part.
#[derive(Debug, Clone)]
pub(super) struct Choices {
    /// Numbers of cores: half of them, all.
    cores: Vec<usize>,
    /// Indices of clocks.
    clocks: Vec<usize>,
}

/// Clocks of a cluster that are considered, evenly spread over its range.
const CLOCKS: usize = 12;

impl Choices {
    pub(super) fn of(cluster: &crate::Cluster) -> Self {
        let all = cluster.cores.len();
        let mut cores = vec![all.div_ceil(2), all];
        cores.dedup();
        cores.retain(|cores| *cores > 0);
        let clocks = cluster.clocks_khz.len().max(1);
        let taken = clocks.min(CLOCKS);
        let spread = |index: usize| if taken == 1 { clocks - 1 } else { index * (clocks - 1) / (taken - 1) };
        Self { cores, clocks: (0..taken).map(spread).collect() }
    }

    /// Each number of cores at each clock.
    pub(super) fn shares(&self) -> impl Iterator<Item = Share> {
        self.cores.iter().flat_map(|cores| self.clocks.iter().map(|clock| Share { cores: *cores, clock: *clock }))
    }
}

/// What is tried first: the reference, each cluster alone at a high, a middle and a low clock, and all together. Everything
/// else follows from these by the shape of the curve. The next one is the last.
pub(super) fn trials(topology: &Topology, phase: Phase) -> Vec<Configuration> {
    let clusters = topology.clusters.len();
    let none = Configuration { shares: vec![Share::default(); clusters] };
    let at = |index: usize, of: f64| {
        let clocks = topology.clusters[index].clocks_khz.len().saturating_sub(1);
        Share { cores: topology.clusters[index].cores.len(), clock: (of * clocks as f64).round() as usize }
    };
    let together = |of: f64| Configuration { shares: (0..clusters).map(|index| at(index, of)).collect() };
    let mut trials = vec![Configuration::big_cores(topology)];
    match phase {
        Phase::Compute => {
            for of in [0.5, 1.0, 0.2] {
                for index in 0..clusters {
                    let mut alone = none.clone();
                    alone.shares[index] = at(index, of);
                    trials.push(alone);
                }
            }
            trials.extend([together(0.6), together(0.35)]);
        }
        Phase::Decode => {
            let mut big = Configuration::big_cores(topology);
            big.shares.iter_mut().for_each(|share| share.clock /= 2);
            trials.push(big);
            trials.push(together(0.3));
        }
    }
    trials.reverse();
    trials
}
