//! Energy counters into watts.

use std::time::Duration;

/// The mean power between two readings of a counter of energy that starts over at its range.
#[derive(Debug)]
pub(super) struct Counter {
    most_w: f64,
    last: Option<(u64, Duration)>,
    watts: Option<f64>,
    doubtful: bool,
}

/// Counters are brought up to date in steps, RAPL's of a millisecond and those of cards of longer: over a shorter time than
/// this, what is read is when they were.
const SHORTEST: Duration = Duration::from_millis(100);

impl Counter {
    /// A counter of something that never takes more than `most_w` watts.
    pub(super) fn new(most_w: f64) -> Self {
        Self { most_w, last: None, watts: None, doubtful: false }
    }

    /// The mean watts since the reading before, which is answered again when this one follows too soon to tell.
    ///
    /// `microjoules` goes up to `range` and then on from zero; one without a range never starts over. What is doubtful is
    /// none: more watts than plausible, none at all, and a time in which the counter can have come halfway round, since
    /// it may then have come round more than once. A counter that was set back thus counts for one that went round only
    /// where it was in the upper half of its range.
    pub(super) fn watts(&mut self, microjoules: u64, range: Option<u64>, now: Duration) -> Option<f64> {
        if let Some((_, then)) = self.last
            && now.checked_sub(then).is_some_and(|since| since < SHORTEST)
        {
            return self.watts;
        }
        let last = self.last.replace((microjoules, now));
        self.watts = last.and_then(|last| self.between(last, (microjoules, now), range));
        self.doubtful = last.is_some() && self.watts.is_none();
        self.watts
    }

    /// Whether the last answer was none though there was a reading before.
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// Forgets the reading before, of a counter that was not to be read in between.
    pub(super) fn forget(&mut self) {
        *self = Self::new(self.most_w);
    }

    fn between(&self, (from, then): (u64, Duration), (to, now): (u64, Duration), range: Option<u64>) -> Option<f64> {
        let seconds = now.checked_sub(then)?.as_secs_f64();
        if range.is_some_and(|range| seconds > range as f64 / 1e6 / 2.0 / self.most_w) {
            return None;
        }
        let moved = match to.checked_sub(from) {
            Some(moved) => moved,
            // From the range itself to zero is one step.
            None => range?.checked_sub(from)?.checked_add(to)?.checked_add(1)?,
        };
        let watts = moved as f64 / 1e6 / seconds;
        (moved > 0 && watts <= self.most_w).then_some(watts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 65.5 J, the smallest range that processors have had times a thousandth, so that 10 W take seconds.
    const RANGE: u64 = 65_532_610;
    const MOST_W: f64 = 100.0;

    fn watts(from: u64, to: u64, range: Option<u64>, ms: u64) -> Option<f64> {
        let mut counter = Counter::new(MOST_W);
        assert_eq!(counter.watts(from, range, Duration::from_secs(5)), None, "nothing to compare with");
        counter.watts(to, range, Duration::from_secs(5) + Duration::from_millis(ms))
    }

    #[test]
    fn a_counter_goes_on_from_zero_behind_its_range() {
        // In 100 ms, a microjoule is 10 µW.
        let steps = |from, to| watts(from, to, Some(RANGE), 100).map(|watts| (watts * 1e5).round() as u64);
        assert_eq!(steps(RANGE - 1, RANGE), Some(1));
        assert_eq!(steps(RANGE, 0), Some(1));
        assert_eq!(steps(RANGE - 1, 0), Some(2));
        assert_eq!(steps(RANGE, 1), Some(2));
        assert_eq!(steps(RANGE - 1, 1), Some(3));
        assert_eq!(steps(0, 1), Some(1));
        assert_eq!(steps(RANGE - 1_000_000, 999_999), Some(2_000_000));
    }

    #[test]
    fn a_counter_that_stands_still_or_came_round_exactly_says_nothing() {
        for at in [0, 1, RANGE / 2, RANGE - 1, RANGE] {
            assert_eq!(watts(at, at, Some(RANGE), 100), None, "{at}");
        }
    }

    #[test]
    fn a_counter_that_was_set_back_says_nothing() {
        assert_eq!(watts(RANGE / 2, 0, Some(RANGE), 300), None);
        assert_eq!(watts(1000, 0, None, 300), None);
        assert_eq!(watts(RANGE + 5, 0, Some(RANGE), 300), None, "was never in its range");
    }

    #[test]
    fn more_than_plausible_and_too_long_ago_say_nothing() {
        assert_eq!(watts(0, 10_000_000, Some(RANGE), 100), Some(100.0));
        assert_eq!(watts(0, 10_000_001, Some(RANGE), 100), None);
        // At 100 W it comes halfway round in 327 ms.
        assert!(watts(0, 10_000_000, Some(RANGE), 327).is_some());
        assert_eq!(watts(0, 10_000_000, Some(RANGE), 328), None);
        assert!(watts(0, 10_000_000, None, 100_000).is_some(), "one that never starts over may be asked late");
    }

    #[test]
    fn a_second_reading_too_soon_repeats_the_answer_and_loses_no_energy() {
        let at = Duration::from_millis;
        let mut counter = Counter::new(MOST_W);
        counter.watts(0, None, at(0));
        assert_eq!(counter.watts(1_000_000, None, at(100)), Some(10.0));
        assert_eq!(counter.watts(1_500_000, None, at(150)), Some(10.0));
        assert_eq!(counter.watts(3_000_000, None, at(200)), Some(20.0));
    }

    #[test]
    fn a_time_before_the_last_one_says_nothing() {
        let mut counter = Counter::new(MOST_W);
        counter.watts(0, None, Duration::from_secs(9));
        assert_eq!(counter.watts(1_000_000, None, Duration::from_secs(1)), None);
        assert_eq!(counter.watts(2_000_000, None, Duration::from_secs(2)), Some(1.0));
    }
}
