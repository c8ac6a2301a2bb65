//! Who decides on what inference runs, from readings alone.

mod fixed;
mod oracle;
mod ours;
mod seed;

use super::physics::Physics;
use crate::control::{Phase, Thresholds};
use crate::{Configuration, Reading, Topology};

/// Which policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    /// No management: highest clocks, every prompt computed whole, always thinking, always loaded.
    None,
    /// What the system does alone: schedutil, which goes to the highest clocks under load, on the big cores, with the
    /// beginnings of prompts reused.
    Os,
    /// Five techniques, exactly as they were first written down: the performance governor around inference and the powersave
    /// governor after it, unloading after 30 s, a fast tier for every other step, reuse, and the powersave governor above
    /// 75 °C.
    Seed,
    /// The controllers of this crate, with the tokens of `seed`: the same fast steps, the same pictures, the same reuse.
    Ours,
    /// The controllers of this crate, tiers and picture budget included.
    OursTiers,
    /// As `ours`, with the model's own constants instead of what can be learned, and memory that rests as for whoever knew
    /// when the next step comes. No device can do that.
    Oracle,
}

impl Name {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::None, Self::Os, Self::Seed, Self::Ours, Self::OursTiers, Self::Oracle];

    /// As it is written on a command line and in a report.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Os => "os",
            Self::Seed => "seed",
            Self::Ours => "ours",
            Self::OursTiers => "ours-tiers",
            Self::Oracle => "oracle",
        }
    }

    /// Whether its model is pruned: pruning is one of the seed's techniques.
    #[must_use]
    pub fn prunes(self) -> bool {
        !matches!(self, Self::None | Self::Os)
    }

    /// The policy of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }
}

/// A step as its agent asks for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Request {
    /// Words of the whole prompt.
    pub(crate) text_tokens: f64,
    /// Rows of the screenshot in full size.
    pub(crate) visual_tokens: f64,
    /// Which step of its task it is, from 0.
    pub(crate) step: usize,
    /// Which step of all, from 0.
    pub(crate) number: usize,
    /// How long nothing had been asked for, in s; none for the first.
    pub(crate) idle_s: Option<f64>,
}

/// How a step is to be done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Plan {
    /// Whether it thinks.
    pub(crate) thinks: bool,
    /// Share of the screenshot's rows, by its size in pixels.
    pub(crate) visual_share: f64,
    /// Whether what is known of the prompt is reused.
    pub(crate) reuses: bool,
}

/// What a policy sees while something is computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    /// What is computed.
    pub(crate) phase: Phase,
    /// What was done since the last call: 1e9 operations of [`Phase::Compute`], 1e9 bytes read of [`Phase::Decode`]. None before
    /// the first.
    pub(crate) done: Option<f64>,
    /// How long that took, in s.
    pub(crate) took_s: f64,
    /// Whether the clocks were those asked for, as the kernel tells; a device that protects itself grants less.
    pub(crate) granted: bool,
}

/// What a policy sees: sensors and its own work, never a constant of the model nor the future.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Seen {
    /// Sensor readings, with their noise.
    pub(crate) reading: Reading,
    /// The time, in s from the beginning.
    pub(crate) now_s: f64,
}

/// Decides.
pub(crate) trait Policy {
    /// A step is asked for.
    fn request(&mut self, seen: &Seen, request: &Request) -> Plan;

    /// Called before every second of work, or less often in a phase of hours: on what it runs.
    fn run(&mut self, seen: &Seen, step: &Step) -> &Configuration;

    /// A step is done. How long reading weights back took before it, in s, and what the whole device drew meanwhile by its
    /// gauge, in W, where they had to be.
    fn done(&mut self, reload: Option<(f64, f64)>) {
        let _ = reload;
    }

    /// Called when a step is done: when memory is to be given back while nothing is asked for.
    fn rest(&mut self, seen: &Seen) -> Thresholds;

    /// Whether memory is to rest as it would for whoever knew when the next step comes.
    fn knows_the_future(&self) -> bool {
        false
    }
}

/// The policy of a name on a processor that its kernel describes so. Only the oracle looks at the truth.
pub(crate) fn policy(
    name: Name,
    topology: &Topology,
    seed: u64,
    truth: &Physics<'_>,
    ambient_c: f64,
) -> Box<dyn Policy> {
    match name {
        Name::None => Box::new(fixed::Fixed::new(topology, false)),
        Name::Os => Box::new(fixed::Fixed::new(topology, true)),
        Name::Seed => Box::new(seed::Seed::new(topology, seed)),
        Name::Ours => Box::new(ours::Ours::new(topology, seed, false)),
        Name::OursTiers => Box::new(ours::Ours::new(topology, seed, true)),
        Name::Oracle => Box::new(oracle::Oracle::new(topology, seed, truth, ambient_c)),
    }
}

/// Which steps are fast where a policy decides by lot, as the seed does: every other one, the same ones for all policies.
pub(crate) fn is_fast_by_lot(seed: u64, number: usize) -> bool {
    fastrand::Rng::with_seed(seed ^ (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)).bool()
}

/// So much work of one phase.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Stretch {
    pub(crate) phase: Phase,
    pub(crate) amount: f64,
}
