//! A model with a conductor: a thread that ticks while something is computed, and waits without a clock while nothing is.
//!
//! ```text
//! Request ──begin──▶ Stage ⇄ Stage ⇄ …  (steps of the decoder, encoders) ──end──▶ energy, thresholds
//!                      │ wakes
//!                      ▼
//!                 the thread: tick, a second, tick, … until a second passes in which nothing was computed
//! ```
//!
//! Who computes takes the lock on the room alone, for a moment; the conductor's own, under which files are read, is taken by the
//! thread and where requests begin and end. Whoever needs both takes the conductor's first.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, Weak};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use autoglm_power::control::Phase;
use autoglm_power::{Computed, Conductor, Progress, Tree, Trouble, tasks};

use crate::model::Inner;
use crate::stint::{Counts, Load};
use crate::sync::{Condvar, Mutex, lock, wait};
use crate::{Error, Model, Outlook, Result};

/// What a conductor does to a model.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Conducted {
    /// How often it ticked: about once a second while something is computed, and never while nothing is.
    pub ticks: u64,
    /// Threads that compute may use at most since the last tick; 0 for all, as between requests.
    pub threads: usize,
    /// Whether heat slows it down.
    pub throttling: bool,
    /// After how long without use the model would go to sleep, unless [`Model::sleep_when_idle`] was called later than
    /// [`Model::conduct`]; none for never.
    pub rests_after: Option<Duration>,
}

const SECOND: Duration = Duration::from_secs(1);

/// Nobody waits longer for idleness than this, in s: a year. What is beyond it is never.
const NEVER_S: f64 = 366.0 * 86_400.0;

impl Model {
    /// Has a conductor decide, from now on until this is called again or the last handle is gone, on how many threads replies,
    /// [`Session::anticipate`](crate::Session::anticipate) and the encoding of what is pushed run, where and how fast, and after how
    /// long without use the model sleeps, as [`Model::sleep_when_idle`] would have it; the later call of the two counts. None ends
    /// it. Whatever was moved is put back at each request's end, and when the conductor goes.
    ///
    /// Answers are the same to the bit. A thread ticks once a second while something is computed; while nothing is it waits,
    /// and takes no time. The worker threads and the thread that pulls a reply are moved as [`Conductor::of_this_device`] and
    /// [`Conductor::with_knobs`] say. A limit of threads counts from the next step of the decoder on, and for all that is computed
    /// with the model meanwhile. Threads that a moved one starts while a reply computes inherit its cores, and keep them.
    /// Recordings, prompts of ids and measurements are not conducted. Of the depths that memory can
    /// rest at the model knows one: it sleeps, which writes pins to disk and drops the weights, at the first threshold that has
    /// no weights in memory, which is the later the longer its wakes took where a sensor tells power. One whose weights are
    /// converted while they are opened does not go to sleep for a conductor. It does not end the process: who wants to, looks at
    /// the conductor's thresholds.
    ///
    /// # Errors
    /// [`Error::Timer`] when the system starts no thread; the model has no conductor then.
    pub fn conduct(&self, conductor: impl Into<Option<Conductor>>) -> Result<()> {
        let Some(conductor) = conductor.into() else {
            self.inner.podium.step_down(self);
            return Ok(());
        };
        let rests_after = self.inner.rests_after(&conductor);
        let conduct = Arc::new(Conduct {
            model: Arc::downgrade(&self.inner),
            begun: Instant::now(),
            tree: conductor.tree().clone(),
            conductor: Mutex::new(Some(conductor)),
            room: Mutex::new(Room { told: Conducted { rests_after, ..Conducted::default() }, ..Room::default() }),
            called: Condvar::new(),
            work: AtomicU64::new(0),
        });
        let held = Held(conduct.clone());
        let thread = std::thread::Builder::new().name("autoglm-power".into());
        thread.spawn(move || conduct.serve()).map_err(|source| Error::Timer { source })?;
        // What the one before moved is put back before this one moves anything.
        self.inner.podium.step_down(self);
        self.inner.rest_as_conducted(rests_after)?;
        *lock(&self.inner.podium.0) = Some(held);
        Ok(())
    }

    /// What the conductor does; none where there is none.
    #[must_use]
    pub fn conducted(&self) -> Option<Conducted> {
        Some(lock(&self.inner.podium.conduct()?.room).told)
    }

    /// What the conductor does without, since the last call, each once.
    #[must_use]
    pub fn take_power_complaints(&self) -> Vec<Trouble> {
        let Some(conduct) = self.inner.podium.conduct() else { return Vec::new() };
        lock(&conduct.conductor).as_mut().map(Conductor::take_complaints).unwrap_or_default()
    }

    /// What the conductor knows to be left; nothing where there is none. With [`Tier::Auto`](crate::Tier::Auto) sessions ask for
    /// it themselves, where [`Session::outlook`](crate::Session::outlook) did not tell them better.
    #[must_use]
    pub fn outlook(&self) -> Outlook {
        let Some(conduct) = self.inner.podium.conduct() else { return Outlook::default() };
        let mut conductor = lock(&conduct.conductor);
        let left = conductor.as_mut().map(|conductor| conductor.left(conduct.begun.elapsed())).unwrap_or_default();
        Outlook { charge: left.charge, budget_left: left.budget }
    }

    /// Says that a task begins, for the conductor's budget of one ([`Conductor::with_budget`]): what is left of it is whole
    /// again. Nothing where there is no conductor.
    pub fn begin_task(&self) {
        let Some(conduct) = self.inner.podium.conduct() else { return };
        if let Some(conductor) = lock(&conduct.conductor).as_mut() {
            conductor.begin_task();
        }
    }
}

/// Where a model's conductor stands, if it has one.
#[derive(Debug, Default)]
pub(crate) struct Podium(Mutex<Option<Held>>);

/// The conductor for as long as it is the model's.
#[derive(Debug)]
struct Held(Arc<Conduct>);

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.0.room).ended = true;
        self.0.called.notify_all();
        drop(lock(&self.0.conductor).take());
    }
}

impl Podium {
    fn conduct(&self) -> Option<Arc<Conduct>> {
        lock(&self.0).as_ref().map(|held| held.0.clone())
    }

    fn step_down(&self, model: &Model) {
        let held = lock(&self.0).take();
        if held.is_some() {
            model.inner.rest_unconducted();
            drop(held);
            model.inner.allow(0);
        }
    }

    /// The weights were opened again, which took so long.
    pub(crate) fn woke(&self, took: Duration) {
        let Some(conduct) = self.conduct() else { return };
        if let Some(conductor) = lock(&conduct.conductor).as_mut() {
            conductor.woke(took);
        }
    }

    /// A request begins.
    pub(crate) fn request(&self) -> Option<Request> {
        Some(Request::begin(self.conduct()?))
    }

    /// Something begins to be computed.
    pub(crate) fn enter(&self, load: Load) -> Option<Stage> {
        Some(Stage::enter(self.conduct()?, load))
    }
}

#[derive(Debug)]
struct Conduct {
    model: Weak<Inner>,
    begun: Instant,
    tree: Tree,
    /// Gone once the model has another one.
    conductor: Mutex<Option<Conductor>>,
    room: Mutex<Room>,
    called: Condvar,
    /// Rows times layers that the decoder computed since the last tick: all layers of a model take nearly the same time.
    work: AtomicU64,
}

/// What is computed, and what was since the last tick.
#[derive(Debug, Default)]
struct Room {
    ended: bool,
    /// Whether the thread waits to be called.
    waits: bool,
    requests: usize,
    /// How often a request began while there was another.
    overlaps: u64,
    stages: usize,
    since: Option<Instant>,
    busy: Duration,
    /// Whether an encoder, many rows and single rows were computed.
    loads: [bool; 3],
    /// The load that began last, as an index of the above, and the one at the last tick.
    load: usize,
    load_then: usize,
    /// The threads that asked.
    callers: Vec<Caller>,
    told: Conducted,
}

/// A thread that asked.
#[derive(Debug)]
struct Caller {
    id: ThreadId,
    /// Its number, where the system tells.
    tid: Option<i32>,
    /// Whether it computes just now, or waits for the next step.
    computes: bool,
}

const ENCODER: usize = 0;
const MANY: usize = 1;
const SINGLE: usize = 2;

impl Room {
    fn computes(&self) -> bool {
        self.requests > 0 && (self.stages > 0 || !self.busy.is_zero())
    }

    /// Time in which something was computed since the last time.
    fn take_busy(&mut self) -> Duration {
        let now = Instant::now();
        let going = self.since.map(|since| now.saturating_duration_since(since)).unwrap_or_default();
        self.since = self.since.map(|_| now);
        std::mem::take(&mut self.busy) + going
    }

    /// The loads since the last time, what goes on included.
    fn take_loads(&mut self) -> [bool; 3] {
        let loads = std::mem::take(&mut self.loads);
        self.loads[self.load] = self.stages > 0;
        loads
    }
}

impl Conduct {
    /// The life of the thread.
    fn serve(&self) {
        let mut room = lock(&self.room);
        while !room.ended {
            if !room.computes() {
                room.waits = true;
                room = wait(&self.called, room);
                continue;
            }
            room.waits = false;
            drop(room);
            self.tick();
            let waited = self.called.wait_timeout_while(lock(&self.room), SECOND, |room| !room.ended);
            room = waited.unwrap_or_else(PoisonError::into_inner).0;
            if !room.computes() {
                drop(room);
                self.pause();
                room = lock(&self.room);
            }
        }
    }

    fn tick(&self) {
        // The last handle may go meanwhile: what it leaves goes after the locks here.
        let Some(inner) = self.model.upgrade() else { return };
        let mut conductor = lock(&self.conductor);
        let Some(conductor) = conductor.as_mut() else { return };
        let mut room = lock(&self.room);
        if !room.computes() {
            return;
        }
        let (seconds, loads, load) = (room.take_busy().as_secs_f64(), room.take_loads(), room.load);
        let work = self.work.swap(0, Ordering::Relaxed);
        // A second of which a part was something else says nothing of either.
        let alike = (0..loads.len()).all(|each| !loads[each] || each == load) && load == room.load_then;
        room.load_then = load;
        let mut threads: Vec<i32> = room.callers.iter().filter_map(|caller| caller.tid).collect();
        drop(room);
        let workers = inner.gate.look(|awake| awake.map(|awake| awake.workers.names().to_owned()));
        threads.extend(workers.iter().flat_map(|names| tasks::named(&self.tree, names)));
        let progress = Progress {
            phase: if load == SINGLE { Phase::Decode } else { Phase::Compute },
            work: if alike && load != ENCODER { work as f64 } else { 0.0 },
            seconds,
            threads: &threads,
        };
        let tick = conductor.tick(self.begun.elapsed(), &progress);
        inner.allow(tick.threads());
        let told = &mut lock(&self.room).told;
        told.ticks += 1;
        told.threads = tick.threads();
        told.throttling = tick.throttling;
    }

    /// Puts threads back while whoever asked does something else.
    fn pause(&self) {
        let mut conductor = lock(&self.conductor);
        if let Some(conductor) = conductor.as_mut().filter(|_| !lock(&self.room).computes()) {
            conductor.pause();
        }
    }
}

/// A request under a conductor.
#[derive(Debug)]
pub(crate) struct Request {
    conduct: Arc<Conduct>,
    /// How often requests had overlapped when it began; none where it did itself.
    overlaps: Option<u64>,
    ended: bool,
}

impl Request {
    fn begin(conduct: Arc<Conduct>) -> Self {
        let mut conductor = lock(&conduct.conductor);
        let mut room = lock(&conduct.room);
        room.requests += 1;
        let overlaps = if room.requests > 1 {
            room.overlaps += 1;
            None
        } else {
            Some(room.overlaps)
        };
        drop(room);
        if let Some(conductor) = conductor.as_mut() {
            conductor.begin(conduct.begun.elapsed());
        }
        drop(conductor);
        Self { conduct, overlaps, ended: false }
    }

    /// → energy in J and who told. Nobody could say which of two requests at a time took it.
    pub(crate) fn end(mut self, counts: Counts) -> Option<(f64, &'static str)> {
        self.finish(counts)
    }

    fn finish(&mut self, counts: Counts) -> Option<(f64, &'static str)> {
        self.ended = true;
        let inner = self.conduct.model.upgrade();
        let mut conductor = lock(&self.conduct.conductor);
        let mut room = lock(&self.conduct.room);
        room.requests -= 1;
        if room.requests > 0 {
            // Whose request it was, only the others tell: those that compute stay, and those that do not come again with their
            // next step. All are let go until the next tick, which knows who is left.
            room.callers.retain(|caller| caller.computes);
            drop(room);
            if let Some(conductor) = conductor.as_mut() {
                conductor.pause();
            }
            return None;
        }
        let alone = self.overlaps == Some(room.overlaps);
        room.busy = Duration::ZERO;
        room.loads = [false; 3];
        room.callers.clear();
        drop(room);
        self.conduct.work.store(0, Ordering::Relaxed);
        let conductor = conductor.as_mut()?;
        let Counts { media, text, new } = counts;
        let computed = Computed { visual_tokens: media, text_tokens: text, new_tokens: new };
        let energy = conductor.end(self.conduct.begun.elapsed(), &computed);
        let rests_after = inner.as_ref().and_then(|inner| inner.rests_after(conductor));
        let mut room = lock(&self.conduct.room);
        room.told = Conducted { threads: 0, rests_after, ..room.told };
        drop(room);
        // Dropped after the guard: with the last handle goes the conductor.
        if let Some(inner) = &inner {
            inner.allow(0);
            inner.rest_differently(rests_after);
        }
        energy.filter(|_| alone).map(|energy| (energy.joules, energy.source.name()))
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.ended {
            self.finish(Counts::default());
        }
    }
}

/// Something that is being computed.
#[derive(Debug)]
pub(crate) struct Stage {
    conduct: Arc<Conduct>,
}

impl Stage {
    fn enter(conduct: Arc<Conduct>, load: Load) -> Self {
        let mut room = lock(&conduct.room);
        room.load = match load {
            Load::Encoder => ENCODER,
            Load::Rows(1) => SINGLE,
            Load::Rows(_) => MANY,
        };
        let load = room.load;
        room.loads[load] = true;
        if room.stages == 0 {
            room.since = Some(Instant::now());
        }
        room.stages += 1;
        let id = std::thread::current().id();
        let Room { callers, requests, .. } = &mut *room;
        match callers.iter_mut().find(|caller| caller.id == id) {
            Some(caller) => caller.computes = true,
            None if *requests > 0 => {
                callers.push(Caller { id, tid: tasks::calling(&conduct.tree), computes: true });
            }
            None => {}
        }
        let waits = std::mem::take(&mut room.waits);
        drop(room);
        if waits {
            conduct.called.notify_all();
        }
        Self { conduct }
    }

    pub(crate) fn passed(&self, rows: usize) {
        self.conduct.work.fetch_add(rows as u64, Ordering::Relaxed);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let mut room = lock(&self.conduct.room);
        room.stages -= 1;
        let id = std::thread::current().id();
        if let Some(caller) = room.callers.iter_mut().find(|caller| caller.id == id) {
            caller.computes = false;
        }
        if room.stages == 0
            && let Some(since) = room.since.take()
        {
            room.busy += since.elapsed();
        }
    }
}

impl Inner {
    /// After how long without use the weights go; never where opening them converts them, which takes seconds to minutes and
    /// is nothing that a controller has a say in.
    fn rests_after(&self, conductor: &Conductor) -> Option<Duration> {
        let seconds = conductor.rests_after_s();
        (seconds < NEVER_S && !self.converts()).then(|| Duration::from_secs_f64(seconds.max(0.0)))
    }

    /// Lets steps use so many threads, 0 for all.
    fn allow(&self, threads: usize) {
        self.gate.look(|awake| {
            if let Some(awake) = awake {
                awake.allowed.store(threads, Ordering::Relaxed);
            }
        });
    }
}
