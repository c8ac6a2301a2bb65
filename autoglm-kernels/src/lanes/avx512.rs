//! Sixteen lanes in one 512-bit register.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::Lanes;
use crate::isa::Avx512Vnni;

/// Sixteen numbers in a register. One exists only where [`Avx512Vnni`] does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Zmm(__m512);

/// Calls intrinsics of AVX-512.
macro_rules! avx512 {
    ($($code:tt)*) => {
        // SAFETY: AVX-512 is there: the operand that is a `Zmm`, or the proof it is made from, says so. Loads and
        // stores are of whole arrays behind references.
        unsafe { $($code)* }
    };
}

impl Zmm {
    /// The register itself.
    #[inline(always)]
    pub(crate) fn register(self) -> __m512 {
        self.0
    }

    /// A register that an instruction beyond AVX-512 has made.
    #[inline(always)]
    pub(crate) fn of_register(_proof: Avx512Vnni, register: __m512) -> Self {
        Self(register)
    }
}

impl Lanes for Zmm {
    type Proof = Avx512Vnni;
    type Words = __m512i;

    #[inline(always)]
    fn splat(_proof: Avx512Vnni, x: f32) -> Self {
        Self(avx512!(_mm512_set1_ps(x)))
    }

    #[inline(always)]
    fn load(_proof: Avx512Vnni, from: &[f32; 16]) -> Self {
        Self(avx512!(_mm512_loadu_ps(from.as_ptr())))
    }

    #[inline(always)]
    fn load_f32(_proof: Avx512Vnni, from: &[u8; 64]) -> Self {
        Self(avx512!(_mm512_loadu_ps(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn load_f16(_proof: Avx512Vnni, from: &[u8; 32]) -> Self {
        Self(avx512!(_mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast()))))
    }

    #[inline(always)]
    fn load_bf16(_proof: Avx512Vnni, from: &[u8; 32]) -> Self {
        Self(avx512!({
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }))
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; 16]) {
        avx512!(_mm512_storeu_ps(to.as_mut_ptr(), self.0));
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(avx512!(_mm512_add_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(avx512!(_mm512_sub_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(avx512!(_mm512_mul_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        Self(avx512!(_mm512_fmadd_ps(self.0, b.0, c.0)))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self(avx512!(_mm512_max_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(avx512!(_mm512_min_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn zero_where_below(self, x: Self, bound: Self) -> Self {
        Self(avx512!({
            let below = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(x.0, bound.0);
            _mm512_maskz_mov_ps(!below, self.0)
        }))
    }

    #[inline(always)]
    fn first(self, count: usize, other: Self) -> Self {
        let kept = if count >= 16 { u16::MAX } else { (1u16 << count) - 1 };
        Self(avx512!(_mm512_mask_blend_ps(kept, other.0, self.0)))
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        Self(avx512!({
            let exponent = _mm512_add_epi32(_mm512_cvttps_epi32(self.0), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        avx512!({
            let halves = _mm256_add_ps(_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0));
            let quarters = _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
            let pairs = _mm_add_ps(quarters, _mm_movehl_ps(quarters, quarters));
            _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehdup_ps(pairs)))
        })
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        avx512!({
            let halves = _mm256_max_ps(_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0));
            let quarters = _mm_max_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
            let pairs = _mm_max_ps(quarters, _mm_movehl_ps(quarters, quarters));
            _mm_cvtss_f32(_mm_max_ss(pairs, _mm_movehdup_ps(pairs)))
        })
    }

    #[inline(always)]
    fn words(_proof: Avx512Vnni, from: &[u32; 16]) -> __m512i {
        avx512!(_mm512_loadu_si512(from.as_ptr().cast()))
    }

    #[inline(always)]
    fn splat_word(_proof: Avx512Vnni, word: u32) -> __m512i {
        avx512!(_mm512_set1_epi32(word as i32))
    }

    #[inline(always)]
    fn store_bits(self, to: &mut [u32; 16]) {
        avx512!(_mm512_storeu_ps(to.as_mut_ptr().cast(), self.0));
    }

    #[inline(always)]
    fn store_words(words: __m512i, to: &mut [u32; 16]) {
        avx512!(_mm512_storeu_si512(to.as_mut_ptr().cast(), words));
    }

    #[inline(always)]
    fn of_words(words: __m512i) -> Self {
        Self(avx512!(_mm512_castsi512_ps(words)))
    }

    #[inline(always)]
    fn low_bf16(words: __m512i) -> Self {
        Self(avx512!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words))))
    }

    #[inline(always)]
    fn high_bf16(words: __m512i) -> Self {
        Self(avx512!(_mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000u32 as i32)))))
    }
}
