//! What a signal would do to this process.
#![allow(unsafe_code)]

/// Whether a signal ends the process, because nobody handles it and nobody has it ignored, as `nohup` has.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn is_default(signal: i32) -> bool {
    // SAFETY: all bits zero are a valid value of the structure, a number and addresses that nobody follows.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: no new action is given, and the present one is written to a structure of the right type.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &mut now) };
    asked == 0 && now.sa_sigaction == libc::SIG_DFL
}

/// Whether a signal ends the process; taken for true where nothing tells.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn is_default(_: i32) -> bool {
    true
}
