//! Whole devices, as their kernels show them.

use std::time::Duration;

use super::device::{BATTERY, CPU, Device, assert_near, jetson, pc, pixel, snapdragon};
use crate::sensors::{Policy, PowerSource};
use crate::{Error, Reading, Topology};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_pixel_tells_everything() {
    let device = pixel();
    let mut sensors = device.sensors();
    let reading = sensors.read(seconds(0));
    assert_near(reading.body_c, 36.25);
    assert_near(reading.junction_c, 52.0);
    assert_near(reading.power_w, 1.9968);
    assert_near(reading.charge, 0.5);
    assert_near(reading.memory_pressure, 0.025);
    assert_eq!((reading.on_supply, reading.headroom), (Some(false), None));
    assert_eq!(sensors.power_source(), Some(PowerSource::Battery));
    assert!(sensors.take_complaints().is_empty());
}

#[test]
fn a_pixel_has_three_clusters_the_slowest_first() {
    let topology = pixel().topology();
    let cores: Vec<_> = topology.clusters.iter().map(|cluster| cluster.cores.clone()).collect();
    assert_eq!(cores, [vec![0, 1, 2, 3], vec![4, 5, 6], vec![7]]);
    assert_eq!(topology.clusters[0].clocks_khz, [300_000, 574_000, 738_000, 1_803_000]);
    assert_eq!(topology.clusters[2].capacity, Some(1024));
    assert_eq!(topology.cores(), 8);
}

#[test]
fn a_snapdragon_s_milliamperes_are_told_from_microamperes_and_its_charge_from_a_temperature() {
    let device = snapdragon();
    let mut sensors = device.sensors();
    let reading = sensors.read(seconds(0));
    assert_near(reading.power_w, 2.464);
    // quiet_therm stands for the skin: the oscillator is hotter, and nobody touches it.
    assert_near(reading.body_c, 39.3);
    assert_near(reading.junction_c, 63.8);
    assert_near(reading.charge, 0.64);
    assert_eq!(reading.on_supply, Some(false));
    let complaints = sensors.take_complaints();
    assert!(
        matches!(&complaints[..], [Error::Content { path, .. }] if path.ends_with("thermal_zone60/temp")),
        "{complaints:?}"
    );
}

#[test]
fn a_jetson_is_measured_where_its_power_comes_in() {
    let device = jetson();
    let mut sensors = device.sensors();
    let reading = sensors.read(seconds(0));
    assert_near(reading.power_w, 6.2);
    assert_near(reading.junction_c, 50.125);
    assert_eq!((reading.body_c, reading.charge, reading.on_supply), (None, None, Some(true)));
    assert_eq!(sensors.power_source(), Some(PowerSource::Rails));
    assert_eq!(sensors.fan_rpm(), Some(1834));
    assert_eq!(device.topology().clusters.len(), 2, "clusters of several cores stay apart, however alike");
}

#[test]
fn rails_are_summed_where_none_feeds_the_others() {
    let device = jetson();
    let chip = "sys/class/hwmon/hwmon1";
    device.set(&format!("{chip}/in1_label"), "VDD_GPU_SOC");
    assert_near(device.read().power_w, 6.2 + 4.992 * 0.7);
    // What hangs behind another rail is in that one, and what is not connected is nothing.
    device.set(&format!("{chip}/in2_label"), "VIN_SYS_5V0").set(&format!("{chip}/in3_label"), "VDDQ_VDD2_1V8AO");
    assert_near(device.read().power_w, 6.2 + 4.992 * 0.4);
    device.set(&format!("{chip}/in1_label"), "NC");
    assert_near(device.read().power_w, 4.992 * 0.4);
    // A sum without one of its rails is no sum.
    device.make_unreadable(&format!("{chip}/curr2_input"));
    assert_eq!(device.read().power_w, None);
}

#[test]
fn a_monitor_that_multiplies_by_itself_is_believed_and_other_chips_are_no_monitors() {
    let device = Device::bare();
    // A charger tells its battery's voltage and current in the same files.
    device.set_all("sys/class/hwmon/hwmon1", &[("name", "BAT0"), ("in1_input", "12000"), ("curr1_input", "900")]);
    let files = [("name", "ina226"), ("in1_input", "12000"), ("curr1_input", "1"), ("power1_input", "7500000")];
    device.set_all("sys/class/hwmon/hwmon0", &files);
    assert_near(device.read().power_w, 7.5);
}

#[test]
fn a_pc_s_policies_make_one_cluster_of_two_clocks() {
    let device = pc();
    let topology = device.topology();
    assert_eq!(topology.clusters.len(), 1);
    assert_eq!(topology.clusters[0].cores, [0, 1, 2, 3]);
    assert_eq!(topology.clusters[0].clocks_khz, [800_000, 4_900_000]);
    assert_eq!(topology.current_khz(&device.tree()), [Some(1_300_000)]);
    let policies = Policy::read_all(&device.tree()).unwrap();
    assert_eq!(policies[3].number, 3);
    assert_eq!(policies[3].driver.as_deref(), Some("intel_pstate"));
    assert_eq!(policies[3].governor.as_deref(), Some("powersave"));
}

#[test]
fn a_pc_s_cores_of_two_kinds_make_two_clusters_the_slower_first() {
    let device = pc();
    for core in [1, 3] {
        device.set(&format!("{CPU}/cpufreq/policy{core}/cpuinfo_max_freq"), "3800000");
    }
    let cores: Vec<_> = device.topology().clusters.into_iter().map(|cluster| cluster.cores).collect();
    assert_eq!(cores, [[1, 3], [0, 2]]);
}

#[test]
fn a_pc_s_power_is_that_of_its_package_and_its_temperature_not_the_firmware_s() {
    let device = pc();
    let mut sensors = device.sensors();
    let reading = sensors.read(seconds(0));
    assert_eq!((reading.power_w, sensors.power_source()), (None, None), "one reading of a counter says nothing");
    assert_near(reading.junction_c, 58.0);
    assert_eq!(reading.on_supply, Some(true));
    for zone in ["intel-rapl:0", "intel-rapl:0:0", "intel-rapl:0:1", "intel-rapl-mmio:0"] {
        device.energy(zone, 31_000_000);
    }
    assert_near(sensors.read(seconds(2)).power_w, 15.0);
    assert_eq!(sensors.power_source(), Some(PowerSource::RaplPackages));
    device.remove("sys/class/thermal/thermal_zone1");
    assert_near(sensors.read(seconds(4)).junction_c, 27.8);
}

#[test]
fn a_container_with_nothing_tells_nothing() {
    let device = Device::bare();
    let mut sensors = device.sensors();
    assert_eq!(sensors.read(seconds(0)), Reading::default());
    assert_eq!(sensors.fan_rpm(), None);
    assert!(sensors.take_complaints().is_empty());
    assert_eq!(device.topology(), Topology::default());
    device.set(&format!("{CPU}/online"), "0-3,6\n");
    let topology = device.topology();
    assert_eq!(topology.clusters.len(), 1);
    assert_eq!(topology.clusters[0].cores, [0, 1, 2, 3, 6]);
    assert!(topology.clusters[0].clocks_khz.is_empty());
    assert_eq!(topology.current_khz(&device.tree()), [None]);
}

#[test]
fn cores_that_are_offline_are_in_no_cluster() {
    let device = pixel();
    device.set(&format!("{CPU}/online"), "0-5,7\n").set(&format!("{CPU}/cpu1/online"), "0\n");
    let cores: Vec<_> = device.topology().clusters.into_iter().map(|cluster| cluster.cores).collect();
    assert_eq!(cores, [vec![0, 2, 3], vec![4, 5], vec![7]]);
    device.set(&format!("{CPU}/online"), "0-3\n");
    assert_eq!(device.topology().clusters.len(), 1);
    device.remove(&format!("{CPU}/online"));
    assert_eq!(device.topology().cores(), 7, "all possible ones but core 1");
}

#[test]
fn clocks_are_in_order_and_named_once_and_a_core_is_in_one_cluster() {
    let device = Device::bare();
    device.set(&format!("{CPU}/online"), "0-3");
    device.policy(&[0, 1, 2], "1500000 500000 0 1500000 4294967295", None).policy(&[2, 3], "2000000", None);
    device.set(&format!("{CPU}/cpufreq/policy2/affected_cpus"), "1-3");
    let topology = device.topology();
    let cores: Vec<_> = topology.clusters.iter().map(|cluster| cluster.cores.clone()).collect();
    assert_eq!(cores, [vec![0, 1, 2], vec![3]]);
    assert_eq!(topology.clusters[0].clocks_khz, [500_000, 1_500_000]);
}

#[test]
fn the_capacity_decides_which_cluster_is_the_slower() {
    let device = Device::bare();
    device.set(&format!("{CPU}/online"), "0-3");
    device.policy(&[0, 1], "300000 2000000", Some(1024)).policy(&[2, 3], "500000 2200000", Some(400));
    assert_eq!(device.topology().clusters[0].cores, [2, 3]);
}

#[test]
fn clusters_without_capacities_are_in_the_order_of_their_clocks() {
    let device = Device::bare();
    device.set(&format!("{CPU}/online"), "0-3");
    device.policy(&[0, 1], "2000000 1000000", None).policy(&[2, 3], "1500000 500000", None);
    let topology = device.topology();
    assert_eq!(topology.clusters[0].cores, [2, 3]);
    assert_eq!(topology.clusters[1].clocks_khz, [1_000_000, 2_000_000]);
}

#[test]
fn a_policy_keeps_its_clock_when_the_core_it_is_named_for_is_offline() {
    let device = pixel();
    device.set(&format!("{CPU}/online"), "1-7");
    device.set(&format!("{CPU}/cpu1/cpufreq/scaling_cur_freq"), "738000");
    device.set(&format!("{CPU}/cpufreq/policy7/scaling_cur_freq"), "<unknown>");
    assert_eq!(device.topology().current_khz(&device.tree()), [Some(738_000), None, None]);
}

#[test]
fn files_that_cannot_be_read_are_silence_and_complained_of_once() {
    let device = pixel();
    let files = [
        "sys/class/thermal/thermal_zone3/temp",
        "sys/class/thermal/thermal_zone4/type",
        "proc/pressure/memory",
        &format!("{BATTERY}/capacity"),
        &format!("{BATTERY}/current_now"),
    ];
    for file in files {
        device.make_unreadable(file);
    }
    let mut sensors = device.sensors();
    let reading = sensors.read(seconds(0));
    assert_eq!((reading.body_c, reading.power_w, reading.memory_pressure), (None, None, None));
    assert_near(reading.charge, 0.5);
    assert_eq!(reading.on_supply, Some(false));
    assert_near(reading.junction_c, 52.0);
    assert_eq!(sensors.take_complaints().len(), files.len());
    sensors.read(seconds(1));
    sensors.read(seconds(60));
    assert!(sensors.take_complaints().is_empty());
}

#[test]
fn files_that_go_and_come_back_are_followed() {
    let device = pixel();
    let mut sensors = device.sensors();
    assert!(sensors.read(seconds(0)).power_w.is_some());
    device.remove(BATTERY).remove("sys/class/thermal").remove("proc");
    let gone = sensors.read(seconds(1));
    assert_eq!((gone.body_c, gone.junction_c, gone.memory_pressure), (None, None, None));
    assert_near(gone.power_w, 1.9968);
    device.remove("sys/class/power_supply");
    assert_eq!(sensors.read(seconds(2)), Reading::default());
    assert!(sensors.take_complaints().is_empty(), "what is not there is no fault");
    device.zone(9, "cpu-thermal", "66000").zone(1, "skin_therm", "33000");
    let back = sensors.read(seconds(13));
    assert_near(back.junction_c, 66.0);
    assert_near(back.body_c, 33.0);
}

#[test]
fn a_topology_of_files_that_cannot_be_understood_is_an_error_that_names_one() {
    for (file, contents) in [
        ("online", "0-4294967295"),
        ("online", "all of them"),
        ("cpufreq/policy4/affected_cpus", "4 5 9999999999999999999999"),
        ("cpufreq/policy4/scaling_available_frequencies", "400000 fast"),
        ("cpu0/cpu_capacity", "little"),
    ] {
        let device = pixel();
        device.set(&format!("{CPU}/{file}"), contents);
        let error = Topology::read(&device.tree()).unwrap_err();
        assert!(matches!(&error, Error::Content { path, .. } if path.ends_with(file)), "{error}");
    }
    let device = pixel();
    device.make_unreadable(&format!("{CPU}/online"));
    assert!(matches!(Topology::read(&device.tree()), Err(Error::Read { .. })));
}

#[test]
fn this_machine_can_be_asked() {
    let mut sensors = crate::sensors::Sensors::of_this_device();
    let first = sensors.read(seconds(0));
    assert!(first.charge.is_none_or(|charge| (0.0..=1.0).contains(&charge)));
    if cfg!(target_os = "linux") {
        assert!(Topology::read(&crate::Tree::default()).is_ok());
    }
}
