//! Calls to the operating system that the standard library has no word for: the only `unsafe` of this crate.

#[cfg(unix)]
pub(crate) mod disposition;
pub(crate) mod lock;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) mod sched;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[path = "os/no_sched.rs"]
pub(crate) mod sched;
// Also built for tests, which prove that a device without these functions goes on without them.
#[cfg(any(target_os = "android", all(test, target_os = "linux")))]
pub(crate) mod android;
