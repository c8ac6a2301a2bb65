//! Which of two bodies is the faster one on this processor, by measurement.

use std::hint::black_box;
use std::time::Duration;

use super::{Rows, Weights, gemm};
use crate::layout::{Bits, Layout};
use crate::{Block, Isa};

/// Outputs, inputs and rows of the problem: 64 KiB of codes, which a second-level cache holds, and two
/// tiles of rows.
const N: usize = 128;
const K: usize = 512;
const M: usize = 12;

/// How often each body runs; the best time of each counts, since whatever disturbs makes it longer.
const RUNS: usize = 24;

/// The level to hand to [`gemm`] where `isa` would be handed to it: itself, or [`Isa::Avx512Vnni256`] where
/// that is clearly faster. Both read the same packed weights and give the same bits, so the answer
/// may differ from run to run. `clock` tells the time since any moment; a kernel has none. Takes well under a millisecond, and 80 KiB of the stack.
#[must_use]
pub fn fastest(isa: Isa, clock: impl Fn() -> Duration) -> Isa {
    let rival = match isa {
        Isa::Avx512Vnni(proof) => Isa::Avx512Vnni256(proof),
        Isa::Avx512Bf16(proof) => Isa::Avx512Vnni256(proof.vnni()),
        _ => return isa,
    };
    let (mut best, mut best_rival) = (Duration::MAX, Duration::MAX);
    let codes = black_box([131u8; N * K]);
    let channel = [1.0; N];
    let Ok(weights) = Weights::new((Bits::Eight, Layout::X86), (N, K), &codes, &channel, None) else { return isa };
    let (a, scales, sums) = ([3i8; M * K], [1.0; M], [3 * K as i32; M]);
    let Ok(rows) = Rows::new(&weights, &a, &scales, &sums) else { return isa };
    let mut out = [0f32; M * N];
    for _ in 0..RUNS {
        for (isa, best) in [(isa, &mut best), (rival, &mut best_rival)] {
            let start = clock();
            gemm(isa, &weights, black_box(rows), 0, Block::new(&mut out, N));
            *best = (*best).min(clock().saturating_sub(start));
            black_box(&out);
        }
    }
    // A twentieth is more than two best times of the same body differ by.
    if best_rival * 20 < best * 19 { rival } else { isa }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_fastest_body_is_of_this_processor_and_reads_the_same_weights() {
        for isa in Isa::all() {
            let start = Instant::now();
            let fastest = fastest(isa, || start.elapsed());
            assert!(Isa::all().any(|isa| isa == fastest));
            assert_eq!(Layout::of(fastest), Layout::of(isa));
        }
    }
}
