//! A scheduler of threads that are only numbers.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::levers::{Threads, WHOLE};

/// Cores and clamps of each thread.
type State = BTreeMap<i32, (Vec<usize>, u32)>;

#[derive(Debug, Clone)]
pub(crate) struct Scheduler {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    no_clamps: Option<ErrorKind>,
    fail_clamps: bool,
    mute: bool,
}

const NO_SUCH_THREAD: i32 = 3;

impl Scheduler {
    pub(crate) const OWN: i32 = 10;

    /// Threads that may run anywhere on a phone, the first under a clamp of its own.
    pub(crate) fn new(tids: &[i32]) -> Self {
        let thread = |(idx, tid): (usize, &i32)| (*tid, ((0..8).collect(), if idx == 0 { 900 } else { WHOLE }));
        let mut state: State = tids.iter().enumerate().map(thread).collect();
        if !tids.is_empty() {
            state.entry(Self::OWN).or_insert(((0..8).collect(), WHOLE));
        }
        Self { inner: Arc::new(Mutex::new(Inner { state, no_clamps: None, fail_clamps: false, mute: false })) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub(crate) fn without_clamps(&self, kind: ErrorKind) {
        self.inner().no_clamps = Some(kind);
    }

    pub(crate) fn fail_clamps(&self, fail: bool) {
        self.inner().fail_clamps = fail;
    }

    /// Tells nothing about any thread, as a filter of system calls may have it.
    pub(crate) fn mute(&self) {
        self.inner().mute = true;
    }

    pub(crate) fn end(&self, tid: i32) {
        self.inner().state.remove(&tid);
    }

    pub(crate) fn state(&self) -> State {
        self.inner().state.clone()
    }

    pub(crate) fn of(&self, tid: i32) -> (Vec<usize>, u32) {
        self.inner().state[&tid].clone()
    }
}

fn ended() -> Error {
    Error::from_raw_os_error(NO_SUCH_THREAD)
}

impl Threads for Scheduler {
    fn own(&self) -> i32 {
        Self::OWN
    }

    fn affinity(&self, tid: i32) -> Result<Vec<usize>> {
        let inner = self.inner();
        match inner.state.get(&tid) {
            _ if inner.mute => Err(ErrorKind::PermissionDenied.into()),
            thread => thread.map(|(cores, _)| cores.clone()).ok_or_else(ended),
        }
    }

    fn pin(&mut self, tid: i32, cores: &[usize]) -> Result<()> {
        assert!(!cores.is_empty());
        self.inner().state.get_mut(&tid).ok_or_else(ended)?.0 = cores.to_vec();
        Ok(())
    }

    fn can_clamp(&self) -> Result<()> {
        self.inner().no_clamps.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn clamp(&self, tid: i32) -> Result<u32> {
        self.inner().state.get(&tid).map(|(_, clamp)| *clamp).ok_or_else(ended)
    }

    fn set_clamp(&mut self, tid: i32, max: Option<u32>) -> Result<()> {
        self.can_clamp()?;
        let mut inner = self.inner();
        // Only what asks for something fails: a permission that is taken away leaves clamps that nobody can take off.
        if inner.fail_clamps && max.is_some() {
            return Err(ErrorKind::PermissionDenied.into());
        }
        inner.state.get_mut(&tid).ok_or_else(ended)?.1 = max.unwrap_or(WHOLE);
        Ok(())
    }
}
