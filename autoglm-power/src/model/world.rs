//! A phone that is simulated: its clock, its heat, its memory and its battery.

use super::Assumptions;
use super::outcome::{Outcome, Sample};
use super::physics::{Heat, Physics};
use super::policy::{Name, Plan, Policy, Request, Seen, Step, Stretch};
use super::simulation::Run;
use crate::Reading;
use crate::control::{DAY_S, Phase, Thresholds};

/// Warmer than this a body is unpleasant to hold, in °C.
const TOO_WARM_C: f64 = 43.0;

/// Time after which a policy decides anew, in s.
const TICK_S: f64 = 1.0;

/// Ticks that a phase has, roughly, where it would take longer.
const TICKS: f64 = 5_000.0;

/// A stretch of nothing, in s: long where the body is far from [`TOO_WARM_C`].
const IDLE_S: f64 = 600.0;
const IDLE_WARM_S: f64 = 5.0;

/// A speed that falls by this share, or rises again by as much as that is, counts as a change.
const CHANGE: f64 = 0.1;

/// A moment in which a request is read, in s.
const READ_S: f64 = 0.1;

/// Distance of two samples, in s.
const SAMPLE_S: f64 = 120.0;

/// A step and what only the world knows of it.
pub(super) struct Asked {
    pub(super) request: Request,
    pub(super) think_tokens: f64,
    pub(super) answer_tokens: f64,
}

/// A phone as it is, and what became of it so far.
pub(super) struct World<'a> {
    physics: Physics<'a>,
    pruned: bool,
    ambient_c: f64,
    pub(super) capacity_j: f64,
    noise: fastrand::Rng,
    pub(super) now_s: f64,
    heat: Heat,
    pub(super) screen: bool,
    pub(super) in_task: bool,
    /// The device protects itself from its own heat.
    protects: bool,
    /// Power as the gauge follows it, in W.
    gauge_w: f64,
    idle_since_s: f64,
    rest: Thresholds,
    loaded_once: bool,
    /// What memory costs is settled when it is known how long nobody needed it.
    clairvoyant: bool,
    pub(super) energy_j: f64,
    inference_j: f64,
    inference_s: f64,
    too_warm_s: f64,
    warmest_body_c: f64,
    /// Of the present gap.
    residency_j: f64,
    idle_cost_j: f64,
    clairvoyant_j: f64,
    reloads: usize,
    speed_changes: usize,
    took_s: Vec<f64>,
    samples: Option<Vec<Sample>>,
}

/// Depths of rest: loaded, keys and values on disk, weights gone, process gone.
const DEPTHS: usize = 4;

impl<'a> World<'a> {
    /// A phone that was charged, is as warm as the air, and has nothing in memory.
    pub(super) fn new(run: &Run<'a>, physics: Physics<'a>, name: Name, clairvoyant: bool) -> Self {
        Self {
            physics,
            pruned: name.prunes(),
            ambient_c: run.ambient_c,
            capacity_j: run.device.battery_wh * 3600.0,
            noise: fastrand::Rng::with_seed(run.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x5eed),
            now_s: 0.0,
            heat: Heat::at(run.ambient_c),
            screen: false,
            in_task: false,
            protects: false,
            gauge_w: run.device.idle.suspend_w,
            idle_since_s: 0.0,
            rest: Thresholds { spill_s: 0.0, drop_s: 0.0, exit_s: 0.0 },
            loaded_once: false,
            clairvoyant,
            energy_j: 0.0,
            inference_j: 0.0,
            inference_s: 0.0,
            too_warm_s: 0.0,
            warmest_body_c: run.ambient_c,
            residency_j: 0.0,
            idle_cost_j: 0.0,
            clairvoyant_j: 0.0,
            reloads: 0,
            speed_changes: 0,
            took_s: Vec::new(),
            samples: run.samples.then(Vec::new),
        }
    }

    /// What a sensor says of a value.
    fn noisy(&mut self, value: f64, deviation: f64, step: f64) -> f64 {
        // The sum of four is normal enough.
        let noise = (0..4).map(|_| self.noise.f64() - 0.5).sum::<f64>() * 3f64.sqrt();
        ((value + deviation * noise) / step).round() * step
    }

    fn seen(&mut self) -> Seen {
        let Assumptions { power_noise, temperature_noise, .. } = *self.physics.assumed;
        let body_c = self.noisy(self.heat.body_c, temperature_noise, 0.1);
        let junction_c = self.noisy(self.heat.junction_c, temperature_noise, 0.1);
        let power_w = self.noisy(self.gauge_w, power_noise * self.gauge_w, 1e-3).max(0.0);
        // A battery that is empty was charged at once, outside of what is modelled.
        let charge = 1.0 - (self.energy_j / self.capacity_j).fract();
        let reading = Reading {
            body_c: Some(body_c),
            junction_c: Some(junction_c),
            power_w: Some(power_w),
            charge: Some((charge * 5000.0).round() / 5000.0),
            on_supply: Some(false),
            ..Reading::default()
        };
        Seen { reading, now_s: self.now_s }
    }

    /// Time passes with the processor drawing `soc_w` beyond an idle one.
    fn pass(&mut self, soc_w: f64, seconds: f64) {
        let idle = &self.physics.device.idle;
        let screen = self.screen || self.in_task;
        let awake = screen || soc_w > 0.0;
        let base_w = if awake { idle.awake_w } else { idle.suspend_w };
        let screen_w = if screen { idle.screen_w } else { 0.0 };
        let watts = base_w + screen_w + soc_w;
        let heats_w = base_w + soc_w + screen_w * self.physics.assumed.screen_heat;
        self.heat.pass(self.physics.device, self.ambient_c, soc_w, heats_w, seconds);
        self.energy_j += watts * seconds;
        let lag_s = self.physics.assumed.power_lag_s;
        let behind = if lag_s > 0.0 { (-seconds / lag_s).exp() } else { 0.0 };
        self.gauge_w = watts + behind * (self.gauge_w - watts);
        // Time goes on, however small a stretch is against it.
        self.now_s = (self.now_s + seconds).max(self.now_s.next_up());
        if self.heat.body_c > TOO_WARM_C {
            self.too_warm_s += seconds;
        }
        self.warmest_body_c = self.warmest_body_c.max(self.heat.body_c);
        if let Some(samples) = &mut self.samples {
            let hours = self.now_s / 3600.0;
            let charge = 1.0 - self.energy_j / self.capacity_j;
            let was_empty = samples.last().is_some_and(|last| last.charge <= 0.0);
            if charge < 0.0 && !was_empty {
                // The curve ends where the battery does, within this stretch.
                let beyond_s = ((self.energy_j - self.capacity_j) / watts).min(seconds);
                samples.push(Sample { hours: hours - beyond_s / 3600.0, charge: 0.0, body_c: self.heat.body_c });
            } else if charge >= 0.0 && samples.last().is_none_or(|last| (hours - last.hours) * 3600.0 >= SAMPLE_S) {
                samples.push(Sample { hours, charge, body_c: self.heat.body_c });
            }
        }
    }

    /// How deep the memory rests after so many seconds.
    fn depth(&self, after_s: f64) -> usize {
        self.rest.depth(after_s) as usize
    }

    fn residency_w(&self, depth: usize) -> f64 {
        let Assumptions { kv_residency, process_residency, .. } = *self.physics.assumed;
        self.physics.device.idle.resident_w * [1.0, 1.0 - kv_residency, process_residency, 0.0][depth]
    }

    fn weights_gb(&self) -> f64 {
        self.physics.assumed.weights_bytes(self.pruned) / 1e9
    }

    fn reload_s(&self) -> f64 {
        self.weights_gb() / self.physics.assumed.storage_gb_s
    }

    /// Energy of waking from a depth, without what the phone draws meanwhile.
    fn wake_j(&self, depth: usize) -> f64 {
        let Assumptions { spill_j, start_j, .. } = *self.physics.assumed;
        let reload_j = self.physics.device.idle.reload_j_per_gb * self.weights_gb();
        [0.0, spill_j, spill_j + reload_j, spill_j + reload_j + start_j][depth]
    }

    /// All of what waking from a depth costs.
    fn wakes_for_j(&self, depth: usize) -> f64 {
        let idle = &self.physics.device.idle;
        let waits = if depth >= 2 { (idle.awake_w + idle.screen_w) * self.reload_s() } else { 0.0 };
        self.wake_j(depth) + waits
    }

    pub(super) fn idle_until(&mut self, until_s: f64) {
        while self.now_s < until_s {
            let after_s = self.now_s - self.idle_since_s;
            let depth = self.depth(after_s);
            let thresholds = [self.rest.spill_s, self.rest.drop_s, self.rest.exit_s];
            let changes = thresholds.into_iter().filter(|at_s| *at_s > after_s).fold(f64::INFINITY, f64::min);
            let longest = if self.heat.body_c > TOO_WARM_C - 1.0 { IDLE_WARM_S } else { IDLE_S };
            // The sum must move the clock, however small the rest.
            let seconds = (until_s - self.now_s).min(longest).min(changes - after_s).max(1e-6);
            let residency_j = if self.clairvoyant { 0.0 } else { self.residency_w(depth) * seconds };
            self.residency_j += residency_j;
            self.inference_j += residency_j;
            self.energy_j += residency_j;
            self.pass(0.0, seconds);
        }
    }

    /// Wakes what rested for `gap_s`. → how long reading weights took, in s, and the gauge's power
    /// meanwhile, in W, where they had to be.
    fn wake(&mut self, gap_s: f64) -> Option<(f64, f64)> {
        let mut depth = self.depth(gap_s);
        if self.loaded_once {
            let at_once = |depth: &usize| self.residency_w(*depth) * gap_s + self.wakes_for_j(*depth);
            let best = (0..DEPTHS).min_by(|a, b| at_once(a).total_cmp(&at_once(b))).unwrap_or(0);
            self.clairvoyant_j += at_once(&best);
            if self.clairvoyant {
                depth = best;
                self.residency_j = self.residency_w(best) * gap_s;
                self.energy_j += self.residency_j;
                self.inference_j += self.residency_j;
            }
            self.idle_cost_j += self.residency_j + self.wakes_for_j(depth);
        }
        self.loaded_once = true;
        self.residency_j = 0.0;
        let energy_j = self.wake_j(depth);
        if depth < 2 {
            self.energy_j += energy_j;
            self.inference_j += energy_j;
            return None;
        }
        self.reloads += 1;
        let seconds = self.reload_s();
        self.inference_j += energy_j;
        self.inference_s += seconds;
        self.pass(energy_j / seconds, seconds);
        let watts = self.seen().reading.power_w.unwrap_or_default();
        Some((seconds, watts))
    }

    pub(super) fn step(&mut self, policy: &mut dyn Policy, asked: &Asked, known: f64) {
        let began_s = self.now_s;
        let gap_s = began_s - self.idle_since_s;
        // The request is read, with the screen on and nothing computed yet.
        self.pass(0.0, READ_S);
        let seen = self.seen();
        let reload = self.wake(gap_s);
        let plan = policy.request(&seen, &asked.request);
        for work in self.works(asked, &plan, known) {
            self.compute(policy, work);
        }
        self.took_s.push(self.now_s - began_s);
        let seen = self.seen();
        policy.done(reload);
        self.idle_since_s = self.now_s;
        self.rest = policy.rest(&seen);
    }

    /// How long nothing has been asked for, in s; none before the first step.
    pub(super) fn idle_s(&self) -> Option<f64> {
        self.loaded_once.then_some(self.now_s - self.idle_since_s)
    }

    /// What a step computes: its picture, its prompt, its tokens.
    fn works(&self, asked: &Asked, plan: &Plan, known: f64) -> [Stretch; 3] {
        let a = self.physics.assumed;
        let visual = asked.request.visual_tokens * plan.visual_share;
        let known = if plan.reuses { known } else { 0.0 };
        let new = asked.request.text_tokens - known + visual;
        let tokens = asked.answer_tokens + if plan.thinks { asked.think_tokens } else { 0.0 };
        let tower = visual * (a.tower_ops + a.tower_attention_ops * visual);
        let prompt = new * (2.0 * a.parameters(self.pruned) + a.attention_ops * (known + new / 2.0));
        let context = asked.request.text_tokens + visual + tokens / 2.0;
        let read = tokens * (a.weights_bytes(self.pruned) + a.kv_bytes_per_token * context);
        [(Phase::Compute, tower), (Phase::Compute, prompt), (Phase::Decode, read)]
            .map(|(phase, amount)| Stretch { phase, amount: amount / 1e9 })
    }

    fn compute(&mut self, policy: &mut dyn Policy, work: Stretch) {
        let mut left = work.amount;
        let (mut done, mut took_s, mut granted, mut speed) = (None, 0.0, true, None);
        while left > 0.0 {
            let seen = self.seen();
            let step = Step { phase: work.phase, done, took_s, granted };
            let Assumptions { vendor_trip_c, vendor_release_c, .. } = *self.physics.assumed;
            let on = policy.run(&seen, &step);
            let point = if self.protects {
                self.physics.point(&on.lowest_clocks(), work.phase)
            } else {
                self.physics.point(on, work.phase)
            };
            granted = !self.protects;
            // Whatever the reason: who waits sees how fast it goes.
            let change = point.rate / *speed.get_or_insert(point.rate);
            if !(1.0 - CHANGE..=1.0 / (1.0 - CHANGE)).contains(&change) {
                self.speed_changes += 1;
                speed = Some(point.rate);
            }
            // A device that takes hours for a step is not watched every second.
            let tick_s = TICK_S.max(left / point.rate / TICKS);
            took_s = tick_s.min(left / point.rate);
            let did = (point.rate * took_s).min(left);
            // A remainder of rounding is no work.
            left = if left - did < 1e-9 * work.amount { 0.0 } else { left - did };
            done = Some(did);
            self.inference_j += point.watts * took_s;
            self.inference_s += took_s;
            self.pass(point.watts, took_s);
            if self.heat.junction_c > vendor_trip_c {
                self.protects = true;
            } else if self.heat.junction_c < vendor_release_c {
                self.protects = false;
            }
        }
    }

    pub(super) fn outcome(mut self, policy: Name) -> Outcome {
        self.took_s.sort_by(f64::total_cmp);
        let steps = self.took_s.len();
        // The nearest rank.
        let p95 = (steps > 0).then(|| self.took_s[(0.95 * steps as f64).ceil() as usize - 1]);
        let days = self.now_s / DAY_S;
        Outcome {
            policy,
            life_h: self.capacity_j / (self.energy_j / self.now_s) / 3600.0,
            llm_share: self.inference_j / self.energy_j,
            step_p95_s: p95,
            minutes_over_43c: self.too_warm_s / 60.0 / days,
            speed_changes_per_h: (self.inference_s > 0.0)
                .then(|| self.speed_changes as f64 / (self.inference_s / 3600.0)),
            reloads_per_day: self.reloads as f64 / days,
            idle_regret: (self.clairvoyant_j > 0.0).then(|| self.idle_cost_j / self.clairvoyant_j),
            steps,
            joules_per_step: if steps > 0 { self.inference_j / steps as f64 } else { 0.0 },
            warmest_body_c: self.warmest_body_c,
            samples: self.samples.unwrap_or_default(),
        }
    }
}
