//! Affinity and utilisation clamps of this process' threads, by Linux' own calls.
#![allow(unsafe_code)]

use std::io::{Error, ErrorKind, Result};

use libc::{c_long, c_uint, c_ulong, cpu_set_t, pid_t};

/// Words of a mask of cores: 8192 cores on 64-bit systems, as many as Linux can be built for. A mask shorter than the
/// kernel's own would be refused.
const WORDS: usize = 128;

const BITS: usize = c_ulong::BITS as usize;

type Mask = [c_ulong; WORDS];

/// `SCHED_FLAG_KEEP_ALL`: policy, niceness and priority stay what they are. libc has these for Linux, not for Android.
const KEEP_ALL: u64 = 0x08 | 0x10;

/// `SCHED_FLAG_UTIL_CLAMP_MAX`.
const CLAMP_MAX: u64 = 0x40;

/// What takes a clamp away again, since Linux 5.11.
const RESET: u32 = u32::MAX;

/// The whole of a core, and a clamp that does nothing.
const WHOLE: u32 = 1024;

/// `struct sched_attr` of Linux 5.3, 56 bytes; libc's ends before the clamps.
#[repr(C)]
#[derive(Debug, Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    util_min: u32,
    util_max: u32,
}

const SIZE: u32 = 56;
const _: () = assert!(size_of::<SchedAttr>() == SIZE as usize);

/// The calling thread.
pub(crate) fn own() -> i32 {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

/// A thread of another process is none of ours, and the number of a thread that has ended may be given to one.
fn own_threads_only(tid: pid_t) -> Result<()> {
    // SAFETY: it takes numbers alone, and signal 0 is sent to nobody: the call only looks whether it could be.
    result(unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid() as c_long, c_long::from(tid), 0 as c_long) })
}

/// Cores that a thread may run on, in order.
pub(crate) fn affinity(tid: i32) -> Result<Vec<usize>> {
    own_threads_only(tid)?;
    let mut mask: Mask = [0; WORDS];
    // SAFETY: the mask is as long as is said, is written only there, and any bits are valid in it.
    let got = unsafe { libc::sched_getaffinity(tid, size_of::<Mask>(), mask.as_mut_ptr().cast::<cpu_set_t>()) };
    result(got.into())?;
    Ok((0..WORDS * BITS).filter(|core| mask[core / BITS] >> (core % BITS) & 1 == 1).collect())
}

/// Lets a thread run on these cores alone.
pub(crate) fn pin(tid: i32, cores: &[usize]) -> Result<()> {
    own_threads_only(tid)?;
    let mut mask: Mask = [0; WORDS];
    for core in cores {
        *mask.get_mut(core / BITS).ok_or(ErrorKind::InvalidInput)? |= 1 << (core % BITS);
    }
    // SAFETY: the mask is as long as is said and is only read.
    result(unsafe { libc::sched_setaffinity(tid, size_of::<Mask>(), mask.as_ptr().cast::<cpu_set_t>()) }.into())
}

/// Whether the kernel knows clamps. Asked with a clamp that is beyond the whole, so that nothing changes: who knows
/// clamps calls it invalid, and who does not, unsupported.
pub(crate) fn can_clamp() -> Result<()> {
    match set(own(), WHOLE + 1) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        Err(e) => Err(e),
        Ok(()) => Err(Error::from(ErrorKind::Unsupported)),
    }
}

/// The most of a core, out of 1024, that a thread seems to need.
pub(crate) fn clamp(tid: i32) -> Result<u32> {
    own_threads_only(tid)?;
    let mut attr = SchedAttr::default();
    // SAFETY: the structure has the size that is said, is written only there, and any bits are valid in it.
    let got = unsafe {
        libc::syscall(
            libc::SYS_sched_getattr,
            c_long::from(tid),
            std::ptr::from_mut(&mut attr),
            SIZE as c_uint,
            0 as c_uint,
        )
    };
    result(got)?;
    Ok(attr.util_max)
}

/// Clamps a thread, or takes its clamp away.
pub(crate) fn set_clamp(tid: i32, max: Option<u32>) -> Result<()> {
    own_threads_only(tid)?;
    match max {
        Some(max) => set(tid, max),
        None => set(tid, RESET).or_else(|e| match e.raw_os_error() {
            // Linux before 5.11 knows no taking away.
            Some(libc::EINVAL) => set(tid, WHOLE),
            _ => Err(e),
        }),
    }
}

fn set(tid: i32, util_max: u32) -> Result<()> {
    let attr = SchedAttr { size: SIZE, flags: KEEP_ALL | CLAMP_MAX, util_max, ..SchedAttr::default() };
    // SAFETY: the structure has the size that it says and is only read.
    result(unsafe { libc::syscall(libc::SYS_sched_setattr, c_long::from(tid), std::ptr::from_ref(&attr), 0 as c_uint) })
}

fn result(returned: c_long) -> Result<()> {
    if returned < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_pinned_and_let_go() {
        let thread = std::thread::spawn(|| {
            let before = affinity(own()).unwrap();
            assert!(!before.is_empty());
            pin(own(), &before[..1]).unwrap();
            assert_eq!(affinity(own()).unwrap(), before[..1]);
            pin(own(), &before).unwrap();
            assert_eq!(affinity(own()).unwrap(), before);
        });
        thread.join().unwrap();
    }

    #[test]
    fn threads_of_others_are_not_touched() {
        // The first process of the system is never this one.
        for refused in [affinity(1).map(drop), pin(1, &[0]), clamp(1).map(drop), set_clamp(1, None)] {
            assert!(matches!(refused.unwrap_err().raw_os_error(), Some(libc::ESRCH)));
        }
    }

    #[test]
    fn cores_that_no_system_has_are_refused() {
        assert!(pin(own(), &[1 << 20]).is_err());
        assert!(pin(own(), &[]).is_err());
    }

    #[test]
    fn asking_for_clamps_changes_none() {
        let before = clamp(own()).unwrap();
        let can = can_clamp();
        assert_eq!(clamp(own()).unwrap(), before);
        // Either the kernel has clamps, and then takes one, or says that it has none.
        assert_eq!(can.is_ok(), set_clamp(own(), None).is_ok());
    }
}
