//! What was changed, on disk before it is changed, so that whoever comes after a killed process can put it back.
//!
//! ```text
//! autoglm knobs 1
//! boot 0f4c0ac4-5d2c-4f4b-9d54-6f3f0b1d2c3a
//! sys/devices/system/cpu/cpufreq/policy4/scaling_max_freq 2253000 1197000 1197000
//! sys/class/hwmon/hwmon0/pwm1_enable 2 1 -
//! end 2 5c4f1d1f6c1d0b1a
//! ```
//!
//! Each line is a file, what it held, what was asked of it, and what it was found to hold afterwards, or a dash as long
//! as nobody looked. The file is replaced as a whole, so that the one before is there until this one is.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::knob::Knob;
use crate::os::lock;
use crate::{Error, Result};

const FIRST: &str = "autoglm knobs 1";

/// What stands for something that nobody knows.
const UNKNOWN: &str = "-";

/// No device has as many knobs as fit in here.
const MOST_BYTES: u64 = 64 * 1024;

/// A knob that was changed, or is about to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) knob: Knob,
    /// What is put back.
    pub(super) original: String,
    /// What was written.
    pub(super) asked: String,
    /// What was there afterwards, which the kernel may have rounded or clamped; none until somebody looked.
    pub(super) found: Option<String>,
}

impl Entry {
    /// Whether what a knob holds now is there because it was written here.
    ///
    /// `throttled` says that the kernel itself holds clocks down: a cap then reads as whichever of the two is lower.
    pub(super) fn is_ours(&self, now: &str, throttled: bool) -> bool {
        // No knob of the kernel reads as nothing: this is a write to something else that was cut short.
        if now.is_empty() || now == self.asked {
            return true;
        }
        match (&self.found, self.knob) {
            // A process that died between writing and looking leaves what the kernel made of it, and nobody else had
            // more than that instant for a change.
            (None, _) => true,
            (Some(found), _) if now == found => true,
            (Some(_), Knob::Cap { .. }) if throttled => {
                matches!((now.parse::<u32>(), self.asked.parse::<u32>()), (Ok(now), Ok(asked)) if now < asked)
            }
            _ => false,
        }
    }
}

/// The journal of one process, held by a lock that its death lets go of.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    /// The kernel's name for the time since it was started; none where it gives none.
    boot: Option<String>,
    _lock: File,
}

impl Journal {
    /// Holds the journal at `path` against all other processes.
    pub(super) fn hold(path: PathBuf, boot: Option<String>) -> Result<Self> {
        let lock_path = path.with_added_extension("lock");
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
        let free = opened.and_then(|file| Ok((lock::try_lock(&file)?, file)));
        match free {
            Ok((true, lock)) => Ok(Self { path, boot: boot.filter(|boot| is_boot(boot)), _lock: lock }),
            Ok((false, _)) => Err(Error::Busy { path: lock_path }),
            Err(source) => Err(Error::Write { path: lock_path, source }),
        }
    }

    /// What an owner that died has left behind; nothing where the kernel was started anew since, which reset all knobs.
    pub(super) fn left(&self) -> Result<Vec<Entry>> {
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes));
        match read {
            Ok(_) => self.parse(&bytes),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(Error::Read { path: self.path.clone(), source }),
        }
    }

    fn parse(&self, bytes: &[u8]) -> Result<Vec<Entry>> {
        let wrong = |line: usize, got: &str, why| {
            Err(Error::Journal { path: self.path.clone(), line, got: got.chars().take(80).collect(), why })
        };
        if bytes.len() as u64 > MOST_BYTES {
            return wrong(1, "", "begins more than a journal can hold");
        }
        let Ok(text) = std::str::from_utf8(bytes) else { return wrong(1, "", "is no text") };
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let line = |idx: usize| lines.get(idx).copied().unwrap_or_default();
        if line(0).strip_suffix('\n') != Some(FIRST) {
            return wrong(1, line(0), "begins no journal of this version");
        }
        let boot = line(1).strip_prefix("boot ").and_then(|rest| rest.strip_suffix('\n'));
        let Some(boot) = boot.filter(|boot| *boot == UNKNOWN || is_boot(boot)) else {
            return wrong(2, line(1), "names no boot");
        };
        if self.boot.as_deref().is_some_and(|now| boot != UNKNOWN && boot != now) {
            return Ok(Vec::new());
        }
        let last = lines.len() - 1;
        let before: usize = lines[..last].iter().map(|line| line.len()).sum();
        if last < 2 || line(last) != end(&text[..before], last - 2) {
            return wrong(last + 1, line(last), "does not end it as it should: it is damaged or cut short");
        }
        let mut entries: Vec<Entry> = Vec::new();
        for (idx, line) in lines[..last].iter().enumerate().skip(2) {
            let fields: Vec<&str> = line.trim_end_matches('\n').split(' ').collect();
            let [path, original, asked, found] = fields[..] else {
                return wrong(idx + 1, line, "has not four fields");
            };
            let Some(knob) = Knob::at(path) else { return wrong(idx + 1, line, "names no file that may be written") };
            let found = Some(found).filter(|found| *found != UNKNOWN);
            if [Some(original), Some(asked), found].into_iter().flatten().any(|value| !knob.takes(value)) {
                return wrong(idx + 1, line, "has a value that its file cannot have");
            }
            if entries.iter().any(|entry| entry.knob == knob) {
                return wrong(idx + 1, line, "names a file for the second time");
            }
            let (original, asked, found) = (original.to_owned(), asked.to_owned(), found.map(str::to_owned));
            entries.push(Entry { knob, original, asked, found });
        }
        Ok(entries)
    }

    /// Brings the entries to the disk, or removes the journal where there are none.
    pub(super) fn keep(&self, entries: &[Entry]) -> Result<()> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let written = match entries {
            [] => absent(&self.path).and_then(|()| absent(&self.unfinished())),
            _ => self.replace(&self.text(entries)),
        };
        // A name is on the disk, and off it, when its folder is.
        #[cfg(unix)]
        let written = written.and_then(|()| File::open(folder)?.sync_all());
        #[cfg(not(unix))]
        let _ = folder;
        written.map_err(|source| Error::Write { path: self.path.clone(), source })
    }

    fn replace(&self, text: &str) -> std::io::Result<()> {
        let unfinished = self.unfinished();
        absent(&unfinished)?;
        let mut options = OpenOptions::new();
        // Never through a link that somebody put there.
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&unfinished, &self.path)
    }

    /// One name is enough, since the lock lets only one process write, and one that was killed leaves one file.
    fn unfinished(&self) -> PathBuf {
        self.path.with_added_extension("unfinished")
    }

    fn text(&self, entries: &[Entry]) -> String {
        let mut text = format!("{FIRST}\nboot {}\n", self.boot.as_deref().unwrap_or(UNKNOWN));
        for Entry { knob, original, asked, found } in entries {
            let found = found.as_deref().unwrap_or(UNKNOWN);
            text.push_str(&format!("{} {original} {asked} {found}\n", knob.path()));
        }
        let end = end(&text, entries.len());
        text + &end
    }
}

fn absent(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn is_boot(text: &str) -> bool {
    (8..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// The last line: how many entries there are, and FNV-1a of all before. It tells a journal that is whole, against no
/// one who means harm.
fn end(text: &str, entries: usize) -> String {
    let sum =
        text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("end {entries} {sum:016x}\n")
}

#[cfg(test)]
mod tests;
