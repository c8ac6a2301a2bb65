//! A lock on a file that the kernel lets go of when its process dies, however it dies.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::Result;

/// Whether nobody else holds it. It is held until the file is closed.
///
/// The standard library locks no files on Android, whose kernel does.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn try_lock(file: &File) -> Result<bool> {
    use std::os::fd::AsRawFd as _;
    // SAFETY: it takes numbers alone, and the descriptor is open as long as `file` is borrowed.
    match unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } {
        0 => Ok(true),
        _ => match std::io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::EWOULDBLOCK) => Ok(false),
            e => Err(e),
        },
    }
}

/// Whether nobody else holds it. It is held until the file is closed.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn try_lock(file: &File) -> Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(std::fs::TryLockError::WouldBlock) => Ok(false),
        Err(std::fs::TryLockError::Error(e)) => Err(e),
    }
}
