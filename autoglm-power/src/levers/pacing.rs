//! How long to rest between tokens or chunks, so as to keep to an average.

use std::time::Duration;

use crate::{Error, Result};

/// What is kept to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Units (tokens, chunks) per second.
    Rate(f64),
    /// The fraction of the time in which there is work.
    Duty(f64),
}

/// Slower than this, a rest would last longer than anybody waits for a unit.
const SLOWEST: f64 = 1e-3;

/// A rate beyond this rests for less than a nanosecond.
const FASTEST: f64 = 1e9;

/// How much of what was rested too much is made up for. Without an end, a pause of an hour between requests would
/// leave the next ones unpaced for as long.
const CREDIT: Duration = Duration::from_secs(1);

/// Keeps to a [`Pace`]: says how long to rest, and the caller rests.
///
/// A rest that turns out longer or shorter than was said, as sleeping does, is made up for by the next ones.
#[derive(Debug, Clone)]
pub struct Pacing {
    pace: Pace,
    /// When the last work ended, and how much rest was due then; negative where more was rested than was due.
    last: Option<(Duration, f64)>,
}

impl Pacing {
    /// Keeps to this.
    ///
    /// # Errors
    /// [`Error::Pace`] for a rate outside of 0.001 to 10⁹ per second, and for a duty that is not above 0.001 or above 1.
    pub fn new(pace: Pace) -> Result<Self> {
        let (got, range) = match pace {
            Pace::Rate(rate) => (rate, SLOWEST..=FASTEST),
            Pace::Duty(duty) => (duty, SLOWEST..=1.0),
        };
        if !range.contains(&got) {
            return Err(Error::Pace { got, lowest: *range.start(), highest: *range.end() });
        }
        Ok(Self { pace, last: None })
    }

    /// How long to rest after `units` that were worked on from `began` to `ended`, by any clock that only goes on.
    pub fn rest(&mut self, units: u32, began: Duration, ended: Duration) -> Duration {
        let worked = ended.saturating_sub(began).as_secs_f64();
        let due = match self.pace {
            Pace::Rate(rate) => f64::from(units) / rate - worked,
            Pace::Duty(duty) => worked * (1.0 - duty) / duty,
        };
        let carried = self.last.map_or(0.0, |(last, due)| due - began.saturating_sub(last).as_secs_f64());
        let due = (carried.max(-CREDIT.as_secs_f64()) + due).max(-CREDIT.as_secs_f64());
        self.last = Some((ended, due));
        Duration::try_from_secs_f64(due.max(0.0)).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_rate_leaves_the_rest_of_each_interval() {
        let mut pacing = Pacing::new(Pace::Rate(10.0)).unwrap();
        assert_eq!(pacing.rest(1, ms(0), ms(30)), ms(70));
        assert_eq!(pacing.rest(1, ms(100), ms(130)), ms(70));
        // Ten milliseconds were slept too long.
        assert_eq!(pacing.rest(1, ms(210), ms(240)), ms(60));
    }

    #[test]
    fn a_duty_rests_in_proportion_to_the_work() {
        let mut pacing = Pacing::new(Pace::Duty(0.25)).unwrap();
        assert_eq!(pacing.rest(1, ms(0), ms(100)), ms(300));
        let mut pacing = Pacing::new(Pace::Duty(1.0)).unwrap();
        assert_eq!(pacing.rest(7, ms(0), ms(100)), ms(0));
    }

    #[test]
    fn an_hour_without_work_is_no_credit_for_an_hour_without_rest() {
        let mut pacing = Pacing::new(Pace::Duty(0.5)).unwrap();
        pacing.rest(1, ms(0), ms(100));
        let hour = Duration::from_secs(3600);
        assert_eq!(pacing.rest(1, hour, hour + Duration::from_secs(3)), Duration::from_secs(2));
    }

    #[test]
    fn a_pace_that_nobody_can_keep_is_refused() {
        for pace in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-4] {
            assert!(Pacing::new(Pace::Rate(pace)).is_err(), "{pace}");
            assert!(Pacing::new(Pace::Duty(pace)).is_err(), "{pace}");
        }
        assert!(Pacing::new(Pace::Duty(1.1)).is_err());
    }

    proptest! {
        #[test]
        fn however_badly_one_sleeps_the_average_is_kept(
            duty in 0.05_f64..1.0,
            steps in proptest::collection::vec((1_u64..50_000, 0.5_f64..1.5), 50..200),
        ) {
            let mut pacing = Pacing::new(Pace::Duty(duty)).unwrap();
            let (mut now, mut worked, mut last) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
            for (micros, oversleep) in steps {
                let began = now;
                now += Duration::from_micros(micros);
                worked += now - began;
                last = pacing.rest(1, began, now);
                now += last.mul_f64(oversleep);
            }
            // The last rest is the only one that was not made up for yet.
            let rested = (now - worked).as_secs_f64();
            let due = worked.as_secs_f64() * (1.0 - duty) / duty;
            prop_assert!((rested - due).abs() <= last.as_secs_f64() * 0.5 + CREDIT.as_secs_f64(), "{rested} {due}");
        }

        #[test]
        fn work_that_is_faster_than_the_rate_is_brought_down_to_it(
            rate in 1.0_f64..100.0,
            work in proptest::collection::vec(0.0_f64..1.0, 20..100),
        ) {
            let mut pacing = Pacing::new(Pace::Rate(rate)).unwrap();
            let mut now = Duration::ZERO;
            for part in &work {
                let began = now;
                now += Duration::from_secs_f64(part / rate);
                now += pacing.rest(1, began, now);
            }
            let expected = work.len() as f64 / rate;
            prop_assert!((now.as_secs_f64() - expected).abs() < 1e-6 * expected, "{now:?} {expected}");
        }
    }
}
