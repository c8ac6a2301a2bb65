//! What conducting a model costs: a tick on this machine and on a phone of files, the controllers alone, and days of the device
//! model.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use autoglm_power::control::{Limits, Phase, Regulator, Work};
use autoglm_power::levers::Levers;
use autoglm_power::model::{Assumptions, Device, Name, PROFILES, Run, Trace, simulate};
use autoglm_power::{Conductor, Progress, Reading, Topology, Tree, tasks};
use criterion::{Criterion, criterion_group, criterion_main};

fn lay(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(path, text).expect("a file");
}

/// A phone with three clusters, forty thermal zones and a battery.
fn pixel(folder: &Path) -> (Tree, Topology) {
    lay(folder, "sys/devices/system/cpu/online", "0-7");
    let clusters = [
        (0, "0 1 2 3", 160, "300000 574000 738000 930000 1098000 1197000 1328000 1401000 1598000 1704000 1803000"),
        (4, "4 5", 500, "400000 553000 696000 799000 910000 1024000 1197000 1491000 1663000 1836000 1999000 2253000"),
        (
            6,
            "6 7",
            1024,
            "500000 851000 984000 1106000 1277000 1426000 1582000 1745000 2048000 2252000 2507000 2850000",
        ),
    ];
    for (first, cores, capacity, clocks) in clusters {
        let of = |file: &str| format!("sys/devices/system/cpu/cpufreq/policy{first}/{file}");
        lay(folder, &of("affected_cpus"), cores);
        lay(folder, &of("related_cpus"), cores);
        lay(folder, &of("scaling_available_frequencies"), clocks);
        lay(folder, &of("scaling_cur_freq"), clocks.rsplit(' ').next().expect("a clock"));
        lay(folder, &format!("sys/devices/system/cpu/cpu{first}/cpu_capacity"), &capacity.to_string());
    }
    let kinds = ["BIG", "MID", "LITTLE", "G3D", "TPU", "battery", "VIRTUAL-SKIN", "quiet_therm"];
    for zone in 0..40 {
        let kind = kinds.get(zone).map_or_else(|| format!("modem{zone}"), |kind| (*kind).to_owned());
        lay(folder, &format!("sys/class/thermal/thermal_zone{zone}/type"), &kind);
        lay(folder, &format!("sys/class/thermal/thermal_zone{zone}/temp"), &(30_000 + 321 * zone).to_string());
    }
    let battery = [
        ("type", "Battery"),
        ("status", "Discharging"),
        ("capacity", "70"),
        ("current_now", "-900000"),
        ("voltage_now", "3900000"),
    ];
    battery.iter().for_each(|(file, text)| lay(folder, &format!("sys/class/power_supply/battery/{file}"), text));
    lay(folder, "proc/pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n");
    let tree = Tree::new(folder);
    let topology = Topology::read(&tree).expect("a processor");
    (tree, topology)
}

/// A whole tick: reading, deciding, moving the threads, as once a second while something is computed.
fn conductor_tick(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let (tree, topology) = pixel(folder.path());
    let levers = Levers::probe(&tree, &topology);
    let own: Vec<i32> = tasks::calling(&Tree::default()).into_iter().collect();
    let mut group = criterion.benchmark_group("conductor_tick");
    for (name, mut conductor, threads) in [
        ("this machine", Conductor::of_this_device(), own),
        ("pixel-like files", Conductor::new(tree, topology, levers, Limits::default()), Vec::new()),
    ] {
        let mut now = Duration::ZERO;
        group.bench_function(name, |b| {
            b.iter(|| {
                now += Duration::from_secs(1);
                let progress = Progress { phase: Phase::Decode, work: 10.0, seconds: 1.0, threads: &threads };
                conductor.tick(now, black_box(&progress))
            });
        });
    }
}

fn regulator_step(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut regulator = Regulator::new(&pixel(folder.path()).1, Limits::default());
    let mut reading = Reading {
        body_c: Some(33.0),
        junction_c: Some(50.0),
        power_w: Some(5.0),
        charge: Some(0.7),
        on_supply: Some(false),
        ..Reading::default()
    };
    regulator.begin(&reading, None, None);
    let mut now_s = 0.0_f64;
    criterion.bench_function("regulator_step", |b| {
        b.iter(|| {
            now_s += 1.0;
            reading.body_c = Some(33.0 + 3.0 * (now_s / 300.0).sin());
            let work = Work { phase: Phase::Decode, done: Some((10.0, 1.0)) };
            regulator.step(black_box(&reading), &work, now_s).threads()
        });
    });
}

/// Three days of sixteen tasks each.
fn simulate_day(criterion: &mut Criterion) {
    let (name, text) = PROFILES.iter().find(|(name, _)| *name == "tensor-g4").expect("a profile");
    let device = Device::parse(name, text).expect("a device");
    let (trace, assumptions) = (Trace::synthetic(16, 1, 1), Assumptions::default());
    let run =
        Run { device: &device, trace: &trace, assumptions: &assumptions, ambient_c: 25.0, seed: 1, samples: false };
    let mut group = criterion.benchmark_group("simulate_day/tensor-g4");
    group.sample_size(10);
    for name in [Name::Seed, Name::Ours] {
        group.bench_function(name.as_str(), |b| b.iter(|| simulate(black_box(&run), name)));
    }
}

criterion_group!(benches, conductor_tick, regulator_step, simulate_day);
criterion_main!(benches);
