//! What inference runs on.

use crate::Topology;

/// How much of one cluster inference takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Share {
    /// Cores that it runs on.
    pub cores: usize,
    /// The highest clock that it asks for: an index into [`Cluster::clocks_khz`](crate::Cluster::clocks_khz).
    pub clock: usize,
}

/// What inference runs on: a share of each cluster, in the order of [`Topology::clusters`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Configuration {
    /// The shares.
    pub shares: Vec<Share>,
}

impl Configuration {
    /// All cores at their highest clocks.
    #[must_use]
    pub fn highest(topology: &Topology) -> Self {
        let share = |cluster: &crate::Cluster| Share {
            cores: cluster.cores.len(),
            clock: cluster.clocks_khz.len().saturating_sub(1),
        };
        Self { shares: topology.clusters.iter().map(share).collect() }
    }

    /// All but the slowest cluster, or all where there is one, at their highest clocks: what a runtime takes that knows
    /// nothing else.
    #[must_use]
    pub fn big_cores(topology: &Topology) -> Self {
        let mut big = Self::highest(topology);
        if let [slowest, _, ..] = big.shares.as_mut_slice() {
            slowest.cores = 0;
        }
        big
    }

    /// The same cores at their lowest clocks.
    #[must_use]
    pub fn lowest_clocks(&self) -> Self {
        Self { shares: self.shares.iter().map(|share| Share { clock: 0, ..*share }).collect() }
    }

    /// Threads that it takes, one per core.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.shares.iter().map(|share| share.cores).sum()
    }
}
