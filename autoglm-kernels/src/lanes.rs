//! Sixteen f32 numbers side by side: the vector that every floating-point kernel is written over.
//!
//! A kernel is written once, generic over [`Lanes`], and compiled once per instruction set inside a
//! function that enables it. Sixteen lanes are one register of AVX-512, two of AVX2, four of NEON and
//! an array in plain Rust; the lane count is part of what a kernel computes, so it is the same
//! everywhere. Every operation rounds as IEEE 754 says, a fused multiply-add once, so each
//! implementation gives the bits of [`scalar::Plain`].
//!
//! A value can only be made from the proof that its instructions are there ([`crate::isa`]), and so
//! proves it in turn: that is why the operations are safe to call.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod scalar;

/// Number of lanes.
pub(crate) const LANES: usize = 16;

/// Sixteen f32 numbers.
pub(crate) trait Lanes: Copy {
    /// What shows that this processor has the instructions.
    type Proof: Copy;
    /// Sixteen 32-bit words that are not numbers yet.
    type Words: Copy;

    fn splat(proof: Self::Proof, x: f32) -> Self;
    fn load(proof: Self::Proof, from: &[f32; 16]) -> Self;
    /// Little-endian f32, at any address.
    fn load_f32(proof: Self::Proof, from: &[u8; 64]) -> Self;
    /// Little-endian binary16, at any address.
    fn load_f16(proof: Self::Proof, from: &[u8; 32]) -> Self;
    /// Little-endian upper halves of f32, at any address.
    fn load_bf16(proof: Self::Proof, from: &[u8; 32]) -> Self;
    fn store(self, to: &mut [f32; 16]);

    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// self · b + c, rounded once.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// Per lane `if self > other { self } else { other }`: a lane that is not a number gives way to
    /// `other`, and as `other` stays.
    fn max(self, other: Self) -> Self;
    /// Per lane `if self < other { self } else { other }`.
    fn min(self, other: Self) -> Self;
    /// Per lane `if x < bound { 0 } else { self }`.
    fn zero_where_below(self, x: Self, bound: Self) -> Self;
    /// The first `count` lanes of `self`, the others of `other`.
    fn first(self, count: usize, other: Self) -> Self;
    /// 2^self, for whole numbers in −126..=127.
    fn power_of_two(self) -> Self;
    /// The lanes added up, always as ((l, l + 8), then (l, l + 4), (l, l + 2), (0, 1)).
    fn sum(self) -> f32;
    /// The largest lane; lanes that are not numbers are passed over while others are left.
    fn largest(self) -> f32;

    fn words(proof: Self::Proof, from: &[u32; 16]) -> Self::Words;
    fn splat_word(proof: Self::Proof, word: u32) -> Self::Words;
    fn store_bits(self, to: &mut [u32; 16]);
    fn store_words(words: Self::Words, to: &mut [u32; 16]);
    /// The words as f32.
    fn of_words(words: Self::Words) -> Self;
    /// The lower halves of the words, as bf16.
    fn low_bf16(words: Self::Words) -> Self;
    /// The upper halves of the words, as bf16.
    fn high_bf16(words: Self::Words) -> Self;
}

#[cfg(test)]
mod tests;
