//! Files of the kernel that were changed, and how each gets back what it held.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::journal::{Entry, Journal};
use super::knob::{CPUFREQ, HWMON, Knob, MANUAL, THERMAL};
use super::{Complaint, Obstacle};
use crate::{Error, Result, Tree};

/// Changes files of the kernel, and puts back what they held: when it is dropped, on request when a signal ends the
/// process or it panics, and otherwise, as after `SIGKILL` or [`std::process::exit`], when the next one is opened on the
/// same journal.
///
/// What somebody else wrote in between is left as they want it. One process at a time holds a journal; a device should
/// have one, since processes with different ones know nothing of each other. It has to outlive the process and not the
/// system, whose start resets all knobs; `/run` is a place for it. Whoever can write there can have these knobs, and no
/// other files, changed, so it should belong to the same user as the process.
#[derive(Debug)]
pub struct Knobs {
    pub(super) held: Arc<Mutex<Held>>,
}

impl Knobs {
    /// Holds the journal at `journal` and puts back what an owner that was killed left changed.
    ///
    /// Whatever of that is gone or cannot be written stays in the journal, and [`Knobs::take_complaints`] tells.
    ///
    /// # Errors
    /// - [`Error::Busy`] where another process that lives holds it.
    /// - [`Error::Journal`] for a journal that is damaged or names what may not be written.
    /// - [`Error::Read`] and [`Error::Write`] where its folder is not to be read or written.
    pub fn open(tree: Tree, journal: impl Into<PathBuf>) -> Result<Self> {
        let boot = tree.text("proc/sys/kernel/random/boot_id").ok().flatten();
        let journal = Journal::hold(journal.into(), boot)?;
        let entries = journal.left()?;
        let mut held = Held { tree, journal, entries, complaints: Vec::new() };
        if held.entries.is_empty() {
            // It may be from another boot.
            held.journal.keep(&[])?;
        }
        held.restore();
        Ok(Self { held: Arc::new(Mutex::new(held)) })
    }

    /// All knobs that are there, whether or not they can be written.
    #[must_use]
    pub fn list(tree: &Tree) -> Vec<Knob> {
        let numbers = |folder: &str, prefix: &str| -> Vec<u32> {
            let names = tree.names(folder).unwrap_or_default();
            names.iter().filter_map(|name| name.strip_prefix(prefix)?.parse().ok()).collect()
        };
        let mut knobs = Vec::new();
        for policy in numbers(CPUFREQ, "policy") {
            knobs.extend([Knob::Cap { policy }, Knob::Governor { policy }]);
        }
        knobs.extend(numbers(THERMAL, "cooling_device").into_iter().map(|device| Knob::Cooling { device }));
        for hwmon in numbers(HWMON, "hwmon") {
            let channels = numbers(&format!("{HWMON}/hwmon{hwmon}"), "pwm");
            knobs.extend(
                channels
                    .into_iter()
                    .flat_map(|channel| [Knob::FanMode { hwmon, channel }, Knob::Fan { hwmon, channel }]),
            );
        }
        knobs.retain(|knob| tree.path(&knob.path()).exists());
        knobs
    }

    /// Whether a knob could be written. Asking changes nothing.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn probe(tree: &Tree, knob: Knob) -> std::result::Result<(), Obstacle> {
        let path = tree.path(&knob.path());
        let kind = std::fs::metadata(&path).map_err(|e| Obstacle::from(&e))?;
        // The superuser may open anything, and sysfs then refuses to write what has no writer.
        if kind.permissions().readonly() {
            return Err(Obstacle::Denied);
        }
        OpenOptions::new().write(true).open(&path).map(drop).map_err(|e| Obstacle::from(&e))
    }

    /// What is changed now, in the order in which it was.
    #[must_use]
    pub fn changed(&self) -> Vec<Knob> {
        self.held().entries.iter().map(|entry| entry.knob).collect()
    }

    /// Puts one knob back, if it was changed: a fan with its mode.
    pub fn put_back(&self, knob: Knob) {
        self.held().put_back(knob);
    }

    /// Puts everything back, the last change first.
    pub fn restore(&self) {
        self.held().restore();
    }

    /// What could not be put back since the last time, each once.
    #[must_use]
    pub fn take_complaints(&self) -> Vec<Complaint> {
        std::mem::take(&mut self.held().complaints)
    }

    /// After a panic elsewhere the entries are still what they were: they change only around what succeeded.
    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Knobs {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Whether an entry is done with.
enum Back {
    Done,
    Not(Complaint),
    Never(Complaint),
}

/// How often a file is looked at again that does not yet hold what was written.
const LOOKS: usize = 5;

/// How long in between: a cap takes effect in a work queue of the kernel's.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(super) struct Held {
    pub(super) tree: Tree,
    journal: Journal,
    /// In the order of the changes.
    entries: Vec<Entry>,
    complaints: Vec<Complaint>,
}

impl Held {
    /// Changes a knob to a value that was checked, journal first.
    pub(super) fn set(&mut self, knob: Knob, value: &str) -> Result<()> {
        let path = knob.path();
        let unwritten = |kind: ErrorKind| Error::Write { path: self.tree.path(&path), source: kind.into() };
        let now = self.tree.text(&path)?.ok_or_else(|| unwritten(ErrorKind::NotFound))?;
        if let Err(Obstacle::Denied) = Knobs::probe(&self.tree, knob) {
            return Err(unwritten(ErrorKind::PermissionDenied));
        }
        let throttled = matches!(knob, Knob::Cap { .. }) && self.throttled();
        let known = self.entries.iter().position(|entry| entry.knob == knob);
        let ours = known.filter(|idx| self.entries[*idx].is_ours(&now, throttled));
        let original = match ours {
            Some(idx) if now == value && self.entries[idx].asked == value => return Ok(()),
            Some(idx) => self.entries[idx].original.clone(),
            None if throttled => {
                return Err(Error::Refused {
                    path: self.tree.path(&path),
                    value: value.to_owned(),
                    why: "the kernel throttles, and what was set before cannot be told from that",
                });
            }
            None => now.clone(),
        };
        if !knob.takes(&original) {
            return Err(Error::Content {
                path: self.tree.path(&path),
                got: original.chars().take(40).collect(),
                why: "could not be put back",
            });
        }
        let before = self.entries.clone();
        let entry = Entry { knob, original, asked: value.to_owned(), found: None };
        match (ours, known) {
            (Some(idx), _) => self.entries[idx] = entry,
            (None, known) => {
                if let Some(idx) = known {
                    self.entries.remove(idx);
                    self.complain(Complaint::Changed { path: path.clone() });
                }
                if now == value {
                    // As somebody else wants it already, so there is nothing to put back.
                    return self.journal.keep(&self.entries);
                }
                self.entries.push(entry);
            }
        }
        if let Err(error) = self.journal.keep(&self.entries) {
            self.entries = before;
            return Err(error);
        }
        let written = self.tree.write(&path, value);
        let found = self.look(&path, value);
        if written.is_err() && found.as_ref().is_none_or(|found| *found == now) {
            self.entries = before;
            // What is on the disk instead says that this was about to be written, which nobody minds.
            let _ = self.journal.keep(&self.entries);
            return written;
        }
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.knob == knob) {
            // What the kernel holds and no journal can is left open, as if nobody had looked.
            entry.found = found.filter(|found| knob.takes(found));
        }
        if let Err(error) = self.journal.keep(&self.entries) {
            self.put_back(knob);
            return Err(error);
        }
        written
    }

    /// What a file holds some time after it was written; none where it tells nothing.
    fn look(&self, path: &str, value: &str) -> Option<String> {
        let mut found = None;
        for look in 0..LOOKS {
            if look > 0 {
                std::thread::sleep(LOOK_AGAIN);
            }
            found = self.tree.text(path).ok().flatten();
            if found.as_deref() == Some(value) {
                break;
            }
        }
        found
    }

    /// Puts a knob back; a fan's speed and mode together, since either is nothing without the other.
    pub(super) fn put_back(&mut self, knob: Knob) {
        let together = match knob {
            Knob::Fan { hwmon, channel } | Knob::FanMode { hwmon, channel } => {
                [Knob::Fan { hwmon, channel }, Knob::FanMode { hwmon, channel }]
            }
            knob => [knob, knob],
        };
        self.put_back_where(|entry| together.contains(&entry.knob));
    }

    pub(super) fn restore(&mut self) {
        self.put_back_where(|_| true);
    }

    fn put_back_where(&mut self, is_meant: impl Fn(&Entry) -> bool) {
        if !self.entries.iter().any(&is_meant) {
            return;
        }
        for idx in (0..self.entries.len()).rev() {
            if !is_meant(&self.entries[idx]) {
                continue;
            }
            match self.put_back_one(&self.entries[idx]) {
                Back::Done => {
                    self.entries.remove(idx);
                }
                Back::Never(complaint) => {
                    self.entries.remove(idx);
                    self.complain(complaint);
                }
                Back::Not(complaint) => self.complain(complaint),
            }
        }
        if let Err(Error::Write { path, source }) = self.journal.keep(&self.entries) {
            let obstacle = Obstacle::from(&source);
            self.complain(Complaint::Stuck { path: path.display().to_string(), obstacle });
        }
    }

    fn put_back_one(&self, entry: &Entry) -> Back {
        let path = entry.knob.path();
        let stuck = |obstacle| Back::Not(Complaint::Stuck { path: path.clone(), obstacle });
        let now = match self.tree.text(&path) {
            Ok(Some(now)) => now,
            Ok(None) => return Back::Not(Complaint::Vanished { path }),
            Err(error) => return stuck(obstacle(&error)),
        };
        let is_cap = matches!(entry.knob, Knob::Cap { .. });
        if now == entry.original {
            if is_cap && entry.asked != entry.original {
                // It may only read so because the kernel throttles just there.
                let _ = self.tree.write(&path, &entry.original);
            }
            return Back::Done;
        }
        if !entry.is_ours(&now, is_cap && self.throttled()) || self.turns_by_itself(entry.knob) {
            return Back::Never(Complaint::Changed { path });
        }
        if let Err(obstacle) = Knobs::probe(&self.tree, entry.knob) {
            return stuck(obstacle);
        }
        match self.tree.write(&path, &entry.original) {
            Ok(()) => Back::Done,
            Err(error) => stuck(obstacle(&error)),
        }
    }

    /// Whether a fan was given back to its controller by somebody else, who then writes its speed.
    fn turns_by_itself(&self, knob: Knob) -> bool {
        let Knob::Fan { hwmon, channel } = knob else { return false };
        let mode = self.tree.text(&Knob::FanMode { hwmon, channel }.path());
        matches!(mode, Ok(Some(mode)) if mode != MANUAL)
    }

    /// Whether the kernel itself holds a clock down. A cap then reads as the lower of what was written and what the
    /// kernel wants (`policy->max` of cpufreq), so that nobody can tell what was written.
    fn throttled(&self) -> bool {
        let devices = self.tree.names(THERMAL).unwrap_or_default();
        devices.iter().filter(|name| name.starts_with("cooling_device")).any(|name| {
            let says = |file: &str| self.tree.text(&format!("{THERMAL}/{name}/{file}")).ok().flatten();
            let is_processor = |kind: String| kind.contains("cpufreq") || kind == "Processor";
            says("type").is_some_and(is_processor) && says("cur_state").is_some_and(|state| state != "0")
        })
    }

    fn complain(&mut self, complaint: Complaint) {
        if !self.complaints.contains(&complaint) {
            self.complaints.push(complaint);
        }
    }

    /// As if the process had been killed: nothing is put back, and the journal stays.
    #[cfg(test)]
    pub(super) fn die(&mut self) {
        self.entries.clear();
    }
}

/// What an error of a [`Tree`] says about a file.
pub(super) fn obstacle(error: &Error) -> Obstacle {
    match error {
        Error::Read { source, .. } | Error::Write { source, .. } => Obstacle::from(source),
        // Without the value, of which there are many for one reason.
        Error::Refused { why, .. } => Obstacle::Other((*why).to_owned()),
        error => Obstacle::Other(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
