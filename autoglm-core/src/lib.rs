//! Vocabulary and contracts that every autoglm crate speaks.
//!
//! A model asks a [`Source`] for its linear maps by checkpoint name and gets [`Projection`]s whose
//! number format it never learns; it hands queries, keys and values to a [`KvCache`] and gets the
//! attention's answer back. Both are passed a [`Run`], which carries the threads they may use.
//! What flows between the crates are [`Embeds`] (encoder rows with the place of each row in its
//! picture) and [`DecoderInput`] (rows with their absolute [`Positions`]).
//!
//! Reading order: [`vocab`], [`embeds`], [`keep`], [`decode`], [`rope`], [`attention`], [`cache`], [`source`],
//! [`dense`], [`observe`], [`checkpoint`].
//!
//! ```
//! use autoglm_core::{KeyValues, KvFormat, Mask, Run, Workers, attention::{Attend, attend}};
//! use candle_core::{Device, Tensor};
//!
//! # fn main() -> autoglm_core::Result<()> {
//! let workers = Workers::new(1)?;
//! let run = Run::new(&workers);
//! let qkv = Tensor::ones((3, 2, 4), candle_core::DType::F32, &Device::Cpu)?; // (n, h, d)
//! let mut past = KeyValues::new(2, 4, KvFormat::F32);
//! past.reserve(3)?;
//! past.push(&run, &qkv, &qkv)?;
//! let how = Attend { mask: Mask::Causal { past: 0 }, scale: 0.5 };
//! let out = attend(&run, &qkv, &past.stretches(), how)?;
//! assert_eq!(out.dims(), &[3, 2, 4]);
//! # Ok(())
//! # }
//! ```

pub mod attention;
pub mod cache;
pub mod checkpoint;
pub mod decode;
pub mod dense;
pub mod embeds;
mod error;
pub mod fields;
pub mod float;
pub mod keep;
pub mod norm;
pub mod observe;
mod prepare;
pub mod rope;
pub mod rows;
pub mod run;
pub mod source;
pub mod vocab;
mod workers;

pub use autoglm_kernels::Isa;

pub use attention::{Attend, KeyValues, KvFormat, Mask};
pub use cache::{DenseCache, KvCache};
pub use checkpoint::{Checkpoint, Files, TensorBytes, TensorSpec};
pub use decode::{DecoderInput, Positions, Want};
pub use dense::{Dense, DenseSource};
pub use embeds::Embeds;
pub use error::{Error, Result};
pub use float::FloatType;
pub use keep::Keep;
pub use norm::{LayerNorm, RmsNorm};
pub use observe::{Observe, Sink};
pub use rope::Rope;
pub use run::Run;
pub use source::{Before, Embedding, Member, Projection, Source};
pub use vocab::{Grid, MediaDigest, Modality, TokenId, Unit};
pub use workers::Workers;
