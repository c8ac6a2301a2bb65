//! Sixteen lanes in two 256-bit registers.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::Lanes;
use crate::isa::Avx2;

/// Sixteen numbers in two registers. One exists only where [`Avx2`] does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ymm([__m256; 2]);

/// Words in two registers. Made from the proof, as [`Ymm`] is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct YmmWords([__m256i; 2]);

/// Calls intrinsics of AVX2, FMA or F16C.
macro_rules! avx2 {
    ($($code:tt)*) => {
        // SAFETY: AVX2, FMA and F16C are there: the operand that is a `Ymm`, or the proof it is made from, says so.
        // Loads and stores stay inside the arrays behind the references.
        unsafe { $($code)* }
    };
}

impl Lanes for Ymm {
    type Proof = Avx2;
    type Words = YmmWords;

    #[inline(always)]
    fn splat(_proof: Avx2, x: f32) -> Self {
        Self([avx2!(_mm256_set1_ps(x)); 2])
    }

    #[inline(always)]
    fn load(_proof: Avx2, from: &[f32; 16]) -> Self {
        avx2!(Self([_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))]))
    }

    #[inline(always)]
    fn load_f32(_proof: Avx2, from: &[u8; 64]) -> Self {
        avx2!(Self([_mm256_loadu_ps(from.as_ptr().cast()), _mm256_loadu_ps(from.as_ptr().add(32).cast())]))
    }

    #[inline(always)]
    fn load_f16(_proof: Avx2, from: &[u8; 32]) -> Self {
        avx2!(Self([
            _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast())),
            _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().add(16).cast())),
        ]))
    }

    #[inline(always)]
    fn load_bf16(_proof: Avx2, from: &[u8; 32]) -> Self {
        avx2!({
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.as_ptr().cast()));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.as_ptr().add(16).cast()));
            Self([
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)),
            ])
        })
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; 16]) {
        avx2!({
            _mm256_storeu_ps(to.as_mut_ptr(), self.0[0]);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), self.0[1]);
        });
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        avx2!(Self([_mm256_add_ps(self.0[0], other.0[0]), _mm256_add_ps(self.0[1], other.0[1])]))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        avx2!(Self([_mm256_sub_ps(self.0[0], other.0[0]), _mm256_sub_ps(self.0[1], other.0[1])]))
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        avx2!(Self([_mm256_mul_ps(self.0[0], other.0[0]), _mm256_mul_ps(self.0[1], other.0[1])]))
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        avx2!(Self([_mm256_fmadd_ps(self.0[0], b.0[0], c.0[0]), _mm256_fmadd_ps(self.0[1], b.0[1], c.0[1])]))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        avx2!(Self([_mm256_max_ps(self.0[0], other.0[0]), _mm256_max_ps(self.0[1], other.0[1])]))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        avx2!(Self([_mm256_min_ps(self.0[0], other.0[0]), _mm256_min_ps(self.0[1], other.0[1])]))
    }

    #[inline(always)]
    fn zero_where_below(self, x: Self, bound: Self) -> Self {
        avx2!(Self([
            _mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(x.0[0], bound.0[0]), self.0[0]),
            _mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(x.0[1], bound.0[1]), self.0[1]),
        ]))
    }

    #[inline(always)]
    fn first(self, count: usize, other: Self) -> Self {
        avx2!({
            let count = _mm256_set1_epi32(count.min(16) as i32);
            let low = _mm256_cmpgt_epi32(count, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
            let high = _mm256_cmpgt_epi32(count, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15));
            Self([
                _mm256_blendv_ps(other.0[0], self.0[0], _mm256_castsi256_ps(low)),
                _mm256_blendv_ps(other.0[1], self.0[1], _mm256_castsi256_ps(high)),
            ])
        })
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        avx2!({
            let bias = _mm256_set1_epi32(127);
            let low = _mm256_add_epi32(_mm256_cvttps_epi32(self.0[0]), bias);
            let high = _mm256_add_epi32(_mm256_cvttps_epi32(self.0[1]), bias);
            Self([
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(low)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(high)),
            ])
        })
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        avx2!({
            let halves = _mm256_add_ps(self.0[0], self.0[1]);
            let quarters = _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
            let pairs = _mm_add_ps(quarters, _mm_movehl_ps(quarters, quarters));
            _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehdup_ps(pairs)))
        })
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        avx2!({
            let halves = _mm256_max_ps(self.0[0], self.0[1]);
            let quarters = _mm_max_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
            let pairs = _mm_max_ps(quarters, _mm_movehl_ps(quarters, quarters));
            _mm_cvtss_f32(_mm_max_ss(pairs, _mm_movehdup_ps(pairs)))
        })
    }

    #[inline(always)]
    fn words(_proof: Avx2, from: &[u32; 16]) -> YmmWords {
        avx2!(YmmWords([_mm256_loadu_si256(from.as_ptr().cast()), _mm256_loadu_si256(from.as_ptr().add(8).cast())]))
    }

    #[inline(always)]
    fn splat_word(_proof: Avx2, word: u32) -> YmmWords {
        YmmWords([avx2!(_mm256_set1_epi32(word as i32)); 2])
    }

    #[inline(always)]
    fn store_bits(self, to: &mut [u32; 16]) {
        avx2!({
            _mm256_storeu_ps(to.as_mut_ptr().cast(), self.0[0]);
            _mm256_storeu_ps(to.as_mut_ptr().add(8).cast(), self.0[1]);
        });
    }

    #[inline(always)]
    fn store_words(words: YmmWords, to: &mut [u32; 16]) {
        avx2!({
            _mm256_storeu_si256(to.as_mut_ptr().cast(), words.0[0]);
            _mm256_storeu_si256(to.as_mut_ptr().add(8).cast(), words.0[1]);
        });
    }

    #[inline(always)]
    fn of_words(words: YmmWords) -> Self {
        avx2!(Self([_mm256_castsi256_ps(words.0[0]), _mm256_castsi256_ps(words.0[1])]))
    }

    #[inline(always)]
    fn low_bf16(words: YmmWords) -> Self {
        avx2!(Self([
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words.0[0])),
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words.0[1])),
        ]))
    }

    #[inline(always)]
    fn high_bf16(words: YmmWords) -> Self {
        avx2!({
            let upper = _mm256_set1_epi32(0xffff_0000u32 as i32);
            Self([
                _mm256_castsi256_ps(_mm256_and_si256(words.0[0], upper)),
                _mm256_castsi256_ps(_mm256_and_si256(words.0[1], upper)),
            ])
        })
    }
}
