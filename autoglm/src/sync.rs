//! The locks of this crate. The test of the gate compiles `gate.rs` beside others of these names, which try interleavings.

use std::sync::PoisonError;
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};

/// Takes a lock. Nothing panics here while it holds one with its data half changed, so what a panic elsewhere left behind
/// is sound.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until somebody calls.
pub(crate) fn wait<'a, T>(called: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    called.wait(guard).unwrap_or_else(PoisonError::into_inner)
}
