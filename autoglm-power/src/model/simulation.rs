//! Plays a day against a device under a policy.

use super::outcome::{Outcome, Sample};
use super::physics::{Heat, Physics};
use super::policy::{Name, Plan, Policy, Request, Rest, Seen, Step, Work, policy};
use super::trace::{DAY_S, EventKind};
use super::{Assumptions, Device, Trace};
use crate::Reading;
use crate::control::Phase;

/// What is to be simulated.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The device.
    pub device: &'a Device,
    /// What is asked of it. It repeats until three days have passed, or one period where that is longer.
    pub trace: &'a Trace,
    /// What no table says.
    pub assumptions: &'a Assumptions,
    /// Temperature of the air, in °C.
    pub ambient_c: f64,
    /// Of sensor noise and of the lots that are drawn. Equal seeds give equal bits.
    pub seed: u64,
    /// Whether the curves are kept.
    pub samples: bool,
}

/// Days that are played at least: the first of them is half learning.
const DAYS: f64 = 3.0;

/// Warmer than this a body is unpleasant to hold, in °C.
const TOO_WARM_C: f64 = 43.0;

/// Time after which a policy decides anew, in s.
const TICK_S: f64 = 1.0;

/// Ticks that a phase has, roughly, where it would take longer.
const TICKS: f64 = 5_000.0;

/// A stretch of nothing, in s: long where the body is far from [`TOO_WARM_C`].
const IDLE_S: f64 = 600.0;
const IDLE_WARM_S: f64 = 5.0;

/// A change of speed by this share counts as a switch.
const SWITCH: f64 = 0.1;

/// A moment in which a request is read, in s.
const READ_S: f64 = 0.1;

/// Distance of two samples, in s.
const SAMPLE_S: f64 = 120.0;

/// Plays a run under a policy.
#[must_use]
pub fn simulate(run: &Run<'_>, name: Name) -> Outcome {
    let physics = Physics { device: run.device, assumed: run.assumptions };
    let topology = run.device.topology();
    let mut policy = policy(name, &topology, run.seed, &physics, run.ambient_c);
    let mut world = World {
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
        last_watts: run.device.idle.suspend_w,
        idle_since_s: 0.0,
        rest: Rest { spill_s: 0.0, drop_s: 0.0, exit_s: 0.0 },
        loaded_once: false,
        clairvoyant: policy.knows_the_future(),
        energy_j: 0.0,
        inference_j: 0.0,
        inference_s: 0.0,
        too_warm_s: 0.0,
        warmest_body_c: run.ambient_c,
        residency_j: 0.0,
        idle_cost_j: 0.0,
        clairvoyant_j: 0.0,
        reloads: 0,
        switches: 0,
        took_s: Vec::new(),
        samples: run.samples.then(Vec::new),
    };
    let period_s = run.trace.period_s();
    let periods = (DAYS * DAY_S / period_s).ceil().max(1.0);
    let mut prompts = Prompts::default();
    let mut period = 0.0;
    while period < periods || (run.samples && world.energy_j < world.capacity_j && period < 30.0 * periods) {
        for event in run.trace.events() {
            let at_s = period * period_s + event.at_s;
            match event.kind {
                EventKind::ScreenOn | EventKind::ScreenOff => {
                    world.idle_until(at_s);
                    world.screen = event.kind == EventKind::ScreenOn;
                }
                EventKind::TaskEnd => {
                    world.idle_until(at_s);
                    world.in_task = false;
                    prompts.end_task();
                }
                EventKind::Step { text_tokens, visual_tokens, think_tokens, answer_tokens } => {
                    // The screen of the next step shows a moment after the answer to the last one.
                    let ready_s = if world.in_task { world.now_s + run.assumptions.settle_s } else { world.now_s };
                    let begins_s = at_s.max(ready_s);
                    world.idle_until(begins_s);
                    world.in_task = true;
                    let request = prompts.request(text_tokens, visual_tokens);
                    let step = Asked { request, think_tokens, answer_tokens };
                    let known = prompts.known(text_tokens, run.assumptions.turn_tokens);
                    world.step(policy.as_mut(), &step, known);
                }
            }
        }
        period += 1.0;
        world.idle_until(period * period_s);
    }
    world.outcome(name)
}

/// A step and what only the world knows of it.
struct Asked {
    request: Request,
    think_tokens: f64,
    answer_tokens: f64,
}

/// What prompts have in common.
#[derive(Default)]
struct Prompts {
    number: usize,
    step: usize,
    first_of_last_task: Option<f64>,
    first: f64,
    /// Words of the last two prompts of this task.
    before: [f64; 2],
}

impl Prompts {
    fn request(&self, text_tokens: f64, visual_tokens: f64) -> Request {
        Request { text_tokens, visual_tokens, step: self.step, number: self.number }
    }

    /// Words at the beginning of this prompt that are computed already: in a task those before the last turn, whose picture
    /// was taken out, and at the beginning of a task the instructions.
    fn known(&mut self, text_tokens: f64, turn_tokens: f64) -> f64 {
        let instructions = |first: f64| (first - turn_tokens).max(0.0);
        let known = match self.step {
            0 => self.first_of_last_task.map_or(0.0, |first| instructions(first.min(text_tokens))),
            1 => instructions(self.before[1]),
            _ => self.before[0],
        };
        if self.step == 0 {
            self.first = text_tokens;
        }
        self.before = [self.before[1], text_tokens];
        self.step += 1;
        self.number += 1;
        known.min(text_tokens)
    }

    fn end_task(&mut self) {
        if self.step > 0 {
            self.first_of_last_task = Some(self.first);
        }
        self.step = 0;
    }
}

struct World<'a> {
    physics: Physics<'a>,
    pruned: bool,
    ambient_c: f64,
    capacity_j: f64,
    noise: fastrand::Rng,
    now_s: f64,
    heat: Heat,
    screen: bool,
    in_task: bool,
    /// The device protects itself from its own heat.
    protects: bool,
    last_watts: f64,
    idle_since_s: f64,
    rest: Rest,
    loaded_once: bool,
    /// What memory costs is settled when it is known how long nobody needed it.
    clairvoyant: bool,
    energy_j: f64,
    inference_j: f64,
    inference_s: f64,
    too_warm_s: f64,
    warmest_body_c: f64,
    /// Of the present gap.
    residency_j: f64,
    idle_cost_j: f64,
    clairvoyant_j: f64,
    reloads: usize,
    switches: usize,
    took_s: Vec<f64>,
    samples: Option<Vec<Sample>>,
}

/// Depths of rest: loaded, keys and values on disk, weights gone, process gone.
const DEPTHS: usize = 4;

impl World<'_> {
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
        let power_w = self.noisy(self.last_watts, power_noise * self.last_watts, 1e-3).max(0.0);
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
        self.last_watts = watts;
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
        let Rest { spill_s, drop_s, exit_s } = self.rest;
        [exit_s, drop_s, spill_s].iter().position(|at_s| after_s >= *at_s).map_or(0, |from_deepest| 3 - from_deepest)
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

    fn idle_until(&mut self, until_s: f64) {
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

    fn step(&mut self, policy: &mut dyn Policy, asked: &Asked, known: f64) {
        let began_s = self.now_s;
        let gap_s = self.now_s - self.idle_since_s;
        let first = !self.loaded_once;
        // The request is read, with the screen on and nothing computed yet.
        self.pass(0.0, READ_S);
        let seen = self.seen();
        if !first {
            policy.woken(&seen, gap_s);
        }
        let reload = self.wake(gap_s);
        let plan = policy.request(&seen, &asked.request);
        for work in self.works(asked, &plan, known) {
            self.compute(policy, work);
        }
        let took_s = self.now_s - began_s;
        self.took_s.push(took_s);
        let seen = self.seen();
        policy.done(&seen, took_s, reload);
        self.idle_since_s = self.now_s;
        self.rest = policy.rest(&seen);
    }

    /// What a step computes: its picture, its prompt, its tokens.
    fn works(&self, asked: &Asked, plan: &Plan, known: f64) -> [Work; 3] {
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
            .map(|(phase, amount)| Work { phase, amount: amount / 1e9 })
    }

    fn compute(&mut self, policy: &mut dyn Policy, work: Work) {
        let mut left = work.amount;
        let (mut done, mut took_s, mut granted, mut speed) = (None, 0.0, true, None);
        while left > 0.0 {
            let seen = self.seen();
            let step = Step { decodes: work.phase == Phase::Decode, done, took_s, granted };
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
            if !(1.0 - SWITCH..=1.0 / (1.0 - SWITCH)).contains(&change) {
                self.switches += 1;
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

    fn outcome(mut self, policy: Name) -> Outcome {
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
            throttles_per_h: (self.inference_s > 0.0).then(|| self.switches as f64 / (self.inference_s / 3600.0)),
            reloads_per_day: self.reloads as f64 / days,
            idle_regret: (self.clairvoyant_j > 0.0).then(|| self.idle_cost_j / self.clairvoyant_j),
            steps,
            joules_per_step: if steps > 0 { self.inference_j / steps as f64 } else { 0.0 },
            warmest_body_c: self.warmest_body_c,
            samples: self.samples.unwrap_or_default(),
        }
    }
}
