//! Dense weights into packed 8-bit and 4-bit ones, and products with them.
//!
//! A [`QuantSource`] stands between a model and a dense checkpoint: asked for a linear map, it reads
//! the stored rows one by one, quantises them and answers with an [`Integer`] projection, so that no
//! model learns that it runs on integers. A [`Scheme`] says which map becomes what.
//!
//! ```text
//! W = (out, k) stored      W' = W H, block by block           the rotation, which spreads outliers
//! step[n][g]               per output, or per group g of k    8 bit: max/127, 4 bit: least squares
//! channel[n] = max_g |step[n][g]|,  factor[n][g] = f16(step[n][g] / channel[n])
//! code[n][k] = round(W'[n][k] / (factor[n][g] · channel[n]))  in −127..=127 or −8..=7
//! ```
//!
//! H is the block Hadamard matrix of [`autoglm_kernels::hadamard`], its own inverse, and the rows of
//! activations are rotated with it before they are quantised: (W H)(H x) = W x. A width that no
//! power of two divides is not rotated ([`Packed::block`] says 1), which costs accuracy where some
//! inputs are much larger than others and nothing else.
//!
//! Where calibration saw what goes into a map, [`Feedback`] chooses its codes so that each input makes up for the rounding
//! of those before it.
//!
//! What was packed once can be written into a file ([`Placement`] says where, [`Manifest`] how), from
//! which a [`PackedSource`] takes it uncopied.

mod codes;
mod error;
mod factors;
mod feedback;
mod fidelity;
mod integer;
mod manifest;
mod packed;
mod placement;
mod plain;
mod random;
mod scheme;
mod source;
mod stored;
mod survey;

pub use error::{Error, Result};
pub use feedback::Feedback;
pub use fidelity::{Fidelity, fidelity};
pub use integer::{Integer, Prepare};
pub use manifest::Manifest;
pub use packed::{Packed, Parts};
pub use placement::{ALIGN, PADDING, Placement};
pub use plain::Plain;
pub use random::RandomSource;
pub use scheme::{Format, Group, Packing, Role, Scheme};
pub use source::QuantSource;
pub use stored::PackedSource;
pub use survey::Survey;
