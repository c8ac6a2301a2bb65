//! `none` and `os`: the highest clocks of the big cores, whatever happens.

use super::{Plan, Policy, Request, Seen, Step};
use crate::control::Thresholds;
use crate::{Configuration, Topology};

/// Always the same.
pub(super) struct Fixed {
    on: Configuration,
    reuses: bool,
}

impl Fixed {
    pub(super) fn new(topology: &Topology, reuses: bool) -> Self {
        Self { on: Configuration::big_cores(topology), reuses }
    }
}

impl Policy for Fixed {
    fn request(&mut self, _: &Seen, _: &Request) -> Plan {
        Plan { thinks: true, visual_share: 1.0, reuses: self.reuses }
    }

    fn run(&mut self, _: &Seen, _: &Step) -> &Configuration {
        &self.on
    }

    fn rest(&mut self, _: &Seen) -> Thresholds {
        Thresholds::NEVER
    }
}
