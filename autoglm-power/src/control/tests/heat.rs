//! How much power is allowed.

use proptest::prelude::*;

use crate::Reading;
use crate::control::{Headroom, Limits};

/// What the device draws without inference, in W.
const IDLE_W: f64 = 1.0;

fn reading(body_c: impl Into<Option<f64>>, junction_c: impl Into<Option<f64>>, power_w: f64) -> Reading {
    Reading { body_c: body_c.into(), junction_c: junction_c.into(), power_w: Some(power_w), ..Reading::default() }
}

/// A headroom that saw a quiet device in this air.
fn in_air_of(air_c: f64) -> Headroom {
    let mut headroom = Headroom::new(Limits::default());
    let quiet = reading(air_c + 0.5, air_c + 1.0, 1.0);
    headroom.rested(&quiet);
    headroom.begin(&quiet);
    headroom
}

#[test]
fn the_body_comes_to_its_limit_and_stays_there() {
    for air_c in [10.0, 20.0, 28.0] {
        let mut headroom = in_air_of(air_c);
        let (mut body, mut junction) = (air_c, air_c);
        let mut warmest = body;
        for second in 0..3 * 3600 {
            let seen = reading(body, junction, 1.0 + 8.0_f64.min(0.0_f64.max(junction - body) / 8.0));
            let allowed = headroom.step(&seen, IDLE_W, f64::from(second)).budget_w;
            // A device that takes all it may, up to 8 W, and whose screen heats it by half a watt.
            let soc = (allowed - 1.0).clamp(0.0, 8.0);
            body += (soc + 0.5 - (body - air_c) / 6.0) / 140.0;
            junction += (body + 8.0 * soc - junction) / 8.0;
            warmest = warmest.max(body);
            assert!(junction < 75.0, "{air_c} C: junction at {junction} after {second} s");
        }
        assert!(warmest < 43.0, "{air_c} C: body at {warmest}");
        assert!(body > 40.0 || air_c < 20.0, "{air_c} C: body at {body}, where more would have been allowed");
    }
}

#[test]
fn a_wrong_idea_of_the_idle_device_does_not_heat_it() {
    let (mut headroom, air_c) = (in_air_of(28.0), 28.0);
    let (mut body, mut watts, believed_w) = (air_c, IDLE_W, IDLE_W + 3.0);
    for second in 0..4 * 3600 {
        let soc = (headroom.step(&reading(body, body + 5.0, watts), believed_w, f64::from(second)).budget_w - IDLE_W)
            .clamp(0.1, 8.0);
        watts = IDLE_W + soc;
        body += (soc + 0.5 - (body - air_c) / 6.0) / 140.0;
        assert!(body < 44.0, "body at {body} after {second} s");
    }
    assert!(body > 41.0, "body at {body}, where more would have been allowed");
}

#[test]
fn silence_is_never_taken_for_a_cool_device() {
    let mut headroom = in_air_of(20.0);
    let cool = headroom.step(&reading(22.0, 30.0, 2.0), IDLE_W, 0.0).budget_w;
    let one_missing = headroom.step(&reading(None, 30.0, 2.0), IDLE_W, 1.0).budget_w;
    assert!((one_missing - cool).abs() < 1.0, "one missing reading is no reason: {one_missing} after {cool}");
    let blind = headroom.step(&reading(None, None, 2.0), IDLE_W, 60.0).budget_w;
    assert!(blind < 2.5, "{blind} W without a sensor");
}

#[test]
fn the_hard_trip_holds_until_it_is_cool_again() {
    let mut headroom = in_air_of(20.0);
    assert!(headroom.step(&reading(30.0, 74.9, 5.0), IDLE_W, 0.0).budget_w > 0.0);
    assert_eq!(headroom.step(&reading(30.0, 75.0, 5.0), IDLE_W, 1.0).budget_w, 0.0);
    assert_eq!(headroom.step(&reading(30.0, 70.0, 5.0), IDLE_W, 2.0).budget_w, 0.0);
    assert!(headroom.is_tripped());
    assert!(headroom.step(&reading(30.0, 66.0, 5.0), IDLE_W, 3.0).budget_w > 0.0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Two devices with the same past, of which one is now hotter: it never may draw more.
    #[test]
    fn hotter_never_means_more_power(
        air in 0.0..40.0_f64,
        past in proptest::collection::vec((0.0..30.0_f64, 0.0..40.0_f64, 0.0..12.0_f64), 0..120),
        body in 0.0..60.0_f64,
        above in 0.0..40.0_f64,
        hotter in 0.0..20.0_f64,
        watts in 0.0..12.0_f64,
    ) {
        let mut headroom = in_air_of(air);
        for (second, (warm, over, watts)) in past.iter().enumerate() {
            headroom.step(&reading(air + warm, air + warm + over, *watts), IDLE_W, second as f64);
        }
        let now = past.len() as f64;
        // What was learned stays as it is: the two differ in what they see last.
        let (mut cool, mut hot) = (headroom.clone(), headroom);
        let less = cool.step(&reading(body, body + above, watts), IDLE_W, now).budget_w;
        let more = hot.step(&reading(body + hotter, body + hotter + above, watts), IDLE_W, now).budget_w;
        prop_assert!(more <= less + 1e-9, "{more} W at {} C and {less} W at {body} C", body + hotter);
    }

    /// Whatever sensors say, the answer is a power.
    #[test]
    fn any_reading_gives_a_power(
        seen in proptest::collection::vec(
            (proptest::option::of(any::<f64>()), proptest::option::of(any::<f64>()), proptest::option::of(any::<f64>())), 1..60),
    ) {
        let mut headroom = Headroom::new(Limits::default());
        for (second, (body_c, junction_c, power_w)) in seen.into_iter().enumerate() {
            let seen = Reading { body_c, junction_c, power_w, ..Reading::default() };
            let idle_w = power_w.unwrap_or(IDLE_W);
            if second % 7 == 0 {
                headroom.begin(&seen);
            }
            if second % 11 == 0 {
                headroom.rested(&seen);
            }
            let allowed = headroom.step(&seen, idle_w, second as f64).budget_w;
            prop_assert!(allowed.is_finite() && allowed >= 0.0, "{allowed} W");
        }
    }
}
