//! Laws of the controllers: what must hold on any device, in any air, whatever a sensor says.

mod heat;
mod selection;

use crate::{Cluster, Configuration, Topology};

/// Two clusters, of which the kernel says that the second is three times as fast.
fn phone() -> Topology {
    let cluster = |first: usize, clocks: &[u32], capacity| Cluster {
        cores: (first..first + 4).collect(),
        clocks_khz: clocks.to_vec(),
        capacity: Some(capacity),
    };
    let little = cluster(0, &[300_000, 700_000, 1_100_000, 1_500_000, 1_900_000], 340);
    let big = cluster(4, &[400_000, 900_000, 1_400_000, 1_900_000, 2_400_000, 2_900_000], 1024);
    Topology { clusters: vec![little, big] }
}

/// How such a phone really is: 1e9 operations per second and W, with cores that draw what the clock and its voltage ask for.
fn truth(on: &Configuration) -> (f64, f64) {
    let topology = phone();
    let per_ghz = [20.0, 60.0];
    let mut sum = (0.0, 1.7);
    for (index, share) in on.shares.iter().enumerate() {
        let ghz = f64::from(topology.clusters[index].clocks_khz[share.clock]) / 1e6;
        let volts = 0.5 + 0.2 * ghz;
        sum.0 += share.cores as f64 * per_ghz[index] * ghz;
        sum.1 += share.cores as f64 * [0.15, 0.6][index] * ghz * volts * volts;
    }
    sum
}
