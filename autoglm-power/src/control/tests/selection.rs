//! Which configuration is taken.

use super::{phone, truth};
use crate::control::{Allowed, Measured, Phase, Selector, Wanted};
use crate::{Configuration, Share};

fn wanted(phase: Phase, budget_w: f64) -> Wanted {
    Wanted { phase, allowed: Allowed { budget_w, limit_w: budget_w, idle_w: 0.0 } }
}

/// A selector that worked for so many seconds on the phone, and what it ran on last.
fn after(seconds: usize, budget_w: f64, slowdown: f64) -> (Selector, Configuration) {
    let mut selector = Selector::new(&phone());
    works(&mut selector, seconds, budget_w, slowdown, truth);
    let on = selector.current().clone();
    (selector, on)
}

fn works(
    selector: &mut Selector,
    seconds: usize,
    budget_w: f64,
    slowdown: f64,
    truth: impl Fn(&Configuration) -> (f64, f64),
) {
    let mut measured = None;
    for second in 0..seconds {
        if second % 100 == 0 {
            selector.begin(slowdown, f64::INFINITY);
        }
        let on = selector.step(measured, &wanted(Phase::Compute, budget_w)).clone();
        let (rate, watts) = truth(&on);
        measured = Some(Measured { work: rate, seconds: 1.0, watts: Some(watts) });
    }
}

/// All configurations of whole or half clusters.
fn every() -> Vec<Configuration> {
    let shares = |clocks: usize| {
        let used = [2, 4].into_iter().flat_map(move |cores| (0..clocks).map(move |clock| Share { cores, clock }));
        std::iter::once(Share::default()).chain(used).collect::<Vec<_>>()
    };
    let both = |little: &Share| shares(6).into_iter().map(|big| vec![*little, big]).collect::<Vec<_>>();
    let all = shares(5).iter().flat_map(both).map(|shares| Configuration { shares }).collect::<Vec<_>>();
    all.into_iter().filter(|on| on.threads() > 0).collect()
}

fn assert_knows_the_phone(selector: &Selector) {
    for on in every() {
        let (rate, watts) = truth(&on);
        let point = selector.curve().point(&on, Phase::Compute);
        assert!((point.rate / rate - 1.0).abs() < 0.12, "{on:?}: {point:?} where it is {rate}");
        assert!((point.watts / watts - 1.0).abs() < 0.15, "{on:?}: {point:?} where it is {watts} W");
    }
}

/// The most that can be done with so much power.
fn most_within(budget_w: f64, truth: impl Fn(&Configuration) -> (f64, f64)) -> f64 {
    let within = every().into_iter().map(|on| truth(&on)).filter(|(_, watts)| *watts <= budget_w);
    within.map(|(rate, _)| rate).fold(0.0, f64::max)
}

#[test]
fn what_it_learns_is_what_there_is() {
    let (selector, _) = after(300, f64::INFINITY, 1.1);
    assert_knows_the_phone(&selector);
}

#[test]
fn it_takes_nearly_the_least_energy_that_the_time_allows() {
    let slowdown = 1.15;
    let (selector, on) = after(400, f64::INFINITY, slowdown);
    let joules = |on: &Configuration| truth(on).1 / truth(on).0;
    let fast_enough = truth(selector.reference()).0 / slowdown;
    assert!(truth(&on).0 > 0.97 * fast_enough, "{on:?} does {:?}", truth(&on));
    let least = every().iter().filter(|on| truth(on).0 >= fast_enough).map(joules).fold(f64::INFINITY, f64::min);
    assert!(joules(&on) < 1.05 * least, "{on:?} takes {} J where {least} J would do", joules(&on));
}

#[test]
fn no_budget_is_exceeded_for_long_and_less_of_it_never_makes_it_faster() {
    let mut last = f64::INFINITY;
    for budget_w in [20.0, 8.0, 6.0, 5.0, 4.0, 3.0, 2.5, 2.0] {
        let (_, on) = after(300, budget_w, 1.1);
        let (rate, watts) = truth(&on);
        assert!(watts < 1.06 * budget_w.max(truth(&lowest()).1), "{budget_w} W: {on:?} draws {watts} W");
        assert!(rate <= last * 1.02, "{budget_w} W: {on:?} does {rate}, more than {last} with a larger budget");
        last = rate;
    }
}

#[test]
fn a_budget_is_spent_on_nearly_the_most_that_can_be_done_with_it() {
    for budget_w in [8.0, 6.0, 5.0, 4.0, 3.0, 2.5] {
        let (_, on) = after(600, budget_w, 1.1);
        let most = most_within(0.95 * budget_w, truth);
        assert!(truth(&on).0 > 0.9 * most, "{budget_w} W: {on:?} does {} where {most} could be done", truth(&on).0);
    }
}

#[test]
fn hours_on_one_configuration_teach_nothing_false_of_others() {
    let (mut selector, _) = after(300, f64::INFINITY, 1.1);
    works(&mut selector, 4 * 3600, 3.0, 1.1, truth);
    assert_knows_the_phone(&selector);
}

#[test]
fn a_device_that_becomes_another_is_followed() {
    // The big cores lose half of their speed to whatever else runs on them, and draw as much.
    let other = |on: &Configuration| {
        let big = Configuration { shares: vec![Share::default(), on.shares[1]] };
        let (rate, watts) = truth(on);
        (rate - truth(&big).0 / 2.0, watts)
    };
    let budget_w = 4.0;
    let (mut selector, _) = after(1000, budget_w, 1.1);
    works(&mut selector, 1800, budget_w, 1.1, other);
    let on = selector.current();
    let most = most_within(budget_w, other);
    assert!(other(on).0 > 0.85 * most, "{on:?} does {} where {most} could be done", other(on).0);
}

fn lowest() -> Configuration {
    Configuration { shares: vec![Share { cores: 4, clock: 0 }, Share::default()] }
}

#[test]
fn a_processor_without_clocks_is_one_choice() {
    let container = crate::Topology {
        clusters: vec![crate::Cluster { cores: vec![0, 1], clocks_khz: Vec::new(), capacity: None }],
    };
    let mut selector = Selector::new(&container);
    for _ in 0..50 {
        selector.begin(1.1, f64::INFINITY);
        let wants = wanted(Phase::Decode, f64::INFINITY);
        let on = selector.step(Some(Measured { work: 1.0, seconds: 1.0, watts: None }), &wants);
        assert!((1..=2).contains(&on.threads()) && on.shares[0].clock == 0);
    }
    let nothing = crate::Topology::default();
    let on = Selector::new(&nothing).step(None, &wanted(Phase::Compute, 1.0)).clone();
    assert_eq!(on.shares, []);
}

#[test]
fn measurements_that_are_none_do_no_harm() {
    let mut selector = Selector::new(&phone());
    for second in 0..200 {
        let bad = [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e300][second % 5];
        let measured = Measured { work: bad, seconds: [1.0, 0.0, f64::NAN][second % 3], watts: Some(bad) };
        selector.begin(1.1, [bad, 5.0][second % 2]);
        let on = selector.step(Some(measured), &wanted(Phase::Compute, [bad, 4.0][second % 2]));
        assert!(on.threads() <= 8);
    }
    let point = selector.curve().point(selector.reference(), Phase::Compute);
    assert!(point.rate.is_finite() && point.watts.is_finite(), "{point:?}");
}

#[test]
fn a_budget_of_nothing_takes_what_draws_least() {
    let mut selector = Selector::new(&phone());
    for budget_w in [f64::INFINITY, 0.0] {
        for _ in 0..60 {
            let on = selector.current().clone();
            let (work, watts) = truth(&on);
            let measured = Measured { work, seconds: 1.0, watts: Some(watts) };
            selector.step(Some(measured), &wanted(Phase::Compute, budget_w));
        }
    }
    let on = selector.current();
    assert_eq!(on.shares, [Share { cores: 2, clock: 0 }, Share::default()], "whatever was learned");
}
