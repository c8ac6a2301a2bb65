//! What a 32-bit word of a query, key, value or weight is, and how two words are multiplied.

use super::Line;
use crate::lanes::Lanes;

/// A numeric format, as the loops use it.
pub(super) trait Format<V: Lanes>: Copy {
    /// Numbers per word.
    const PER_WORD: usize;

    /// Whether keys and values are to be multiplied by the scales of their tokens.
    const SCALED: bool = false;

    /// sum + a · b for each of sixteen words, over all numbers of a word.
    fn step(self, sum: V, a: V::Words, b: V::Words) -> V;

    /// Writes the weights of 32 keys to their words and adds them, as written, to `sums`.
    fn keep(self, proof: V::Proof, weights: [V; 2], sums: V, to: &mut [Line]) -> V;

    /// Two numbers (`PER_WORD` of which count) as a word.
    fn word(first: f32, second: f32) -> u32;
}

/// One f32 per word.
#[derive(Debug, Clone, Copy)]
pub(super) struct Single;

impl<V: Lanes> Format<V> for Single {
    const PER_WORD: usize = 1;

    #[inline(always)]
    fn step(self, sum: V, a: V::Words, b: V::Words) -> V {
        V::of_words(a).mul_add(V::of_words(b), sum)
    }

    #[inline(always)]
    fn keep(self, _proof: V::Proof, [low, high]: [V; 2], sums: V, to: &mut [Line]) -> V {
        low.store_bits(&mut to[0].0);
        high.store_bits(&mut to[1].0);
        sums.add(low).add(high)
    }

    #[inline(always)]
    fn word(first: f32, _second: f32) -> u32 {
        first.to_bits()
    }
}

/// Two bf16 per word, multiplied in two steps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pairs;

impl<V: Lanes> Format<V> for Pairs {
    const PER_WORD: usize = 2;

    #[inline(always)]
    fn step(self, sum: V, a: V::Words, b: V::Words) -> V {
        V::low_bf16(a).mul_add(V::low_bf16(b), V::high_bf16(a).mul_add(V::high_bf16(b), sum))
    }

    #[inline(always)]
    fn keep(self, proof: V::Proof, [low, high]: [V; 2], sums: V, to: &mut [Line]) -> V {
        let mut numbers = [[0f32; 16]; 2];
        low.store(&mut numbers[0]);
        high.store(&mut numbers[1]);
        let (pairs, _) = numbers.as_flattened().as_chunks::<2>();
        for (word, [first, second]) in to[0].0.iter_mut().zip(pairs) {
            *word = pair(*first, *second);
        }
        let words = V::words(proof, &to[0].0);
        sums.add(V::low_bf16(words)).add(V::high_bf16(words))
    }

    #[inline(always)]
    fn word(first: f32, second: f32) -> u32 {
        pair(first, second)
    }
}

/// Two numbers rounded to bf16, the first in the lower half of the word.
#[inline(always)]
pub(super) fn pair(first: f32, second: f32) -> u32 {
    round(first) >> 16 | round(second)
}

/// The nearest bf16, ties to even, as the upper half of a word. Subnormal results become zero, as the
/// instructions have it, and what is no number stays none.
#[inline(always)]
fn round(x: f32) -> u32 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude > 0x7f80_0000 {
        (bits | 0x0040_0000) & 0xffff_0000
    } else if magnitude < 0x0080_0000 {
        bits & 0x8000_0000
    } else {
        nearest
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use hardware::Hardware;

#[cfg(target_arch = "x86_64")]
mod hardware;
