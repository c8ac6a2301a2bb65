//! Whatever is in the files: no panic, and no reading out of its bounds.

use std::ops::RangeInclusive;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::device::{CPU, Device};
use crate::{Reading, Topology};

/// Every file that is read of a device with two of everything.
fn files() -> Vec<String> {
    let mut files = vec!["proc/pressure/memory".to_owned()];
    let mut below =
        |directory: &str, names: &[&str]| files.extend(names.iter().map(|name| format!("{directory}/{name}")));
    below(CPU, &["online", "possible", "cpu0/cpu_capacity", "cpu0/online", "cpu1/cpu_capacity", "cpu1/online"]);
    for policy in ["policy0", "policy1"] {
        let names = ["affected_cpus", "related_cpus", "scaling_available_frequencies", "cpuinfo_min_freq"];
        below(&format!("{CPU}/cpufreq/{policy}"), &names);
        let names = ["cpuinfo_max_freq", "scaling_cur_freq", "scaling_driver", "scaling_governor"];
        below(&format!("{CPU}/cpufreq/{policy}"), &names);
    }
    for zone in 0..3 {
        below(&format!("sys/class/thermal/thermal_zone{zone}"), &["type", "temp"]);
    }
    for chip in ["hwmon0", "hwmon1"] {
        let names =
            ["name", "in1_label", "in1_input", "curr1_input", "in2_label", "in2_input", "power2_input", "fan1_input"];
        below(&format!("sys/class/hwmon/{chip}"), &names);
    }
    for zone in ["intel-rapl:0", "intel-rapl:0:0", "intel-rapl:1"] {
        below(&format!("sys/class/powercap/{zone}"), &["name", "energy_uj", "max_energy_range_uj"]);
    }
    for supply in ["BAT0", "AC", "battery"] {
        let names = ["type", "status", "online", "present", "current_now", "voltage_now", "power_now", "charge_now"];
        below(&format!("sys/class/power_supply/{supply}"), &names);
        let names = ["charge_full", "charge_counter", "energy_now", "energy_full", "capacity", "scope"];
        below(&format!("sys/class/power_supply/{supply}"), &names);
    }
    files
}

/// Words that some reader looks for: most files would otherwise be passed over at their first.
const WORDS: &[&str] = &[
    "Battery",
    "Mains",
    "USB",
    "Discharging",
    "Charging",
    "Full",
    "Unknown",
    "Device",
    "cpu-thermal",
    "skin_therm",
    "battery",
    "acpitz",
    "ina3221",
    "VDD_IN",
    "package-0",
    "dram",
    "psys",
    "0-3",
    "0 1",
    "0",
    "1",
    "2",
    "898",
    "11829000",
    "3900000",
    "-512000",
    "36500",
    "-274000",
    "125001",
    "2000000 1000000",
    "some avg10=1.00 avg60=0",
    "some avg10=1e308",
    "NaN",
    "262143328850",
];

fn contents() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => proptest::sample::select(WORDS).prop_map(|word| word.as_bytes().to_vec()),
        3 => any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        2 => (0i64..1_000_000_000).prop_map(|number| format!("{number}\n").into_bytes()),
        1 => "[0-9,\\- ]{0,40}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..60),
        1 => (4000usize..4200).prop_map(|length| vec![b'7'; length]),
    ]
}

fn within(value: Option<f64>, bounds: RangeInclusive<f64>) -> bool {
    value.is_none_or(|value| bounds.contains(&value))
}

/// The bounds of a reading; these devices have three counters of energy, of 600 W at most.
fn is_plausible(reading: &Reading) -> bool {
    within(reading.body_c, -20.0..=125.0)
        && within(reading.junction_c, -20.0..=125.0)
        && within(reading.power_w, f64::MIN_POSITIVE..=1800.0)
        && within(reading.charge, 0.0..=1.0)
        && within(reading.memory_pressure, 0.0..=1.0)
        && reading.headroom.is_none()
}

fn check_topology(device: &Device) {
    // An error is an answer; cores twice, or clocks out of order, are none.
    let Ok(topology) = Topology::read(&device.tree()) else { return };
    let mut cores: Vec<usize> = topology.clusters.iter().flat_map(|cluster| cluster.cores.clone()).collect();
    cores.sort_unstable();
    assert!(cores.is_sorted_by(|a, b| a < b), "{topology:?}");
    assert!(topology.clusters.iter().all(|cluster| cluster.clocks_khz.is_sorted_by(|a, b| a < b)), "{topology:?}");
    assert!(topology.clusters.iter().all(|cluster| !cluster.cores.is_empty()), "{topology:?}");
    assert_eq!(topology.current_khz(&device.tree()).len(), topology.clusters.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_bytes_in_any_file_give_a_plausible_reading(
        first in vec(contents(), files().len()),
        changes in vec((0..files().len(), contents(), 0u64..200_000), 1..12),
    ) {
        let (device, files) = (Device::bare(), files());
        for (file, contents) in files.iter().zip(&first) {
            device.set(file, contents);
        }
        let mut sensors = device.sensors();
        let mut now = Duration::ZERO;
        for (file, contents, ms) in &changes {
            let reading = sensors.read(now);
            prop_assert!(is_plausible(&reading), "{reading:?}");
            device.set(&files[*file], contents);
            now += Duration::from_millis(*ms);
        }
        let reading = sensors.read(now);
        prop_assert!(is_plausible(&reading), "{reading:?}");
        sensors.fan_rpm();
        sensors.take_complaints();
        check_topology(&device);
    }
}

#[test]
fn megabytes_in_every_file_are_silence() {
    for (byte, bytes) in [(b'9', 1 << 20), (b' ', 5000), (b'\n', 5000), (0, 5000), (0xff, 5000), (0xff, 1)] {
        let device = Device::bare();
        for file in files() {
            device.set(&file, vec![byte; bytes]);
        }
        let mut sensors = device.sensors();
        assert_eq!(sensors.read(Duration::ZERO), Reading::default());
        assert!(!sensors.take_complaints().is_empty());
        assert!(Topology::read(&device.tree()).is_err());
    }
}

#[test]
fn of_hundreds_of_zones_not_all_are_looked_at() {
    let device = Device::bare();
    for number in 0..400 {
        device.zone(number, "cpu-thermal", &format!("{}", 30_000 + number));
    }
    assert_eq!(device.read().junction_c, Some(30.255));
}
