//! Ways of ending that run no destructors: signals, and panics that abort.

use std::sync::{Arc, Mutex, Once, PoisonError, TryLockError, Weak};

use super::knobs::{Held, Knobs};
use crate::{Error, Result};

/// All that is put back together: one that ended the process alone would leave the others.
type Together = Mutex<Vec<Weak<Mutex<Held>>>>;

#[cfg(unix)]
static ON_SIGNAL: Together = Mutex::new(Vec::new());

static ON_PANIC: Together = Mutex::new(Vec::new());

impl Knobs {
    /// Puts everything back when the process is told to end by `SIGTERM`, `SIGINT` or `SIGHUP`, and then lets it end as
    /// the signal would have. A thread waits for them until the process ends.
    ///
    /// A signal that is ignored, as under `nohup`, stays so. One that somebody handles is theirs: it does not end the
    /// process, and whoever handles it drops these knobs. So handlers of your own are installed before this is called.
    ///
    /// # Errors
    /// [`Error::Signals`] where the system has no signals or does not let anybody listen.
    #[cfg(unix)]
    pub fn restore_on_signals(&self) -> Result<()> {
        static LISTENS: Mutex<bool> = Mutex::new(false);
        let mut listens = LISTENS.lock().unwrap_or_else(PoisonError::into_inner);
        if !*listens {
            listen().map_err(|source| Error::Signals { source })?;
            *listens = true;
        }
        join(&ON_SIGNAL, self);
        Ok(())
    }

    /// Would put everything back on a signal; there are none here.
    ///
    /// # Errors
    /// [`Error::Signals`], always.
    #[cfg(not(unix))]
    pub fn restore_on_signals(&self) -> Result<()> {
        Err(Error::Signals { source: std::io::Error::from(std::io::ErrorKind::Unsupported) })
    }

    /// Puts everything back on any panic, before the hook that was there reports it.
    ///
    /// For programs that abort on panics: where panics unwind, the owner is dropped anyway, and a panic that somebody
    /// catches need not change anything.
    pub fn restore_on_panic(&self) {
        static HOOKED: Once = Once::new();
        join(&ON_PANIC, self);
        HOOKED.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                for held in members(&ON_PANIC) {
                    // Whoever panicked may hold it.
                    match held.try_lock() {
                        Ok(mut held) => held.restore(),
                        Err(TryLockError::Poisoned(held)) => held.into_inner().restore(),
                        Err(TryLockError::WouldBlock) => {}
                    }
                }
                before(info);
            }));
        });
    }
}

fn join(together: &Together, knobs: &Knobs) {
    let mut members = together.lock().unwrap_or_else(PoisonError::into_inner);
    members.retain(|member| member.strong_count() > 0);
    let held = Arc::downgrade(&knobs.held);
    if !members.iter().any(|member| member.ptr_eq(&held)) {
        members.push(held);
    }
}

fn members(together: &Together) -> Vec<Arc<Mutex<Held>>> {
    together.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
}

#[cfg(unix)]
fn listen() -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    let (tell, told) = std::sync::mpsc::channel();
    // The thread comes first: a signal that is caught and that nobody waits for would no longer end the process.
    std::thread::Builder::new().name("knobs".to_owned()).spawn(move || {
        let ending = [SIGTERM, SIGINT, SIGHUP].into_iter().filter(|signal| crate::os::disposition::is_default(*signal));
        let mut signals = match Signals::new(ending) {
            Ok(signals) => signals,
            Err(error) => return tell.send(Err(error)).unwrap_or_default(),
        };
        // Whoever started this thread waits for the answer.
        let _ = tell.send(Ok(()));
        for signal in signals.forever() {
            let members = members(&ON_SIGNAL);
            // They stay locked, so that nobody changes anything before the end.
            let mut held: Vec<std::sync::MutexGuard<'_, Held>> =
                members.iter().map(|held| held.lock().unwrap_or_else(PoisonError::into_inner)).collect();
            for held in &mut held {
                held.restore();
            }
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    })?;
    told.recv().unwrap_or_else(|_| Err(std::io::Error::other("the thread that listens is gone")))
}
