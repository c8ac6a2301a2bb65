//! Android's thermal headroom, asked for no more often than it answers.

use std::time::Duration;

use crate::os::android::ThermalManager;

/// How far ahead the headroom is asked for, in s.
const FORECAST_S: i32 = 10;

/// How long an answer is given again: Android answers NaN when it is asked more than about once a second.
const PACE: Duration = Duration::from_secs(1);

/// The status from which on Android throttles severely, which is a headroom of 1.
const SEVERE: i32 = 3;

/// Headrooms that are believed; 1 is severe, and phones shut down not far above it.
const PLAUSIBLE: std::ops::RangeInclusive<f32> = 0.0..=10.0;

/// The headroom of this phone.
#[derive(Debug)]
pub(super) struct Headroom {
    manager: ThermalManager,
    answer: Paced,
}

impl Headroom {
    /// None on anything but a phone with Android 11 or later.
    pub(super) fn of_this_device() -> Option<Self> {
        ThermalManager::acquire().map(|manager| Self { manager, answer: Paced::default() })
    }

    /// How near the phone will be to severe throttling in some seconds, which is 1.
    pub(super) fn read(&mut self, now: Duration) -> Option<f64> {
        let manager = &mut self.manager;
        self.answer.at(now, || (manager.headroom(FORECAST_S), manager.status()))
    }
}

/// The last answer, and when it was given.
#[derive(Debug, Default)]
struct Paced {
    asked: Option<Duration>,
    answer: Option<f64>,
}

impl Paced {
    fn at(&mut self, now: Duration, ask: impl FnOnce() -> (f32, i32)) -> Option<f64> {
        if self.asked.is_none_or(|asked| now.saturating_sub(asked) >= PACE) {
            self.asked = Some(now);
            let (headroom, status) = ask();
            let headroom = Some(headroom).filter(|headroom| PLAUSIBLE.contains(headroom)).map(f64::from);
            // Phones without a headroom still say that they throttle.
            let throttled = (status >= SEVERE).then_some(1.0);
            self.answer = headroom.into_iter().chain(throttled).reduce(f64::max);
        }
        self.answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(headroom: f32, status: i32) -> Option<f64> {
        Paced::default().at(Duration::ZERO, || (headroom, status))
    }

    #[test]
    fn what_is_no_number_is_no_headroom() {
        for headroom in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0, 1e9] {
            assert_eq!(answer(headroom, 0), None, "{headroom}");
        }
        assert_eq!(answer(0.5, 0), Some(0.5));
    }

    #[test]
    fn severe_throttling_is_a_headroom_of_one_at_least() {
        assert_eq!(answer(f32::NAN, 3), Some(1.0));
        assert_eq!(answer(0.5, 4), Some(1.0));
        assert_eq!(answer(1.5, 3), Some(1.5));
        assert_eq!(answer(f32::NAN, -1), None);
    }

    #[test]
    fn within_a_second_the_last_answer_is_given_again() {
        let at = Duration::from_millis;
        let mut paced = Paced::default();
        assert_eq!(paced.at(at(0), || (0.5, 0)), Some(0.5));
        assert_eq!(paced.at(at(999), || unreachable!("asked too soon")), Some(0.5));
        assert_eq!(paced.at(at(1000), || (f32::NAN, 0)), None);
        assert_eq!(paced.at(at(1500), || unreachable!("asked too soon")), None);
    }

    #[test]
    fn elsewhere_than_on_a_phone_there_is_none() {
        if cfg!(not(target_os = "android")) {
            assert!(Headroom::of_this_device().and_then(|mut headroom| headroom.read(Duration::ZERO)).is_none());
        }
    }
}
