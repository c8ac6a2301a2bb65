//! The locks of the pool. The unit tests of this crate run on a scheduler that tries interleavings, and
//! so take their locks from it.

use std::sync::PoisonError;

#[cfg(not(test))]
pub(crate) use std::sync::{Mutex, MutexGuard};

#[cfg(test)]
pub(crate) use shuttle::sync::{Mutex, MutexGuard};

/// Takes a lock. No code of this crate panics while it holds one with its data half changed, so what a
/// panic elsewhere left behind is sound.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
