#![doc = include_str!("../README.md")]
//!
//! # The crate
//!
//! [`Model`] is a cheap handle on an opened checkpoint, [`Session`] one conversation with it,
//! [`Part`] what a user says, [`Reply`] an iterator over the pieces of an answer, and [`Answer`] the
//! phone action in it. This crate is wiring: the work is done in `autoglm-core`, `autoglm-text`,
//! `autoglm-vision`, `autoglm-audio`, `autoglm-fusion`, `autoglm-quant` and `autoglm-kvcache`, which are published and
//! documented but promise no stable interface; this one does.

mod action;
#[cfg(all(feature = "quant", feature = "kvcache"))]
mod agent_loop;
mod awake;
mod chat;
#[cfg(feature = "power")]
mod conduct;
mod ears;
mod error;
mod eyes;
#[cfg_attr(
    not(all(feature = "power", feature = "kvcache")),
    allow(dead_code, reason = "those who sleep and those who look are features")
)]
mod gate;
#[cfg(feature = "hub")]
pub mod hub;
#[cfg(feature = "quant")]
mod inventory;
#[cfg(feature = "kvcache")]
mod keep;
#[cfg(feature = "quant")]
mod machine;
mod model;
mod options;
mod part;
mod past;
#[cfg(all(feature = "power", feature = "kvcache"))]
mod pins;
mod place;
mod precision;
mod prompt;
#[cfg(feature = "audio")]
mod recording;
mod reply;
mod seat;
mod session;
mod shape;
#[cfg(feature = "power")]
mod sleep;
mod stint;
mod stored;
mod sync;
mod thought;
mod tier;
mod transcribe;
mod transcript;
#[cfg(feature = "quant")]
mod trial;

pub use action::{Action, ActionError, Answer, Point};
#[cfg(all(feature = "quant", feature = "kvcache"))]
pub use agent_loop::{AgentLoop, AgentStep};
#[cfg(feature = "kvcache")]
pub use autoglm_core::KvFormat;
pub use autoglm_core::{Keep, TokenId};
#[cfg(feature = "kvcache")]
pub use autoglm_kvcache::{Error as PoolError, PoolStats, Seal, SnapshotError};
#[cfg(feature = "power")]
pub use autoglm_power as power;
pub use autoglm_text::{Error as TextError, Sampling};
#[cfg(feature = "power")]
pub use conduct::Conducted;
pub use error::{Error, Result};
#[cfg(feature = "quant")]
pub use inventory::Inventory;
#[cfg(feature = "quant")]
pub use machine::Machine;
pub use model::Model;
pub use options::{Generate, OpenOptions, Thinking};
pub use part::Part;
pub use precision::Precision;
#[cfg(feature = "quant")]
pub use precision::Progress;
pub use prompt::Prompt;
#[cfg(feature = "audio")]
pub use recording::Recording;
pub use reply::{Finish, Piece, Reply, Stats};
pub use session::Session;
pub use shape::{Architecture, AudioShape, Shape, VisionShape};
#[cfg(feature = "power")]
pub use sleep::Sleeps;
pub use tier::{Outlook, Request, Tier};
pub use transcript::Transcript;
#[cfg(feature = "quant")]
pub use trial::Trial;
