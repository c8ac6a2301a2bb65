//! What threads may be asked for: the cores they run on and how much of them they seem to need.

use std::io;

use super::Obstacle;
use crate::os::sched;

/// The whole of a core of the fastest kind, in the kernel's measure of capacity; a clamp of this does nothing.
pub const WHOLE: u32 = 1024;

/// What a scheduler is asked about threads of this process. A test puts something else in the place of [`Kernel`].
///
/// Errors are the system's own: they become an [`Obstacle`] where they are met.
#[expect(clippy::missing_errors_doc, reason = "all fail for whatever reason the system has")]
pub trait Threads: std::fmt::Debug + Send {
    /// The number of the calling thread.
    fn own(&self) -> i32;

    /// Cores that a thread may run on, in order.
    fn affinity(&self, tid: i32) -> io::Result<Vec<usize>>;

    /// Lets a thread run on these cores alone.
    fn pin(&mut self, tid: i32, cores: &[usize]) -> io::Result<()>;

    /// Whether there are clamps at all. Asking changes nothing.
    fn can_clamp(&self) -> io::Result<()>;

    /// The most that a thread seems to need, out of [`WHOLE`].
    fn clamp(&self, tid: i32) -> io::Result<u32>;

    /// Lets a thread seem to need no more than this, out of [`WHOLE`], whatever it uses: a governor that follows need
    /// then chooses no higher clock for its sake. None takes the clamp away.
    ///
    /// The kernel accepts it silently where it has no effect: under another governor than schedutil, under a limit of
    /// the thread's cgroup, or beside a thread without a clamp on the same core. Only the measured speed tells.
    fn set_clamp(&mut self, tid: i32, max: Option<u32>) -> io::Result<()>;
}

/// The kernel that this process runs on; threads of other processes are refused.
///
/// Android's filter of system calls lets applications make these (bionic, `SECCOMP_ALLOWLIST_COMMON.TXT`).
#[derive(Debug, Clone, Copy, Default)]
pub struct Kernel;

impl Threads for Kernel {
    fn own(&self) -> i32 {
        sched::own()
    }

    fn affinity(&self, tid: i32) -> io::Result<Vec<usize>> {
        sched::affinity(tid)
    }

    fn pin(&mut self, tid: i32, cores: &[usize]) -> io::Result<()> {
        sched::pin(tid, cores)
    }

    fn can_clamp(&self) -> io::Result<()> {
        sched::can_clamp()
    }

    fn clamp(&self, tid: i32) -> io::Result<u32> {
        sched::clamp(tid)
    }

    fn set_clamp(&mut self, tid: i32, max: Option<u32>) -> io::Result<()> {
        sched::set_clamp(tid, max)
    }
}

/// What threads had before anybody moved a lever on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Before {
    pub(super) affinity: Option<Vec<usize>>,
    pub(super) clamp: Option<u32>,
}

impl Before {
    /// What a thread has now; none of what the system does not tell.
    pub(super) fn of(threads: &dyn Threads, tid: i32) -> Self {
        Self { affinity: threads.affinity(tid).ok(), clamp: threads.clamp(tid).ok() }
    }

    /// Gives a thread back its clamp, which the kernel does not tell apart from none where it is whole.
    pub(super) fn unclamp(&self, threads: &mut dyn Threads, tid: i32) -> io::Result<()> {
        match self.clamp {
            Some(max) => threads.set_clamp(tid, Some(max).filter(|max| *max < WHOLE)),
            None => Ok(()),
        }
    }

    /// Gives a thread back its cores.
    pub(super) fn unpin(&self, threads: &mut dyn Threads, tid: i32) -> io::Result<()> {
        match &self.affinity {
            Some(cores) => threads.pin(tid, cores),
            None => Ok(()),
        }
    }
}

/// Whether an error means that the thread has ended.
pub(super) fn has_ended(error: &io::Error) -> bool {
    Obstacle::from(error) == Obstacle::Ended
}
