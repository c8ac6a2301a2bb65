//! What the kernel's files say, with what is implausible, stuck or gone taken for silence.
//!
//! [`Sensors`] gives one [`Reading`] whenever it is asked, and never fails: a sensor that cannot be read, or cannot be
//! believed, is none, and [`Sensors::take_complaints`] says once why. [`Topology::read`](crate::Topology::read) and
//! [`Policy::read_all`] describe the processor, and fail where its files cannot be understood.

mod counter;
mod cpufreq;
mod files;
#[cfg(any(target_os = "android", all(test, target_os = "linux")))]
mod headroom;
mod hwmon;
#[cfg(feature = "nvml")]
mod nvml;
mod power_supply;
mod powercap;
mod pressure;
#[cfg(test)]
mod tests;
mod thermal;

use std::fmt;
use std::time::Duration;

#[cfg(any(target_os = "android", all(test, target_os = "linux")))]
pub use crate::os::android::HintSession;
use crate::{Error, Reading, Tree};
pub use cpufreq::Policy;
use files::Files;
use power_supply::PowerSupplies;
use powercap::Powercap;
use thermal::Thermal;

/// Who says what a device takes, the one that sees most of it first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PowerSource {
    /// The battery that the device is run from: all of it.
    Battery,
    /// Power monitors on the board's rails: all of the board.
    Rails,
    /// RAPL's counter of the platform.
    RaplPlatform,
    /// RAPL's counters of the processors and their memory, and NVIDIA's of the cards.
    RaplPackagesAndCards,
    /// RAPL's counters of the processors and their memory: no screen, disk or card.
    RaplPackages,
    /// NVIDIA's counters of the cards alone.
    Cards,
}

impl PowerSource {
    /// As it is written in a report.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Battery => "battery",
            Self::Rails => "power monitors",
            Self::RaplPlatform => "RAPL platform",
            Self::RaplPackagesAndCards => "RAPL packages and NVML",
            Self::RaplPackages => "RAPL packages",
            Self::Cards => "NVML",
        }
    }

    /// Whether it counts energy, so that its power is the mean since the reading before, and not that of an instant.
    #[must_use]
    pub fn counts(self) -> bool {
        !matches!(self, Self::Battery | Self::Rails)
    }
}

impl fmt::Display for PowerSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// All sensors of a device.
#[derive(Debug)]
pub struct Sensors {
    files: Files,
    thermal: Thermal,
    supplies: PowerSupplies,
    powercap: Powercap,
    power_source: Option<PowerSource>,
    #[cfg(feature = "nvml")]
    cards: Option<nvml::Cards>,
    #[cfg(target_os = "android")]
    headroom: Option<headroom::Headroom>,
}

impl Sensors {
    /// The sensors that are files in a tree, and no others.
    #[must_use]
    pub fn new(tree: Tree) -> Self {
        Self {
            files: Files::new(tree),
            thermal: Thermal::default(),
            supplies: PowerSupplies::default(),
            powercap: Powercap::default(),
            power_source: None,
            #[cfg(feature = "nvml")]
            cards: None,
            #[cfg(target_os = "android")]
            headroom: None,
        }
    }

    /// The sensors of the device that this runs on: its files, its cards and, on Android, its headroom.
    #[must_use]
    pub fn of_this_device() -> Self {
        Self {
            #[cfg(feature = "nvml")]
            cards: nvml::Cards::of_this_device(),
            #[cfg(target_os = "android")]
            headroom: headroom::Headroom::of_this_device(),
            ..Self::new(Tree::default())
        }
    }

    /// What the device tells at `now`, which is the time since any fixed instant.
    ///
    /// Power that is counted as energy is the mean since the call before, and none at the first. A counter of energy
    /// comes round within minutes at full load, so that calls more than half a minute apart can go without.
    pub fn read(&mut self, now: Duration) -> Reading {
        let supply = self.supplies.read(&mut self.files);
        let power = supply.discharge_w.map(|watts| (PowerSource::Battery, watts));
        // Counters are read in any case, so that they have a reading before when they are needed.
        let counted = self.counted(now);
        let power =
            power.or_else(|| hwmon::power_w(&mut self.files).map(|watts| (PowerSource::Rails, watts))).or(counted);
        self.power_source = power.map(|(source, _)| source);
        let temperatures = self.thermal.read(&mut self.files, power, now);
        Reading {
            body_c: temperatures.body_c,
            junction_c: temperatures.junction_c,
            power_w: power.map(|(_, watts)| watts),
            charge: supply.charge,
            on_supply: supply.on_supply,
            memory_pressure: pressure::read(&mut self.files),
            headroom: self.headroom(now),
        }
    }

    /// Who said what the device takes in the last reading; none where nobody did.
    #[must_use]
    pub fn power_source(&self) -> Option<PowerSource> {
        self.power_source
    }

    /// How fast the fastest fan turns, in 1/min; none where there is no fan to be seen.
    pub fn fan_rpm(&mut self) -> Option<u32> {
        hwmon::fan_rpm(&mut self.files)
    }

    /// What could not be read or believed, since the last call; each file once in all.
    pub fn take_complaints(&mut self) -> Vec<Error> {
        self.files.take_complaints()
    }

    /// What counters of energy say.
    fn counted(&mut self, now: Duration) -> Option<(PowerSource, f64)> {
        let processors = self.powercap.read(&mut self.files, now);
        match (processors, self.cards_w(now)) {
            (Some((PowerSource::RaplPackages, packages)), Some(cards)) => {
                Some((PowerSource::RaplPackagesAndCards, packages + cards))
            }
            (None, Some(cards)) => Some((PowerSource::Cards, cards)),
            (processors, _) => processors,
        }
    }

    #[cfg(feature = "nvml")]
    fn cards_w(&mut self, now: Duration) -> Option<f64> {
        self.cards.as_mut()?.power_w(now)
    }

    #[cfg(not(feature = "nvml"))]
    fn cards_w(&mut self, _: Duration) -> Option<f64> {
        None
    }

    #[cfg(target_os = "android")]
    fn headroom(&mut self, now: Duration) -> Option<f64> {
        self.headroom.as_mut()?.read(now)
    }

    #[cfg(not(target_os = "android"))]
    fn headroom(&mut self, _: Duration) -> Option<f64> {
        None
    }
}
