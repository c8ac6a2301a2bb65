//! Sixteen lanes in plain Rust: what the other implementations must equal.

use half::f16;

use super::Lanes;

/// Sixteen numbers in an array.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plain([f32; 16]);

impl Plain {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|l| f(self.0[l], other.0[l])))
    }
}

impl Lanes for Plain {
    /// Plain Rust runs anywhere.
    type Proof = ();
    type Words = [u32; 16];

    #[inline(always)]
    fn splat((): (), x: f32) -> Self {
        Self([x; 16])
    }

    #[inline(always)]
    fn load((): (), from: &[f32; 16]) -> Self {
        Self(*from)
    }

    #[inline(always)]
    fn load_f32((): (), from: &[u8; 64]) -> Self {
        let (numbers, _) = from.as_chunks::<4>();
        Self(std::array::from_fn(|l| f32::from_le_bytes(numbers[l])))
    }

    #[inline(always)]
    fn load_f16((): (), from: &[u8; 32]) -> Self {
        let (numbers, _) = from.as_chunks::<2>();
        Self(std::array::from_fn(|l| f16::from_le_bytes(numbers[l]).to_f32()))
    }

    #[inline(always)]
    fn load_bf16((): (), from: &[u8; 32]) -> Self {
        let (numbers, _) = from.as_chunks::<2>();
        Self(std::array::from_fn(|l| f32::from_bits(u32::from(u16::from_le_bytes(numbers[l])) << 16)))
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; 16]) {
        *to = self.0;
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        Self(std::array::from_fn(|l| self.0[l].mul_add(b.0[l], c.0[l])))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn zero_where_below(self, x: Self, bound: Self) -> Self {
        Self(std::array::from_fn(|l| if x.0[l] < bound.0[l] { 0.0 } else { self.0[l] }))
    }

    #[inline(always)]
    fn first(self, count: usize, other: Self) -> Self {
        Self(std::array::from_fn(|l| if l < count { self.0[l] } else { other.0[l] }))
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        Self(self.0.map(|x| f32::from_bits(((x as i32 + 127) as u32) << 23)))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        let mut lanes = self.0;
        for half in [8, 4, 2, 1] {
            for l in 0..half {
                lanes[l] += lanes[l + half];
            }
        }
        lanes[0]
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        let mut lanes = self.0;
        for half in [8, 4, 2, 1] {
            for l in 0..half {
                lanes[l] = if lanes[l] > lanes[l + half] { lanes[l] } else { lanes[l + half] };
            }
        }
        lanes[0]
    }

    #[inline(always)]
    fn words((): (), from: &[u32; 16]) -> [u32; 16] {
        *from
    }

    #[inline(always)]
    fn splat_word((): (), word: u32) -> [u32; 16] {
        [word; 16]
    }

    #[inline(always)]
    fn store_bits(self, to: &mut [u32; 16]) {
        *to = self.0.map(f32::to_bits);
    }

    #[inline(always)]
    fn store_words(words: [u32; 16], to: &mut [u32; 16]) {
        *to = words;
    }

    #[inline(always)]
    fn of_words(words: [u32; 16]) -> Self {
        Self(words.map(f32::from_bits))
    }

    #[inline(always)]
    fn low_bf16(words: [u32; 16]) -> Self {
        Self(words.map(|w| f32::from_bits(w << 16)))
    }

    #[inline(always)]
    fn high_bf16(words: [u32; 16]) -> Self {
        Self(words.map(|w| f32::from_bits(w & 0xffff_0000)))
    }
}
