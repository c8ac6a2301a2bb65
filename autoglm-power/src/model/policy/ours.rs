//! `ours`: the controllers of this crate, wired as an agent wires them.

use super::{Plan, Policy, Request, Rest, Seen, Step, is_fast_by_lot};
use crate::control::{Headroom, IdleManager, Level, Limits, Measured, Observed, Pacer, Phase, Selector, Wanted};
use crate::{Configuration, Topology};

/// Selector, headroom, pacer, idle manager and, where tiers are on, the choice of tier.
pub(super) struct Ours {
    selector: Selector,
    headroom: Headroom,
    pacer: Pacer,
    idle: IdleManager,
    tiers: bool,
    lot: u64,
    slowdown: f64,
    limited: bool,
    step: usize,
}

/// Steps take this much longer than on the big cores at their highest clocks.
const SLOWDOWN: f64 = 1.1;

/// Share of a screenshot's rows where tiers and picture budget are on.
const VISUAL_SHARE: f64 = 0.5;

/// With tiers, the first step of a task thinks, where it is planned, and then every fourth, which looks back.
const THINKS_EVERY: usize = 4;

/// A device that was left alone for so long is as warm as the air, in s.
const RESTED_S: f64 = 1800.0;

/// What keeping a model costs a phone while nothing is asked for, in W, until that is measured.
const RESIDENT_W: f64 = 0.02;

impl Ours {
    pub(super) fn new(topology: &Topology, lot: u64, tiers: bool) -> Self {
        Self {
            selector: Selector::new(topology),
            headroom: Headroom::new(Limits::default()),
            pacer: Pacer::new(SLOWDOWN),
            idle: IdleManager::new(levels(RESIDENT_W, 9.0)),
            tiers,
            lot,
            slowdown: SLOWDOWN,
            limited: false,
            step: 0,
        }
    }
}

/// What depths cost, from what being loaded and reading the weights do.
fn levels(resident_w: f64, reload_j: f64) -> [Level; 4] {
    [
        Level { watts: resident_w, wake_j: 0.0 },
        Level { watts: resident_w * 0.9, wake_j: 0.4 },
        Level { watts: resident_w * 0.05, wake_j: 0.4 + reload_j },
        Level { watts: 0.0, wake_j: 2.0 + reload_j },
    ]
}

fn observed(seen: &Seen) -> Observed {
    Observed { body_c: seen.reading.body_c, junction_c: seen.reading.junction_c, watts: seen.reading.power_w }
}

impl Policy for Ours {
    fn request(&mut self, _: &Seen, request: &Request) -> Plan {
        self.step = request.step;
        self.slowdown = self.pacer.step(None);
        self.selector.begin(self.slowdown, self.headroom.bang_bang_w());
        self.limited = false;
        if self.tiers {
            let thinks = request.step.is_multiple_of(THINKS_EVERY);
            return Plan { thinks, visual_share: VISUAL_SHARE, reuses: true };
        }
        Plan { thinks: !is_fast_by_lot(self.lot, request.number), visual_share: 1.0, reuses: true }
    }

    fn run(&mut self, seen: &Seen, step: &Step) -> &Configuration {
        let budget_w = self.headroom.step(&observed(seen), seen.now_s);
        let phase = if step.decodes { Phase::Decode } else { Phase::Compute };
        let measured = step.done.filter(|_| step.granted);
        let measured = measured.map(|work| Measured { work, seconds: step.took_s, watts: seen.reading.power_w });
        let wanted = Wanted { phase, budget_w, slowdown: self.slowdown };
        self.selector.step(measured, &wanted);
        self.limited = self.selector.is_limited();
        self.selector.current()
    }

    fn throttles(&self) -> bool {
        self.limited
    }

    fn done(&mut self, seen: &Seen, took_s: f64, reload: Option<(f64, f64)>) {
        let _ = (seen, took_s);
        if let Some((_, energy_j)) = reload {
            // The charge that was missing afterwards is what a phone would measure.
            self.idle.set_levels(levels(RESIDENT_W, energy_j));
        }
        let _ = &mut self.pacer;
    }

    fn rest(&mut self, _: &Seen) -> Rest {
        let at = self.idle.thresholds();
        Rest { spill_s: at.spill_s, drop_s: at.drop_s, exit_s: at.exit_s }
    }

    fn woken(&mut self, seen: &Seen, after_s: f64) {
        self.headroom.begin(&observed(seen));
        self.idle.woken(after_s);
        if after_s > RESTED_S {
            self.headroom.rested(&observed(seen));
        }
    }
}
