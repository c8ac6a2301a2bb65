//! One thing that is dear to have, opened when somebody needs it and closed only when nobody does.
//!
//! ```text
//! asleep ──lease──▶ moving ──opened──▶ awake, with any number of leases
//!    ▲                │  ▲                │
//!    └─failed, closed─┘  └─sleep, no lease┘
//! ```
//!
//! Whoever comes while it moves waits; opening and closing run outside of the lock, one at a time, and an error or a panic
//! in them leads back to where they began.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use crate::sync::{Condvar, Mutex, MutexGuard, lock, wait};

/// Opens and closes a `T` for any number of threads.
#[derive(Debug)]
pub(crate) struct Gate<T> {
    room: Mutex<Room<T>>,
    settled: Condvar,
}

#[derive(Debug)]
struct Room<T> {
    state: State<T>,
    /// When a lease was given or came back last, or the thing was opened or closed.
    since: Instant,
}

#[derive(Debug)]
enum State<T> {
    Asleep,
    Moving,
    /// Each lease is one more holder.
    Awake(Arc<T>),
}

/// What a gate is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    /// There is nothing behind it.
    Asleep,
    /// Somebody has a lease, or it is being opened or closed.
    Busy,
    /// Nobody has had a lease since.
    Idle(Instant),
}

/// Holds the thing open.
#[derive(Debug)]
pub(crate) struct Lease<T> {
    gate: Arc<Gate<T>>,
    value: Arc<T>,
}

impl<T> Gate<T> {
    /// A gate behind which something is open.
    pub(crate) fn new(value: T) -> Arc<Self> {
        let room = Room { state: State::Awake(Arc::new(value)), since: Instant::now() };
        Arc::new(Self { room: Mutex::new(room), settled: Condvar::new() })
    }

    /// Holds the thing open, and opens it first where it is closed. Of many who ask at once one opens it; where that fails the
    /// next one tries.
    ///
    /// # Errors
    /// Those of `open`, of the caller's own try.
    pub(crate) fn lease<E>(self: &Arc<Self>, open: impl FnOnce() -> Result<T, E>) -> Result<Lease<T>, E> {
        let mut room = self.settle();
        if let State::Awake(value) = &room.state {
            return Ok(Lease { gate: self.clone(), value: value.clone() });
        }
        room.state = State::Moving;
        drop(room);
        let mut moving = Moving { gate: self, to: State::Asleep };
        let value = Arc::new(open()?);
        // It is leased before anybody may close it.
        moving.to = State::Awake(value.clone());
        drop(moving);
        Ok(Lease { gate: self.clone(), value })
    }

    /// Holds the thing open if it is.
    pub(crate) fn held(self: &Arc<Self>) -> Option<Lease<T>> {
        match &self.settle().state {
            State::Awake(value) => Some(Lease { gate: self.clone(), value: value.clone() }),
            _ => None,
        }
    }

    /// Looks at the thing if it is open, without waiting and without holding it.
    pub(crate) fn look<R>(&self, look: impl FnOnce(Option<&T>) -> R) -> R {
        match &lock(&self.room).state {
            State::Awake(value) => look(Some(value)),
            _ => look(None),
        }
    }

    /// Calls `act` while the thing is open or closed, and stays so until it returns.
    pub(crate) fn settled<R>(&self, act: impl FnOnce(Option<&T>) -> R) -> R {
        match &self.settle().state {
            State::Awake(value) => act(Some(value)),
            _ => act(None),
        }
    }

    /// Closes the thing if nobody holds it open, after a last look at it. → whether it is closed.
    ///
    /// # Errors
    /// Those of `last`; it stays open then.
    pub(crate) fn sleep<E>(&self, last: impl FnOnce(&T) -> Result<(), E>) -> Result<bool, E> {
        let mut room = self.settle();
        let value = match &room.state {
            // Further holders come through this lock alone, so that a single one stays the single one.
            State::Awake(value) if Arc::strong_count(value) == 1 => value.clone(),
            State::Awake(_) => return Ok(false),
            _ => return Ok(true),
        };
        room.state = State::Moving;
        drop(room);
        let mut moving = Moving { gate: self, to: State::Awake(value.clone()) };
        last(&value)?;
        moving.to = State::Asleep;
        // Gone before anybody may open it again.
        drop(value);
        drop(moving);
        Ok(true)
    }

    /// What it is doing.
    pub(crate) fn doing(&self) -> Doing {
        let room = lock(&self.room);
        match &room.state {
            State::Asleep => Doing::Asleep,
            State::Awake(value) if Arc::strong_count(value) == 1 => Doing::Idle(room.since),
            _ => Doing::Busy,
        }
    }

    /// Waits for whoever opens or closes.
    fn settle(&self) -> MutexGuard<'_, Room<T>> {
        let mut room = lock(&self.room);
        while matches!(room.state, State::Moving) {
            room = wait(&self.settled, room);
        }
        room
    }
}

/// Somebody who opens or closes, and what there is when they are done, however that ends.
struct Moving<'a, T> {
    gate: &'a Gate<T>,
    to: State<T>,
}

impl<T> Drop for Moving<'_, T> {
    fn drop(&mut self) {
        let mut room = lock(&self.gate.room);
        room.state = std::mem::replace(&mut self.to, State::Asleep);
        room.since = Instant::now();
        drop(room);
        self.gate.settled.notify_all();
    }
}

impl<T> Deref for Lease<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        lock(&self.gate.room).since = Instant::now();
    }
}
