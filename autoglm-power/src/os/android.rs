//! Functions of Android's `libandroid.so`, looked up at run time: which of them are there depends on the version of Android
//! that a phone runs, and none is needed to run on it.

// They are C functions.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_void};
use std::io;
use std::ptr::NonNull;
use std::time::Duration;

const LIBANDROID: &CStr = c"libandroid.so";

/// A loaded library, which stays loaded until the process ends, so that its functions can be called at any time.
#[derive(Debug, Clone, Copy)]
struct Library(NonNull<c_void>);

impl Library {
    fn load(name: &CStr) -> Option<Self> {
        // SAFETY: `name` ends in a zero byte and outlives the call. Loading runs the library's constructors: Android's own
        // library is already in every app's process, and other names are only given by tests.
        NonNull::new(unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) }).map(Self)
    }

    /// The function of a name; none in versions that lack it.
    ///
    /// # Safety
    /// `F` must be a function pointer, of the type that the library gives this name.
    unsafe fn function<F: Copy>(self, name: &CStr) -> Option<F> {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
        // SAFETY: the handle is of a library that is never closed, and `name` ends in a zero byte.
        let address = NonNull::new(unsafe { libc::dlsym(self.0.as_ptr(), name.as_ptr()) })?;
        // SAFETY: `F` is a pointer to a function of this type, as the caller promises, and as long as an address.
        Some(unsafe { std::mem::transmute_copy::<NonNull<c_void>, F>(&address) })
    }
}

type Release = unsafe extern "C" fn(*mut c_void);
type HeadroomIn = unsafe extern "C" fn(*mut c_void, c_int) -> f32;
type Status = unsafe extern "C" fn(*mut c_void) -> c_int;

/// Android's `AThermalManager`.
#[derive(Debug)]
pub(crate) struct ThermalManager {
    manager: NonNull<c_void>,
    headroom: Option<HeadroomIn>,
    status: Status,
    release: Release,
}

// SAFETY: the manager is memory of its own in front of the binder's proxy of a system service; neither belongs to the thread
// that acquired it. All methods take `&mut self`, so that no two threads use it at once.
unsafe impl Send for ThermalManager {}

impl ThermalManager {
    /// None before Android 11 (API level 30), and elsewhere than on Android.
    pub(crate) fn acquire() -> Option<Self> {
        let library = Library::load(LIBANDROID)?;
        // SAFETY: the types are those of `android/thermal.h`.
        let (acquire, status, release) = unsafe {
            (
                library.function::<unsafe extern "C" fn() -> *mut c_void>(c"AThermal_acquireManager")?,
                library.function::<Status>(c"AThermal_getCurrentThermalStatus")?,
                library.function::<Release>(c"AThermal_releaseManager")?,
            )
        };
        // SAFETY: the type is that of `android/thermal.h`.
        let headroom = unsafe { library.function::<HeadroomIn>(c"AThermal_getThermalHeadroom") };
        // SAFETY: the function takes nothing, and answers null where it fails.
        let manager = NonNull::new(unsafe { acquire() })?;
        Some(Self { manager, headroom, status, release })
    }

    /// `AThermal_getThermalHeadroom`, which is NaN where it is not known, and here also before Android 12 (API level 31).
    pub(crate) fn headroom(&mut self, forecast_s: c_int) -> f32 {
        // SAFETY: the manager was acquired and is not released before it is dropped.
        self.headroom.map_or(f32::NAN, |headroom| unsafe { headroom(self.manager.as_ptr(), forecast_s) })
    }

    /// `AThermal_getCurrentThermalStatus`: from 0, none, over 3, severe, to 6, shutting down; -1 where it fails.
    pub(crate) fn status(&mut self) -> c_int {
        // SAFETY: the manager was acquired and is not released before it is dropped.
        unsafe { (self.status)(self.manager.as_ptr()) }
    }
}

impl Drop for ThermalManager {
    fn drop(&mut self) {
        // SAFETY: the manager was acquired, is released here alone, and nobody has it afterwards.
        unsafe { (self.release)(self.manager.as_ptr()) }
    }
}

type CreateSession = unsafe extern "C" fn(*mut c_void, *const i32, usize, i64) -> *mut c_void;
type TellDuration = unsafe extern "C" fn(*mut c_void, i64) -> c_int;
type CloseSession = unsafe extern "C" fn(*mut c_void);

/// A session of Android's `APerformanceHint`: it is told how long a piece of work should take and how long each took, and
/// gives the threads that do it as high a clock and as large a core as that needs, and no more.
#[derive(Debug)]
pub struct HintSession {
    session: NonNull<c_void>,
    update_target: TellDuration,
    report_actual: TellDuration,
    close: CloseSession,
}

// SAFETY: the session is memory of its own in front of the binder's proxy of a system service; neither belongs to the thread
// that created it. All methods take `&mut self`, so that no two threads use it at once.
unsafe impl Send for HintSession {}

impl HintSession {
    /// A session over threads of this process, by their system-wide ids, whose work should take `target`. None before
    /// Android 13 (API level 33), on phones without hints, without threads, and elsewhere than on Android.
    #[must_use]
    pub fn open(threads: &[i32], target: Duration) -> Option<Self> {
        let library = Library::load(LIBANDROID).filter(|_| !threads.is_empty())?;
        // SAFETY: the types are those of `android/performance_hint.h`.
        let (manager, create, update_target, report_actual, close) = unsafe {
            (
                library.function::<unsafe extern "C" fn() -> *mut c_void>(c"APerformanceHint_getManager")?,
                library.function::<CreateSession>(c"APerformanceHint_createSession")?,
                library.function::<TellDuration>(c"APerformanceHint_updateTargetWorkDuration")?,
                library.function::<TellDuration>(c"APerformanceHint_reportActualWorkDuration")?,
                library.function::<CloseSession>(c"APerformanceHint_closeSession")?,
            )
        };
        // SAFETY: the function takes nothing. What it answers is one for the whole process, and never released.
        let manager = NonNull::new(unsafe { manager() })?;
        // SAFETY: the manager is valid, and the threads are as many as told and are copied by the call.
        let session = unsafe { create(manager.as_ptr(), threads.as_ptr(), threads.len(), nanoseconds(target)) };
        NonNull::new(session).map(|session| Self { session, update_target, report_actual, close })
    }

    /// Says how long a piece of work should take from now on.
    ///
    /// # Errors
    /// When the system's service cannot be reached.
    pub fn update_target(&mut self, target: Duration) -> io::Result<()> {
        self.tell(self.update_target, target)
    }

    /// Says how long the last piece of work took.
    ///
    /// # Errors
    /// When the system's service cannot be reached.
    pub fn report_actual(&mut self, actual: Duration) -> io::Result<()> {
        self.tell(self.report_actual, actual)
    }

    fn tell(&mut self, function: TellDuration, duration: Duration) -> io::Result<()> {
        // SAFETY: the session was created and is not closed before it is dropped.
        match unsafe { function(self.session.as_ptr(), nanoseconds(duration)) } {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(code.saturating_abs())),
        }
    }
}

impl Drop for HintSession {
    fn drop(&mut self) {
        // SAFETY: the session was created, is closed here alone, and nobody has it afterwards.
        unsafe { (self.close)(self.session.as_ptr()) }
    }
}

/// A duration as hints take it: at least a nanosecond, since zero is refused.
fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_not_there_is_none() {
        assert!(Library::load(c"libautoglm-no-such-library.so").is_none());
        if cfg!(not(target_os = "android")) {
            assert!(ThermalManager::acquire().is_none());
            let session = HintSession::open(&[1], Duration::from_millis(50));
            assert!(session.is_none_or(|mut session| {
                session.update_target(Duration::ZERO).and(session.report_actual(Duration::MAX)).is_ok()
            }));
        }
    }

    #[test]
    fn functions_are_found_by_name_and_can_be_called() {
        let library = Library::load(if cfg!(target_os = "android") { c"libc.so" } else { c"libc.so.6" });
        let Some(library) = library else { return };
        // SAFETY: this is the type of `getpid`, and no function of the other name exists to be called.
        let (pid, none) = unsafe {
            let getpid = library.function::<unsafe extern "C" fn() -> c_int>(c"getpid").unwrap();
            (getpid(), library.function::<unsafe extern "C" fn()>(c"autoglm_no_such_function"))
        };
        assert_eq!(u32::try_from(pid), Ok(std::process::id()));
        assert!(none.is_none());
    }

    #[test]
    fn a_duration_is_positive_and_fits() {
        assert_eq!(nanoseconds(Duration::ZERO), 1);
        assert_eq!(nanoseconds(Duration::from_millis(2)), 2_000_000);
        assert_eq!(nanoseconds(Duration::MAX), i64::MAX);
    }
}
