//! What a device tells about its heat, charge and clocks into how fast, how long and on which cores to infer.
//!
//! - [`sensors`] read the kernel's files below a root ([`Tree`]) into a [`Reading`] and a [`Topology`].
//! - [`levers`] apply a [`Configuration`] as far as the process is allowed to, and put back what they changed.
//! - [`control`] decides: pure state machines, `step(observation, now) -> action`, without a clock of their own.
//! - [`Conductor`] is all three around one model: it is told what is computed, and says and does the rest.
//! - [`model`] (feature `model`) is a device to prove them on: its figures are modelled, not measured on a phone.
//!
//! Nothing here reads a clock or an environment variable; whoever drives it says what time it is.

mod conductor;
mod configuration;
pub mod control;
mod error;
pub mod levers;
#[cfg(feature = "model")]
pub mod model;
mod os;
mod reading;
pub mod sensors;
pub mod tasks;
mod topology;
mod tree;

pub use conductor::{Computed, Conductor, Energy, Left, Progress, Tick, Trouble};
pub use configuration::{Configuration, Share};
pub use error::{Error, Result};
pub use reading::Reading;
pub use topology::{Cluster, Topology};
pub use tree::Tree;
