//! Which thread of inference goes where, and under which clamp.

use super::Complaint;
use super::threads::WHOLE;
use crate::{Cluster, Share, Topology};

/// Where one thread runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Clusters whose cores it may run on, counted from the slowest.
    pub(super) clusters: Vec<usize>,
    /// The cores.
    pub(super) cores: Vec<usize>,
    /// The most that it should seem to need; none for no limit.
    pub(super) clamp: Option<u32>,
}

/// The clock that a share holds its cluster to, in kHz; none for one that holds it to nothing.
pub(super) fn limit(cluster: &Cluster, share: Share) -> Option<u32> {
    let below_the_highest = share.cores > 0 && share.clock < cluster.clocks_khz.len().saturating_sub(1);
    below_the_highest.then(|| cluster.clocks_khz[share.clock])
}

/// What a core does at the clock that a share holds it to.
fn clamp(cluster: &Cluster, share: Share) -> Option<u32> {
    let (khz, highest) = (u64::from(limit(cluster, share)?), u64::from(*cluster.clocks_khz.last()?));
    // A kernel that tells no capacities has cores of one kind.
    let capacity = u64::from(cluster.capacity.unwrap_or(WHOLE).min(WHOLE));
    // Rounded up: a clamp just below what the clock gives would choose the clock below.
    u32::try_from((capacity * khz).div_ceil(highest.max(1))).ok()
}

/// Places for so many threads, the fast clusters first. Threads of a cluster share its cores, among which the kernel
/// moves them out of the way of others; threads beyond the number of cores share them all.
///
/// None at all where no core is asked for that may be used.
pub(super) fn places(
    topology: &Topology,
    shares: &[Share],
    allowed: &[usize],
    threads: usize,
    complaints: &mut Vec<Complaint>,
) -> Vec<Place> {
    let mut places = Vec::new();
    let mut everywhere = Place { clusters: Vec::new(), cores: Vec::new(), clamp: Some(0) };
    for (idx, (cluster, share)) in topology.clusters.iter().zip(shares).enumerate().rev() {
        let usable = cluster.cores.iter().copied().filter(|core| allowed.contains(core));
        let cores: Vec<usize> = usable.take(share.cores).collect();
        if cores.len() < share.cores {
            complaints.push(Complaint::Cores { cluster: idx, wanted: share.cores, allowed: cores.len() });
        }
        if cores.is_empty() {
            continue;
        }
        let clamp = clamp(cluster, *share);
        everywhere.clusters.push(idx);
        everywhere.cores.extend(&cores);
        everywhere.clamp = everywhere.clamp.zip(clamp).map(|(all, this)| all.max(this));
        places.extend(std::iter::repeat_n(Place { clusters: vec![idx], cores: cores.clone(), clamp }, cores.len()));
    }
    if !places.is_empty() {
        places.resize(threads, everywhere);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phone() -> Topology {
        let cluster = |cores: std::ops::Range<usize>, clocks_khz: &[u32], capacity| Cluster {
            cores: cores.collect(),
            clocks_khz: clocks_khz.to_vec(),
            capacity: Some(capacity),
        };
        Topology {
            clusters: vec![
                cluster(0..4, &[300_000, 1_800_000], 160),
                cluster(4..6, &[400_000, 1_200_000, 2_400_000], 500),
                cluster(6..8, &[500_000, 1_400_000, 2_800_000], 1024),
            ],
        }
    }

    fn of(
        shares: [(usize, usize); 3],
        allowed: std::ops::Range<usize>,
        threads: usize,
    ) -> (Vec<Place>, Vec<Complaint>) {
        let shares = shares.map(|(cores, clock)| Share { cores, clock });
        let mut complaints = Vec::new();
        let places = places(&phone(), &shares, &allowed.collect::<Vec<_>>(), threads, &mut complaints);
        (places, complaints)
    }

    fn place(clusters: &[usize], cores: &[usize], clamp: Option<u32>) -> Place {
        Place { clusters: clusters.to_vec(), cores: cores.to_vec(), clamp }
    }

    #[test]
    fn fast_clusters_come_first_and_clamps_follow_the_clocks() {
        let (places, complaints) = of([(1, 1), (1, 1), (2, 1)], 0..8, 4);
        let fast = place(&[2], &[6, 7], Some(512));
        assert_eq!(places, [fast.clone(), fast, place(&[1], &[4], Some(250)), place(&[0], &[0], None)]);
        assert_eq!(complaints, []);
    }

    #[test]
    fn threads_beyond_the_cores_share_them_all_under_the_loosest_clamp() {
        let (places, _) = of([(0, 0), (1, 0), (1, 1)], 0..8, 3);
        assert_eq!(places[2], place(&[2, 1], &[6, 4], Some(512)));
        let (places, _) = of([(0, 0), (1, 0), (1, 2)], 0..8, 3);
        assert_eq!(places[2].clamp, None);
    }

    #[test]
    fn cores_that_a_container_keeps_back_are_missed_once() {
        let (places, complaints) = of([(0, 0), (0, 0), (2, 2)], 0..7, 2);
        assert_eq!(places, [place(&[2], &[6], None), place(&[2], &[6], None)]);
        assert_eq!(complaints, [Complaint::Cores { cluster: 2, wanted: 2, allowed: 1 }]);
    }

    #[test]
    fn no_core_at_all_is_no_place() {
        assert_eq!(of([(0, 0); 3], 0..8, 4).0, []);
        assert_eq!(of([(0, 0), (0, 0), (2, 0)], 0..4, 4).0, []);
    }
}
