//! How much power the device may draw for its temperature, in the form of Linux's power allocator.
//!
//! ```text
//! P = P_sus + k·(T_set − T̂) + k_i ∫ (T_set − T̂) dt,   T̂ = T forecast some seconds ahead
//! dT/dt = a P + c − b (T − A),   P_sus = (b (T_set − A) − c) / a,   k = b e / (a (1 − e)),   e = exp(−b H)
//! ```
//!
//! With this k, P is the constant power that brings the body to T_set after H seconds: a little more than P_sus while it is
//! cold, so that a long task is as fast at its end as at its beginning. Above T_set H is shorter, and a little further above
//! shorter still: clocks come in steps, so that a body is held by now one and now the other of two neighbours, which may take
//! their time as long as it is warm only by that little. The integral does not follow power that nobody takes. P is what
//! inference adds to an idle device with its screen on; a, b, c and A are learned. (Linux,
//! `Documentation/driver-api/thermal/power_allocator.rst`, with its different gains below and above the setpoint; that
//! they follow from horizons is this project's.)

use super::body::BodyLaw;
use super::least_squares::LeastSquares;
use crate::Reading;

/// The temperatures that a device is kept at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Of the body, in °C, in air of at most `usual_c`.
    pub body_c: f64,
    /// Air above which the body may become as much warmer as the air is, in °C: a device in the sun must still answer.
    pub usual_c: f64,
    /// Of the body in any air, in °C.
    pub body_at_most_c: f64,
    /// Of the junction, in °C: above it next to nothing runs, whatever is asked for.
    pub junction_trip_c: f64,
    /// Below the trip, in K, the power is held so that it is not reached.
    pub junction_margin_k: f64,
    /// Seconds in which a body below its limit may come to it, in which one above it is to come back, and in which one far
    /// above it is to come back to `slack_k` above it; positive, the longest first.
    pub horizons_s: [f64; 3],
    /// What the body may be above its limit without haste, in K: who decides in steps of a clock is above it half of the time.
    pub slack_k: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_c: 42.3,
            usual_c: 31.0,
            body_at_most_c: 48.0,
            junction_trip_c: 75.0,
            junction_margin_k: 3.0,
            horizons_s: [1500.0, 400.0, 100.0],
            slack_k: 0.25,
        }
    }
}

impl Limits {
    /// What the junction is held to, in °C.
    pub(crate) fn junction_limit_c(&self) -> f64 {
        self.junction_trip_c - self.junction_margin_k
    }

    /// Where the junction hovers on average of a device that turns clocks down at the trip and up again 5 K below it, in °C.
    pub(crate) fn hovers_at_c(&self) -> f64 {
        self.junction_trip_c - 2.5
    }

    /// What the body may come to in air of this temperature, in °C.
    #[must_use]
    pub fn body_limit(&self, ambient_c: f64) -> f64 {
        (self.body_c + (ambient_c - self.usual_c).max(0.0)).min(self.body_at_most_c)
    }
}

/// Power that the whole device may draw, in W.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Allowed {
    /// On average: a body does not notice half a minute above it.
    pub budget_w: f64,
    /// At any time: the junction follows within seconds.
    pub limit_w: f64,
    /// What of both the device draws without inference.
    pub idle_w: f64,
}

/// Says how much power the device may draw.
#[derive(Debug, Clone)]
pub struct Headroom {
    limits: Limits,
    /// a, c and b of the law above, in K/J, K/s and 1/s.
    body: LeastSquares,
    ambient_c: Option<f64>,
    /// What the device draws with its screen on and nothing to infer, in W.
    idle_w: f64,
    integral_ks: f64,
    /// Where the last stretch of [`LEARN_S`] began: time, temperature, and the energy of inference since.
    stretch: Option<(f64, f64, f64)>,
    last_s: Option<f64>,
    last_body_c: Option<f64>,
    last_seen_s: f64,
    /// What the junction is above the body, in K, for each W of inference.
    junction: LeastSquares,
    /// Power of inference as the junction follows it, in W.
    followed_w: f64,
    tripped: bool,
}

/// The first guess: a phone of nearly 7 inches, whose screen heats it a little.
const BODY_R: f64 = 5.5;
const BODY_C: f64 = 160.0;
const IDLE_W: f64 = 1.0;
const IDLE_HEATS_W: f64 = 0.6;
const FIRST_GUESS: BodyLaw = BodyLaw { a: 1.0 / BODY_C, c: IDLE_HEATS_W / BODY_C, b: 1.0 / (BODY_R * BODY_C) };
const JUNCTION_R: f64 = 9.0;

/// Stretches from which the body's warming is learned, in s: long enough for a tenth of a kelvin to be little.
const LEARN_S: f64 = 60.0;

/// Time after which the junction has followed a change of power to 63 %, in s: of a phone, roughly.
const FOLLOWS_S: f64 = 8.0;

/// Time over which the body's temperature is smoothed, in s: in it, a body hardly changes.
const SMOOTH_S: f64 = 15.0;

/// Kelvin-seconds that the integral may reach, and what one of them is worth, in W.
const INTEGRAL_KS: f64 = 600.0;
const INTEGRAL_W: f64 = 0.001;

/// A budget of nothing is the trip's alone, in W.
const LEAST_W: f64 = 0.01;

/// It follows upwards where at least this share of what is allowed is drawn: what is not taken is not missing.
const SPENT: f64 = 0.8;

/// The integral follows within this distance of the limit, in K.
const INTEGRAL_K: f64 = 1.5;

/// The trip is released this far below, in K.
const RELEASE_K: f64 = 8.0;

/// Readings may be missing for so long, in s, before nothing is believed of them.
const STALE_S: f64 = 10.0;

/// Temperature of a body at which Android throttles severely, in °C: it differs between devices, and few are lower.
const SEVERE_C: f64 = 45.0;

/// What inference may draw on a device without believable sensors, in W: a phone of 4 inches loses 2 W in all, says
/// Linux's documentation.
const BLIND_W: f64 = 1.2;

/// No device that runs a model draws more, in W.
const MODEST_W: std::ops::Range<f64> = 0.0..2000.0;

/// A device without its screen that was left alone is so much above the air, in K.
const RESTED_K: f64 = 0.5;

impl Headroom {
    /// A device of which nothing is known.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let BodyLaw { a, c, b } = FIRST_GUESS;
        Self {
            limits,
            body: LeastSquares::new(vec![a, c, b], 1.0),
            ambient_c: None,
            idle_w: IDLE_W,
            integral_ks: 0.0,
            stretch: None,
            last_s: None,
            last_body_c: None,
            last_seen_s: f64::NEG_INFINITY,
            junction: LeastSquares::new(vec![JUNCTION_R], 20.0),
            followed_w: 0.0,
            tripped: false,
        }
    }

    /// What of a reading can be true. Sensors see to that too; whoever plays a recording may not.
    fn believed(reading: &Reading) -> Reading {
        let celsius = |value: Option<f64>| value.filter(|c| (-40.0..150.0).contains(c));
        // Where an app may not read temperatures, Android tells how near severe throttling is: 1 is there, 0 is 30 K below.
        let headroom = reading.headroom.filter(|headroom| (0.0..4.0).contains(headroom));
        let from_headroom = || headroom.map(|headroom| SEVERE_C - 30.0 * (1.0 - headroom));
        Reading {
            body_c: celsius(reading.body_c).or_else(from_headroom),
            junction_c: celsius(reading.junction_c),
            power_w: reading.power_w.filter(|watts| MODEST_W.contains(watts)),
            ..*reading
        }
    }

    /// The device was left alone for long: its body is nearly as warm as the air.
    pub fn rested(&mut self, seen: &Reading) {
        let Some(body) = Self::believed(seen).body_c else { return };
        let air = body - RESTED_K;
        // The screen may have been on before: less is believed at once, more slowly.
        self.ambient_c =
            Some(self.ambient_c.map_or(air, |known| if air < known { air } else { known + 0.3 * (air - known) }));
        self.integral_ks = 0.0;
    }

    /// A request comes: what is seen now was not seen in the second before the next.
    pub fn begin(&mut self, seen: &Reading) {
        self.stretch = None;
        self.last_s = None;
        self.last_body_c = Self::believed(seen).body_c;
    }

    /// The power that the whole device may draw from now on; next to nothing runs where it is zero. Without inference it
    /// draws `idle_w`, its screen included: whoever watches configurations knows that better than a gauge which follows the
    /// last request for seconds. Where it is too much, the law's c makes up for that in time.
    pub fn step(&mut self, seen: &Reading, idle_w: f64, now_s: f64) -> Allowed {
        if MODEST_W.contains(&idle_w) {
            self.idle_w = idle_w;
        }
        let seen = &Self::believed(seen);
        let passed = self.last_s.map_or(0.0, |last| (now_s - last).clamp(0.0, 10.0));
        self.last_s = Some(now_s);
        self.learn(seen, now_s, passed);
        if self.trips(seen) {
            return Allowed { budget_w: 0.0, limit_w: 0.0, idle_w: self.idle_w };
        }
        let body = seen.body_c.map(|body| self.smooth(body, passed));
        let Some(body) = body else {
            // Silence is not a cool device; but one missing reading is no reason to slow down.
            let blind = now_s - self.last_seen_s > STALE_S;
            let body = self.last_body_c.filter(|_| !blind);
            let Some(body) = body else {
                let blind_w = self.idle_w + BLIND_W;
                return Allowed { budget_w: blind_w, limit_w: blind_w, idle_w: self.idle_w };
            };
            return self.allowed(body, seen.power_w, 0.0);
        };
        self.last_seen_s = now_s;
        self.last_body_c = Some(body);
        self.allowed(body, seen.power_w, passed)
    }

    /// The body's temperature without the last tenths of its sensor: they would be half a watt at the limit.
    fn smooth(&self, body: f64, passed: f64) -> f64 {
        self.last_body_c.map_or(body, |last| last + (1.0 - (-passed / SMOOTH_S).exp()) * (body - last))
    }

    fn allowed(&mut self, body: f64, watts: Option<f64>, passed: f64) -> Allowed {
        let ambient = *self.ambient_c.get_or_insert(body - RESTED_K);
        let limit = self.limits.body_limit(ambient);
        let error = limit - self.forecast(body, ambient, watts);
        let for_body = self.law().allows_w(&self.limits, ambient, error, INTEGRAL_W * self.integral_ks);
        // The integral is held away from the limit: it corrects what the law misses, not how long the way is. It counts from
        // the next second on, so that a hotter body never gains by coming near the limit.
        let spent = error <= 0.0 || watts.is_none_or(|watts| watts - self.idle_w > SPENT * for_body);
        if error.abs() < INTEGRAL_K && spent {
            self.integral_ks = (self.integral_ks + error * passed).clamp(-INTEGRAL_KS, INTEGRAL_KS);
        }
        let for_junction = self.for_junction(body);
        // It may be less than nothing: what is believed of an idle device may be too much. Whatever draws least still runs.
        let budget_w = (self.idle_w + for_body.min(for_junction)).max(LEAST_W);
        Allowed { budget_w, limit_w: self.idle_w + for_junction, idle_w: self.idle_w }
    }

    /// Power of a device which only turns clocks down at the trip and up again below it takes on average, in
    /// W: at it the junction hovers a little below its trip.
    #[must_use]
    pub fn bang_bang_w(&self) -> f64 {
        let Some(body) = self.last_body_c else { return f64::INFINITY };
        self.idle_w + (self.limits.hovers_at_c() - body).max(0.0) / self.junction_resistance()
    }

    /// Whether the junction is at its trip, or was and has not cooled yet.
    #[must_use]
    pub fn is_tripped(&self) -> bool {
        self.tripped
    }

    fn trips(&mut self, seen: &Reading) -> bool {
        match seen.junction_c {
            Some(junction) if junction >= self.limits.junction_trip_c => self.tripped = true,
            Some(junction) if junction < self.limits.junction_trip_c - RELEASE_K => self.tripped = false,
            _ => {}
        }
        self.tripped
    }

    /// Power of inference at which the junction stays below its trip by the margin.
    fn for_junction(&self, body_c: f64) -> f64 {
        ((self.limits.junction_limit_c() - body_c) / self.junction_resistance()).max(0.3)
    }

    fn junction_resistance(&self) -> f64 {
        self.junction.coefficients()[0].clamp(1.0, 30.0)
    }

    fn law(&self) -> BodyLaw {
        let [a, c, b] = self.body.coefficients() else { return FIRST_GUESS };
        BodyLaw { a: a.max(1e-4), c: *c, b: b.clamp(1.0 / 7200.0, 1.0 / 60.0) }
    }

    /// The body's temperature in 30 s at the present power.
    fn forecast(&self, body: f64, ambient: f64, watts: Option<f64>) -> f64 {
        const AHEAD_S: f64 = 30.0;
        let Some(watts) = watts else { return body };
        let BodyLaw { a, c, b } = self.law();
        let settles = ambient + (a * (watts - self.idle_w).max(0.0) + c) / b;
        body + (settles - body) * (1.0 - (-AHEAD_S * b).exp())
    }

    fn learn(&mut self, seen: &Reading, now_s: f64, passed: f64) {
        let (Some(body), Some(watts)) = (seen.body_c, seen.power_w) else {
            self.stretch = None;
            return;
        };
        let watts = (watts - self.idle_w).max(0.0);
        if let Some(junction) = seen.junction_c {
            self.followed_w += (1.0 - (-passed / FOLLOWS_S).exp()) * (watts - self.followed_w);
            // A device at rest says little of it, and gets little weight.
            self.junction.fade(FADE);
            self.junction.observe(&[self.followed_w], (junction - body).max(0.0), 1.0);
            self.junction.solve(1);
        }
        let Some((began_s, began_c, joules)) = &mut self.stretch else {
            self.stretch = Some((now_s, body, 0.0));
            return;
        };
        *joules += watts * passed;
        let seconds = now_s - *began_s;
        if seconds >= LEARN_S {
            let (mean_w, rise) = (*joules / seconds, (body - *began_c) / seconds);
            let above = f64::midpoint(*began_c, body) - self.ambient_c.unwrap_or(body);
            // Scaled so that the prior counts as a few stretches.
            self.body.fade(FADE);
            self.body.observe(&[mean_w, 1.0, -above], rise, LEARN_WEIGHT);
            self.body.solve(20);
            self.stretch = Some((now_s, body, 0.0));
        }
    }
}

/// What an observation counts against the one after it.
const FADE: f64 = 0.995;

/// A stretch counts as much as a part of the prior: its rise of temperature is known to a tenth of a kelvin in a minute.
const LEARN_WEIGHT: f64 = 1e3;
