//! RAPL energy counters into watts.

use std::collections::BTreeMap;
use std::time::Duration;

use super::PowerSource;
use super::counter::Counter;
use super::files::Files;

const ZONES: &str = "sys/class/powercap";

/// The control type that counts. `intel-rapl-mmio` shows the same packages once more.
const PREFIX: &str = "intel-rapl:";

/// Zones that are looked at: eight packages, of several dies each, with their subzones.
const MOST_ZONES: usize = 128;

/// What one zone takes at most, in W; the largest packages are specified for 500. A counter of 65 kJ, the shortest there
/// is, comes halfway round in 54 s at that, and one of 262 kJ in 218 s: who reads more rarely is told nothing.
const MOST_W: f64 = 600.0;

/// How much less than the packages the platform may be found to take, since the counters are not read at one instant.
const PLATFORM_SHARE: f64 = 0.9;

/// The zones, by name.
#[derive(Debug, Default)]
pub(super) struct Powercap {
    counters: BTreeMap<String, Counter>,
}

/// What a zone counts. `core` and `uncore` are parts of their package and not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Domain {
    /// The whole platform, processor and memory included.
    Platform,
    /// One package, or one die of it.
    Package,
    /// Memory. Its zone lies below that of its package, whose counter, by Intel's definition, leaves it out.
    Memory,
}

impl Domain {
    fn of(name: &str, is_top: bool) -> Option<Self> {
        match name {
            "psys" if is_top => Some(Self::Platform),
            "dram" => Some(Self::Memory),
            _ => (is_top && name.starts_with("package")).then_some(Self::Package),
        }
    }
}

impl Powercap {
    /// Mean watts since the reading before: of the platform where it is counted, and else of all packages with their
    /// memory. None where one of these was silent or doubtful, since a part is not the whole.
    pub(super) fn read(&mut self, files: &mut Files, now: Duration) -> Option<(PowerSource, f64)> {
        let names = files.names(ZONES, PREFIX, MOST_ZONES);
        self.counters.retain(|known, _| names.contains(known));
        let mut zones = Vec::new();
        for name in names {
            let is_top = !name[PREFIX.len()..].contains(':');
            let domain = files.text(&format!("{ZONES}/{name}/name"));
            if let Some(domain) = domain.and_then(|domain| Domain::of(&domain, is_top)) {
                zones.push((domain, self.watts(files, &name, now)));
            }
        }

        let sum = |counts: fn(Domain) -> bool| -> Option<f64> {
            zones.iter().filter(|(domain, _)| counts(*domain)).map(|(_, watts)| *watts).sum()
        };
        let has = |domain| zones.iter().any(|(of, _)| *of == domain);
        let packages = sum(|domain| domain == Domain::Package).filter(|_| has(Domain::Package));
        let platform = sum(|domain| domain == Domain::Platform).filter(|_| has(Domain::Platform));
        // Firmware exists that shows a platform of next to nothing.
        match platform.filter(|platform| packages.is_none_or(|packages| *platform >= packages * PLATFORM_SHARE)) {
            Some(platform) => Some((PowerSource::RaplPlatform, platform)),
            None => {
                let memory = sum(|domain| domain == Domain::Memory);
                packages.zip(memory).map(|(packages, memory)| (PowerSource::RaplPackages, packages + memory))
            }
        }
    }

    fn watts(&mut self, files: &mut Files, name: &str, now: Duration) -> Option<f64> {
        let counter = self.counters.entry(name.to_owned()).or_insert_with(|| Counter::new(MOST_W));
        let path = format!("{ZONES}/{name}/energy_uj");
        let range = files.number(&format!("{ZONES}/{name}/max_energy_range_uj"));
        let range = range.and_then(|range| u64::try_from(range).ok()).filter(|range| *range > 0);
        let Some(energy) = files.number(&path) else {
            counter.forget();
            return None;
        };
        match u64::try_from(energy) {
            Ok(energy) if range.is_none_or(|range| energy <= range) => {
                let watts = counter.watts(energy, range, now);
                if counter.is_doubtful() {
                    files.complain(&path, &energy, "is not what a counter can have come to since it was last read");
                }
                watts
            }
            _ => {
                files.complain(&path, &energy, "is outside the range of its counter");
                counter.forget();
                None
            }
        }
    }
}
