//! Power, charge and supply: units, signs, counters that come round, and what is counted twice.

use std::time::Duration;

use super::device::{BATTERY, Device, RANGE, assert_near, pc, pixel};
use crate::Error;
use crate::sensors::PowerSource;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A laptop's battery, with these files beside its type.
fn laptop(files: &[(&str, &str)]) -> Device {
    let device = Device::bare();
    device.set("sys/class/power_supply/BAT0/type", "Battery").set_all("sys/class/power_supply/BAT0", files);
    device
}

#[test]
fn milliamperes_beside_microvolts_are_not_ten_milliwatts() {
    let device = laptop(&[("status", "Discharging"), ("current_now", "898"), ("voltage_now", "11829000")]);
    assert_near(device.read().power_w, 0.898 * 11.829);
}

#[test]
fn the_sign_of_a_current_says_nothing_and_the_status_everything() {
    for (current, status, watts, on_supply) in [
        ("-512000", "Discharging", Some(1.9968), Some(false)),
        ("512000", "Discharging", Some(1.9968), Some(false)),
        ("-512000", "Charging", None, Some(true)),
        ("512000", "Full", None, Some(true)),
        ("512000", "Unknown", Some(1.9968), Some(false)),
        ("0", "Discharging", None, Some(false)),
        ("9223372036854775807", "Discharging", None, Some(false)),
    ] {
        let device = pixel();
        device.set(&format!("{BATTERY}/current_now"), current).set(&format!("{BATTERY}/status"), status);
        let reading = device.read();
        assert_eq!(reading.on_supply, on_supply, "{current} {status}");
        assert!(
            reading.power_w.zip(watts).map_or(reading.power_w == watts, |(a, b)| (a - b).abs() < 1e-9),
            "{current} {status}"
        );
    }
}

#[test]
fn mains_decide_where_the_status_does_not() {
    let device = laptop(&[("status", "Not charging"), ("power_now", "12500000")]);
    assert_eq!(device.read().on_supply, Some(true));
    device.set_all("sys/class/power_supply/AC", &[("type", "Mains"), ("online", "0")]);
    let reading = device.read();
    assert_eq!(reading.on_supply, Some(false));
    assert_near(reading.power_w, 12.5);
    device.set("sys/class/power_supply/AC/online", "1");
    assert_eq!((device.read().on_supply, device.read().power_w), (Some(true), None));
    device.set("sys/class/power_supply/BAT0/status", "what?");
    assert_eq!(device.read().on_supply, Some(true));
    device.remove("sys/class/power_supply/AC");
    assert_eq!(device.read().on_supply, None);
}

#[test]
fn a_mouse_s_battery_is_not_the_device_s() {
    let device = Device::bare();
    let mouse = [("type", "Battery"), ("scope", "Device"), ("status", "Discharging"), ("capacity", "5")];
    device.set_all("sys/class/power_supply/hidpp_battery_0", &mouse);
    let reading = device.read();
    assert_eq!((reading.charge, reading.power_w, reading.on_supply), (None, None, Some(true)));
}

#[test]
fn a_bay_without_its_battery_is_no_battery() {
    let device = laptop(&[("present", "0"), ("status", "Unknown"), ("capacity", "0")]);
    assert_eq!((device.read().charge, device.read().on_supply), (None, Some(true)));
}

#[test]
fn a_supply_that_cannot_be_read_may_be_a_battery() {
    let device = Device::bare();
    device.make_unreadable("sys/class/power_supply/battery/type");
    assert_eq!(device.read().on_supply, None);
    device.remove("sys/class/power_supply").set("sys/class/power_supply", "");
    assert_eq!(device.read().on_supply, None);
}

#[test]
fn two_batteries_are_one_and_the_one_that_rests_says_zero() {
    let files =
        [("status", "Discharging"), ("power_now", "9000000"), ("energy_now", "10000000"), ("energy_full", "40000000")];
    let device = laptop(&files);
    let second = "sys/class/power_supply/BAT1";
    device.set("sys/class/power_supply/BAT1/type", "Battery");
    let files =
        [("status", "Discharging"), ("power_now", "0"), ("energy_now", "20000000"), ("energy_full", "20000000")];
    device.set_all(second, &files);
    assert_near(device.read().power_w, 9.0);
    assert_near(device.read().charge, 0.5);
    device.set(&format!("{second}/power_now"), "junk");
    assert_eq!(device.read().power_w, None, "a part is not the whole");
}

#[test]
fn a_charge_is_believed_where_the_percentage_agrees() {
    for (now, full, capacity, charge) in [
        ("2250000", "4500000", "51", Some(0.5)),
        ("2250", "4500000", "51", Some(0.51)),
        ("4600000", "4500000", "100", Some(1.0)),
        ("9000000", "4500000", "100", Some(1.0)),
        ("9000000", "4500000", "junk", None),
        ("-5", "4500000", "101", None),
        ("1", "0", "-1", None),
        ("2250000", "4500000", "junk", Some(0.5)),
    ] {
        let device = laptop(&[("charge_now", now), ("charge_full", full), ("capacity", capacity)]);
        assert_eq!(device.read().charge, charge, "{now} of {full}, {capacity} %");
    }
}

#[test]
fn on_its_battery_a_device_is_measured_there_and_on_its_supply_elsewhere() {
    let device = pc();
    let battery = "sys/class/power_supply/BAT0";
    device.set_all(battery, &[("type", "Battery"), ("status", "Discharging"), ("power_now", "18000000")]);
    let mut sensors = device.sensors();
    assert_near(sensors.read(seconds(0)).power_w, 18.0);
    assert_eq!(sensors.power_source(), Some(PowerSource::Battery));
    device.energy("intel-rapl:0", 11_000_000).set(&format!("{battery}/status"), "Charging");
    assert_near(sensors.read(seconds(1)).power_w, 10.0);
    assert_eq!(sensors.power_source(), Some(PowerSource::RaplPackages));
    assert_eq!(sensors.power_source().unwrap().to_string(), "RAPL packages");
}

/// Watts of one package between two readings a second apart.
fn package(from: u64, to: u64) -> Option<f64> {
    let device = Device::bare();
    device.rapl("intel-rapl:0", "package-0", from, RANGE);
    let mut sensors = device.sensors();
    sensors.read(seconds(0));
    device.energy("intel-rapl:0", to);
    sensors.read(seconds(1)).power_w
}

#[test]
fn a_package_s_counter_comes_round_at_its_range() {
    for (from, to, joules) in [
        (RANGE - 20_000_000, RANGE - 1, 19.999_999),
        (RANGE - 20_000_000, RANGE, 20.0),
        (RANGE - 20_000_000, 0, 20.000_001),
        (RANGE - 20_000_000, 1, 20.000_002),
        (RANGE - 1, 20_000_000, 20.000_002),
        (RANGE, 20_000_000, 20.000_001),
        (0, 20_000_000, 20.0),
        (1, 20_000_000, 19.999_999),
    ] {
        let watts = package(from, to);
        assert!(watts.is_some_and(|watts| (watts - joules).abs() < 1e-9), "{from} to {to}: {watts:?}");
    }
}

#[test]
fn a_doubtful_counter_says_nothing() {
    for (from, to) in [
        (20_000_000, 20_000_000),
        (RANGE, RANGE),
        (20_000_000, 0),
        (RANGE / 2, 5),
        (0, 600_000_001),
        (0, RANGE),
        (0, RANGE + 1),
        (RANGE - 5_000_000, RANGE + 1),
        (RANGE + 1, 5_000_000),
    ] {
        assert_eq!(package(from, to), None, "{from} to {to}");
    }
    assert_near(package(0, 600_000_000), 600.0);
}

#[test]
fn a_counter_that_does_not_count_is_complained_of_once() {
    let device = pc();
    let mut sensors = device.sensors();
    for second in 0..3 {
        assert_eq!(sensors.read(seconds(second)).power_w, None);
        let complaints = sensors.take_complaints();
        assert_eq!(complaints.len(), usize::from(second == 1), "{complaints:?}");
    }
}

#[test]
fn a_counter_that_is_asked_too_rarely_says_nothing_and_then_goes_on() {
    let device = Device::bare();
    device.rapl("intel-rapl:0", "package-0", 0, RANGE);
    let mut sensors = device.sensors();
    sensors.read(seconds(0));
    device.energy("intel-rapl:0", 2_190_000_000);
    assert_eq!(sensors.read(seconds(219)).power_w, None);
    device.energy("intel-rapl:0", 2_200_000_000);
    assert_near(sensors.read(seconds(220)).power_w, 10.0);
}

#[test]
fn packages_are_summed_with_their_memory_and_without_their_parts() {
    let device = Device::bare();
    let zones = [("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core"), ("intel-rapl:0:1", "dram")];
    let more = [("intel-rapl:1", "package-1"), ("intel-rapl:1:0", "dram"), ("intel-rapl:1:1", "package-7")];
    for (zone, name) in zones.iter().chain(&more) {
        device.rapl(zone, name, 0, RANGE);
    }
    let mut sensors = device.sensors();
    sensors.read(seconds(0));
    for (zone, joules) in [("0", 40), ("0:0", 30), ("0:1", 4), ("1", 50), ("1:0", 5), ("1:1", 1)] {
        device.energy(&format!("intel-rapl:{zone}"), joules * 1_000_000);
    }
    assert_near(sensors.read(seconds(1)).power_w, 99.0);
    // One package alone is not the machine.
    for (zone, joules) in [("0", 80), ("0:1", 8), ("1:0", 10)] {
        device.energy(&format!("intel-rapl:{zone}"), joules * 1_000_000);
    }
    device.make_unreadable("sys/class/powercap/intel-rapl:1/energy_uj");
    assert_eq!(sensors.read(seconds(2)).power_w, None);
    assert!(
        matches!(&sensors.take_complaints()[..], [Error::Read { path, .. }] if path.ends_with("intel-rapl:1/energy_uj"))
    );
}

#[test]
fn the_platform_stands_for_its_packages_unless_it_takes_less_than_they_do() {
    let device = pc();
    device.rapl("intel-rapl:1", "psys", 0, RANGE);
    let mut sensors = device.sensors();
    sensors.read(seconds(0));
    device.energy("intel-rapl:0", 11_000_000).energy("intel-rapl:1", 17_000_000);
    assert_near(sensors.read(seconds(1)).power_w, 17.0);
    assert_eq!(sensors.power_source(), Some(PowerSource::RaplPlatform));
    device.energy("intel-rapl:0", 21_000_000).energy("intel-rapl:1", 17_100_000);
    assert_near(sensors.read(seconds(2)).power_w, 10.0);
    assert_eq!(sensors.power_source(), Some(PowerSource::RaplPackages));
}

#[test]
fn a_zone_that_went_and_came_back_starts_anew() {
    let device = pc();
    let mut sensors = device.sensors();
    sensors.read(seconds(0));
    device.remove("sys/class/powercap/intel-rapl:0");
    sensors.read(seconds(1));
    device.rapl("intel-rapl:0", "package-0", 9_000_000, RANGE);
    assert_eq!(sensors.read(seconds(2)).power_w, None);
    device.energy("intel-rapl:0", 19_000_000);
    assert_near(sensors.read(seconds(3)).power_w, 10.0);
}

#[test]
fn memory_pressure_is_a_fraction_of_time() {
    for (text, pressure) in [
        ("some avg10=12.50 avg60=0.00 avg300=0.00 total=0\nfull avg10=99.00", Some(0.125)),
        ("full avg10=99.00\nsome avg60=3.00 avg10=0.00", Some(0.0)),
        ("some avg10=100.01", None),
        ("some avg10=-1", None),
        ("some avg10=NaN", None),
        ("some", None),
        ("", None),
    ] {
        let device = Device::bare();
        device.set("proc/pressure/memory", text);
        let mut sensors = device.sensors();
        assert_eq!(sensors.read(seconds(0)).memory_pressure, pressure, "{text}");
        assert_eq!(sensors.take_complaints().len(), usize::from(pressure.is_none()), "{text}");
    }
}
