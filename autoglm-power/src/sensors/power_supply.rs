//! Batteries and mains: what is left, whether it is filled up, and what is drawn from it.

mod unit;

use std::collections::BTreeMap;

use super::files::Files;
use unit::{CurrentUnit, volts, watts_of_power};

const SUPPLIES: &str = "sys/class/power_supply";

/// Supplies that are looked at.
const MOST_SUPPLIES: usize = 64;

/// Name of the battery that stands for all where there is one: Android's, beside which gauges and cells show up as batteries
/// of their own.
const ANDROIDS: &str = "battery";

/// How far a charge may be from the percentage that the kernel tells, before its unit is doubted.
const CHARGE_ERROR: f64 = 0.15;
/// How far above its full charge a battery may be found, whose full charge is an estimate.
const OVERFULL: f64 = 1.2;

/// What the supplies of a device tell.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Supply {
    /// What is drawn from the batteries, in W; none while none of them is discharged.
    pub(super) discharge_w: Option<f64>,
    /// What is left, as a fraction.
    pub(super) charge: Option<f64>,
    /// Whether no battery is discharged, or there is none.
    pub(super) on_supply: Option<bool>,
}

/// The supplies, and in what units their currents are, by name.
#[derive(Debug, Default)]
pub(super) struct PowerSupplies {
    units: BTreeMap<String, CurrentUnit>,
}

/// One battery.
struct Battery {
    discharging: Option<bool>,
    watts: Option<f64>,
    charge: Option<f64>,
    /// Its full charge, in a unit of its own.
    full: Option<(&'static str, f64)>,
}

impl PowerSupplies {
    /// What the supplies tell now.
    ///
    /// The sign of a current is not looked at: the kernel's rule is negative while discharging, ACPI's drivers and some
    /// phones tell the magnitude, and others the opposite. `status` says which it is.
    pub(super) fn read(&mut self, files: &mut Files) -> Supply {
        let (mut batteries, mut mains, mut unknown) = (Vec::new(), None, false);
        for name in files.names(SUPPLIES, "", MOST_SUPPLIES) {
            let kind = files.text(&file(&name, "type"));
            // A mouse, a headset or a pen has a battery as well.
            if files.text(&file(&name, "scope")).as_deref() == Some("Device") {
                continue;
            }
            match kind.as_deref() {
                Some("Battery") => batteries.push(name),
                Some(kind) if kind == "Mains" || kind == "Wireless" || kind.starts_with("USB") => {
                    // 2 is a supply whose voltage can be chosen.
                    let online = files.number(&file(&name, "online")).map(|online| online == 1 || online == 2);
                    mains = if mains == Some(true) { mains } else { online.or(mains) };
                }
                Some(_) => {}
                None => unknown = true,
            }
        }
        if batteries.iter().any(|name| name == ANDROIDS) {
            batteries.retain(|name| name == ANDROIDS);
        }
        batteries.retain(|name| files.number(&file(name, "present")) != Some(0));
        self.units.retain(|name, _| batteries.contains(name));

        if batteries.is_empty() {
            // No battery is to be seen: in a kernel that knows of supplies there is none, unless one was not to be read.
            let none = !unknown && files.lists(SUPPLIES);
            return Supply { on_supply: mains.filter(|on| *on).or(none.then_some(true)), ..Supply::default() };
        }
        let batteries: Vec<Battery> = batteries.iter().map(|name| self.battery(files, name, mains)).collect();
        Supply { discharge_w: discharge(&batteries), charge: charge(&batteries), on_supply: on_supply(&batteries) }
    }

    fn battery(&mut self, files: &mut Files, name: &str, mains: Option<bool>) -> Battery {
        let discharging = match files.text(&file(name, "status")).as_deref() {
            Some("Discharging") => Some(true),
            Some("Charging" | "Full") => Some(false),
            // Neither charged nor said to be discharged: the mains decide.
            Some("Not charging") => Some(mains == Some(false)),
            _ => mains.map(|on| !on),
        };
        let volts = files.number(&file(name, "voltage_now")).and_then(volts);
        let power = files.number(&file(name, "power_now"));
        let watts = power.and_then(|power| watts_of_power(power, volts)).or_else(|| {
            let current = files.number(&file(name, "current_now"))?;
            self.units.entry(name.to_owned()).or_default().watts(current, volts?)
        });
        // Of two batteries a laptop draws from one at a time, and the other says zero.
        let watts = watts.or_else(|| (power == Some(0)).then_some(0.0));
        let (charge, full) = charge_of(files, name);
        Battery { discharging, watts, charge, full }
    }
}

fn file(supply: &str, file: &str) -> String {
    format!("{SUPPLIES}/{supply}/{file}")
}

/// What is left in a battery, and its full charge.
///
/// A ratio of charges is finer than the percentage, and believed where it agrees with that: the two charges can be in
/// different units, or the full one that of the factory.
fn charge_of(files: &mut Files, name: &str) -> (Option<f64>, Option<(&'static str, f64)>) {
    let percent = files.number(&file(name, "capacity"));
    let told = percent.filter(|percent| (0..=100).contains(percent)).map(|percent| percent as f64 / 100.0);
    for (now, full) in [("energy_now", "energy_full"), ("charge_now", "charge_full"), ("charge_counter", "charge_full")]
    {
        let Some(now) = files.number(&file(name, now)).filter(|now| *now >= 0) else { continue };
        let Some(whole) = files.number(&file(name, full)).filter(|whole| *whole > 0) else { continue };
        let ratio = now as f64 / whole as f64;
        let agrees = told.is_none_or(|told| (ratio.min(1.0) - told).abs() <= CHARGE_ERROR);
        if ratio <= OVERFULL && agrees {
            return (Some(ratio.min(1.0)), Some((full, whole as f64)));
        }
    }
    (told, None)
}

/// The power drawn from all batteries that are discharged; none where one of them does not say, as a part is not the whole.
fn discharge(batteries: &[Battery]) -> Option<f64> {
    let mut total = 0.0;
    for battery in batteries {
        if battery.discharging? {
            total += battery.watts?;
        }
    }
    (total > 0.0 && total <= MOST_W).then_some(total)
}

/// What a device takes from all its batteries at most, in W.
const MOST_W: f64 = 300.0;

/// What is left in all batteries: weighted by their full charges where these are told in one unit, and else the mean.
fn charge(batteries: &[Battery]) -> Option<f64> {
    let charges: Vec<f64> = batteries.iter().map(|battery| battery.charge).collect::<Option<_>>()?;
    let fulls: Option<Vec<(&str, f64)>> = batteries.iter().map(|battery| battery.full).collect();
    let one_unit = |fulls: &Vec<(&str, f64)>| fulls.iter().all(|(unit, _)| *unit == fulls[0].0);
    let weights = match fulls.filter(one_unit) {
        Some(fulls) => fulls.into_iter().map(|(_, full)| full).collect(),
        None => vec![1.0; charges.len()],
    };
    let left: f64 = charges.iter().zip(&weights).map(|(charge, weight)| charge * weight).sum();
    Some((left / weights.iter().sum::<f64>()).clamp(0.0, 1.0))
}

/// Whether none of the batteries is discharged.
fn on_supply(batteries: &[Battery]) -> Option<bool> {
    if batteries.iter().any(|battery| battery.discharging == Some(true)) {
        return Some(false);
    }
    batteries.iter().all(|battery| battery.discharging == Some(false)).then_some(true)
}
