//! `ours`: the controllers of this crate, wired as they are on a phone.

use super::{Plan, Policy, Request, Seen, Step, is_fast_by_lot};
use crate::control::{Limits, Regulator, Thresholds, Work};
use crate::{Configuration, Topology};

/// The regulator and, where tiers are on, the choice of tier.
pub(super) struct Ours {
    regulator: Regulator,
    tiers: bool,
    lot: u64,
}

/// Share of a screenshot's rows where tiers and picture budget are on.
const VISUAL_SHARE: f64 = 0.5;

/// With tiers, the first step of a task thinks, where it is planned, and then every fourth, which looks back.
const THINKS_EVERY: usize = 4;

impl Ours {
    pub(super) fn new(topology: &Topology, lot: u64, tiers: bool) -> Self {
        Self { regulator: Regulator::new(topology, Limits::default()), tiers, lot }
    }
}

impl Policy for Ours {
    fn request(&mut self, seen: &Seen, request: &Request) -> Plan {
        self.regulator.begin(&seen.reading, request.idle_s, None);
        if self.tiers {
            let thinks = request.step.is_multiple_of(THINKS_EVERY);
            return Plan { thinks, visual_share: VISUAL_SHARE, reuses: true };
        }
        Plan { thinks: !is_fast_by_lot(self.lot, request.number), visual_share: 1.0, reuses: true }
    }

    fn run(&mut self, seen: &Seen, step: &Step) -> &Configuration {
        let done = step.done.filter(|_| step.granted).map(|work| (work, step.took_s));
        self.regulator.step(&seen.reading, &Work { phase: step.phase, done }, seen.now_s)
    }

    fn done(&mut self, reload: Option<(f64, f64)>) {
        // Its own clock and the gauge's noisy reading say what waking cost, the waiting phone included.
        self.regulator.end(reload.map(|(seconds, watts)| seconds * watts));
    }

    fn rest(&mut self, seen: &Seen) -> Thresholds {
        self.regulator.rest(seen.reading.memory_pressure)
    }
}
