//! Plain loops compiled once per instruction set.
//!
//! Loops without intrinsics need no body per instruction set: the same Rust, compiled with other
//! instructions allowed, vectorises. Rust never fuses a product and a sum by itself, so all versions
//! give the same bits.

use crate::Isa;

/// Runs `work`, which should be made of `#[inline(always)]` functions, compiled for `isa`.
#[inline]
pub(crate) fn on<R>(isa: Isa, work: impl FnOnce() -> R) -> R {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni256(_) | Isa::Avx512Vnni(_) | Isa::Avx512Bf16(_) => {
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
            fn with_avx512<R>(work: impl FnOnce() -> R) -> R {
                work()
            }
            // SAFETY: the level holds the proof that the processor has these instructions.
            unsafe { with_avx512(work) }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) | Isa::AvxVnni(_) => {
            #[target_feature(enable = "avx2,fma,f16c")]
            fn with_avx2<R>(work: impl FnOnce() -> R) -> R {
                work()
            }
            // SAFETY: as above.
            unsafe { with_avx2(work) }
        }
        // 64-bit Arm compiles everything with NEON.
        _ => work(),
    }
}
