//! A pool of threads that starts a parallel region in a microsecond.
//!
//! A decode step has some two hundred parallel regions, each shorter than a millisecond. Handing each
//! to sleeping threads would cost more than its work, so workers look for the next region for a
//! moment before they go to sleep, and the caller is itself one of the workers.
//!
//! ```text
//! caller                                          worker
//! publish the job, open the state ─────────────▶  sees a new open state, joins it
//! claim indices until none is left                claim indices until none is left
//! close the state: nobody joins any more          leave
//! wait until all that joined have left
//! ```
//!
//! A worker that wakes too late finds the state closed and misses nothing.

#![allow(unsafe_code, reason = "a borrow of the caller is lent to threads that outlive it")]

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::{Error, Result, Run};

/// How often a worker looks for the next region before it goes to sleep: some 50 µs, longer than the
/// pause between two regions of one step, and shorter than anything a battery would notice.
const LOOKS: u32 = 2_000;

/// Bit of the state that says that workers may join. The bits below count those that have; the bits
/// above count regions.
const OPEN: u64 = 1 << 31;
const JOINED: u64 = OPEN - 1;
const REGION: u64 = 1 << 32;

thread_local! {
    /// Whether this thread is working on a region. A region inside a region runs on its own thread.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// A pool of worker threads. The facade's model handle owns one; nothing below it starts threads.
pub struct Workers {
    shared: Arc<Shared>,
    /// One region at a time.
    turn: Mutex<()>,
    handles: Vec<JoinHandle<()>>,
    /// What the names of its threads begin with.
    names: String,
}

struct Shared {
    state: AtomicU64,
    job: UnsafeCell<Option<Job>>,
    next: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    stop: AtomicBool,
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
}

/// What a region does with each index. The caller's borrow, without its lifetime.
#[derive(Clone, Copy)]
struct Job {
    work: *const (dyn Fn(usize) + Sync),
    count: usize,
    helpers: usize,
}

// SAFETY: `job` is written only while the state is closed and nobody has joined, and read only by the
// caller and by workers that joined; `work` points to something that is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: likewise.
unsafe impl Send for Shared {}

impl Workers {
    /// Starts workers; with the thread that asks them to work they are `threads`.
    ///
    /// # Errors
    /// [`Error::Workers`] when `threads` is zero or the system refuses them.
    pub fn new(threads: usize) -> Result<Self> {
        if threads == 0 {
            return Err(Error::Workers { threads, source: None });
        }
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            next: AtomicUsize::new(0),
            panic: Mutex::new(None),
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
        });
        // Built up one by one: if the system refuses a thread, dropping the pool ends the others.
        // Linux keeps 15 bytes of a name, so a pool's number may come again, long after.
        static POOLS: AtomicUsize = AtomicUsize::new(0);
        let names = format!("autoglm{}-", POOLS.fetch_add(1, Ordering::Relaxed) % 1000);
        let mut workers = Self { shared, turn: Mutex::new(()), handles: Vec::new(), names };
        for i in 1..threads {
            let shared = workers.shared.clone();
            let name = format!("{}{i}", workers.names);
            let started = std::thread::Builder::new().name(name).spawn(move || shared.serve(i));
            workers.handles.push(started.map_err(|source| Error::Workers { threads, source: Some(source) })?);
        }
        Ok(workers)
    }

    /// Number of threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.handles.len() + 1
    }

    /// What the names of its threads begin with, and no other pool's do; the rest is a number from 1, and work for few threads
    /// goes to those of low numbers. The caller's thread has a name of its own.
    #[must_use]
    pub fn names(&self) -> &str {
        &self.names
    }

    /// Calls `work` with each index below `count`, on at most `threads` threads, and returns when all
    /// calls have. Threads claim the next index when they are done with one, so that fast cores do
    /// more. A panic in `work` is carried on here.
    pub(crate) fn each(&self, threads: usize, count: usize, work: &(dyn Fn(usize) + Sync)) {
        let helpers = threads.min(self.threads()).min(count).saturating_sub(1);
        if helpers == 0 || INSIDE.get() {
            return (0..count).for_each(work);
        }
        let _turn = lock(&self.turn);
        let shared = &*self.shared;
        // SAFETY: only the lifetime is dropped. Workers use the pointer between joining and leaving,
        // and this function returns only when nobody can join and all have left.
        let work = unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync + 'static)>(work)
        };
        // SAFETY: the turn is ours, the state is closed, and nobody has joined.
        unsafe { *shared.job.get() = Some(Job { work, count, helpers }) };
        shared.next.store(0, Ordering::Relaxed);
        shared.state.store(
            (shared.state.load(Ordering::Relaxed) & !(REGION - 1)).wrapping_add(REGION) | OPEN,
            Ordering::SeqCst,
        );
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            // Who counts as a sleeper holds this lock until it waits, so it cannot miss the call.
            drop(lock(&shared.sleep));
            shared.wake.notify_all();
        }
        shared.work(Job { work, count, helpers });
        shared.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut looks = 0u32;
        while shared.state.load(Ordering::Acquire) & JOINED != 0 {
            pause(&mut looks);
        }
        if let Some(panic) = lock(&shared.panic).take() {
            resume_unwind(panic);
        }
    }
}

/// `len` zeros, written by several threads. One thread alone writes them slower than all multiply what is
/// to take their place; and what the allocator hands out a second time is not zero any more.
pub(crate) fn zeros(run: &Run<'_>, len: usize) -> Vec<f32> {
    /// Numbers that one thread writes at a time: enough to outweigh handing it to a thread.
    const PER_TASK: usize = 1 << 16;
    if len <= PER_TASK {
        return vec![0.0; len];
    }
    let mut zeros = Vec::with_capacity(len);
    let parts = zeros.spare_capacity_mut()[..len].chunks_mut(PER_TASK).collect();
    run.for_each(parts, |part: &mut [MaybeUninit<f32>]| part.fill(MaybeUninit::new(0.0)));
    // SAFETY: the parts are the first `len` places, and each was written before `for_each` returned: a
    // panic in it would not have come here.
    unsafe { zeros.set_len(len) };
    zeros
}

impl Shared {
    /// The life of worker `index`.
    fn serve(&self, index: usize) {
        let mut seen = 0;
        loop {
            let state = self.wait(seen);
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            seen = state & !(REGION - 1);
            if state & OPEN == 0 {
                continue;
            }
            // Joining fails when another worker joined or left in between, or the region was closed.
            let mut now = state;
            let joined = loop {
                if now & !(REGION - 1) != seen || now & OPEN == 0 {
                    break false;
                }
                match self.state.compare_exchange_weak(now, now + 1, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => break true,
                    Err(other) => now = other,
                }
            };
            if joined {
                // SAFETY: the job was published before the state was opened and stays until we leave.
                if let Some(job) = unsafe { *self.job.get() }
                    && index <= job.helpers
                {
                    self.work(job);
                }
                self.state.fetch_sub(1, Ordering::Release);
            }
        }
    }

    /// Claims indices until none is left. A panic is kept for the caller.
    fn work(&self, job: Job) {
        INSIDE.set(true);
        let done = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let index = self.next.fetch_add(1, Ordering::Relaxed);
                if index >= job.count {
                    return;
                }
                // SAFETY: `each` does not return before every thread has left.
                unsafe { (*job.work)(index) };
            }
        }));
        INSIDE.set(false);
        if let Err(panic) = done {
            // What is left of a failed region need not be done.
            self.next.store(job.count, Ordering::Relaxed);
            lock(&self.panic).get_or_insert(panic);
        }
    }

    /// The state once it belongs to another region than `seen`.
    fn wait(&self, seen: u64) -> u64 {
        let is_new = |state: u64| state & !(REGION - 1) != seen || self.stop.load(Ordering::Acquire);
        for _ in 0..LOOKS {
            let state = self.state.load(Ordering::Acquire);
            if is_new(state) {
                return state;
            }
            std::hint::spin_loop();
        }
        let mut asleep = lock(&self.sleep);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let state = loop {
            let state = self.state.load(Ordering::SeqCst);
            if is_new(state) {
                break state;
            }
            asleep = self.wake.wait(asleep).unwrap_or_else(PoisonError::into_inner);
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        state
    }
}

/// Waits a little: at first for another core, later by letting another thread have this one.
fn pause(looks: &mut u32) {
    *looks += 1;
    if *looks < LOOKS { std::hint::spin_loop() } else { std::thread::yield_now() }
}

/// No panic happens while one of these locks is held in a way that would leave anything half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(lock(&self.shared.sleep));
        self.shared.wake.notify_all();
        for handle in self.handles.drain(..) {
            // A worker catches the panics of its work and has none of its own.
            let _ = handle.join();
        }
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} workers", self.threads())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_workers_at_all_is_an_error() {
        assert!(matches!(Workers::new(0), Err(Error::Workers { threads: 0, .. })));
    }

    #[test]
    fn threads_are_named_for_their_pool() {
        let (one, other) = (Workers::new(3).unwrap(), Workers::new(2).unwrap());
        assert_ne!(one.names(), other.names());
        let names: Vec<_> = one.handles.iter().map(|handle| handle.thread().name().unwrap().to_owned()).collect();
        assert_eq!(names, [1, 2].map(|i| format!("{}{i}", one.names())));
        assert!(names.iter().all(|name| name.len() <= 15), "{names:?}");
    }

    #[test]
    fn each_index_is_worked_on_once() {
        for threads in [1, 2, 3, 7] {
            let workers = Workers::new(threads).unwrap();
            for count in [0, 1, 2, 5, 100] {
                let hits: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                workers.each(threads, count, &|i| {
                    hits[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn many_regions_in_a_row_lose_nothing_whether_workers_sleep_in_between_or_not() {
        let workers = Workers::new(3).unwrap();
        let sum = AtomicUsize::new(0);
        for region in 0..3_000 {
            workers.each(3, 4, &|i| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
            if region % 500 == 0 {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        }
        assert_eq!(sum.load(Ordering::Relaxed), 3_000 * 6);
    }

    #[test]
    fn zeros_are_zeros_at_every_length() {
        let workers = Workers::new(3).unwrap();
        let run = Run::new(&workers);
        for len in [0, 1, 1 << 16, (1 << 16) + 1, 300_001] {
            drop(run.zeros(len).into_iter().map(|x| x + 1.0).collect::<Vec<_>>());
            let zeros = run.zeros(len);
            assert!(zeros.len() == len && zeros.iter().all(|x| *x == 0.0));
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let workers = Workers::new(3).unwrap();
        let fails = catch_unwind(AssertUnwindSafe(|| workers.each(3, 50, &|i| assert_ne!(i, 7, "seven"))));
        assert!(fails.is_err());
        let sum = AtomicUsize::new(0);
        workers.each(3, 50, &|_| {
            sum.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(sum.load(Ordering::Relaxed), 50);
    }

    #[test]
    fn a_region_inside_a_region_and_regions_of_two_callers_end() {
        let workers = Workers::new(3).unwrap();
        let sum = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        workers.each(3, 4, &|_| {
                            workers.each(3, 4, &|_| {
                                sum.fetch_add(1, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(sum.load(Ordering::Relaxed), 2 * 200 * 16);
    }
}
