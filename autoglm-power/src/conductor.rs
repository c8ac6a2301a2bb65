//! Sensors, controllers and levers around one model: told what is computed, it says on how many threads, and has them run where
//! and as fast as is best.
//!
//! ```text
//! begin ──▶ tick ──▶ … ──▶ tick ──▶ end ──▶ (nothing, for as long as nothing is asked for)
//!           reading, work ─▶ Regulator ─▶ configuration ─▶ Levers
//! ```
//!
//! Whatever is missing is done without: without levers only threads are counted, without clocks only cores are chosen, and
//! without either nothing is limited.

mod meter;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub use meter::Energy;

use crate::control::{Budgeter, Limits, Phase, Regulator, Spent, Thresholds, Work};
use crate::levers::{Applied, Complaint, Hold, Lever, Levers};
use crate::sensors::Sensors;
use crate::{Configuration, Error, Reading, Topology, Tree};
use meter::Meter;

/// What was computed since the last tick.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress<'a> {
    /// What is computed now.
    pub phase: Phase,
    /// How much was, in any unit that stays the same; 0 where that cannot be told.
    pub work: f64,
    /// How long that took, in s: less than passed where whoever asked paused.
    pub seconds: f64,
    /// The threads that compute, as the kernel numbers them, those first that compute when there are few; none where that is
    /// not known.
    pub threads: &'a [i32],
}

/// On what the next second runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// The cores and clocks that are wanted.
    pub configuration: Configuration,
    /// Whether heat slows inference down.
    pub throttling: bool,
    /// What of it could be had.
    pub applied: Applied,
}

impl Tick {
    /// Threads that are to compute, 0 for any number.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.configuration.threads()
    }
}

/// What a request computed, for the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Computed {
    /// Rows of pictures and sounds.
    pub visual_tokens: usize,
    /// Other rows of the prompt.
    pub text_tokens: usize,
    /// Tokens that were generated.
    pub new_tokens: usize,
}

/// What is left for requests.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Left {
    /// In the battery, as a fraction of its full charge; none on a supply, and where nobody tells.
    pub charge: Option<f64>,
    /// Of the budget of a task or a day, as a fraction of it; none where there is none.
    pub budget: Option<f64>,
}

/// Something that is done without.
#[derive(Debug)]
pub enum Trouble {
    /// A file that cannot be read or believed.
    Sensor(Error),
    /// A lever that does not move.
    Lever(Complaint),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sensor(error) => error.fmt(f),
            Self::Lever(complaint) => complaint.fmt(f),
        }
    }
}

/// Conducts one model. Dropping it puts back whatever it moved.
#[derive(Debug)]
pub struct Conductor {
    tree: Tree,
    topology: Topology,
    sensors: Sensors,
    regulator: Regulator,
    budgeter: Budgeter,
    levers: Levers,
    /// While a request runs.
    meter: Option<Meter>,
    /// What waking took since the last request's end, in J, where anybody could tell.
    reload_j: Option<f64>,
    /// When the last request ended.
    ended: Option<Duration>,
    seen: Option<(Duration, Reading)>,
    /// What the levers were told last, and what became of that.
    ran: Option<Ran>,
    /// Ticks in a row in which clocks did not heed a clamp.
    unheeded: u32,
    troubles: Vec<Error>,
}

#[derive(Debug)]
struct Ran {
    on: Configuration,
    holds: Vec<Hold>,
    /// Whether its threads ran on its cores.
    placed: bool,
}

/// What a cluster does at another clock than the one that was asked for, beyond this fraction, says nothing of that one.
const AS_ASKED: f64 = 0.1;

/// Requests that follow each other faster are one to the controllers, a picture that is encoded and the reply to it: the idle
/// manager counts gaps from a second on.
const TOGETHER: Duration = Duration::from_secs(1);

/// A charge is believed for so long.
const FRESH: Duration = Duration::from_secs(10);

/// Clamps that the clock does not heed in so many seconds are given up where there is another lever. One second proves
/// nothing: others who share the cluster may need the clock.
const UNHEEDED: u32 = 5;

impl Conductor {
    /// One for a processor, with levers that were probed in the same tree, and without a budget. Sensors are the tree's files.
    #[must_use]
    pub fn new(tree: Tree, topology: Topology, levers: Levers, limits: Limits) -> Self {
        Self {
            sensors: Sensors::new(tree.clone()),
            regulator: Regulator::new(&topology, limits),
            budgeter: Budgeter::new(f64::INFINITY, f64::INFINITY, f64::INFINITY),
            tree,
            topology,
            levers,
            meter: None,
            reload_j: None,
            ended: None,
            seen: None,
            ran: None,
            unheeded: 0,
            troubles: Vec::new(),
        }
    }

    /// One for the device that this runs on, which moves its own threads and no files. What cannot be understood of the
    /// processor is a [`Trouble`], and the processor then one without clusters.
    #[must_use]
    pub fn of_this_device() -> Self {
        let tree = Tree::default();
        let (topology, trouble) = match Topology::read(&tree) {
            Ok(topology) => (topology, None),
            Err(error) => (Topology::default(), Some(error)),
        };
        let levers = Levers::probe(&tree, &topology);
        let mut conductor = Self::new(tree, topology, levers, Limits::default());
        conductor.sensors = Sensors::of_this_device();
        conductor.troubles.extend(trouble);
        conductor
    }

    /// Lets the kernel's files be written as well, which moves something for all processes: see [`Levers::with_knobs`].
    #[must_use]
    pub fn with_knobs(mut self, journal: impl Into<PathBuf>) -> Self {
        self.levers = self.levers.with_knobs(journal);
        // They are put back when the process is told to end, too, and not only when this is dropped.
        if let Some(knobs) = self.levers.knobs() {
            if let Err(error) = knobs.restore_on_signals() {
                self.troubles.push(error);
            }
            knobs.restore_on_panic();
        }
        self
    }

    /// Keeps budgets of energy of a task and of a day; one of a request is for who asks [`Budgeter::step`]. Days are counted from
    /// the instant from which `now` is.
    #[must_use]
    pub fn with_budget(mut self, budgeter: Budgeter) -> Self {
        self.budgeter = budgeter;
        self
    }

    /// The tree that its files are in.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// A task begins, the next of those that a budget per task was set for.
    pub fn begin_task(&mut self) {
        self.budgeter.begin_task();
    }

    /// The weights were opened again, which took so long. What that cost, by the last reading of power, counts from the next
    /// [`end`](Self::end) on for when they are to be given back; where nobody tells power, it stays what it was taken for.
    pub fn woke(&mut self, took: Duration) {
        let watts = self.seen.and_then(|(_, reading)| reading.power_w);
        self.reload_j = watts.map(|watts| watts * took.as_secs_f64());
    }

    /// A request comes. Nothing where one runs already; one that follows another within a second goes on with it.
    pub fn begin(&mut self, now: Duration) {
        if self.meter.is_some() {
            return;
        }
        let reading = self.observe(now);
        self.meter = Some(Meter::new(now, self.power(&reading)));
        let idle = self.ended.map(|ended| now.saturating_sub(ended));
        if idle.is_none_or(|idle| idle >= TOGETHER) {
            self.budgeter.pass(now.as_secs_f64());
            self.regulator.begin(&reading, idle.map(|idle| idle.as_secs_f64()), None);
        }
    }

    /// To be called when something begins to be computed, and about once a second while it is: reads the device, decides, and
    /// moves the threads.
    pub fn tick(&mut self, now: Duration, progress: &Progress<'_>) -> Tick {
        self.begin(now);
        let reading = self.observe(now);
        let heeded = self.ran_as_asked();
        let done = (progress.work > 0.0 && progress.seconds > 0.0).then_some((progress.work, progress.seconds));
        let work = Work { phase: progress.phase, done: done.filter(|_| heeded) };
        let configuration = self.regulator.step(&reading, &work, now.as_secs_f64()).clone();
        let applied = self.levers.apply(&configuration, progress.threads);
        // Where all cores are alike it does not matter which ones it is.
        let placed = self.topology.clusters.len() < 2
            || (applied.pinned > 0 && applied.pinned >= configuration.threads().min(progress.threads.len()));
        self.ran = Some(Ran { on: configuration.clone(), holds: applied.holds.clone(), placed });
        Tick { configuration, throttling: self.regulator.is_throttling(), applied }
    }

    /// Nothing is computed for now, though the request goes on: threads and files get back what they had until the next tick.
    pub fn pause(&mut self) {
        self.levers.restore();
        self.ran = None;
    }

    /// The request is done, and everything is put back. → what the device took meanwhile, if a sensor could tell all of it.
    pub fn end(&mut self, now: Duration, computed: &Computed) -> Option<Energy> {
        self.meter.as_ref()?;
        self.observe(now);
        self.pause();
        let energy = self.meter.take().and_then(|meter| meter.total());
        self.ended = Some(now);
        self.regulator.end(self.reload_j.take());
        if let Some(Energy { joules, .. }) = energy {
            self.budgeter.done(&Spent {
                joules,
                visual_tokens: computed.visual_tokens as f64,
                text_tokens: computed.text_tokens as f64,
                new_tokens: computed.new_tokens as f64,
            });
        }
        energy
    }

    /// When memory is to be given back while nothing is asked for.
    #[must_use]
    pub fn thresholds(&self) -> Thresholds {
        self.regulator.rest(self.seen.and_then(|(_, reading)| reading.memory_pressure))
    }

    /// After how many seconds of nothing the weights are to be given back, infinite for never. It may be worth going deeper at
    /// once, so this is the first of the depths that have none in memory.
    #[must_use]
    pub fn rests_after_s(&self) -> f64 {
        let Thresholds { drop_s, exit_s, .. } = self.thresholds();
        drop_s.min(exit_s)
    }

    /// What is left, by a reading of the last seconds.
    pub fn left(&mut self, now: Duration) -> Left {
        let fresh = self.seen.filter(|(then, _)| now.saturating_sub(*then) < FRESH);
        let reading = fresh.map_or_else(|| self.observe(now), |(_, reading)| reading);
        self.budgeter.pass(now.as_secs_f64());
        let charge = reading.charge.filter(|_| reading.on_supply != Some(true));
        Left { charge, budget: self.budgeter.left() }
    }

    /// What was done without since the last call, each once.
    pub fn take_complaints(&mut self) -> Vec<Trouble> {
        let sensors = self.troubles.drain(..).chain(self.sensors.take_complaints()).map(Trouble::Sensor);
        sensors.chain(self.levers.take_complaints().into_iter().map(Trouble::Lever)).collect()
    }

    /// Reads the device, and counts what it took since the last time where a request runs.
    fn observe(&mut self, now: Duration) -> Reading {
        let reading = self.sensors.read(now);
        self.seen = Some((now, reading));
        let watts = self.power(&reading);
        if let Some(meter) = &mut self.meter {
            meter.add(now, watts);
        }
        reading
    }

    fn power(&self, reading: &Reading) -> Option<(crate::sensors::PowerSource, f64)> {
        self.sensors.power_source().zip(reading.power_w)
    }

    /// Whether the last second ran on the cores and at the clocks that were asked for. A device that protects itself grants
    /// less, and one whose clocks nothing holds takes more; what was done then says nothing of what was asked for.
    fn ran_as_asked(&mut self) -> bool {
        let Some(ran) = &self.ran else { return false };
        let clocks = self.topology.current_khz(&self.tree);
        let (mut as_asked, mut unheeded) = (ran.placed, false);
        for (idx, cluster) in self.topology.clusters.iter().enumerate() {
            let Some(share) = ran.on.shares.get(idx).filter(|share| share.cores > 0) else { continue };
            let Some(asked) = cluster.clocks_khz.get(share.clock) else { continue };
            let hold = ran.holds.get(idx).copied().unwrap_or(Hold::Nothing);
            match clocks.get(idx).copied().flatten() {
                Some(khz) => {
                    let beyond = f64::from(khz) / f64::from(*asked) - 1.0;
                    as_asked &= beyond.abs() <= AS_ASKED;
                    unheeded |= beyond > AS_ASKED && hold == Hold::By(Lever::Clamp);
                }
                None => as_asked &= hold != Hold::Nothing,
            }
        }
        self.unheeded = if unheeded { self.unheeded + 1 } else { 0 };
        if self.unheeded >= UNHEEDED && self.levers.knobs().is_some() {
            self.levers.give_up_clamps();
            self.unheeded = 0;
        }
        as_asked
    }
}
