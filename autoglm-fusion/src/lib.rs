//! Parts of several modalities into one decoder input.
//!
//! A prompt arrives as token ids in which each picture's placeholder stands once, and the pictures'
//! [`Embeds`](autoglm_core::Embeds). [`Assembly`] expands the placeholders, gives every row its
//! M-RoPE position, and hands rows out as [`DecoderInput`](autoglm_core::DecoderInput)s. It grows by
//! appending, so a conversation is laid out turn by turn, and it knows no model: only counts,
//! positions and rows.

mod assembly;
mod error;

pub use assembly::{Assembly, check_placeholders};
pub use error::{Error, Result};
