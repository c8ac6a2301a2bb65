//! The price of a second, in W: how a choice between energy and time is made in one currency.

use super::curve::Point;

/// A price of time at which nothing but time counts.
pub(crate) const HASTE_W: f64 = 1e4;

/// Prices that are considered otherwise.
const PRICES_W: [f64; 2] = [0.02, 200.0];

/// How much the time of earlier steps counts against that of the present one.
pub(crate) const FADE: f64 = 0.8;

/// The lowest price at which it is not too slow, found in so many halvings of the range of their logarithms.
pub(crate) fn price_of_time(halvings: u32, too_slow: impl Fn(f64) -> bool) -> f64 {
    let [mut low, mut high] = PRICES_W.map(f64::ln);
    for _ in 0..halvings {
        let middle = f64::midpoint(low, high);
        if too_slow(middle.exp()) { low = middle } else { high = middle }
    }
    high.exp()
}

/// What is done on average by whoever may draw so many watts on average, by turning from `high` to `low` and back.
pub(crate) fn sustained_rate(high: Point, low: Point, watts: f64) -> f64 {
    let duty = ((watts - low.watts) / (high.watts - low.watts).max(1e-9)).clamp(0.0, 1.0);
    low.rate + duty * (high.rate - low.rate)
}
