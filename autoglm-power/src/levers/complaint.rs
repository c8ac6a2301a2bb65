//! What fell through, and why.

use std::fmt;
use std::io::{Error, ErrorKind};

/// Something that a process may move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Lever {
    /// The cores that threads run on.
    Affinity,
    /// How much of a core threads seem to need (`uclamp`).
    Clamp,
    /// The highest clock of a cluster, for all processes (`scaling_max_freq`).
    Cap,
    /// How the clock of a cluster is chosen, for all processes (`scaling_governor`).
    Governor,
    /// A cooling device (`cooling_device*/cur_state`).
    Cooling,
    /// The speed of a fan (`pwm*`).
    Fan,
}

impl fmt::Display for Lever {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Affinity => "affinity",
            Self::Clamp => "clamp",
            Self::Cap => "cap",
            Self::Governor => "governor",
            Self::Cooling => "cooling",
            Self::Fan => "fan",
        })
    }
}

/// Why a lever cannot be moved here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Obstacle {
    /// The system, or the way its kernel was built, has no such thing.
    Unsupported,
    /// The process is not allowed to.
    Denied,
    /// The system does not take what was asked.
    Refused,
    /// There is no file for it.
    Missing,
    /// It was moved, and the speed did not follow.
    NoEffect,
    /// Nobody opened the files for it, which is a choice: they move something for all processes.
    NotOpened,
    /// The thread has ended.
    Ended,
    /// The system gave another reason.
    Other(String),
}

impl From<&Error> for Obstacle {
    fn from(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Unsupported => Self::Unsupported,
            // Linux before 5.3 answers so to flags that it does not know, and any to cores that a process may not have.
            ErrorKind::InvalidInput => Self::Refused,
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::Denied,
            ErrorKind::NotFound | ErrorKind::NotADirectory => Self::Missing,
            _ if error.raw_os_error() == Some(NO_SUCH_THREAD) => Self::Ended,
            _ => Self::Other(error.to_string()),
        }
    }
}

/// `ESRCH`, for which the standard library has no kind.
const NO_SUCH_THREAD: i32 = 3;

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsupported => "this system has none",
            Self::Denied => "not permitted",
            Self::Refused => "the system does not take it",
            Self::Missing => "no file for it",
            Self::NoEffect => "it has no effect",
            Self::NotOpened => "not asked for",
            Self::Ended => "the thread has ended",
            Self::Other(reason) => reason,
        })
    }
}

/// What could not be done. None of it keeps inference from running.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Complaint {
    /// A lever did not move.
    Lever {
        /// Which one.
        lever: Lever,
        /// Why not.
        obstacle: Obstacle,
    },
    /// A clock that was asked for has no lever at all that could hold it.
    Clock {
        /// Which cluster, counted from the slowest.
        cluster: usize,
    },
    /// The kernel's files were asked for and are left alone.
    Knobs {
        /// Why.
        why: String,
    },
    /// A configuration is for another processor.
    Shares {
        /// Its shares.
        got: usize,
        /// The processor's clusters.
        expected: usize,
    },
    /// Fewer cores may be used than were asked for.
    Cores {
        /// Of which cluster, counted from the slowest.
        cluster: usize,
        /// Cores that were asked for.
        wanted: usize,
        /// Cores that this process may use.
        allowed: usize,
    },
    /// Somebody else changed a file that was changed here, and their value stays.
    Changed {
        /// The file, below the root.
        path: String,
    },
    /// A file that was changed here is gone. It stays in the journal.
    Vanished {
        /// The file, below the root.
        path: String,
    },
    /// A file that was changed here cannot be put back now. It stays in the journal.
    Stuck {
        /// The file, below the root.
        path: String,
        /// Why not.
        obstacle: Obstacle,
    },
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lever { lever, obstacle } => write!(f, "{lever}: {obstacle}"),
            Self::Clock { cluster } => write!(f, "no lever holds the clock of cluster {cluster}"),
            Self::Knobs { why } => write!(f, "the kernel's files are left alone: {why}"),
            Self::Shares { got, expected } => write!(f, "a configuration of {got} clusters for {expected}"),
            Self::Cores { cluster, wanted, allowed } => {
                write!(f, "{wanted} cores of cluster {cluster} are asked for, {allowed} may be used")
            }
            Self::Changed { path } => write!(f, "{path} was changed by somebody else and stays so"),
            Self::Vanished { path } => write!(f, "{path} is gone and cannot be put back"),
            Self::Stuck { path, obstacle } => write!(f, "{path} cannot be put back: {obstacle}"),
        }
    }
}
