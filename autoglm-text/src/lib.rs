//! Token ids into logits into text: the GLM decoder, its tokenizer, chat template and sampler.
//!
//! Data flows through the modules in this order: [`chat`] lays a conversation out as token ids with
//! the checkpoint's own template, [`tokenizer`] turns text into ids without ever letting text become
//! a special token, [`decoder`] turns rows into logits, [`sampler`] picks the next id, and
//! [`stream`] and [`stop`] turn ids back into pieces of text and know when to end.

pub mod chat;
pub mod config;
pub mod decoder;
mod error;
pub mod sampler;
pub mod stop;
pub mod stream;
pub mod tokenizer;

pub use chat::{ChatTemplate, Content, Message, Role};
pub use config::{Family, TextConfig};
pub use decoder::{Decoder, DecoderLayer};
pub use error::{Error, Result};
pub use sampler::{Sampler, Sampling};
pub use stop::{StopStrings, stop_ids};
pub use stream::TextStream;
pub use tokenizer::Tokenizer;
