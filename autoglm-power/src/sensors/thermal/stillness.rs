//! When a sensor that stands still is stuck.

use std::time::Duration;

/// How long, and over how many readings, a sensor of the processor must not have moved by its last digit.
const QUICK: (Duration, u32) = (Duration::from_secs(60), 20);
/// The same for one of the body, which holds heat for minutes and is often told in whole degrees.
const SLOW: (Duration, u32) = (Duration::from_secs(600), 20);
/// How far, in °C, the hottest other sensor must have moved meanwhile, for a sensor of the processor.
const OTHERS_C: f64 = 5.0;
/// How far, in °C, and for how long in a row the processor must have been from where it was, for one of the body.
const PROCESSOR_C: f64 = 10.0;
/// How far, in W and as a factor, the power must have moved meanwhile, for a sensor of the processor.
const POWER: (f64, f64) = (1.0, 1.5);

/// From where on a sensor that stands still is believed, in thousandths of a degree: of the processor, and of the body. One
/// that throttles is held at its limit, to the degree, and to believe a wrong one this high errs on the cool side.
const HOT: (i64, i64) = (65_000, 45_000);

/// What else a device did while one sensor did not move.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Surroundings {
    /// The hottest of the other sensors, in °C.
    pub(super) others_c: Option<f64>,
    /// The processor's temperature, averaged over a minute, in °C.
    pub(super) processor_c: Option<f64>,
    /// The power that the device takes, in W.
    pub(super) power_w: Option<f64>,
}

/// How long a sensor has read the same, and what the rest of the device did since.
///
/// Stillness alone proves nothing: a device at rest stands still. It does when something that heats the sensor has moved
/// and the sensor, to its last digit, has not. Where all of a device's sensors stand still and its power is not known,
/// nothing is found; a stuck sensor is believed again once it moves.
#[derive(Debug)]
pub(super) struct Stillness {
    quick: bool,
    reading: Option<i64>,
    since: Duration,
    readings: u32,
    others: Range,
    power: Range,
    processor_then: Option<f64>,
    away_since: Option<Duration>,
    stuck: bool,
}

/// The least and the greatest of what was seen.
#[derive(Debug, Clone, Copy, Default)]
struct Range(Option<(f64, f64)>);

impl Range {
    fn take(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            let (low, high) = self.0.unwrap_or((value, value));
            self.0 = Some((low.min(value), high.max(value)));
        }
    }

    fn moved(self, by: f64, factor: f64) -> bool {
        self.0.is_some_and(|(low, high)| high - low >= by && high >= low * factor)
    }
}

impl Stillness {
    /// Of a sensor that nothing was read from yet; `quick` for one that follows the power within seconds.
    pub(super) fn new(quick: bool) -> Self {
        Self {
            quick,
            reading: None,
            since: Duration::ZERO,
            readings: 0,
            others: Range::default(),
            power: Range::default(),
            processor_then: None,
            away_since: None,
            stuck: false,
        }
    }

    /// Whether it is stuck.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// Takes a reading, which ends the stillness where it is another than the one before.
    pub(super) fn read(&mut self, reading: i64, now: Duration) {
        if self.reading == Some(reading) {
            self.readings = self.readings.saturating_add(1);
        } else {
            *self = Self { reading: Some(reading), since: now, readings: 1, ..Self::new(self.quick) };
        }
    }

    /// Takes what the rest of the device does, and says whether this is what shows the sensor to be stuck.
    pub(super) fn compare(&mut self, surroundings: Surroundings, now: Duration) -> bool {
        self.others.take(surroundings.others_c);
        self.power.take(surroundings.power_w);
        if let Some(processor) = surroundings.processor_c {
            let then = *self.processor_then.get_or_insert(processor);
            let is_away = (processor - then).abs() >= PROCESSOR_C;
            self.away_since = if is_away { self.away_since.or(Some(now)) } else { None };
        }

        let ((time, readings), hot) = if self.quick { (QUICK, HOT.0) } else { (SLOW, HOT.1) };
        let long = now.saturating_sub(self.since) >= time && self.readings >= readings;
        let moved = if self.quick {
            self.others.moved(OTHERS_C, 0.0) || self.power.moved(POWER.0, POWER.1)
        } else {
            self.away_since.is_some_and(|away| now.saturating_sub(away) >= SLOW.0)
        };
        let found = long && moved && !self.stuck && self.reading.is_some_and(|reading| reading < hot);
        self.stuck |= found;
        found
    }

    /// Forgets how far the others have moved, since it is others now.
    pub(super) fn meet_others(&mut self) {
        self.others = Range::default();
    }

    /// Forgets how far the power has moved, since it is told by another source now.
    pub(super) fn change_power_source(&mut self) {
        self.power = Range::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn others(c: f64) -> Surroundings {
        Surroundings { others_c: Some(c), ..Surroundings::default() }
    }

    fn power(w: f64) -> Surroundings {
        Surroundings { power_w: Some(w), ..Surroundings::default() }
    }

    fn processor(c: f64) -> Surroundings {
        Surroundings { processor_c: Some(c), ..Surroundings::default() }
    }

    /// The second at which a sensor that reads the same every `step` seconds is found to be stuck, within two hours.
    fn found(quick: bool, step: usize, surroundings: impl Fn(u64) -> Surroundings) -> Option<u64> {
        found_at(40_000, quick, step, surroundings)
    }

    fn found_at(reading: i64, quick: bool, step: usize, surroundings: impl Fn(u64) -> Surroundings) -> Option<u64> {
        let mut still = Stillness::new(quick);
        (0..7200).step_by(step).find(|&second| {
            still.read(reading, Duration::from_secs(second));
            still.compare(surroundings(second), Duration::from_secs(second))
        })
    }

    #[test]
    fn a_still_sensor_of_a_device_at_rest_is_not_stuck() {
        assert_eq!(found(true, 1, |s| others(40.0 + 4.9 * (s % 2) as f64)), None);
        assert_eq!(found(true, 1, |s| power(0.3 + 0.9 * (s % 2) as f64)), None);
        assert_eq!(found(true, 1, |s| power(10.0 + 4.0 * (s % 2) as f64)), None);
        assert_eq!(found(false, 1, |_| processor(60.0)), None);
    }

    #[test]
    fn a_still_sensor_of_a_processor_is_stuck_after_a_minute_and_twenty_readings_of_a_device_that_moved() {
        assert_eq!(found(true, 1, |s| others(40.0 + s.min(5) as f64)), Some(60));
        assert_eq!(found(true, 1, |s| power(1.0 + s.min(1) as f64)), Some(60));
        assert_eq!(found(true, 10, |s| others(40.0 + s.min(5) as f64)), Some(190));
        assert_eq!(found(true, 1, |s| others(if s < 300 { 40.0 } else { 46.0 })), Some(300));
    }

    #[test]
    fn a_still_sensor_of_the_body_is_stuck_only_where_the_processor_stayed_away() {
        assert_eq!(found(false, 1, |s| processor(if s < 100 { 40.0 } else { 50.0 })), Some(700));
        assert_eq!(found(false, 1, |s| processor(if s % 600 < 599 { 60.0 } else { 40.0 })), None);
        assert_eq!(found(false, 1, |s| others(40.0 + (s % 30) as f64)), None);
    }

    #[test]
    fn a_hot_sensor_that_stands_still_is_believed() {
        for (reading, second) in [(64_999, Some(60)), (65_000, None), (100_000, None)] {
            assert_eq!(found_at(reading, true, 1, |s| others(30.0 + s.min(20) as f64)), second, "{reading}");
        }
        for (reading, second) in [(44_999, Some(601)), (45_000, None)] {
            assert_eq!(found_at(reading, false, 1, |s| processor(30.0 + 60.0 * s.min(1) as f64)), second, "{reading}");
        }
    }

    #[test]
    fn a_stuck_sensor_that_moves_is_believed_again() {
        let mut still = Stillness::new(true);
        for second in 0..=60 {
            still.read(40_000, Duration::from_secs(second));
            still.compare(others(40.0 + second as f64), Duration::from_secs(second));
        }
        assert!(still.is_stuck());
        still.read(40_001, Duration::from_secs(61));
        assert!(!still.is_stuck());
    }
}
