//! Plays a day against a device under a policy.

use super::outcome::Outcome;
use super::physics::Physics;
use super::policy::{Name, policy};
use super::prompts::Prompts;
use super::trace::EventKind;
use super::world::{Asked, World};
use super::{Assumptions, Device, Trace};
use crate::control::DAY_S;

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

/// Plays a run under a policy.
#[must_use]
pub fn simulate(run: &Run<'_>, name: Name) -> Outcome {
    let physics = Physics { device: run.device, assumed: run.assumptions };
    let topology = run.device.topology();
    let mut policy = policy(name, &topology, run.seed, &physics, run.ambient_c);
    let mut world = World::new(run, physics, name, policy.knows_the_future());
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
                    let request = prompts.request(text_tokens, visual_tokens, world.idle_s());
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
