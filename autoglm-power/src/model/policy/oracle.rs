//! `oracle`: knows the device and the next request, which no device does.

use super::{Plan, Policy, Request, Rest, Seen, Step, is_fast_by_lot};
use crate::control::Phase;
use crate::model::physics::Physics;
use crate::{Configuration, Share, Topology};

/// The best configuration of each phase by the device's own constants.
pub(super) struct Oracle {
    compute: Configuration,
    decode: Configuration,
    lot: u64,
}

/// As slow against the big cores as the controllers may be.
const SLOWDOWN: f64 = 1.08;

impl Oracle {
    pub(super) fn new(topology: &Topology, lot: u64, truth: &Physics<'_>) -> Self {
        let best = |phase| {
            let idle = &truth.device.idle;
            let waits_w = idle.awake_w + idle.screen_w;
            let least_rate = truth.point(&Configuration::big_cores(topology), phase).rate / SLOWDOWN;
            let mut best = (f64::INFINITY, Configuration::big_cores(topology));
            every(topology, &mut |on| {
                let point = truth.point(on, phase);
                let cost = (point.watts + waits_w) / point.rate;
                if point.rate >= least_rate && cost < best.0 {
                    best = (cost, on.clone());
                }
            });
            best.1
        };
        Self { compute: best(Phase::Compute), decode: best(Phase::Decode), lot }
    }
}

/// Shows every configuration with whole clusters.
fn every(topology: &Topology, show: &mut dyn FnMut(&Configuration)) {
    let mut on = Configuration { shares: vec![Share::default(); topology.clusters.len()] };
    descend(topology, 0, &mut on, show);
}

fn descend(topology: &Topology, index: usize, on: &mut Configuration, show: &mut dyn FnMut(&Configuration)) {
    let Some(cluster) = topology.clusters.get(index) else {
        if on.threads() > 0 {
            show(on);
        }
        return;
    };
    on.shares[index] = Share::default();
    descend(topology, index + 1, on, show);
    let clocks = cluster.clocks_khz.len();
    for clock in (0..clocks).step_by(clocks.div_ceil(8)) {
        on.shares[index] = Share { cores: cluster.cores.len(), clock };
        descend(topology, index + 1, on, show);
    }
}

impl Policy for Oracle {
    fn request(&mut self, _: &Seen, request: &Request) -> Plan {
        Plan { thinks: !is_fast_by_lot(self.lot, request.number), visual_share: 1.0, reuses: true }
    }

    fn run(&mut self, _: &Seen, step: &Step) -> &Configuration {
        if step.decodes { &self.decode } else { &self.compute }
    }

    fn rest(&mut self, _: &Seen) -> Rest {
        Rest::NEVER
    }
}
