//! Temperatures that are wrong, stuck or out of bounds.

use std::time::Duration;

use super::device::{Device, assert_near, pc, pixel};
use crate::Error;
use crate::sensors::Sensors;

fn read(sensors: &mut Sensors, second: u64) -> (Option<f64>, Option<f64>) {
    let reading = sensors.read(Duration::from_secs(second));
    (reading.body_c, reading.junction_c)
}

#[test]
fn what_is_no_temperature_is_silence() {
    for temp in ["0", "-274000", "-20001", "125001", "NaN", "nan", "inf", "", "36.5", "45", "-999", "255", "2147483647"]
    {
        let device = Device::bare();
        device.zone(0, "skin_therm", temp).zone(1, "cpu-thermal", temp);
        let mut sensors = device.sensors();
        assert_eq!(read(&mut sensors, 0), (None, None), "{temp}");
        assert_eq!(sensors.take_complaints().len(), 2, "{temp}");
    }
    for (temp, degrees) in [("-20000", -20.0), ("125000", 125.0), ("1000", 1.0), ("+36500\n", 36.5)] {
        let device = Device::bare();
        assert_near(device.zone(0, "skin_therm", temp).read().body_c, degrees);
    }
}

#[test]
fn one_wrong_reading_among_three_is_not_believed() {
    let device = Device::bare();
    device.zone(0, "cpu-thermal", "50000");
    let mut sensors = device.sensors();
    let mut after = |second, temp| {
        device.temp(0, temp);
        read(&mut sensors, second).1
    };
    assert_eq!(after(0, "50000"), Some(50.0));
    assert_eq!(after(1, "90000"), Some(90.0), "of two, the higher");
    assert_eq!(after(2, "51000"), Some(51.0));
    assert_eq!(after(3, "-20000"), Some(51.0));
    assert_eq!(after(4, "garbage"), Some(51.0));
    assert_eq!(after(5, "52000"), Some(51.0));
    assert_eq!(after(6, "53000"), Some(52.0));
}

#[test]
fn a_sensor_that_falls_silent_is_forgotten_after_half_a_minute_and_one_that_goes_at_once() {
    let device = pixel();
    let mut sensors = device.sensors();
    assert_eq!(read(&mut sensors, 0), (Some(36.25), Some(52.0)));
    device.make_unreadable("sys/class/thermal/thermal_zone0/temp");
    assert_eq!(read(&mut sensors, 29).1, Some(52.0));
    assert_eq!(read(&mut sensors, 30).1, Some(47.5));
    device.remove("sys/class/thermal/thermal_zone1");
    assert_eq!(read(&mut sensors, 31).1, Some(45.0));
    device.remove("sys/class/thermal/thermal_zone3");
    assert_eq!(read(&mut sensors, 32).0, Some(31.4));
}

#[test]
fn a_zone_that_turns_up_is_found_within_ten_seconds() {
    let device = Device::bare();
    let mut sensors = device.sensors();
    assert_eq!(read(&mut sensors, 0), (None, None));
    device.zone(0, "cpu-thermal", "50000");
    assert_eq!(read(&mut sensors, 10).1, Some(50.0));
    // Under the same number, it is another sensor now.
    device.zone(0, "battery", "30000");
    assert_eq!(read(&mut sensors, 20), (Some(30.0), None));
}

#[test]
fn the_battery_is_the_body_where_it_is_the_hotter_or_only_one() {
    let device = pixel();
    device.temp(4, "44000");
    assert_near(device.read().body_c, 44.0);
    device.remove("sys/class/thermal/thermal_zone3");
    assert_near(device.read().body_c, 44.0);
}

#[test]
fn a_processor_s_sensor_that_stands_still_while_others_move_is_stuck_until_it_moves() {
    let device = Device::bare();
    device.zone(0, "cpu-0", "60000").zone(1, "cpu-1", "40000").zone(2, "skin", "30000");
    let mut sensors = device.sensors();
    for second in 0..60 {
        device.temp(1, &format!("{}", 40_000 + second * 100));
        assert_eq!(read(&mut sensors, second).1, Some(60.0), "{second}");
    }
    device.temp(1, "46000");
    let (_, junction) = read(&mut sensors, 60);
    assert!(junction.is_some_and(|junction| junction < 47.0), "{junction:?}");
    let complaints = sensors.take_complaints();
    assert!(
        matches!(&complaints[..], [Error::Content { path, got, .. }] if path.ends_with("thermal_zone0/temp") && got == "60000"),
        "{complaints:?}"
    );
    device.temp(0, "60001");
    assert!(read(&mut sensors, 61).1.is_some_and(|junction| junction >= 60.0));
}

#[test]
fn a_device_s_only_sensor_is_stuck_where_its_power_moves() {
    let device = Device::bare();
    device.zone(0, "cpu-thermal", "40000");
    let battery = "sys/class/power_supply/BAT0";
    device.set_all(battery, &[("type", "Battery"), ("status", "Discharging"), ("power_now", "5000000")]);
    let mut sensors = device.sensors();
    for second in 0..120 {
        assert_eq!(read(&mut sensors, second).1, Some(40.0));
    }
    device.set(&format!("{battery}/power_now"), "9000000");
    read(&mut sensors, 120);
    assert_eq!(read(&mut sensors, 121).1, None);
}

#[test]
fn another_source_of_power_is_no_move_of_it() {
    let device = pc();
    device.remove("sys/class/thermal").zone(0, "cpu-thermal", "40000");
    let battery = "sys/class/power_supply/BAT0";
    device.set_all(battery, &[("type", "Battery"), ("status", "Discharging"), ("power_now", "18000000")]);
    let mut sensors = device.sensors();
    for second in 0..200 {
        if second == 30 {
            device.set(&format!("{battery}/status"), "Charging");
        }
        device.energy("intel-rapl:0", second * 10_000_000);
        assert_eq!(read(&mut sensors, second).1, Some(40.0), "{second}");
    }
}

#[test]
fn the_firmware_does_not_stand_in_for_a_processor_s_sensor() {
    let device = Device::bare();
    device.zone(0, "acpitz", "90000").zone(1, "x86_pkg_temp", "58000");
    assert_eq!(device.read().junction_c, Some(58.0));
    device.make_unreadable("sys/class/thermal/thermal_zone1/temp");
    assert_eq!(device.read().junction_c, None);
    device.remove("sys/class/thermal/thermal_zone1");
    assert_eq!(device.read().junction_c, Some(90.0));
}

#[test]
fn a_zone_that_loses_its_temperature_has_none() {
    let device = pixel();
    let mut sensors = device.sensors();
    assert_eq!(read(&mut sensors, 0).1, Some(52.0));
    device.remove("sys/class/thermal/thermal_zone0/temp");
    assert_eq!(read(&mut sensors, 1).1, Some(47.5));
    device.temp(0, "53000");
    assert_eq!(read(&mut sensors, 2).1, Some(53.0));
}

#[test]
fn a_battery_that_stands_still_beside_a_processor_that_is_hot_on_average_is_stuck() {
    let device = Device::bare();
    device.zone(0, "battery", "31000").zone(1, "cpu-thermal", "42000");
    let mut sensors = device.sensors();
    assert_eq!(read(&mut sensors, 0).0, Some(31.0));
    // Half a minute each way: every other look finds the processor as cool as it was.
    for second in (10..1000).step_by(10) {
        device.temp(1, if second / 30 % 2 == 0 { "82000" } else { "42000" });
        read(&mut sensors, second);
    }
    assert_eq!(read(&mut sensors, 1000).0, None);
}

#[test]
fn a_battery_that_holds_its_temperature_is_not_stuck_while_the_processor_comes_and_goes() {
    let device = Device::bare();
    device.zone(0, "battery", "31000").zone(1, "cpu-thermal", "40000");
    let mut sensors = device.sensors();
    for second in (0..3600).step_by(5) {
        device.temp(1, &format!("{}", if second % 300 < 60 { 70_000 + second } else { 45_000 + second }));
        assert_eq!(read(&mut sensors, second).0, Some(31.0), "{second}");
    }
    // Ten minutes of full load warm any battery.
    for second in (3600..4400).step_by(5) {
        device.temp(1, &format!("{}", 90_000 + second));
        read(&mut sensors, second);
    }
    assert_eq!(read(&mut sensors, 4400).0, None);
}

#[test]
fn a_sensor_that_comes_or_goes_does_not_make_the_others_stuck() {
    let device = Device::bare();
    device.zone(0, "cpu-0", "40000").zone(1, "cpu-1", "70000").zone(2, "cpu-2", "41000");
    let mut sensors = device.sensors();
    for second in 0..30 {
        read(&mut sensors, second);
    }
    device.remove("sys/class/thermal/thermal_zone1");
    for second in 30..300 {
        assert_eq!(read(&mut sensors, second).1, Some(41.0), "{second}");
    }
}
