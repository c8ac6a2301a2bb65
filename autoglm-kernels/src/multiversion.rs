//! Plain loops compiled once per instruction set.
//!
//! Loops without intrinsics need no body per instruction set: the same Rust, compiled with other
//! instructions allowed, vectorises. Rust never fuses a product and a sum by itself, so all versions
//! give the same bits.

use crate::Isa;

/// Work that is inlined into the function that allows it the instructions. A closure would not do:
/// nothing makes the compiler inline a large one, and out of line it has none of them.
pub(crate) trait Work {
    type Answer;

    /// Implementations say `#[inline(always)]`, and so does all they call.
    fn run(self) -> Self::Answer;
}

/// Runs `work` compiled for `isa`.
#[inline]
pub(crate) fn on<W: Work>(isa: Isa, work: W) -> W::Answer {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni256(_) | Isa::Avx512Vnni(_) | Isa::Avx512Bf16(_) => {
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
            fn with_avx512<W: Work>(work: W) -> W::Answer {
                work.run()
            }
            // SAFETY: the level holds the proof that the processor has these instructions.
            unsafe { with_avx512(work) }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) | Isa::AvxVnni(_) => {
            #[target_feature(enable = "avx2,fma,f16c")]
            fn with_avx2<W: Work>(work: W) -> W::Answer {
                work.run()
            }
            // SAFETY: as above.
            unsafe { with_avx2(work) }
        }
        // 64-bit Arm compiles everything with NEON.
        _ => work.run(),
    }
}
