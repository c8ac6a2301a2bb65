//! What each assumed constant does to the claims, from the lowest to the highest value that seems possible.

use std::fmt::Write as _;

use autoglm_power::model::{Assumptions, Device, Name, Run, Trace, simulate};
use rayon::prelude::*;

use super::bars::{median, sorted};
use super::cells::p95_ratio;

/// The air and the days of the sweep.
const AMBIENT_C: f64 = 25.0;
const SEED: u64 = 0;

/// A constant of devices and the factors that it is swept over.
type OfDevice = (&'static str, fn(&mut Device, f64), [f64; 2]);

/// Constants of devices that are assumed in all profiles, or that tables are not to be trusted with.
const OF_DEVICES: &[OfDevice] = &[
    ("battery.wh", |d, by| d.battery_wh *= by, [0.8, 1.25]),
    ("thermal.body_r", |d, by| d.thermal.body_r *= by, [0.8, 1.35]),
    ("thermal.body_c", |d, by| d.thermal.body_c *= by, [0.6, 1.6]),
    ("thermal.junction_r", |d, by| d.thermal.junction_r *= by, [0.6, 1.4]),
    ("thermal.junction_tau", |d, by| d.thermal.junction_tau *= by, [0.5, 2.0]),
    ("memory.gb_s", |d, by| d.memory.gb_s *= by, [0.65, 1.3]),
    ("memory.j_per_byte", |d, by| d.memory.j_per_byte *= by, [0.65, 1.5]),
    ("idle.suspend_w", |d, by| d.idle.suspend_w *= by, [0.5, 3.0]),
    ("idle.awake_w", |d, by| d.idle.awake_w *= by, [0.5, 2.0]),
    ("idle.screen_w", |d, by| d.idle.screen_w *= by, [0.5, 1.8]),
    ("idle.resident_w", |d, by| d.idle.resident_w *= by, [0.1, 15.0]),
    ("idle.reload_j_per_gb", |d, by| d.idle.reload_j_per_gb *= by, [0.5, 3.0]),
    ("cluster.watt_per_core", |d, by| scale(d, by, |c| &mut c.watt_per_core), [0.6, 1.5]),
    ("cluster.gops", |d, by| scale(d, by, |c| &mut c.gops), [0.6, 1.5]),
    ("little cores' gops", |d, by| d.clusters[0].gops.iter_mut().for_each(|v| *v *= by), [0.5, 1.5]),
];

fn scale(device: &mut Device, by: f64, of: fn(&mut autoglm_power::model::ClusterTable) -> &mut Vec<f64>) {
    device.clusters.iter_mut().for_each(|cluster| of(cluster).iter_mut().for_each(|value| *value *= by));
}

/// Gains of one variant, over all devices.
#[derive(Debug, Clone, Copy)]
struct Gains {
    none: f64,
    seed: f64,
    tiers: f64,
    p95: f64,
}

fn gains(devices: &[Device], assumptions: &Assumptions, tasks: usize) -> Gains {
    let trace = Trace::synthetic(tasks, 3, SEED);
    let per_device: Vec<[f64; 4]> = devices
        .par_iter()
        .map(|device| {
            let run = Run { device, trace: &trace, assumptions, ambient_c: AMBIENT_C, seed: SEED, samples: false };
            let [none, seed, ours, tiers] =
                [Name::None, Name::Seed, Name::Ours, Name::OursTiers].map(|name| simulate(&run, name));
            let lives = [ours.life_h / none.life_h, ours.life_h / seed.life_h, tiers.life_h / seed.life_h];
            [lives[0], lives[1], lives[2], p95_ratio(&ours, &seed)]
        })
        .collect();
    let of = |index: usize| median(&sorted(per_device.iter().map(|values| values[index])));
    Gains { none: of(0) - 1.0, seed: of(1) - 1.0, tiers: of(2) - 1.0, p95: of(3) }
}

/// The table of the sweep: medians over the devices, with each constant at its lowest and at its highest.
pub(super) fn report(devices: &[Device], tasks: usize) -> String {
    let usual = Assumptions::default();
    let mut text = format!(
        "Sensitivity: medians over {} devices in air of {AMBIENT_C} C, one constant at a time. Modelled, not measured on a \
         phone.\n{:<24} {:>22}  {:>18}  {:>18}  {:>18}  {:>14}\n",
        devices.len(),
        "constant",
        "range",
        "ours vs none",
        "ours vs seed",
        "tiers vs seed",
        "p95/seed"
    );
    let base = gains(devices, &usual, tasks);
    row(&mut text, "(as assumed)", "", [base, base]);
    for (name, field, range) in Assumptions::swept() {
        let at = |value: f64| {
            let mut assumptions = usual.clone();
            *field(&mut assumptions) = value;
            gains(devices, &assumptions, tasks)
        };
        row(&mut text, name, &format!("{} .. {}", range[0], range[1]), range.map(at));
    }
    for (name, change, range) in OF_DEVICES {
        let at = |by: f64| {
            let mut changed = devices.to_vec();
            changed.iter_mut().for_each(|device| change(device, by));
            gains(&changed, &usual, tasks)
        };
        row(&mut text, name, &format!("x{} .. x{}", range[0], range[1]), range.map(at));
    }
    text
}

fn row(text: &mut String, name: &str, range: &str, [low, high]: [Gains; 2]) {
    let percent = |a: f64, b: f64| format!("{:+.0} .. {:+.0} %", 100.0 * a, 100.0 * b);
    let _ = writeln!(
        text,
        "{name:<24} {range:>22}  {:>18}  {:>18}  {:>18}  {:>14}",
        percent(low.none, high.none),
        percent(low.seed, high.seed),
        percent(low.tiers, high.tiers),
        format!("{:.2} .. {:.2}", low.p95, high.p95)
    );
}
