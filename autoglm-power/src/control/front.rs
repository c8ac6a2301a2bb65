//! The configurations worth a look: those than which no other is both faster and cheaper.

use super::candidates::Choices;
use super::curve::{Curve, Part, Phase, Point};
use crate::{Configuration, Share};

/// Configurations of a topology of which, with the same clusters taking part, none does as much for less power by the law, and
/// those that ran.
#[derive(Debug, Clone)]
pub(super) struct Front {
    configurations: Vec<Configuration>,
}

/// What of each cluster takes part, and what that does in all.
type Sum = (Part, Vec<Share>);

/// Configurations that are kept of those of the same clusters: neighbours beyond so many are alike.
const KEPT: usize = 64;

/// Beyond so many clusters, mixing one with another is taken to cost all alike: there would be too many ways to.
const MIXED: usize = 4;

impl Front {
    /// Sums the clusters up one by one, dropping at once what no sum can be the best with by the law. What ran already, and
    /// what is named, is looked at in any case: the law may be wrong about it.
    pub(super) fn new(curve: &Curve, clusters: &[Choices], named: [&Configuration; 2]) -> Self {
        let mut sums: Vec<Sum> = vec![(Part::default(), Vec::new())];
        for (index, choices) in clusters.iter().enumerate() {
            let mut used: Vec<(Part, Share)> =
                choices.shares().map(|share| (curve.part(index, share), share)).collect();
            keep_best(&mut used, true);
            used.push((Part::default(), Share::default()));
            let mut pairs: Vec<(Part, (usize, Share))> = Vec::with_capacity(sums.len() * used.len());
            for (at, (sum, _)) in sums.iter().enumerate() {
                pairs.extend(used.iter().map(|(part, share)| (sum.and(*part), (at, *share))));
            }
            keep_best(&mut pairs, clusters.len() <= MIXED);
            let longer = |(sum, (at, share)): (Part, (usize, Share))| (sum, [sums[at].1.as_slice(), &[share]].concat());
            sums = pairs.into_iter().map(longer).collect();
        }
        let law = sums.into_iter().map(|(_, shares)| Configuration { shares });
        let all = law.chain(curve.remembered().cloned()).chain(named.map(Configuration::clone));
        Self { configurations: all.filter(|on| on.threads() > 0).collect() }
    }

    /// What each is expected to do in a phase.
    pub(super) fn points(&self, curve: &Curve, phase: Phase) -> Vec<(&Configuration, Point)> {
        let residuals = curve.residuals(phase);
        let point = |on: &Configuration| residuals.correct(curve.law(on, phase), &curve.place(&on.shares));
        self.configurations.iter().map(|on| (on, point(on))).collect()
    }
}

/// The one of the least cost; none where there is no core.
pub(super) fn cheapest<'a>(
    points: &[(&'a Configuration, Point)],
    cost: impl Fn(Point) -> f64,
) -> Option<(&'a Configuration, Point)> {
    let costs = points.iter().map(|(on, point)| (cost(*point), (*on, *point)));
    Some(costs.min_by(|a, b| a.0.total_cmp(&b.0))?.1)
}

/// Drops what does no more than another for as much power, among those of the same clusters where `apart`.
fn keep_best<T: Clone>(sums: &mut Vec<(Part, T)>, apart: bool) {
    let mask = |part: &Part| if apart { part.mask } else { 0 };
    sums.sort_unstable_by(|(a, _), (b, _)| {
        mask(a).cmp(&mask(b)).then(a.watts.total_cmp(&b.watts)).then(b.rate.total_cmp(&a.rate))
    });
    let mut best: Option<(usize, f64)> = None;
    sums.retain(|(part, _)| {
        let faster = best.is_none_or(|(of, rate)| of != mask(part) || part.rate > rate);
        if faster {
            best = Some((mask(part), part.rate));
        }
        faster
    });
    let groups = sums.chunk_by(|(a, _), (b, _)| mask(a) == mask(b));
    if groups.clone().any(|group| group.len() > KEPT) {
        *sums = groups.flat_map(thinned).cloned().collect();
    }
}

/// At most [`KEPT`] of a group, evenly spread, the first and the last among them.
fn thinned<T>(group: &[T]) -> impl Iterator<Item = &T> {
    let taken = group.len().min(KEPT);
    (0..taken).map(move |index| &group[index * (group.len() - 1) / (taken - 1).max(1)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::price::HASTE_W;
    use crate::{Cluster, Topology};

    /// Three clusters, as most phones have, or as many as a server.
    fn topology(clusters: usize) -> Topology {
        let cluster = |index: usize| Cluster {
            cores: vec![4 * index, 4 * index + 1, 4 * index + 2],
            clocks_khz: (0..7 + index as u32 % 3)
                .map(|step| 300_000 + step * (250_000 + 50_000 * (index as u32 % 3)))
                .collect(),
            capacity: Some([200, 500, 1024][index % 3]),
        };
        Topology { clusters: (0..clusters).map(cluster).collect() }
    }

    /// A curve that saw each cluster and all of them together.
    fn taught(topology: &Topology) -> Curve {
        let mut curve = Curve::new(topology);
        let big = Configuration::highest(topology);
        let alone = |index: usize, clock: usize| {
            let mut shares = vec![Share::default(); topology.clusters.len()];
            shares[index] = Share { cores: 3, clock };
            Configuration { shares }
        };
        let each = (0..topology.clusters.len()).flat_map(|index| [0, 3, 6].map(|clock| alone(index, clock)));
        for on in each.chain([big.clone(), big.lowest_clocks()]) {
            let ghz = |(index, share): (usize, &Share)| {
                share.cores as f64 * f64::from(topology.clusters[index].clocks_khz[share.clock]) / 1e6
            };
            let rate: f64 = on.shares.iter().enumerate().map(|(i, s)| ghz((i, s)) * [10.0, 30.0, 60.0][i % 3]).sum();
            let watts: f64 =
                on.shares.iter().enumerate().map(|(i, s)| ghz((i, s)).powi(2) * [0.03, 0.1, 0.2][i % 3]).sum();
            for phase in [Phase::Compute, Phase::Decode] {
                (0..9).for_each(|_| curve.observe(&on, phase, rate, Some(1.5 + watts)));
            }
        }
        curve
    }

    /// Every configuration that is considered.
    fn every(clusters: &[Choices]) -> Vec<Configuration> {
        let mut all = vec![Vec::new()];
        for choices in clusters {
            let shares: Vec<Share> = std::iter::once(Share::default()).chain(choices.shares()).collect();
            let with =
                |on: &Vec<Share>| shares.iter().map(|share| [on.as_slice(), &[*share]].concat()).collect::<Vec<_>>();
            all = all.iter().flat_map(with).collect();
        }
        let all = all.into_iter().map(|shares| Configuration { shares });
        all.filter(|on| on.threads() > 0).collect()
    }

    #[test]
    fn it_is_nearly_as_good_as_a_look_at_all_of_them() {
        let topology = topology(3);
        let curve = taught(&topology);
        let clusters: Vec<Choices> = topology.clusters.iter().map(Choices::of).collect();
        let big = Configuration::big_cores(&topology);
        let front = Front::new(&curve, &clusters, [&big, &big]);
        let every = every(&clusters);
        for phase in [Phase::Compute, Phase::Decode] {
            let found = front.points(&curve, phase);
            let points: Vec<Point> = every.iter().map(|on| curve.point(on, phase)).collect();
            for budget_w in [2.0, 2.5, 3.0, 4.0, 6.0, 9.0, 1e6] {
                for price_w in [0.1, 3.0, HASTE_W] {
                    let cost = |point: Point| {
                        if point.watts > budget_w { f64::INFINITY } else { (point.watts + price_w) / point.rate }
                    };
                    let least = points.iter().map(|point| cost(*point)).fold(f64::INFINITY, f64::min);
                    let found = cost(curve.point(cheapest(&found, cost).unwrap().0, phase));
                    // What the law misses is not known yet while sums are dropped.
                    assert!(
                        found <= least * 1.1,
                        "{phase:?}, {budget_w} W, {price_w} W: {found} where there is {least}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_server_with_a_clock_for_each_core_has_as_few() {
        let topology = topology(64);
        let clusters: Vec<Choices> = topology.clusters.iter().map(Choices::of).collect();
        let big = Configuration::big_cores(&topology);
        let front = Front::new(&taught(&topology), &clusters, [&big, &big]);
        assert!((2..=KEPT + 2 * 64 + 2).contains(&front.configurations.len()), "{}", front.configurations.len());
        let none = Configuration::default();
        let front = Front::new(&Curve::new(&Topology::default()), &[], [&none, &none]);
        assert!(front.configurations.is_empty() && cheapest(&[], |_| 0.0).is_none());
    }
}
