//! Parts of several modalities into one decoder input.
//!
//! A prompt arrives as token ids in which each picture's and each sound's placeholder stands once
//! ([`Placeholders`]), and their [`Embeds`](autoglm_core::Embeds). [`Assembly`] expands the placeholders, gives every row its
//! M-RoPE position, and hands rows out as [`DecoderInput`](autoglm_core::DecoderInput)s. It grows by
//! appending, so a conversation is laid out turn by turn, and it knows no model: only counts,
//! positions and rows.

mod assembly;
mod error;
mod placeholders;

pub use assembly::Assembly;
pub use error::{Error, Result};
pub use placeholders::Placeholders;
