//! Runs every policy on every device, in every air, on every day.

use std::collections::BTreeSet;

use autoglm_power::model::{Assumptions, Device, Name, Outcome, PROFILES, Run, Trace, simulate};
use rayon::prelude::*;

use crate::error::Result;

/// Temperatures of the air, in °C.
pub(super) const AMBIENTS_C: [f64; 5] = [15.0, 20.0, 25.0, 30.0, 35.0];

/// Profiles of devices that have not the memory for 5.3 GB of weights: no day of theirs can happen.
const TOO_SMALL: [&str; 5] =
    ["exynos-850", "snapdragon-625", "snapdragon-835", "snapdragon-845", "tablet-snapdragon-720g"];

/// One device in one air on the days of one seed.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) device: String,
    pub(super) ambient_c: f64,
    pub(super) none: Outcome,
    pub(super) os: Outcome,
    pub(super) seed: Outcome,
    pub(super) ours: Outcome,
    pub(super) tiers: Outcome,
    pub(super) oracle: Outcome,
    /// The same days without the agent.
    without: Outcome,
}

impl Cell {
    fn new(run: &Run<'_>) -> Self {
        let outcome = |name| simulate(run, name);
        Self {
            device: run.device.name.clone(),
            ambient_c: run.ambient_c,
            none: outcome(Name::None),
            os: outcome(Name::Os),
            seed: outcome(Name::Seed),
            ours: outcome(Name::Ours),
            tiers: outcome(Name::OursTiers),
            oracle: outcome(Name::Oracle),
            without: simulate(&Run { trace: &run.trace.without_steps(), ..*run }, Name::None),
        }
    }

    /// Share of the energy that inference takes where nothing is managed.
    pub(super) fn share(&self) -> f64 {
        self.none.llm_share
    }

    /// How much longer a step of ours takes than one of the seed's, at the 95th percentile.
    pub(super) fn p95_ratio(&self) -> f64 {
        p95_ratio(&self.ours, &self.seed)
    }

    /// Minutes a day above 43 °C that the phone would not have had without the agent.
    pub(super) fn extra_minutes(&self) -> f64 {
        self.extra_minutes_of(&self.ours)
    }

    pub(super) fn extra_minutes_of(&self, policy: &Outcome) -> f64 {
        (policy.minutes_over_43c - self.without.minutes_over_43c).max(0.0)
    }
}

/// How much longer a step of one takes than one of the other, at the 95th percentile; not a number without a step.
pub(super) fn p95_ratio(one: &Outcome, other: &Outcome) -> f64 {
    one.step_p95_s.unwrap_or(f64::NAN) / other.step_p95_s.unwrap_or(f64::NAN)
}

/// The devices that a 9B model fits on.
///
/// # Errors
/// A profile that comes along cannot be read.
pub(super) fn devices() -> Result<Vec<Device>> {
    let fits = PROFILES.iter().filter(|(name, _)| !TOO_SMALL.contains(name));
    Ok(fits.map(|(name, text)| Device::parse(name, text)).collect::<autoglm_power::Result<_>>()?)
}

/// All cells, in order.
pub(super) fn all(devices: &[Device], ambients_c: &[f64], seeds: u64, tasks: usize) -> Vec<Cell> {
    let assumptions = Assumptions::default();
    let days: Vec<Trace> = (0..seeds).map(|seed| Trace::synthetic(tasks, 3, seed)).collect();
    let cells: Vec<(&Device, f64, usize)> = devices
        .iter()
        .flat_map(|device| {
            ambients_c.iter().flat_map(move |air| (0..seeds as usize).map(move |seed| (device, *air, seed)))
        })
        .collect();
    let one = |(device, ambient_c, seed): (&Device, f64, usize)| {
        let (trace, assumptions) = (&days[seed], &assumptions);
        Cell::new(&Run { device, trace, assumptions, ambient_c, seed: seed as u64, samples: false })
    };
    cells.into_par_iter().map(one).collect()
}

/// How many different ones there are.
pub(super) fn count<'a, K: Ord>(all: &'a [Cell], key: impl Fn(&'a Cell) -> K) -> usize {
    all.iter().map(key).collect::<BTreeSet<_>>().len()
}
