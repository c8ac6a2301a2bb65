//! The processor as its kernel describes it.

/// Cores that change their clock together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Numbers of the cores, in order.
    pub cores: Vec<usize>,
    /// Clocks that it can run at, in kHz, in order; the lowest and the highest where no more is told, and none where
    /// nothing is.
    pub clocks_khz: Vec<u32>,
    /// What a core does at the highest clock, the device's fastest being 1024; none where the kernel does not say.
    pub capacity: Option<u32>,
}

/// All clusters of a processor, the slowest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Topology {
    /// The clusters.
    pub clusters: Vec<Cluster>,
}

impl Topology {
    /// Cores of all clusters.
    #[must_use]
    pub fn cores(&self) -> usize {
        self.clusters.iter().map(|cluster| cluster.cores.len()).sum()
    }
}
