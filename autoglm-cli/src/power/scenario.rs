//! The options that say which device, which days and which policies are modelled.

use std::path::{Path, PathBuf};

use autoglm::power::model::{Assumptions, Device, Name, Outcome, PROFILES, Run, Trace, simulate};

use crate::error::Error;

/// Temperatures of the air that are modelled, in °C.
const AMBIENT_C: std::ops::RangeInclusive<f64> = -20.0..=50.0;

/// Tasks a day of the trace `synthetic`, and the most that it can have: no phone of the profiles gets through many more.
const TASKS: usize = 6;
const MOST_TASKS: usize = 100;

#[derive(Debug, clap::Args)]
pub(super) struct Scenario {
    /// A device file, or the name of a built-in profile such as tensor-g4; an unknown name lists them all
    #[arg(long, value_name = "FILE.toml|NAME")]
    device: PathBuf,
    /// A trace of what is asked of it, or `synthetic:N`: a day of N tasks (6 for `synthetic`), made from the seed
    #[arg(long, value_name = "FILE.csv|synthetic[:N]")]
    trace: PathBuf,
    /// Policies, separated by commas: none, os, seed, ours, ours-tiers, oracle
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "os,ours,ours-tiers")]
    policy: Vec<String>,
    /// Temperature of the air in °C, from -20 to 50
    #[arg(long, value_name = "C", default_value_t = 25.0, allow_negative_numbers = true)]
    ambient: f64,
    /// Seed of sensor noise, of steps that are chosen by lot, and of a synthetic trace
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// A scenario whose files are read and whose numbers make sense.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) device: Device,
    pub(super) trace: Trace,
    pub(super) ambient_c: f64,
    pub(super) seed: u64,
    /// The policies that were named, each once, in the order of [`Name::ALL`].
    pub(super) policies: Vec<Name>,
}

impl Scenario {
    /// Reads what is named. What is wrong with the command line is said first.
    pub(super) fn load(&self) -> Result<Loaded, Error> {
        if !AMBIENT_C.contains(&self.ambient) {
            return Err(Error::Ambient { got: self.ambient, lowest: *AMBIENT_C.start(), highest: *AMBIENT_C.end() });
        }
        let named: Vec<Name> = self.policy.iter().map(|name| policy(name)).collect::<Result<_, _>>()?;
        Ok(Loaded {
            device: device(&self.device)?,
            trace: trace(&self.trace, self.seed)?,
            ambient_c: self.ambient,
            seed: self.seed,
            policies: Name::ALL.into_iter().filter(|name| named.contains(name)).collect(),
        })
    }
}

impl Loaded {
    /// What comes of each of `policies`, with its curves where `samples`.
    pub(super) fn outcomes(&self, policies: &[Name], samples: bool) -> Vec<Outcome> {
        let assumptions = Assumptions::default();
        let run = Run {
            device: &self.device,
            trace: &self.trace,
            assumptions: &assumptions,
            ambient_c: self.ambient_c,
            seed: self.seed,
            samples,
        };
        policies.iter().map(|name| simulate(&run, *name)).collect()
    }
}

fn policy(name: &str) -> Result<Name, Error> {
    let known = || Name::ALL.map(Name::as_str).join(", ");
    Name::parse(name).ok_or_else(|| Error::Unknown { what: "policy", name: name.to_owned(), known: known() })
}

fn device(named: &Path) -> Result<Device, Error> {
    if is_file(named, "toml") {
        return Ok(Device::read(named)?);
    }
    let name = named.to_string_lossy();
    let Some((name, text)) = PROFILES.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = PROFILES.iter().map(|(known, _)| *known).collect();
        let known = format!("{}, or a file that ends in .toml", known.join(", "));
        return Err(Error::Unknown { what: "device", name: name.into_owned(), known });
    };
    Ok(Device::parse(name, text)?)
}

fn trace(named: &Path, seed: u64) -> Result<Trace, Error> {
    if is_file(named, "csv") {
        return Ok(Trace::read(named)?);
    }
    let name = named.to_string_lossy();
    let tasks = match name.strip_prefix("synthetic") {
        Some("") => Some(TASKS),
        Some(number) => number.strip_prefix(':').and_then(|number| number.parse().ok()),
        None => None,
    };
    match tasks.filter(|tasks| *tasks <= MOST_TASKS) {
        Some(tasks) => Ok(Trace::synthetic(tasks, 1, seed)),
        None => {
            let known = format!("synthetic, synthetic:0 to synthetic:{MOST_TASKS}, or a file that ends in .csv");
            Err(Error::Unknown { what: "trace", name: name.into_owned(), known })
        }
    }
}

/// Whether a value names a file rather than something that is built in: one that is there, or one that looks like one.
fn is_file(named: &Path, ending: &str) -> bool {
    named.to_string_lossy().contains(std::path::is_separator)
        || named.extension().is_some_and(|e| e.eq_ignore_ascii_case(ending))
        || named.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_path_is_one_and_other_names_are_built_in() {
        for (named, file) in [("tensor-g4", false), ("./tensor-g4", true), ("gone.toml", true), ("a/b", true)] {
            assert_eq!(is_file(Path::new(named), "toml"), file, "{named}");
        }
        // Tests run in the crate's directory.
        assert!(is_file(Path::new("src"), "toml"));
        assert_eq!(device(Path::new("tensor-g4")).unwrap().name, "tensor-g4");
    }

    #[test]
    fn a_synthetic_trace_has_so_many_tasks_a_day() {
        let name = |text: &str| trace(Path::new(text), 3).map(|trace| trace.name);
        assert_eq!(name("synthetic").unwrap(), "6-a-day");
        assert_eq!(name("synthetic:11").unwrap(), "11-a-day");
        for bad in ["synthetic:", "synthetic:-1", "synthetic:101", "synthetic:x", "synthetic6", "day", ""] {
            assert!(matches!(name(bad), Err(Error::Unknown { what: "trace", .. })), "{bad}");
        }
    }
}
