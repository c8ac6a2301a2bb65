//! Thermal zones into the temperatures of body and processor.

mod part;
mod stillness;

use std::collections::VecDeque;
use std::time::Duration;

use part::Part;
use stillness::{Stillness, Surroundings};

use super::PowerSource;
use super::files::Files;

const ZONES: &str = "sys/class/thermal";

/// Zones that are looked at; phones have about a hundred.
const MOST_ZONES: usize = 256;

/// What a part of a running device can have, in thousandths of a degree.
const PLAUSIBLE: std::ops::RangeInclusive<i64> = -20_000..=125_000;
/// Nearer to zero than this, in thousandths of a degree, is not believed: sensors that are switched off say 0, some old
/// kernels count in degrees or tenths, and Qualcomm has a zone `soc` that tells a charge in percent. Taken at its word,
/// each would make a hot device look frozen.
const NEAR_ZERO: i64 = 1_000;

/// Readings whose median is believed, so that a single wrong one is not.
const MEDIAN_OF: usize = 3;
/// How long a reading counts.
const MEMORY: Duration = Duration::from_secs(30);
/// How often zones are looked for, apart from when one has gone.
const LOOK: Duration = Duration::from_secs(10);
/// The time constant of the average that sensors of the body are compared with, in s.
const AVERAGE_S: f64 = 60.0;

/// What thermal zones tell, in °C.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Temperatures {
    /// The skin, or the board where no sensor is called skin, or the battery where that is hotter.
    pub(super) body_c: Option<f64>,
    /// The hottest zone of the processor, and the firmware's where it has none.
    pub(super) junction_c: Option<f64>,
}

/// The zones of a device, and what they last said.
#[derive(Debug, Default)]
pub(super) struct Thermal {
    zones: Vec<Zone>,
    looked: Option<Duration>,
    /// The zones that last had a temperature, by name.
    heard: Vec<String>,
    /// The processor's temperature, averaged, and when it last was.
    average: Option<(f64, Duration)>,
    power_source: Option<PowerSource>,
}

#[derive(Debug)]
struct Zone {
    name: String,
    kind: String,
    part: Part,
    readings: VecDeque<(i64, Duration)>,
    stillness: Stillness,
}

impl Thermal {
    /// The temperatures at an instant. `power` is what else is known of the device then, which shows a stuck sensor.
    pub(super) fn read(&mut self, files: &mut Files, power: Option<(PowerSource, f64)>, now: Duration) -> Temperatures {
        if self.looked.is_none_or(|looked| now.saturating_sub(looked) >= LOOK) {
            self.look(files, now);
        }
        let mut has_gone = false;
        for zone in &mut self.zones {
            has_gone |= !zone.read(files, now);
        }
        if has_gone {
            self.look(files, now);
        }
        self.find_stuck(files, power, now);

        let hottest =
            |part: Part| self.zones.iter().filter(|z| z.part == part).filter_map(|z| z.degrees(now)).reduce(f64::max);
        // A constant of the firmware's must not stand in for a sensor of the processor that has fallen silent.
        let has_processor = self.zones.iter().any(|zone| zone.part == Part::Processor);
        let firmware = || hottest(Part::Firmware).filter(|_| !has_processor);
        let skin = hottest(Part::Skin).or_else(|| hottest(Part::Board));
        Temperatures {
            body_c: [skin, hottest(Part::Battery)].into_iter().flatten().reduce(f64::max),
            junction_c: hottest(Part::Processor).or_else(firmware),
        }
    }

    /// Looks for zones, and keeps what is known of those that are still there.
    fn look(&mut self, files: &mut Files, now: Duration) {
        self.looked = Some(now);
        let mut known = std::mem::take(&mut self.zones);
        for name in files.names(ZONES, "thermal_zone", MOST_ZONES) {
            let Some(kind) = files.text(&format!("{ZONES}/{name}/type")) else { continue };
            let Some(part) = Part::of(&kind) else { continue };
            let zone = match known.iter().position(|zone| zone.name == name && zone.kind == kind) {
                Some(idx) => known.swap_remove(idx),
                None => Zone::new(name, kind, part),
            };
            self.zones.push(zone);
        }
    }

    /// Compares each zone that stands still with the rest of the device.
    fn find_stuck(&mut self, files: &mut Files, power: Option<(PowerSource, f64)>, now: Duration) {
        let degrees: Vec<Option<f64>> = self.zones.iter().map(|zone| zone.degrees(now)).collect();
        let heard = self.zones.iter().zip(&degrees).filter(|(_, degrees)| degrees.is_some());
        let heard: Vec<String> = heard.map(|(zone, _)| zone.name.clone()).collect();
        if heard != self.heard {
            // The hottest of other zones is another temperature, which says nothing of how those moved.
            self.zones.iter_mut().for_each(|zone| zone.stillness.meet_others());
            self.heard = heard;
        }
        let source = power.map(|(source, _)| source);
        if source.is_some() && source != self.power_source {
            self.zones.iter_mut().for_each(|zone| zone.stillness.change_power_source());
            self.power_source = source;
        }

        let quick = self.zones.iter().zip(&degrees).filter(|(zone, _)| zone.part.is_quick());
        if let Some(processor) = quick.filter_map(|(_, degrees)| *degrees).reduce(f64::max) {
            let (average, then) = self.average.unwrap_or((processor, now));
            let share = 1.0 - (-now.saturating_sub(then).as_secs_f64() / AVERAGE_S).exp();
            self.average = Some((average + share * (processor - average), now));
        }

        for (idx, zone) in self.zones.iter_mut().enumerate() {
            let others =
                degrees.iter().enumerate().filter(|(other, _)| *other != idx).filter_map(|(_, degrees)| *degrees);
            let surroundings = Surroundings {
                others_c: others.reduce(f64::max),
                processor_c: self.average.map(|(average, _)| average),
                power_w: power.map(|(_, watts)| watts),
            };
            if zone.stillness.compare(surroundings, now) {
                let got = zone.readings.back().map(|(reading, _)| *reading).unwrap_or_default();
                files.complain(&zone.path("temp"), &got, "has stood still while the device moved");
            }
        }
    }
}

impl Zone {
    fn new(name: String, kind: String, part: Part) -> Self {
        Self { name, kind, part, readings: VecDeque::new(), stillness: Stillness::new(part.is_quick()) }
    }

    fn path(&self, file: &str) -> String {
        format!("{ZONES}/{}/{file}", self.name)
    }

    /// Takes a reading, where there is a plausible one; false where the zone has gone.
    fn read(&mut self, files: &mut Files, now: Duration) -> bool {
        let path = self.path("temp");
        let Some(reading) = files.number(&path) else {
            let is_there = files.exists(&path);
            if !is_there {
                self.readings.clear();
            }
            return is_there;
        };
        if !PLAUSIBLE.contains(&reading) || reading.abs() < NEAR_ZERO {
            files.complain(&path, &reading, "is no temperature of a running device in thousandths of a degree");
            return true;
        }
        self.stillness.read(reading, now);
        if self.readings.len() == MEDIAN_OF {
            self.readings.pop_front();
        }
        self.readings.push_back((reading, now));
        true
    }

    /// The median of the last readings, in °C, and the higher one of two.
    fn degrees(&self, now: Duration) -> Option<f64> {
        let recent = self.readings.iter().filter(|(_, then)| now.saturating_sub(*then) < MEMORY);
        let mut recent: Vec<i64> = recent.map(|(reading, _)| *reading).collect();
        recent.sort_unstable();
        let median = recent.get(recent.len() / 2).filter(|_| !self.stillness.is_stuck());
        median.map(|thousandths| *thousandths as f64 / 1000.0)
    }
}
