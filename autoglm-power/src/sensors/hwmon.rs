//! Power monitors on a board's rails, and fans.

use super::files::Files;

const CHIPS: &str = "sys/class/hwmon";

/// Chips that are looked at.
const MOST_CHIPS: usize = 64;
/// Inputs of a monitor: an INA3221 has three. Further ones of its files are voltages over its shunts and their sums, which
/// are no rails.
const CHANNELS: std::ops::RangeInclusive<usize> = 1..=3;
/// Fans of a chip that are looked at.
const FANS: std::ops::RangeInclusive<usize> = 1..=8;

/// What a board takes at most, in W.
const MOST_W: f64 = 300.0;
/// No fan turns faster, in 1/min.
const MOST_RPM: i64 = 50_000;

/// Rails that feed the whole board: `POM_5V_IN` is an older Jetson's name for `VDD_IN`.
const WHOLE: &[&str] = &["VDD_IN", "POM_5V_IN"];
/// A rail that is taken to hang behind another one, and is not counted beside it: on a Jetson AGX Orin, memory behind the
/// 5 V system.
const BEHIND: &[(&str, &str)] = &[("VDDQ_VDD2_1V8AO", "VIN_SYS_5V0")];

/// One rail with a monitor.
struct Rail {
    label: String,
    watts: Option<f64>,
}

/// What the power monitors (INA219, INA226, INA3221 …) say that the board takes, in W: the rail that feeds all others where
/// one is labelled so, and else the sum of all, which is none where one of them is silent.
pub(super) fn power_w(files: &mut Files) -> Option<f64> {
    let mut rails = Vec::new();
    for chip in files.names(CHIPS, "hwmon", MOST_CHIPS) {
        let chip = format!("{CHIPS}/{chip}");
        if files.text(&format!("{chip}/name")).is_some_and(|name| name.starts_with("ina")) {
            rails.extend(CHANNELS.filter_map(|channel| rail(files, &chip, channel)));
        }
    }
    let total = match rails.iter().find(|rail| WHOLE.contains(&rail.label.as_str())) {
        Some(whole) => whole.watts,
        None => {
            let has = |label: &str| rails.iter().any(|rail| rail.label == label);
            let is_counted = |rail: &&Rail| !BEHIND.iter().any(|(label, by)| rail.label == *label && has(by));
            rails.iter().filter(is_counted).map(|rail| rail.watts).sum()
        }
    };
    // Without rails the sum is zero, and a board that runs takes some.
    total.filter(|watts| *watts > 0.0 && *watts <= MOST_W)
}

/// What one input of a monitor says; none where nothing is connected to it.
fn rail(files: &mut Files, chip: &str, channel: usize) -> Option<Rail> {
    let power = format!("{chip}/power{channel}_input");
    let volts = format!("{chip}/in{channel}_input");
    let has_power = files.exists(&power);
    if !has_power && !files.exists(&volts) {
        return None;
    }
    let label = files.text(&format!("{chip}/in{channel}_label")).unwrap_or_default();
    // Jetsons label inputs that lead nowhere.
    if label == "NC" {
        return None;
    }
    let watts = if has_power {
        files.number(&power).map(|microwatts| microwatts as f64 / 1e6)
    } else {
        let amperes = format!("{chip}/curr{channel}_input");
        let millivolts = files.number(&volts);
        millivolts.zip(files.number(&amperes)).map(|(mv, ma)| mv as f64 * ma as f64 / 1e6)
    };
    // The current of a rail without a load may be read as a little below zero.
    Some(Rail { label, watts: watts.map(|watts| watts.max(0.0)) })
}

/// How fast the fastest fan turns, in 1/min; none where there is no fan to be seen.
pub(super) fn fan_rpm(files: &mut Files) -> Option<u32> {
    let mut fastest = None;
    for chip in files.names(CHIPS, "hwmon", MOST_CHIPS) {
        for fan in FANS {
            let turns = files.number(&format!("{CHIPS}/{chip}/fan{fan}_input"));
            let turns =
                turns.filter(|turns| (0..=MOST_RPM).contains(turns)).and_then(|turns| u32::try_from(turns).ok());
            fastest = fastest.max(turns);
        }
    }
    fastest
}
