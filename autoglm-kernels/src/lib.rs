//! Matrix products, attention tiles and row operations for CPUs: slices in, slices out.
//!
//! A kernel works on the rows or columns it is given. It starts no thread, allocates nothing and
//! knows no tensor; the caller owns threads and scratch. Every kernel has a scalar twin in plain
//! Rust, which is also what runs where no better body exists, and takes the instruction set to run on
//! as an [`Isa`].
//!
//! Two laws hold throughout:
//! - **A row's bits depend on nothing but the row**: not on how many rows are computed with it, nor on
//!   how columns were cut for threads. Sums over k are never split between threads.
//! - **Every instruction set gives the bits of the scalar twin**, because integer sums are exact and
//!   floating-point sums have one order, written down beside each kernel. Exceptions say so.

#![allow(
    unsafe_code,
    reason = "intrinsics and blocks of a matrix are what this crate is for; each block says why it is sound"
)]

pub mod activation;
pub mod attention;
pub mod block;
pub mod dense;
mod error;
pub mod exp;
pub mod gelu;
pub mod hadamard;
pub mod integer;
pub mod isa;
mod lanes;
pub mod layout;
mod multiversion;
pub mod peak;

pub use block::Block;
pub use error::{Error, Result};
pub use isa::Isa;
