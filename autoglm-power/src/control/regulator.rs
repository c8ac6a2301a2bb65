//! All controllers around one model, wired as an agent wires them: the same code decides on a phone and in the device model.

use super::Phase;
use super::idle::{Depth, IdleManager, Level, Thresholds};
use super::pacer::Pacer;
use super::selector::{Measured, Selector, Wanted};
use super::thermal::{Headroom, Limits};
use crate::{Configuration, Reading, Topology};

/// What was computed in the last second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// What is computed now.
    pub phase: Phase,
    /// What was done and how long it took, where the clocks were those asked for. None before the first second and where
    /// a device that protects itself granted less.
    pub done: Option<(f64, f64)>,
}

/// Decides on what inference runs and how memory rests.
#[derive(Debug, Clone)]
pub struct Regulator {
    selector: Selector,
    headroom: Headroom,
    pacer: Pacer,
    idle: IdleManager,
}

/// Steps take this much longer than on the big cores at their highest clocks, where nobody says otherwise.
pub const SLOWDOWN: f64 = 1.15;

/// A device that was left alone for so long is as warm as the air, in s.
const RESTED_S: f64 = 1800.0;

/// What keeping a model is taken to cost a phone while nothing is asked for, in W: too little for any of its gauges. And
/// what reading its weights costs, in J, until that is measured.
const RESIDENT_W: f64 = 0.02;
const RELOAD_J: f64 = 9.0;

impl Regulator {
    /// Knows nothing but what the kernel says of the processor.
    #[must_use]
    pub fn new(topology: &Topology, limits: Limits) -> Self {
        Self {
            selector: Selector::new(topology),
            headroom: Headroom::new(limits),
            pacer: Pacer::new(SLOWDOWN),
            idle: IdleManager::new(levels(RELOAD_J)),
        }
    }

    /// A request comes `idle_s` after the one before, with nothing computed yet; none for the first. With a deadline,
    /// `(seconds left, seconds on the reference)`, it is done as slowly as that allows.
    pub fn begin(&mut self, reading: &Reading, idle_s: Option<f64>, deadline: Option<(f64, f64)>) {
        self.headroom.begin(reading);
        if let Some(idle_s) = idle_s {
            self.idle.woken(idle_s);
            if idle_s > RESTED_S {
                self.headroom.rested(reading);
            }
        }
        let slowdown = self.pacer.step(deadline);
        self.selector.begin(slowdown, self.headroom.bang_bang_w());
    }

    /// On what the next second runs.
    pub fn step(&mut self, reading: &Reading, work: &Work, now_s: f64) -> &Configuration {
        let allowed = self.headroom.step(reading, self.selector.curve().idle_w(), now_s);
        let measured = work.done.map(|(work, seconds)| Measured { work, seconds, watts: reading.power_w });
        self.selector.step(measured, &Wanted { phase: work.phase, allowed })
    }

    /// A request is done. Weights had to be read back for it, which took so much energy, in J, where they had.
    pub fn end(&mut self, reload_j: Option<f64>) {
        if let Some([took_s, reference_s]) = self.selector.took() {
            self.pacer.done(took_s, reference_s);
        }
        if let Some(joules) = reload_j.filter(|joules| joules.is_finite() && *joules > 0.0) {
            self.idle.set_levels(levels(joules));
        }
    }

    /// Whether heat slows inference down.
    #[must_use]
    pub fn is_throttling(&self) -> bool {
        self.selector.is_limited()
    }

    /// When memory is given back from now on while nothing is asked for; one depth earlier where all tasks wait for
    /// memory, by the fraction of time in which they do.
    #[must_use]
    pub fn rest(&self, memory_pressure: Option<f64>) -> Thresholds {
        let at = self.idle.thresholds();
        if self.idle.step(0.0, memory_pressure) == Depth::Hot {
            return at;
        }
        Thresholds { spill_s: 0.0, drop_s: at.drop_s.min(at.spill_s), exit_s: at.exit_s }
    }

    /// What was learned of the device.
    #[must_use]
    pub fn selector(&self) -> &Selector {
        &self.selector
    }
}

/// Share of [`RESIDENT_W`] that keys and values are taken to be, and that a process without weights is.
const OF_KEYS_AND_VALUES: f64 = 0.1;
const OF_THE_PROCESS: f64 = 0.05;

/// What keys and values are taken to cost on their way to the disk and back, and what starting a process, in J.
const SPILL_J: f64 = 0.4;
const START_J: f64 = 1.5;

/// What depths cost, from what reading the weights does.
fn levels(reload_j: f64) -> [Level; 4] {
    [
        Level { watts: RESIDENT_W, wake_j: 0.0 },
        Level { watts: RESIDENT_W * (1.0 - OF_KEYS_AND_VALUES), wake_j: SPILL_J },
        Level { watts: RESIDENT_W * OF_THE_PROCESS, wake_j: reload_j },
        Level { watts: 0.0, wake_j: START_J + reload_j },
    ]
}
