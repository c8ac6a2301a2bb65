//! A model that gives its memory back while nobody needs it, and opens again for whoever comes next.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::awake::Awake;
use crate::gate::Doing;
use crate::model::Inner;
#[cfg(feature = "kvcache")]
use crate::pins::Pins;
use crate::sync::{Mutex, lock};
use crate::{Error, Model, Result};

/// What a model did between its uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sleeps {
    /// How often it went to sleep.
    pub sleeps: u64,
    /// How often it woke.
    pub wakes: u64,
    /// How often it could not go to sleep because a pin could not be saved.
    pub failed: u64,
    /// Pins that could not be brought back: their files were damaged or gone, or there was no room. They are computed anew.
    pub lost_pins: u64,
}

/// What a model remembers of its sleep, and over it.
#[derive(Debug, Default)]
pub(crate) struct Nights {
    counts: Mutex<Sleeps>,
    #[cfg(feature = "kvcache")]
    pins: Mutex<Option<Pins>>,
    watch: Mutex<Option<Watch>>,
}

/// A thread that watches for idleness.
#[derive(Debug)]
struct Watch {
    /// Tells it that the model woke, or that the time changed; when it is dropped, the thread ends.
    tell: Sender<()>,
    /// How long nobody needs the weights before they go; none for never.
    after: Arc<Mutex<Option<Duration>>>,
    /// Whether a conductor says how long.
    conducted: bool,
}

/// The shortest idleness that is watched for: below it, a model would not get to its first token.
const SHORTEST: Duration = Duration::from_millis(10);

impl Model {
    /// Gives the weights, the worker threads and all keys and values back, unless somebody needs them just now: a
    /// [`Reply`](crate::Reply), a [`Recording`](crate::Recording), a [`Prompt`](crate::Prompt) or a measurement that there
    /// is, or a call in another thread. Never waits for one of these. → whether the model is asleep.
    ///
    /// Conversations stay, with the rows of their pictures, and go on as if nothing had happened: their next reply wakes the
    /// model, computes the past anew, and is the same to the bit. What was pinned lies in
    /// [`OpenOptions::sleep_folder`](crate::OpenOptions::sleep_folder) meanwhile, sealed with a key that this process alone
    /// knows, and is there again afterwards. Everything else about the model, such as [`Model::context`], can be asked
    /// without waking it.
    ///
    /// A checkpoint that is quantised while it is opened is so each time; one that is packed is mapped again in a moment.
    ///
    /// # Errors
    /// `Error::Pool` when a pin cannot be saved; the model stays awake.
    pub fn sleep(&self) -> Result<bool> {
        self.inner.sleep()
    }

    /// Opens the weights again ahead of who will need them. Nothing where they are awake.
    ///
    /// # Errors
    /// - [`Error::Changed`] when the checkpoint is gone or another one than it was; once it is back, the next try succeeds.
    /// - As for [`Model::open`].
    pub fn wake(&self) -> Result<()> {
        self.lease().map(drop)
    }

    /// Whether there are no weights in memory.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.inner.gate.doing() == Doing::Asleep
    }

    /// How long nobody has needed the weights; none where somebody does, and where they are asleep. For who decides when to
    /// [`sleep`](Self::sleep), and needs no thread for it.
    #[must_use]
    pub fn idle_for(&self) -> Option<Duration> {
        match self.inner.gate.doing() {
            Doing::Idle(since) => Some(since.elapsed()),
            Doing::Asleep | Doing::Busy => None,
        }
    }

    /// Goes to sleep whenever nobody has needed the weights for `after`, at least 10 ms, from now until it is called again or
    /// the last handle is gone; none ends it. A thread waits for that, and takes no time while it does.
    ///
    /// # Errors
    /// [`Error::Timer`] when the system starts no thread.
    pub fn sleep_when_idle(&self, after: impl Into<Option<Duration>>) -> Result<()> {
        let after = after.into();
        *lock(&self.inner.nights.watch) = None;
        if after.is_some() { self.inner.watch(after, false) } else { Ok(()) }
    }

    /// How often it slept and woke, and what was lost over it.
    #[must_use]
    pub fn sleeps(&self) -> Sleeps {
        *lock(&self.inner.nights.counts)
    }
}

/// Puts a model to sleep each time that it has been idle for `after`, until nobody holds the other end.
fn watch_idleness(model: &Weak<Inner>, after: &Mutex<Option<Duration>>, calls: &Receiver<()>) {
    loop {
        let Some(inner) = model.upgrade() else { return };
        let after = *lock(after);
        let wait = match (inner.gate.doing(), after.map(|after| after.max(SHORTEST))) {
            (Doing::Asleep, _) | (_, None) => None,
            // Whoever is busy now is not idle for longer than this before the next look.
            (Doing::Busy, after) => after,
            (Doing::Idle(since), Some(after)) => match after.saturating_sub(since.elapsed()) {
                Duration::ZERO if matches!(inner.sleep(), Ok(true)) => None,
                // Not saved, which is counted, or somebody came in between.
                Duration::ZERO => Some(after),
                left => Some(left),
            },
        };
        drop(inner);
        let ended = match wait {
            None => calls.recv().is_err(),
            Some(wait) => calls.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected),
        };
        if ended {
            return;
        }
    }
}

impl Inner {
    /// Starts the thread that watches for idleness, in the place of one that does.
    fn watch(self: &Arc<Self>, after: Option<Duration>, conducted: bool) -> Result<()> {
        let (tell, calls) = channel();
        let (model, after) = (Arc::downgrade(self), Arc::new(Mutex::new(after)));
        let shared = after.clone();
        let thread = std::thread::Builder::new().name("autoglm-idle".into());
        thread.spawn(move || watch_idleness(&model, &shared, &calls)).map_err(|source| Error::Timer { source })?;
        *lock(&self.nights.watch) = Some(Watch { tell, after, conducted });
        Ok(())
    }

    /// A conductor says from now on how long nobody needs the weights before they go.
    pub(crate) fn rest_as_conducted(self: &Arc<Self>, after: Option<Duration>) -> Result<()> {
        self.watch(after, true)
    }

    /// The conductor says another time, unless somebody else has the say by now.
    pub(crate) fn rest_differently(&self, after: Option<Duration>) {
        if let Some(watch) = lock(&self.nights.watch).as_ref().filter(|watch| watch.conducted) {
            let changed = std::mem::replace(&mut *lock(&watch.after), after) != after;
            if changed {
                // Whoever watched may have ended with the model.
                let _ = watch.tell.send(());
            }
        }
    }

    /// The conductor has no say any more.
    pub(crate) fn rest_unconducted(&self) {
        lock(&self.nights.watch).take_if(|watch| watch.conducted);
    }

    fn sleep(&self) -> Result<bool> {
        let slept = self.gate.sleep(|_awake| {
            #[cfg(feature = "kvcache")]
            self.keep_pins(_awake)?;
            self.seats.clear();
            lock(&self.nights.counts).sleeps += 1;
            Ok(())
        });
        slept.inspect_err(|_| lock(&self.nights.counts).failed += 1)
    }

    /// Opens what was opened before, with its pins.
    pub(crate) fn open_again(&self) -> Result<Awake> {
        let start = Instant::now();
        let awake = self.place.reopen()?;
        #[cfg(feature = "kvcache")]
        {
            let pins = lock(&self.nights.pins).take();
            let lost = pins.map_or(0, |pins| pins.load(&awake.past));
            lock(&self.nights.counts).lost_pins += lost as u64;
        }
        lock(&self.nights.counts).wakes += 1;
        if let Some(watch) = &*lock(&self.nights.watch) {
            // Whoever watched may have ended with an earlier call.
            let _ = watch.tell.send(());
        }
        self.podium.woke(start.elapsed());
        Ok(awake)
    }

    #[cfg(feature = "kvcache")]
    fn keep_pins(&self, awake: &Awake) -> Result<()> {
        let folder = self.place.options().sleep_folder.clone();
        let pins = Pins::save(&awake.past, &folder.unwrap_or_else(std::env::temp_dir))?;
        *lock(&self.nights.pins) = pins;
        Ok(())
    }
}

#[cfg(feature = "kvcache")]
impl Nights {
    /// Ends a pin that lies on disk. → whether there was one.
    pub(crate) fn unpin(&self, salt: [u8; 32], name: &str) -> bool {
        lock(&self.pins).as_mut().is_some_and(|pins| pins.unpin(salt, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OpenOptions;

    #[test]
    fn the_thread_that_watches_ends_with_the_last_handle_and_with_the_next_call() {
        let model = Model::open_embedded(autoglm_tiny::FILES, &OpenOptions::default().threads(1)).unwrap();
        let watch = |model: &Model, after| {
            let (tell, calls) = channel();
            let weak = Arc::downgrade(&model.inner);
            let after = Arc::new(Mutex::new(Some(after)));
            let shared = after.clone();
            let thread = std::thread::spawn(move || watch_idleness(&weak, &shared, &calls));
            *lock(&model.inner.nights.watch) = Some(Watch { tell, after, conducted: false });
            thread
        };
        // One that waits for idleness, and one that waits for somebody to wake it.
        let (long, short) = (Duration::from_secs(3_600), Duration::from_millis(20));
        let waits = watch(&model, long);
        let sleeps = watch(&model, short);
        waits.join().unwrap();
        while !model.is_asleep() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let copy = model.clone();
        drop(model);
        assert!(!sleeps.is_finished());
        drop(copy);
        sleeps.join().unwrap();
    }
}
