//! A device profile: what a phone draws, how it heats and how fast it computes.

use std::path::Path;

use serde::Deserialize;

use crate::{Cluster, Error, Result, Topology};

/// A device profile. Every constant is of the device alone; what inference makes of it is in
/// [`Assumptions`](super::Assumptions).
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// Its name: that of the file without its ending.
    pub name: String,
    /// Energy of a full battery, in Wh.
    pub battery_wh: f64,
    /// How it heats.
    pub thermal: Thermal,
    /// What memory gives and takes.
    pub memory: Memory,
    /// What it draws beside inference.
    pub idle: Idle,
    /// Cores that change their clock together, the slowest cluster first.
    pub clusters: Vec<ClusterTable>,
}

/// Two nodes: the body, which exchanges heat with the air, and the junction above it.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thermal {
    /// From the body to the air, in K/W.
    pub body_r: f64,
    /// Of the body, in J/K.
    pub body_c: f64,
    /// From the junction to the body, in K/W.
    pub junction_r: f64,
    /// After which the junction has followed a change of power to 63 %, in s.
    pub junction_tau: f64,
}

/// Main memory.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// What all cores together read, in 1e9 bytes per second.
    pub gb_s: f64,
    /// What a byte takes on its way, in J.
    pub j_per_byte: f64,
}

/// What a phone draws while nothing is inferred.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Idle {
    /// Asleep, in W.
    pub suspend_w: f64,
    /// Awake with nothing to do and a dark screen, in W.
    pub awake_w: f64,
    /// What a lit screen adds, in W.
    pub screen_w: f64,
    /// What weights and keys and values in memory add while nothing is inferred, in W.
    pub resident_w: f64,
    /// What reading weights back takes, in J per 1e9 bytes.
    pub reload_j_per_gb: f64,
}

/// A cluster: at each clock what one core draws and does.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterTable {
    /// Number of cores.
    pub cores: usize,
    /// Clocks in MHz, in order.
    pub freq_mhz: Vec<f64>,
    /// What one busy core draws at each, in W.
    pub watt_per_core: Vec<f64>,
    /// Integer operations, a multiplication and an addition being two, that one core does in a matrix product at each,
    /// in 1e9 per second.
    pub gops: Vec<f64>,
}

/// A profile as it stands in its file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    battery: Battery,
    thermal: Thermal,
    memory: Memory,
    idle: Idle,
    cluster: Vec<ClusterTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Battery {
    wh: f64,
}

/// Profiles take a few kilobytes.
const FILE_BYTES: u64 = 1 << 20;

/// More cores and clocks than any processor's.
const CORES: usize = 64;
const CLOCKS: usize = 64;
const CLUSTERS: usize = 8;

impl Device {
    /// Reads a profile.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Profile`] for a file that is none, with the key that is unknown, missing or no
    /// plausible number.
    pub fn read(path: &Path) -> Result<Self> {
        let text = super::trace::file(path, FILE_BYTES)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::parse(&name, &text)
    }

    /// A profile from its text.
    ///
    /// # Errors
    /// [`Error::Profile`] as for [`Device::read`].
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let refuse = |why: String| Error::Profile { name: name.to_owned(), why };
        let file: File = toml::from_str(text).map_err(|e| {
            let line = e.span().map(|span| 1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count());
            let line = line.map(|line| format!("line {line}: ")).unwrap_or_default();
            refuse(format!("{line}{}", e.message().lines().next().unwrap_or_default()))
        })?;
        let device = Self {
            name: name.to_owned(),
            battery_wh: file.battery.wh,
            thermal: file.thermal,
            memory: file.memory,
            idle: file.idle,
            clusters: file.cluster,
        };
        match device.implausible() {
            Some(why) => Err(refuse(why)),
            None => Ok(device),
        }
    }

    /// The first number that no device has.
    fn implausible(&self) -> Option<String> {
        let Self { thermal, memory, idle, clusters, .. } = self;
        let positive = [
            ("battery.wh", self.battery_wh),
            ("thermal.body_r", thermal.body_r),
            ("thermal.body_c", thermal.body_c),
            ("thermal.junction_tau", thermal.junction_tau),
            ("memory.gb_s", memory.gb_s),
            ("idle.suspend_w", idle.suspend_w),
        ];
        let not_negative = [
            ("thermal.junction_r", thermal.junction_r),
            ("memory.j_per_byte", memory.j_per_byte),
            ("idle.awake_w", idle.awake_w),
            ("idle.screen_w", idle.screen_w),
            ("idle.resident_w", idle.resident_w),
            ("idle.reload_j_per_gb", idle.reload_j_per_gb),
        ];
        let bad = positive.iter().find(|(_, value)| !(SMALLEST..LARGEST).contains(value));
        let bad = bad.or_else(|| not_negative.iter().find(|(_, value)| !(0.0..LARGEST).contains(value)));
        if let Some((key, value)) = bad {
            return Some(format!("{key} is {value}"));
        }
        if clusters.is_empty() || clusters.len() > CLUSTERS {
            return Some(format!("{} clusters, where 1 to {CLUSTERS} are expected", clusters.len()));
        }
        clusters
            .iter()
            .enumerate()
            .find_map(|(index, cluster)| cluster.implausible().map(|why| format!("cluster {}: {why}", index + 1)))
    }

    /// What the kernel of such a device says about its processor: clocks, and capacities. These are of general code, in which
    /// slow cores are not as far behind as in matrix products; here they are taken to be the 0.7th power of that ratio.
    #[must_use]
    pub fn topology(&self) -> Topology {
        let peak = |cluster: &ClusterTable| cluster.gops.last().copied().unwrap_or(1.0);
        let fastest = self.clusters.iter().map(peak).fold(f64::MIN_POSITIVE, f64::max);
        let mut next = 0;
        let clusters = self.clusters.iter().map(|table| {
            let cores = (next..next + table.cores).collect();
            next += table.cores;
            let clocks_khz = table.freq_mhz.iter().map(|mhz| (mhz * 1e3).round() as u32).collect();
            Cluster {
                cores,
                clocks_khz,
                capacity: Some((1024.0 * (peak(table) / fastest).powf(0.7)).round().max(1.0) as u32),
            }
        });
        Topology { clusters: clusters.collect() }
    }
}

/// No constant of a device is as large.
const LARGEST: f64 = 1e6;

/// None that has to be positive is as small.
const SMALLEST: f64 = 1e-4;

impl ClusterTable {
    fn implausible(&self) -> Option<String> {
        let Self { cores, freq_mhz, watt_per_core, gops } = self;
        if !(1..=CORES).contains(cores) {
            return Some(format!("cores is {cores}"));
        }
        if freq_mhz.is_empty() || freq_mhz.len() > CLOCKS {
            return Some(format!("freq_mhz has {} clocks, where 1 to {CLOCKS} are expected", freq_mhz.len()));
        }
        for (key, values) in [("freq_mhz", freq_mhz), ("watt_per_core", watt_per_core), ("gops", gops)] {
            if values.len() != freq_mhz.len() {
                return Some(format!("{key} has {} entries for {} clocks", values.len(), freq_mhz.len()));
            }
            if let Some(value) = values.iter().find(|v| !(SMALLEST..LARGEST).contains(*v)) {
                return Some(format!("{key} has {value}"));
            }
            if values.windows(2).any(|pair| pair[0] > pair[1]) {
                return Some(format!("{key} does not rise with the clock"));
            }
        }
        None
    }
}

macro_rules! profiles {
    ($($name:literal),* $(,)?) => {
        /// The profiles that come along, by name.
        pub const PROFILES: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../devices/", $name, ".toml")))),*];
    };
}

profiles![
    "dimensity-8100",
    "exynos-1480",
    "exynos-850",
    "snapdragon-625",
    "snapdragon-750g",
    "snapdragon-8-elite",
    "snapdragon-8-gen-1",
    "snapdragon-8-gen-2",
    "snapdragon-8-gen-3",
    "snapdragon-835",
    "snapdragon-845",
    "snapdragon-888",
    "tablet-snapdragon-720g",
    "tablet-snapdragon-8-elite",
    "tablet-snapdragon-870",
    "tablet-tensor-g2",
    "tensor-g2",
    "tensor-g4"
];

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "[battery]\nwh = 18.0\n[thermal]\nbody_r = 5.5\nbody_c = 160.0\njunction_r = 8.0\njunction_tau = 8.0\n\
        [memory]\ngb_s = 34.0\nj_per_byte = 45e-12\n[idle]\nsuspend_w = 0.04\nawake_w = 0.16\nscreen_w = 1.0\n\
        resident_w = 0.02\nreload_j_per_gb = 1.4\n[[cluster]]\ncores = 4\nfreq_mhz = [500, 1000]\n\
        watt_per_core = [0.1, 0.3]\ngops = [20.0, 40.0]\n";

    #[test]
    fn whole_numbers_are_numbers_and_the_topology_is_what_a_kernel_would_say() {
        let device = Device::parse("small", SMALL).unwrap();
        let topology = device.topology();
        assert_eq!(topology.clusters[0].cores, [0, 1, 2, 3]);
        assert_eq!(topology.clusters[0].clocks_khz, [500_000, 1_000_000]);
        assert_eq!(topology.clusters[0].capacity, Some(1024));
    }

    #[test]
    fn what_no_device_has_is_refused_by_name() {
        for (from, to, word) in [
            ("wh = 18.0", "wh = 18.0\nvolts = 3.85", "volts"),
            ("[idle]", "[fan]\nrpm = 1\n[idle]", "fan"),
            ("cores = 4", "cores = 4\nname = \"x\"", "name"),
            ("wh = 18.0", "wh = -1", "battery.wh"),
            ("wh = 18.0", "wh = nan", "battery.wh"),
            ("body_c = 160.0", "body_c = 0", "thermal.body_c"),
            ("gb_s = 34.0\n", "", "gb_s"),
            ("cores = 4", "cores = 0", "cores"),
            ("cores = 4", "cores = 4000000", "cores"),
            ("gops = [20.0, 40.0]", "gops = [20.0]", "gops"),
            ("[0.1, 0.3]", "[0.3, 0.1]", "watt_per_core"),
            ("freq_mhz = [500, 1000]", "freq_mhz = []", "freq_mhz"),
        ] {
            let text = SMALL.replace(from, to);
            assert_ne!(text, SMALL);
            let error = Device::parse("small", &text).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains('\n'), "{from} → {to}: {error}");
        }
    }

    #[test]
    fn every_constant_of_a_profile_says_where_it_is_from() {
        for (name, text) in PROFILES {
            let device = Device::parse(name, text).unwrap();
            assert!(device.clusters.len() <= 4, "{name}");
            let mut above = "";
            for line in text.lines() {
                let said = |text: &str| ["cited:", "derived:", "assumed:"].iter().any(|word| text.contains(word));
                if line.contains('=') && !line.trim_start().starts_with('#') {
                    assert!(said(line) || said(above), "{name}: {line}");
                }
                // A comment of several lines counts whole.
                if !(line.trim_start().starts_with('#') && said(above)) {
                    above = line;
                }
            }
        }
    }
}
