//! `seed`: five techniques exactly as they were first written down.

use super::{Plan, Policy, Request, Seen, Step, is_fast_by_lot};
use crate::control::Thresholds;
use crate::{Configuration, Topology};

/// Temperature of the junction at which it turns to the powersave governor, and at which it turns back, in °C.
const TRIP_C: f64 = 75.0;
const RELEASE_C: f64 = 70.0;

/// After which the model is unloaded, in s.
const UNLOAD_S: f64 = 30.0;

/// The five techniques.
pub(super) struct Seed {
    performance: Configuration,
    powersave: Configuration,
    hot: bool,
    lot: u64,
}

impl Seed {
    pub(super) fn new(topology: &Topology, lot: u64) -> Self {
        let performance = Configuration::big_cores(topology);
        let powersave = performance.lowest_clocks();
        Self { performance, powersave, hot: false, lot }
    }
}

impl Policy for Seed {
    fn request(&mut self, _: &Seen, request: &Request) -> Plan {
        Plan { thinks: !is_fast_by_lot(self.lot, request.number), visual_share: 1.0, reuses: true }
    }

    fn run(&mut self, seen: &Seen, _: &Step) -> &Configuration {
        match seen.reading.junction_c {
            Some(junction) if junction > TRIP_C => self.hot = true,
            Some(junction) if junction < RELEASE_C => self.hot = false,
            _ => {}
        }
        if self.hot { &self.powersave } else { &self.performance }
    }

    fn rest(&mut self, _: &Seen) -> Thresholds {
        Thresholds { drop_s: UNLOAD_S, ..Thresholds::NEVER }
    }
}
