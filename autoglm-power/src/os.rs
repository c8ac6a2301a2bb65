//! Calls to the operating system that the standard library has no word for: the only `unsafe` of this crate.

// Also built for tests, which prove that a device without these functions goes on without them.
#[cfg(any(target_os = "android", all(test, target_os = "linux")))]
pub(crate) mod android;
