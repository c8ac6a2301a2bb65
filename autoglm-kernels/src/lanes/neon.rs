//! Sixteen lanes in four 128-bit registers.
#![allow(unsafe_code)]

use std::arch::aarch64::*;

use half::f16;

use super::Lanes;
use crate::isa::Neon;

/// Sixteen numbers in four registers. One exists only where [`Neon`] does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quads([float32x4_t; 4]);

/// Words in four registers. Made from the proof, as [`Quads`] is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QuadWords([uint32x4_t; 4]);

/// Calls intrinsics of Advanced SIMD.
macro_rules! neon {
    ($($code:tt)*) => {
        // SAFETY: Advanced SIMD is there: the operand that is a `Quads`, or the proof it is made from, says so. Loads
        // and stores stay inside the arrays behind the references.
        unsafe { $($code)* }
    };
}

/// One intrinsic, on each of the four registers of its operands.
macro_rules! each {
    ($intrinsic:ident($($operand:expr),+)) => {
        neon!([
            $intrinsic($($operand[0]),+),
            $intrinsic($($operand[1]),+),
            $intrinsic($($operand[2]),+),
            $intrinsic($($operand[3]),+),
        ])
    };
}

impl Lanes for Quads {
    type Proof = Neon;
    type Words = QuadWords;

    #[inline(always)]
    fn splat(_proof: Neon, x: f32) -> Self {
        Self([neon!(vdupq_n_f32(x)); 4])
    }

    #[inline(always)]
    fn load(_proof: Neon, from: &[f32; 16]) -> Self {
        let (quads, _) = from.as_chunks::<4>();
        Self([0, 1, 2, 3].map(|q| neon!(vld1q_f32(quads[q].as_ptr()))))
    }

    #[inline(always)]
    fn load_f32(_proof: Neon, from: &[u8; 64]) -> Self {
        let (quads, _) = from.as_chunks::<16>();
        Self([0, 1, 2, 3].map(|q| neon!(vreinterpretq_f32_u8(vld1q_u8(quads[q].as_ptr())))))
    }

    // The conversion instructions are not in the oldest compiler this crate builds with; the portable one is exact too.
    #[inline(always)]
    fn load_f16(proof: Neon, from: &[u8; 32]) -> Self {
        let (numbers, _) = from.as_chunks::<2>();
        let wide: [f32; 16] = std::array::from_fn(|l| f16::from_le_bytes(numbers[l]).to_f32());
        Self::load(proof, &wide)
    }

    #[inline(always)]
    fn load_bf16(_proof: Neon, from: &[u8; 32]) -> Self {
        let (quads, _) = from.as_chunks::<8>();
        Self(
            [0, 1, 2, 3].map(|q| {
                neon!(vreinterpretq_f32_u32(vshll_n_u16::<16>(vreinterpret_u16_u8(vld1_u8(quads[q].as_ptr())))))
            }),
        )
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; 16]) {
        let (quads, _) = to.as_chunks_mut::<4>();
        for (quad, register) in quads.iter_mut().zip(self.0) {
            neon!(vst1q_f32(quad.as_mut_ptr(), register));
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(each!(vaddq_f32(self.0, other.0)))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(each!(vsubq_f32(self.0, other.0)))
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(each!(vmulq_f32(self.0, other.0)))
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        Self(each!(vfmaq_f32(c.0, self.0, b.0)))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        let larger = each!(vcgtq_f32(self.0, other.0));
        Self(each!(vbslq_f32(larger, self.0, other.0)))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        let smaller = each!(vcltq_f32(self.0, other.0));
        Self(each!(vbslq_f32(smaller, self.0, other.0)))
    }

    #[inline(always)]
    fn zero_where_below(self, x: Self, bound: Self) -> Self {
        let below = each!(vcltq_f32(x.0, bound.0));
        let zero = [neon!(vdupq_n_f32(0.0)); 4];
        Self(each!(vbslq_f32(below, zero, self.0)))
    }

    #[inline(always)]
    fn first(self, count: usize, other: Self) -> Self {
        let lanes: [[u32; 4]; 4] = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]];
        let index = lanes.map(|quad| neon!(vld1q_u32(quad.as_ptr())));
        let count = [neon!(vdupq_n_u32(count.min(16) as u32)); 4];
        let kept = each!(vcltq_u32(index, count));
        Self(each!(vbslq_f32(kept, self.0, other.0)))
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        Self(self.0.map(|x| {
            neon!({
                let exponent = vaddq_s32(vcvtq_s32_f32(x), vdupq_n_s32(127));
                vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
            })
        }))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        let [a, b, c, d] = self.0;
        neon!({
            let quarters = vaddq_f32(vaddq_f32(a, c), vaddq_f32(b, d));
            let pairs = vadd_f32(vget_low_f32(quarters), vget_high_f32(quarters));
            vget_lane_f32::<0>(pairs) + vget_lane_f32::<1>(pairs)
        })
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        let mut lanes = [0f32; 16];
        self.store(&mut lanes);
        for half in [8, 4, 2, 1] {
            for l in 0..half {
                lanes[l] = if lanes[l] > lanes[l + half] { lanes[l] } else { lanes[l + half] };
            }
        }
        lanes[0]
    }

    #[inline(always)]
    fn words(_proof: Neon, from: &[u32; 16]) -> QuadWords {
        let (quads, _) = from.as_chunks::<4>();
        QuadWords([0, 1, 2, 3].map(|q| neon!(vld1q_u32(quads[q].as_ptr()))))
    }

    #[inline(always)]
    fn splat_word(_proof: Neon, word: u32) -> QuadWords {
        QuadWords([neon!(vdupq_n_u32(word)); 4])
    }

    #[inline(always)]
    fn store_bits(self, to: &mut [u32; 16]) {
        Self::store_words(QuadWords(each!(vreinterpretq_u32_f32(self.0))), to);
    }

    #[inline(always)]
    fn store_words(words: QuadWords, to: &mut [u32; 16]) {
        let (quads, _) = to.as_chunks_mut::<4>();
        for (quad, register) in quads.iter_mut().zip(words.0) {
            neon!(vst1q_u32(quad.as_mut_ptr(), register));
        }
    }

    #[inline(always)]
    fn of_words(words: QuadWords) -> Self {
        Self(each!(vreinterpretq_f32_u32(words.0)))
    }

    #[inline(always)]
    fn low_bf16(words: QuadWords) -> Self {
        Self(words.0.map(|w| neon!(vreinterpretq_f32_u32(vshlq_n_u32::<16>(w)))))
    }

    #[inline(always)]
    fn high_bf16(words: QuadWords) -> Self {
        Self(words.0.map(|w| neon!(vreinterpretq_f32_u32(vandq_u32(w, vdupq_n_u32(0xffff_0000))))))
    }
}
