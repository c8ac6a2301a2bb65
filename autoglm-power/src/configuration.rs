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

    /// Threads that it takes, one per core.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.shares.iter().map(|share| share.cores).sum()
    }
}
