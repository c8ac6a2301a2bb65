//! What came of a simulated run.

use super::policy::Name;

/// What came of one policy on one device. All of it is modelled, not measured on a phone.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Which policy.
    pub policy: Name,
    /// How long a full battery would last at the mean power of the whole run, in h. The mean over whole days is taken,
    /// so that it does not matter whether a battery dies before or after a night.
    pub life_h: f64,
    /// Share of all energy that inference took: operations, reading weights and keeping them, without the screen.
    pub llm_share: f64,
    /// Time within which 95 % of the steps were done, from when they could begin, in s; none without a step.
    pub step_p95_s: Option<f64>,
    /// Minutes per day that the body was warmer than 43 °C.
    pub minutes_over_43c: f64,
    /// How often the speed changed by a tenth or more within a picture, a prompt or an answer, for whatever reason, the
    /// device's own protection and a policy's trials included, per hour of inference; none without any.
    pub speed_changes_per_h: Option<f64>,
    /// How often weights were read, per day.
    pub reloads_per_day: f64,
    /// What memory cost between steps, keeping weights and reading them back, against what it would have cost with the
    /// next step known: 1 at best; none where no step followed another.
    pub idle_regret: Option<f64>,
    /// Steps that were done.
    pub steps: usize,
    /// Energy of inference per step, in J.
    pub joules_per_step: f64,
    /// The warmest that the body was, in °C.
    pub warmest_body_c: f64,
    /// How the first charge went down and the body warmed, where it was asked for.
    pub samples: Vec<Sample>,
}

/// A point of the curves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Time, in h.
    pub hours: f64,
    /// What is left in the battery, as a fraction.
    pub charge: f64,
    /// Temperature of the body, in °C.
    pub body_c: f64,
}

/// A policy beside the two that every comparison has.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// What came of it.
    pub outcome: Outcome,
    /// How much longer the battery lasts than without management, as a fraction: 0.6 is 60 % longer.
    pub gain_vs_none: f64,
    /// How much longer it lasts than with the five techniques of the seed.
    pub gain_vs_seed: f64,
}

impl Comparison {
    /// `outcomes` against the one of `none` and the one of `seed` among them; empty where one is missing.
    #[must_use]
    pub fn of(outcomes: Vec<Outcome>) -> Vec<Self> {
        let life = |name| outcomes.iter().find(|o| o.policy == name).map(|o| o.life_h);
        let (Some(none), Some(seed)) = (life(Name::None), life(Name::Seed)) else { return Vec::new() };
        let compare = |outcome: Outcome| Self {
            gain_vs_none: outcome.life_h / none - 1.0,
            gain_vs_seed: outcome.life_h / seed - 1.0,
            outcome,
        };
        outcomes.into_iter().map(compare).collect()
    }
}
