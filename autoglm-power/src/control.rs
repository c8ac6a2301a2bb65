//! Controllers: pure state machines, `step(observation, now) -> action`.
//!
//! None of them reads a clock, a file or a constant of a device: what they know of it they learn from what they see, so
//! that a recorded day can be played to them again, and the device model to the same code that runs on a phone.

mod body;
mod budget;
mod candidates;
mod curve;
mod front;
mod idle;
mod least_squares;
mod pacer;
mod price;
mod recollection;
mod regulator;
mod residuals;
mod selector;
mod thermal;

#[cfg(feature = "model")]
pub(crate) use body::BodyLaw;
#[cfg(feature = "model")]
pub(crate) use budget::DAY_S;
pub use budget::{Allowance, Budgeter, Spent};
pub use curve::{Curve, Phase, Point};
pub use idle::{Depth, IdleManager, Level, Thresholds};
pub use pacer::Pacer;
#[cfg(feature = "model")]
pub(crate) use price::{FADE, HASTE_W, price_of_time, sustained_rate};
pub use regulator::{Regulator, SLOWDOWN, Work};
pub use selector::{Measured, Selector, Wanted};
pub use thermal::{Allowed, Headroom, Limits};

#[cfg(test)]
mod tests;
