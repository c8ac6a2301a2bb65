//! A checkpoint into a smaller one: which neurons, layers and rows of the vocabulary go, and what makes up for them.
//!
//! This crate decides and re-fits; it runs no model and writes no file. Whoever runs one shows it what flows through
//! the feed-forward networks (core has `Observe` for that), sums that up in a [`Gram`], and asks [`shrink`] for a narrower
//! network. What comes out has the shapes of the architecture, so that every program that loads the original loads it.
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
//! (Hassibi & Stork, "Optimal Brain Surgeon"; the closed form per layer is that of SlimGPT and FASP, the weight ω this
//! project's, for the norm that GLM puts behind its feed-forward network.)

mod criterion;
mod error;
mod gram;
mod influence;
mod inverse;
mod obs;
mod redundant;
mod refit;
mod shrink;

pub use criterion::Criterion;
pub use error::{Error, Result};
pub use gram::Gram;
pub use influence::Influence;
pub use shrink::{FeedForward, Row, Shrunk, Target, shrink};
