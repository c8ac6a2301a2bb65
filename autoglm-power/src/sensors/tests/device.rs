//! A directory that stands for a device.

use std::fs;
use std::time::Duration;

use crate::sensors::Sensors;
use crate::{Reading, Topology, Tree};

/// A device whose files a test writes. Paths are the kernel's, without the leading slash.
pub(super) struct Device {
    root: tempfile::TempDir,
}

pub(super) const CPU: &str = "sys/devices/system/cpu";
pub(super) const BATTERY: &str = "sys/class/power_supply/battery";

impl Device {
    /// One without any file.
    pub(super) fn bare() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    /// Writes a file, and the directories above it.
    pub(super) fn set(&self, path: &str, contents: impl AsRef<[u8]>) -> &Self {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
        self
    }

    /// Writes files below a directory.
    pub(super) fn set_all(&self, directory: &str, files: &[(&str, &str)]) -> &Self {
        for (file, contents) in files {
            self.set(&format!("{directory}/{file}"), contents);
        }
        self
    }

    /// Takes a file or directory away.
    pub(super) fn remove(&self, path: &str) -> &Self {
        let path = self.root.path().join(path);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
        self
    }

    /// Makes a directory with nothing in it.
    pub(super) fn make_directory(&self, path: &str) -> &Self {
        fs::create_dir_all(self.root.path().join(path)).unwrap();
        self
    }

    /// Leaves something in a file's place that is there and cannot be read, whoever asks: a directory.
    pub(super) fn make_unreadable(&self, path: &str) -> &Self {
        if self.root.path().join(path).is_file() {
            self.remove(path);
        }
        self.make_directory(path)
    }

    /// One cpufreq policy over cores.
    pub(super) fn policy(&self, cores: &[usize], clocks: &str, capacity: Option<u32>) -> &Self {
        let list: Vec<String> = cores.iter().map(usize::to_string).collect();
        let policy = format!("{CPU}/cpufreq/policy{}", cores[0]);
        self.set_all(&policy, &[("affected_cpus", &list.join(" ")), ("related_cpus", &list.join(" "))]);
        self.set(&format!("{policy}/scaling_available_frequencies"), clocks);
        for core in cores {
            if let Some(capacity) = capacity {
                self.set(&format!("{CPU}/cpu{core}/cpu_capacity"), format!("{capacity}\n"));
            }
        }
        self
    }

    /// A thermal zone.
    pub(super) fn zone(&self, number: usize, kind: &str, temp: &str) -> &Self {
        let zone = format!("sys/class/thermal/thermal_zone{number}");
        self.set_all(&zone, &[("type", &format!("{kind}\n")), ("temp", temp)])
    }

    /// Changes what a thermal zone says.
    pub(super) fn temp(&self, number: usize, temp: &str) -> &Self {
        self.set(&format!("sys/class/thermal/thermal_zone{number}/temp"), temp)
    }

    /// A RAPL zone.
    pub(super) fn rapl(&self, zone: &str, name: &str, energy: u64, range: u64) -> &Self {
        let zone = format!("sys/class/powercap/{zone}");
        self.set_all(&zone, &[("name", name), ("max_energy_range_uj", &range.to_string())]);
        self.set(&format!("{zone}/energy_uj"), energy.to_string())
    }

    /// Changes what a RAPL zone counted.
    pub(super) fn energy(&self, zone: &str, energy: u64) -> &Self {
        self.set(&format!("sys/class/powercap/{zone}/energy_uj"), energy.to_string())
    }

    pub(super) fn tree(&self) -> Tree {
        Tree::new(self.root.path())
    }

    pub(super) fn sensors(&self) -> Sensors {
        Sensors::new(self.tree())
    }

    /// What a first look at it tells.
    pub(super) fn read(&self) -> Reading {
        self.sensors().read(Duration::ZERO)
    }

    pub(super) fn topology(&self) -> Topology {
        Topology::read(&self.tree()).unwrap()
    }
}

/// A phone like Google's: three clusters, microamperes that are negative while discharging.
pub(super) fn pixel() -> Device {
    let device = Device::bare();
    device.set(&format!("{CPU}/possible"), "0-7\n").set(&format!("{CPU}/online"), "0-7\n");
    device
        .policy(&[0, 1, 2, 3], "300000 574000 738000 1803000 ", Some(160))
        .policy(&[4, 5, 6], "400000 1328000 2253000 ", Some(498))
        .policy(&[7], "500000 1826000 2802000 ", Some(1024))
        .zone(0, "BIG", "52000\n")
        .zone(1, "MID", "47500\n")
        .zone(2, "LITTLE", "45000\n")
        .zone(3, "VIRTUAL-SKIN", "36250\n")
        .zone(4, "battery", "31400\n")
        .zone(5, "modem_therm", "61000\n")
        .set(
            "proc/pressure/memory",
            "some avg10=2.50 avg60=1.00 avg300=0.20 total=1\nfull avg10=0.10 avg60=0 total=1\n",
        );
    device.set_all(
        BATTERY,
        &[
            ("type", "Battery\n"),
            ("status", "Discharging\n"),
            ("present", "1\n"),
            ("current_now", "-512000\n"),
            ("voltage_now", "3900000\n"),
            ("charge_counter", "2250000\n"),
            ("charge_full", "4500000\n"),
            ("capacity", "51\n"),
        ],
    );
    // The gauge shows up as another battery, and is the same one.
    let gauge = "sys/class/power_supply/maxfg";
    device.set_all(
        gauge,
        &[("type", "Battery"), ("status", "Discharging"), ("current_now", "-512000"), ("voltage_now", "3900000")],
    );
    device.set_all("sys/class/power_supply/usb", &[("type", "USB\n"), ("online", "0\n")]);
    device
}

/// A phone like many with a Snapdragon: milliamperes, positive while discharging.
pub(super) fn snapdragon() -> Device {
    let device = Device::bare();
    device.set(&format!("{CPU}/possible"), "0-7\n").set(&format!("{CPU}/online"), "0-7\n");
    device
        .policy(&[0, 1, 2], "307200 1017600 2016000 ", Some(326))
        .policy(&[3, 4, 5, 6], "499200 1785600 2803200 ", Some(870))
        .policy(&[7], "595200 1843200 3187200 ", Some(1024))
        .zone(0, "aoss-0", "41000")
        .zone(14, "cpu-1-2-0", "63800")
        .zone(15, "cpu-0-0-0", "55100")
        .zone(60, "soc", "49")
        .zone(71, "xo_therm", "44100")
        .zone(72, "quiet_therm", "39300")
        .zone(80, "battery", "35000");
    device.set_all(
        BATTERY,
        &[
            ("type", "Battery"),
            ("status", "Discharging"),
            ("current_now", "640"),
            ("voltage_now", "3850000"),
            ("capacity", "64"),
        ],
    );
    device
}

/// A board like a Jetson: rails behind an INA3221, no battery.
pub(super) fn jetson() -> Device {
    let device = Device::bare();
    device.set(&format!("{CPU}/online"), "0-5\n");
    device.policy(&[0, 1, 2, 3], "115200 729600 1510400", None).policy(&[4, 5], "115200 729600 1510400", None);
    device.zone(0, "cpu-thermal", "48500").zone(1, "gpu-thermal", "49250").zone(8, "tj-thermal", "50125");
    let chip = "sys/class/hwmon/hwmon1";
    device.set_all(
        chip,
        &[
            ("name", "ina3221\n"),
            ("in1_label", "VDD_IN\n"),
            ("in1_input", "5000\n"),
            ("curr1_input", "1240\n"),
            ("in2_label", "VDD_CPU_GPU_CV\n"),
            ("in2_input", "4992\n"),
            ("curr2_input", "400\n"),
            ("in3_label", "VDD_SOC\n"),
            ("in3_input", "4992\n"),
            ("curr3_input", "300\n"),
            ("in4_input", "5\n"),
            ("in7_label", "sum of shunt voltages\n"),
            ("in7_input", "9\n"),
            ("curr4_input", "1940\n"),
        ],
    );
    device.set_all("sys/class/hwmon/hwmon0", &[("name", "pwmfan\n"), ("fan1_input", "1834\n")]);
    device.make_directory("sys/class/power_supply");
    device
}

/// A PC with hardware-managed clocks: a policy per core without a list of clocks, RAPL, no battery.
pub(super) fn pc() -> Device {
    let device = Device::bare();
    device.set(&format!("{CPU}/online"), "0-3\n");
    for core in 0..4 {
        let policy = format!("{CPU}/cpufreq/policy{core}");
        device.set_all(
            &policy,
            &[
                ("affected_cpus", &core.to_string()),
                ("cpuinfo_min_freq", "800000\n"),
                ("cpuinfo_max_freq", "4900000\n"),
                ("scaling_cur_freq", &format!("{}\n", 1_000_000 + 100_000 * core)),
                ("scaling_driver", "intel_pstate\n"),
                ("scaling_governor", "powersave\n"),
            ],
        );
    }
    device.zone(0, "acpitz", "27800\n").zone(1, "x86_pkg_temp", "58000\n").zone(2, "iwlwifi_1", "44000\n");
    device
        .rapl("intel-rapl:0", "package-0", 1_000_000, RANGE)
        .rapl("intel-rapl:0:0", "core", 1_000_000, RANGE)
        .rapl("intel-rapl:0:1", "uncore", 1_000_000, RANGE)
        .rapl("intel-rapl-mmio:0", "package-0", 1_000_000, RANGE)
        .set("sys/class/powercap/intel-rapl/enabled", "0");
    device.set_all("sys/class/power_supply/AC", &[("type", "Mains"), ("online", "1")]);
    device
}

/// The range of most RAPL counters, in µJ.
pub(super) const RANGE: u64 = 262_143_328_850;

/// `a` to the last digits.
pub(super) fn assert_near(got: Option<f64>, expected: f64) {
    assert!(got.is_some_and(|got| (got - expected).abs() < 1e-6), "{got:?} is not {expected}");
}
