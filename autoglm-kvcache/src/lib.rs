//! Past tokens into reusable keys and values.
//!
//! A phone agent sends the same long system prompt and a growing history at every step, and one new
//! screenshot. A [`Pool`] remembers what was computed of them: [`Pool::open`] finds the longest known
//! beginning of a prompt, to the token, and [`PooledCache::commit`] makes a step's rows known. Results are the
//! same bits as without a pool, because a row's bits do not depend on the rows that it was computed with.
//!
//! ```text
//!             ┌ index: radix tree over units ────────────────┐
//! prompt ───▶ │ root(salt, weights, …) ─ system prompt ─┬─ … │ ───▶ PooledCache: blocks 0, 1, 2 …
//!             │                                         └─ … │           read in place, copied before
//!             └───────────────┬──────────────────────────────┘           they are written to
//!                             ▼
//!             blocks of 32 tokens × all layers, within a budget of bytes
//! ```
//!
//! Reading order: [`shape`] (how a block lies in memory), `block`, `ledger` (the budget), [`key`] (what a
//! prefix is valid for), `tree` (the index), [`pool`], [`cache`], [`snapshot`]; [`media`] keeps
//! the rows of pictures.

mod block;
pub mod cache;
pub mod digest;
mod error;
pub mod key;
mod ledger;
pub mod media;
pub mod pool;
pub mod shape;
pub mod snapshot;
mod sync;
mod tree;
mod unit;

pub use cache::PooledCache;
pub use error::{Error, Result};
pub use key::{Identity, NUMERICS, Root};
pub use media::EmbedsCache;
pub use pool::{Pinned, Pool, PoolStats};
pub use shape::{BLOCK_TOKENS, Shape};
pub use snapshot::{Seal, SnapshotError};
