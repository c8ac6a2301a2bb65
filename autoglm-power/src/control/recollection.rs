//! What was measured on each configuration, so that what one taught is not lost in the hours on another.

use super::residuals::Place;
use crate::Configuration;

/// A mean that becomes one over the last [`AVERAGED_S`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Average {
    pub(super) value: f64,
    seconds: f64,
}

/// Seconds over which is averaged: longer than noise, shorter than it takes a device to become another.
const AVERAGED_S: f64 = 60.0;

/// Seconds that count: how well a law fits matters more than the noise of what was watched for longer.
const COUNTED_S: f64 = 8.0;

impl Average {
    fn add(&mut self, value: f64) {
        self.seconds = (self.seconds + 1.0).min(AVERAGED_S);
        self.value += (value - self.value) / self.seconds;
    }

    /// How much it counts, from 0 to [`COUNTED_S`].
    pub(super) fn weight(&self) -> f64 {
        self.seconds.min(COUNTED_S)
    }

    /// How sure it is, from 0 to 1.
    pub(super) fn certainty(&self) -> f64 {
        self.weight() / COUNTED_S
    }
}

/// What was measured on one configuration.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) on: Configuration,
    pub(super) place: Place,
    /// Work per second.
    pub(super) rate: Average,
    /// Power, in W, where that was known.
    pub(super) watts: Average,
}

/// The configurations that ran, the last one at the end.
#[derive(Debug, Clone, Default)]
pub(super) struct Recollection {
    seen: Vec<Seen>,
}

/// Beyond so many, the one that ran longest ago is forgotten.
const REMEMBERED: usize = 64;

impl Recollection {
    /// A second of work on a configuration.
    pub(super) fn add(&mut self, on: &Configuration, place: Place, rate: f64, watts: Option<f64>) {
        let known = self.seen.iter().rposition(|seen| seen.on == *on);
        let mut seen = known.map_or_else(
            || Seen { on: on.clone(), place, rate: Average::default(), watts: Average::default() },
            |index| self.seen.remove(index),
        );
        seen.rate.add(rate);
        if let Some(watts) = watts {
            seen.watts.add(watts);
        }
        if self.seen.len() >= REMEMBERED {
            self.seen.remove(0);
        }
        self.seen.push(seen);
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Seen> {
        self.seen.iter()
    }

    /// What ran last.
    pub(super) fn last(&self) -> Option<&Seen> {
        self.seen.last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Share;

    fn on(clock: usize) -> Configuration {
        Configuration { shares: vec![Share { cores: 1, clock }] }
    }

    #[test]
    fn hours_on_one_configuration_do_not_make_it_forget_another() {
        let mut recollection = Recollection::default();
        recollection.add(&on(0), Place::new(), 3.0, Some(1.0));
        (0..10_000).for_each(|_| recollection.add(&on(1), Place::new(), 5.0, None));
        let [first, last] = &recollection.seen[..] else { panic!("{recollection:?}") };
        assert_eq!((first.rate.value, first.watts.value, first.rate.weight()), (3.0, 1.0, 1.0));
        assert_eq!((last.rate.value, last.watts.weight(), last.rate.certainty()), (5.0, 0.0, 1.0));
    }

    #[test]
    fn what_changes_is_followed_within_minutes() {
        let mut recollection = Recollection::default();
        (0..1000).for_each(|_| recollection.add(&on(0), Place::new(), 4.0, None));
        (0..240).for_each(|_| recollection.add(&on(0), Place::new(), 2.0, None));
        assert!((recollection.last().unwrap().rate.value - 2.0).abs() < 0.05);
    }

    #[test]
    fn it_remembers_what_ran_lately() {
        let mut recollection = Recollection::default();
        (0..1000).for_each(|clock| recollection.add(&on(clock), Place::new(), 1.0, None));
        recollection.add(&on(1000 - REMEMBERED), Place::new(), 1.0, None);
        assert_eq!(recollection.iter().count(), REMEMBERED);
        assert_eq!(recollection.iter().next().unwrap().on, on(1001 - REMEMBERED));
    }
}
