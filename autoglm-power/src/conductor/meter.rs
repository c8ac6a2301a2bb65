//! Power over the time of a request into energy.

use std::time::Duration;

use crate::sensors::PowerSource;

/// What the whole device took while a request ran, in so far as the source sees all of it: its screen and what else ran are in
/// it, and nothing is taken off for what it would have drawn without.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Energy {
    /// In J.
    pub joules: f64,
    /// Who told.
    pub source: PowerSource,
}

/// Adds up what one request takes.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    then: Duration,
    watts: Option<(PowerSource, f64)>,
    joules: f64,
    source: Option<PowerSource>,
    /// Whether there was a stretch of which nobody told, or two told that do not measure the same.
    unknown: bool,
}

impl Meter {
    /// A request begins, and the device takes so much.
    pub(super) fn new(now: Duration, watts: Option<(PowerSource, f64)>) -> Self {
        Self { then: now, watts, joules: 0.0, source: None, unknown: false }
    }

    /// The device takes so much now: an instant's power is taken to have gone straight from the last one's, a counter's is
    /// the mean since.
    pub(super) fn add(&mut self, now: Duration, watts: Option<(PowerSource, f64)>) {
        let seconds = now.saturating_sub(self.then).as_secs_f64();
        let told = match (self.watts, watts) {
            (_, Some((source, mean))) if source.counts() => Some((source, mean)),
            (Some((one, from)), Some((other, to))) if one == other => Some((one, f64::midpoint(from, to))),
            // A single silence is bridged; two in a row are not.
            (Some(one), None) | (None, Some(one)) => Some(one),
            (Some(_), Some(_)) | (None, None) => None,
        };
        self.then = now;
        self.watts = watts;
        match told {
            Some((source, watts)) if *self.source.get_or_insert(source) == source => self.joules += watts * seconds,
            _ => self.unknown = true,
        }
    }

    /// What it took so far.
    pub(super) fn total(&self) -> Option<Energy> {
        let source = self.source.filter(|_| !self.unknown)?;
        Some(Energy { joules: self.joules, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(watts: &[Option<(PowerSource, f64)>]) -> Option<f64> {
        let mut meter = Meter::new(Duration::ZERO, watts[0]);
        (1..).zip(&watts[1..]).for_each(|(s, watts)| meter.add(Duration::from_secs(2 * s), *watts));
        meter.total().map(|energy| energy.joules)
    }

    #[test]
    fn an_instants_power_is_a_trapezoid_and_a_counters_a_rectangle() {
        let all = |source, watts: [f64; 3]| total(&watts.map(|watts| Some((source, watts))));
        assert_eq!(all(PowerSource::Battery, [1.0, 3.0, 5.0]), Some(2.0 * 2.0 + 2.0 * 4.0));
        assert_eq!(all(PowerSource::RaplPackages, [1.0, 3.0, 5.0]), Some(2.0 * 3.0 + 2.0 * 5.0));
        // A counter needs no reading at the beginning but the one that it counts from.
        assert_eq!(total(&[None, Some((PowerSource::Cards, 4.0))]), Some(8.0));
    }

    #[test]
    fn what_nobody_told_is_not_made_up() {
        let battery = |watts| Some((PowerSource::Battery, watts));
        assert_eq!(total(&[battery(1.0), None, battery(3.0)]), Some(2.0 + 6.0));
        assert_eq!(total(&[battery(1.0), None, None, battery(1.0)]), None);
        assert_eq!(total(&[None, None]), None);
        assert_eq!(total(&[battery(1.0), Some((PowerSource::Rails, 1.0))]), None);
        assert_eq!(total(&[battery(1.0), battery(1.0), Some((PowerSource::Cards, 1.0))]), None);
        assert_eq!(total(&[battery(1.0)]), None);
    }
}
