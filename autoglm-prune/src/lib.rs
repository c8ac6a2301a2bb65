//! A checkpoint into a smaller one: which neurons, heads, layers and rows of the vocabulary go, and what makes up for them.
//!
//! This crate decides and re-fits; it runs no model and writes no file. Whoever runs one shows it what flows through
//! the last maps of feed-forward networks and attentions (core has `Observe` for that), sums that up in a [`Gram`], and
//! asks [`shrink`] for a narrower network or [`shrink_heads`] for an attention of fewer heads. Networks that come out have
//! the shapes of the architecture, so that every program that loads the original loads them, where its
//! configuration has a word for the number of heads.
//!
//! ```text
//! x_t = silu(gate_t) · up_t                    (f)     what down_proj takes for row t
//! G   = Σ_t ω_t x_t x_tᵀ                       (f, f)  ω_t = 1 / (mean(y_t²) + eps), y_t = W x_t: what the norm behind divides by
//! s_j = ‖γ ∘ W_:j‖² / [(G + Λ)⁻¹]_jj                   the error that removing j adds when the others are re-fitted
//! W'  = W (G + Λ)_:S ((G + Λ)_SS)⁻¹            (c, s)  the least squares over those that stay
//!
//! γ (c) is the norm's weight, and Λ a small share of G's diagonal.
//! ```
//!
//! Of an attention x_t is what all heads give, one behind the other, `o_proj` the map that takes it, and a head goes as the
//! block B of its columns, at the cost tr(γ W_:B ([(G + Λ)⁻¹]_BB)⁻¹ W_:Bᵀ γ).
//!
//! (Hassibi & Stork, "Optimal Brain Surgeon"; the closed form per layer is that of SlimGPT and FASP, the weight ω this
//! project's, for the norm that GLM puts behind its feed-forward network.)

mod criterion;
mod error;
mod gram;
mod heads;
mod influence;
mod inverse;
mod obs;
mod redundant;
mod refit;
mod shrink;
mod units;

pub use criterion::Criterion;
pub use error::{Error, Result};
pub use gram::Gram;
pub use heads::{Attention, shrink_heads};
pub use influence::Influence;
pub use shrink::{FeedForward, Row, Shrunk, Target, shrink};
