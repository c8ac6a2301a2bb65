//! What a controller sees of a device.

/// What a device tells about itself at one instant. A sensor that is missing, stuck or implausible is none: a controller
/// then does what is safe, and never takes silence for a cool device.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reading {
    /// Temperature of the body, in °C: skin or battery.
    pub body_c: Option<f64>,
    /// Temperature of the hottest part of the processor, in °C.
    pub junction_c: Option<f64>,
    /// What the whole device takes from its battery or supply, in W, never negative.
    pub power_w: Option<f64>,
    /// What is left in the battery, as a fraction of its full charge.
    pub charge: Option<f64>,
    /// Whether the battery is being charged, or there is none.
    pub on_supply: Option<bool>,
    /// How much of the last seconds all tasks together waited for memory, as a fraction.
    pub memory_pressure: Option<f64>,
    /// How near the device is to severe throttling, which is 1, as Android tells it, some seconds ahead.
    pub headroom: Option<f64>,
}
