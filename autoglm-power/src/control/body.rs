//! How a body warms, and what may heat it.

use super::thermal::Limits;

/// dT/dt = a P + c − b (T − A): power P beyond what the idle device draws, air of temperature A.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BodyLaw {
    /// a, in K/J.
    pub(crate) a: f64,
    /// c, in K/s: what the idle device with its screen on heats.
    pub(crate) c: f64,
    /// b, in 1/s.
    pub(crate) b: f64,
}

impl BodyLaw {
    /// Power at which the body stays so much above the air, in W.
    fn holds_w(&self, above_air_k: f64) -> f64 {
        (self.b * above_air_k - self.c) / self.a
    }

    /// What of power brings the body a kelvin nearer to where it is held, in so many seconds, in W/K.
    fn gain(&self, horizon_s: f64) -> f64 {
        let left = (-self.b * horizon_s).exp();
        self.b * left / (self.a * (1.0 - left))
    }

    /// Power for a body that is `error_k` below its limit, or will be; `extra_w` is added to what would hold it there.
    pub(crate) fn allows_w(&self, limits: &Limits, ambient_c: f64, error_k: f64, extra_w: f64) -> f64 {
        let holds = self.holds_w(limits.body_limit(ambient_c) - ambient_c) + extra_w;
        let [below_s, above_s, beyond_s] = limits.horizons_s;
        let towards = self.gain(if error_k > 0.0 { below_s } else { above_s }) * error_k;
        holds + towards.min(self.gain(beyond_s) * (error_k + limits.slack_k))
    }
}
