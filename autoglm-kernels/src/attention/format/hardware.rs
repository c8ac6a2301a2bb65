//! Pairs of bf16 multiplied and rounded by instructions of AVX512-BF16.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Format, Line, Pairs};
use crate::isa::{Avx512Bf16, Avx512Vnni};
use crate::lanes::Lanes;
use crate::lanes::avx512::Zmm;

/// Two bf16 per word, multiplied by `vdpbf16ps`. Made from the proof that the instruction is there.
#[derive(Debug, Clone, Copy)]
pub(in crate::attention) struct Hardware(pub(in crate::attention) Avx512Bf16);

/// The operand of a bf16 instruction.
#[inline(always)]
fn halves(words: __m512i) -> __m512bh {
    // SAFETY: both are 512 bits of which every pattern is valid.
    unsafe { std::mem::transmute(words) }
}

impl Format<Zmm> for Hardware {
    const PER_WORD: usize = 2;

    #[inline(always)]
    fn step(self, sum: Zmm, a: __m512i, b: __m512i) -> Zmm {
        // SAFETY: `self` says that AVX512-BF16 is there.
        Zmm::of_register(self.0.vnni(), unsafe { _mm512_dpbf16_ps(sum.register(), halves(a), halves(b)) })
    }

    #[inline(always)]
    fn keep(self, _proof: Avx512Vnni, [low, high]: [Zmm; 2], sums: Zmm, to: &mut [Line]) -> Zmm {
        // SAFETY: as above; both types are 512 bits of which every pattern is valid.
        let words: __m512i = unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(high.register(), low.register())) };
        Zmm::store_words(words, &mut to[0].0);
        sums.add(Zmm::low_bf16(words)).add(Zmm::high_bf16(words))
    }

    #[inline(always)]
    fn word(first: f32, second: f32) -> u32 {
        <Pairs as Format<Zmm>>::word(first, second)
    }
}
