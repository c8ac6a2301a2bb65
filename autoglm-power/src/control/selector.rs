//! Which cores at which clocks: the cheapest configuration at a price of time.
//!
//! Energy per unit of work has its minimum in the middle of the range of clocks: below it the device's constant power takes
//! over, above it the voltage. Where that minimum may not be had, because somebody waits or the device is warm, the choice is
//!
//! ```text
//! k* = argmin { (P(k) + λ) / rate(k) : P(k) ≤ budget }
//! ```
//!
//! with one price of time λ, in W, for all phases: a second that decoding saves is worth as much as one that the prompt
//! saves. λ is what makes a whole step take at most a share longer than on the cores and clocks that a runtime would
//! take by itself, the reference.

use super::candidates::{Choices, trials};
use super::curve::{Curve, Phase, Point};
use super::front::{Front, cheapest};
use super::price::{FADE, HASTE_W, price_of_time, sustained_rate};
use super::thermal::Allowed;
use crate::{Configuration, Share, Topology};

/// What is wanted of the next second of work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wanted {
    /// What is computed.
    pub phase: Phase,
    /// Power that the whole device may draw.
    pub allowed: Allowed,
}

/// What was measured in the last second of work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Work that was done.
    pub work: f64,
    /// How long it took, in s.
    pub seconds: f64,
    /// What the whole device drew, in W, where that is known.
    pub watts: Option<f64>,
}

/// Selects configurations, learning while it does.
#[derive(Debug, Clone)]
pub struct Selector {
    clusters: Vec<Choices>,
    curve: Curve,
    reference: Configuration,
    /// Half of the slowest cluster at its lowest clock: little on any device.
    least: Configuration,
    current: Configuration,
    limited: [bool; 2],
    phase: Option<Phase>,
    /// Configurations that are still to be tried, by phase, the next one last.
    trials: [Vec<Configuration>; 2],
    /// The next one to be tried would have drawn more than is allowed; it is looked at again in the next phase.
    too_warm_to_try: bool,
    /// Seconds that the current configuration is to stay in any case.
    stays: u32,
    /// Seconds on the current configuration that were measured.
    measured_s: u32,
    /// Seconds since it was chosen or last thought over.
    since_choice_s: u32,
    /// What was allowed on average when it was last asked, in W.
    allowed_w: f64,
    /// Heat leaves less than would be taken.
    hastens: bool,
    /// Price of time, in W.
    price_w: f64,
    /// Time that the steps so far would have taken on the reference, by phase, older ones fading.
    shares_s: [f64; 2],
    /// Of this step: what was taken, and what the reference would have taken.
    step_s: [f64; 2],
    /// Whether the device could lose what the reference draws.
    sustains: bool,
    /// Whether the price of time was set and nothing chosen at it yet, by phase.
    anew: [bool; 2],
}

/// Seconds on each configuration that is tried, of which the first is not measured: sensors follow a moment later.
const TRIAL_S: u32 = 3;

/// A configuration stays at least so long, in s.
const DWELL_S: u32 = 2;

/// What was found to be the best stays at least so long, in s.
const SETTLED_S: u32 = 5;

/// After which the choice is made anew without a cause, in s.
const AGAIN_S: u32 = 90;

/// After which it is made anew where what is drawn is not near what is allowed on average, in s.
const SOON_S: u32 = 20;

/// Where heat limits it, a configuration stays that draws between these shares of what inference is allowed: clocks come in
/// steps, and the body does not notice which of two neighbours runs for some minutes.
const NEAR: [f64; 2] = [0.8, 1.08];

/// No second does as much work, and none takes as long.
const IMPLAUSIBLE: f64 = 1e15;

/// By how much a new choice has to be better than the present one, as a fraction.
const BETTER: f64 = 0.02;

impl Selector {
    /// Knows nothing but what the kernel says of the processor.
    #[must_use]
    pub fn new(topology: &Topology) -> Self {
        let reference = Configuration::big_cores(topology);
        let clusters: Vec<Choices> = topology.clusters.iter().map(Choices::of).collect();
        Self {
            curve: Curve::new(topology),
            trials: [trials(topology, Phase::Compute), trials(topology, Phase::Decode)],
            current: reference.clone(),
            limited: [false; 2],
            least: least(topology, &clusters),
            clusters,
            reference,
            phase: None,
            too_warm_to_try: false,
            stays: 0,
            measured_s: 0,
            since_choice_s: 0,
            allowed_w: f64::INFINITY,
            hastens: false,
            price_w: 1.0,
            shares_s: [0.0; 2],
            step_s: [0.0; 2],
            sustains: true,
            anew: [false; 2],
        }
    }

    /// What was learned of the device.
    #[must_use]
    pub fn curve(&self) -> &Curve {
        &self.curve
    }

    /// The cores and clocks that a runtime takes by itself: all but the slowest cluster, at the highest clocks.
    #[must_use]
    pub fn reference(&self) -> &Configuration {
        &self.reference
    }

    /// The last choice.
    #[must_use]
    pub fn current(&self) -> &Configuration {
        &self.current
    }

    /// Whether heat slows inference down: since a choice was slower, by a tenth or more, than it would be without a budget, and
    /// until one is as fast again.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.limited != [false; 2]
    }

    /// Learns from the last second of work and says on what the next one runs.
    pub fn step(&mut self, measured: Option<Measured>, wanted: &Wanted) -> &Configuration {
        // A power that is no number allows nothing.
        let [budget_w, limit_w, idle_w] =
            [wanted.allowed.budget_w, wanted.allowed.limit_w, wanted.allowed.idle_w].map(|watts| watts.max(0.0));
        let allowed = Allowed { budget_w, limit_w, idle_w };
        let wanted = &Wanted { allowed, ..*wanted };
        if let (Some(measured), Some(phase)) = (measured, self.phase) {
            self.learn(phase, &measured);
        }
        let begins = self.phase != Some(wanted.phase);
        self.phase = Some(wanted.phase);
        let exceeds = self.curve.point(&self.current, wanted.phase).watts > allowed.limit_w * 1.02;
        let released = self.allowed_w <= 0.0 && allowed.budget_w > 0.0;
        self.allowed_w = allowed.budget_w;
        let at_once = begins || exceeds || released || self.anew[wanted.phase as usize];
        if begins || exceeds || released {
            self.stays = 0;
        }
        if begins {
            self.too_warm_to_try = false;
        }
        self.stays = self.stays.saturating_sub(1);
        self.since_choice_s += 1;
        let takes = share_of(&allowed, self.curve.point(&self.current, wanted.phase).watts);
        let far = takes > NEAR[1] || self.hastens && takes < NEAR[0];
        let again = self.since_choice_s >= if far { SOON_S } else { AGAIN_S };
        if self.stays == 0 && (at_once || again || self.tries(wanted.phase)) {
            self.choose(wanted, at_once);
        }
        &self.current
    }

    /// A step of an agent begins: sets the price of time so that the phases together take what they may, at most
    /// `slowdown` times what they take on the reference. Where the reference draws more than the device can lose, what it
    /// does at `bang_bang_w` counts: the clocks go down at the trip and up again below it.
    pub fn begin(&mut self, slowdown: f64, bang_bang_w: f64) {
        let bang_bang_w = if bang_bang_w.is_nan() { 0.0 } else { bang_bang_w };
        self.step_s = [0.0; 2];
        self.sustains = self.curve.point(&self.reference, Phase::Compute).watts <= bang_bang_w;
        let [compute, decode] = self.shares_s;
        if compute + decode <= 0.0 {
            return;
        }
        self.anew = [true; 2];
        let front = Front::new(&self.curve, &self.clusters, [&self.reference, &self.current]);
        let phases = [Phase::Compute, Phase::Decode];
        let points = phases.map(|phase| front.points(&self.curve, phase));
        let sustained = phases.map(|phase| self.sustained(phase, bang_bang_w));
        self.price_w = price_of_time(10, |price_w| {
            let slower = |phase: Phase| {
                let best = cheapest_within(&points[phase as usize], f64::INFINITY, price_w);
                best.map_or(1.0, |(_, point)| sustained[phase as usize] / point.rate)
            };
            let takes = compute * slower(Phase::Compute) + decode * slower(Phase::Decode);
            takes > slowdown * (compute + decode)
        });
        self.shares_s = self.shares_s.map(|s| s * FADE);
    }

    /// What the reference does on average if it may draw so much on average.
    fn sustained(&self, phase: Phase, watts: f64) -> f64 {
        let [high, low] = [&self.reference, &self.reference.lowest_clocks()].map(|on| self.curve.point(on, phase));
        sustained_rate(high, low, watts)
    }

    /// How long the work since [`Selector::begin`] took and would have taken on the reference, in s; none where the reference
    /// would not have been sustained, and before all was tried.
    #[must_use]
    pub fn took(&self) -> Option<[f64; 2]> {
        let settled = self.sustains && self.trials.iter().all(Vec::is_empty);
        (settled && self.limited == [false; 2] && self.step_s[1] > 0.0).then_some(self.step_s)
    }

    fn learn(&mut self, phase: Phase, measured: &Measured) {
        self.measured_s += 1;
        let plausible = |value: f64| value > 0.0 && value < IMPLAUSIBLE;
        if !plausible(measured.seconds) || !plausible(measured.work) {
            return;
        }
        let rate = measured.work / measured.seconds;
        // The first second on a configuration is partly the one before, and a fraction of a second says little.
        if self.measured_s > 1 && measured.seconds > 0.5 {
            let watts = measured.watts.filter(|watts| *watts > 0.0 && *watts < IMPLAUSIBLE);
            self.curve.observe(&self.current, phase, rate, watts);
        }
        let reference_s = measured.work / self.curve.point(&self.reference, phase).rate;
        if reference_s.is_finite() {
            self.shares_s[phase as usize] += reference_s;
            self.step_s[0] += measured.seconds;
            self.step_s[1] += reference_s;
        }
    }

    fn tries(&self, phase: Phase) -> bool {
        !self.too_warm_to_try && !self.trials[phase as usize].is_empty()
    }

    fn choose(&mut self, wanted: &Wanted, at_once: bool) {
        let phase = wanted.phase;
        if let Some(next) = self.trials[phase as usize].pop() {
            // A warm device is not the place to try what heats it.
            if self.curve.point(&next, phase).watts <= wanted.allowed.budget_w {
                self.turn_to(next, TRIAL_S);
                return;
            }
            self.trials[phase as usize].insert(0, next);
            self.too_warm_to_try = true;
        }
        self.take_cheapest(wanted, at_once);
    }

    fn take_cheapest(&mut self, wanted: &Wanted, at_once: bool) {
        let phase = wanted.phase;
        // Below the limit by a little, so that it is not met again in a moment.
        let allowed_w = wanted.allowed.budget_w.min(0.97 * wanted.allowed.limit_w);
        if allowed_w <= 0.0 {
            // At the trip nothing is left to what was learned.
            self.limited[phase as usize] = true;
            self.turn_to(self.least.clone(), DWELL_S);
            return;
        }
        let front = Front::new(&self.curve, &self.clusters, [&self.reference, &self.current]);
        let points = front.points(&self.curve, phase);
        // A processor without cores leaves nothing to choose.
        let Some((_, cold)) = cheapest_within(&points, f64::INFINITY, self.price_w) else { return };
        // Whom heat slows down anyway has no time to save energy with.
        let hastens = cold.watts > allowed_w;
        let price_w = if hastens { HASTE_W } else { self.price_w };
        let Some((best, expected)) = cheapest_within(&points, allowed_w, price_w) else { return };
        let now = self.curve.point(&self.current, phase);
        let cost = |point: Point| (point.watts + price_w) / point.rate;
        // Where the price of time has just been set, two choices cost nearly the same and only one of them is fast enough.
        let better = if std::mem::take(&mut self.anew[phase as usize]) { 0.0 } else { BETTER };
        let gains = cost(expected) < cost(now) * (1.0 - better);
        let slower = expected.rate / cold.rate;
        let limited = &mut self.limited[phase as usize];
        *limited = slower < if *limited { 0.99 } else { 0.9 };
        // What is drawn need not follow every breath of what is allowed.
        self.hastens = hastens;
        let takes = share_of(&Allowed { budget_w: allowed_w, ..wanted.allowed }, now.watts);
        let near = hastens && !at_once && (NEAR[0]..NEAR[1]).contains(&takes);
        if *best != self.current && !near && (gains || now.watts > allowed_w) {
            self.turn_to(best.clone(), DWELL_S);
        } else {
            self.since_choice_s = 0;
            self.stays = SETTLED_S;
        }
    }

    fn turn_to(&mut self, next: Configuration, stays: u32) {
        self.current = next;
        self.stays = stays;
        self.measured_s = 0;
        self.since_choice_s = 0;
    }
}

/// The configuration of the least cost under a budget, and what is expected of it. Where nothing is cheap enough, the one that
/// draws least; none where there is no core.
fn cheapest_within<'a>(
    points: &[(&'a Configuration, Point)],
    budget_w: f64,
    price_w: f64,
) -> Option<(&'a Configuration, Point)> {
    cheapest(points, |point| {
        // Less power is better beyond a budget of nothing, too: divided by it, all would be alike.
        let over = (point.watts / budget_w.max(1e-6) - 1.0).max(0.0);
        // Beyond the budget only less power counts.
        if over > 0.0 { 1e12 * (1.0 + over) } else { (point.watts + price_w) / point.rate }
    })
}

/// Half of the slowest cluster that has cores, at its lowest clock.
fn least(topology: &Topology, clusters: &[Choices]) -> Configuration {
    let mut shares = vec![Share::default(); topology.clusters.len()];
    let slowest = clusters.iter().enumerate().find_map(|(index, choices)| Some((index, choices.shares().next()?)));
    if let Some((index, share)) = slowest {
        shares[index] = share;
    }
    Configuration { shares }
}

/// What of the power that inference is allowed on average it takes where the device draws so much.
fn share_of(allowed: &Allowed, watts: f64) -> f64 {
    (watts - allowed.idle_w) / (allowed.budget_w - allowed.idle_w).max(1e-3)
}
