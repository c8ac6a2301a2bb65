//! A device to prove controllers on. Its figures are modelled, not measured on a phone.
//!
//! [`Device`] says what a phone draws, how it heats and how fast it computes; [`Trace`] what its owner asks for in a day;
//! a policy ([`Name`]) decides on what inference runs, from sensor readings alone; [`simulate`] plays them against each other.
//! Every constant of a device stands in its file with its source, all others in [`Assumptions`], where they can be swept.

mod assumptions;
mod device;
mod outcome;
mod physics;
mod policy;
mod prompts;
mod simulation;
mod trace;
mod world;

pub use assumptions::{Assumptions, Swept};
pub use device::{ClusterTable, Device, Idle, Memory, PROFILES, Thermal};
pub use outcome::{Comparison, Outcome, Sample};
pub use policy::Name;
pub use simulation::{Run, simulate};
pub use trace::{Event, EventKind, Trace};

#[cfg(test)]
mod tests;
