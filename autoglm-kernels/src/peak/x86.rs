//! Loops of one instruction, and of loads, on x86's 256-bit and 512-bit registers.

use std::arch::asm;
use std::arch::x86_64::*;

use super::{tail, words};

/// A function that does `rounds` rounds of the line for each of twelve sums, whose number stands in it as
/// `\i`, and hands back its second argument. Registers 14 and 15 are the factors and 13 is free; all begin
/// at zero, because some processors take longer over odd floats.
macro_rules! peak {
    ($name:ident, $features:literal, $line:literal) => {
        #[target_feature(enable = $features)]
        pub(super) fn $name(rounds: u64, operations: u64) -> u64 {
            if rounds > 0 {
                // SAFETY: the block changes the registers that it names and no memory.
                unsafe {
                    asm!(
                        ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
                        "vpxor xmm\\i, xmm\\i, xmm\\i",
                        ".endr",
                        "2:",
                        ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",
                        $line,
                        ".endr",
                        "dec {n}",
                        "jnz 2b",
                        n = inout(reg) rounds => _,
                        out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                        out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                        out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                        out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                        options(nomem, nostack),
                    );
                }
            }
            operations
        }
    };
}

peak!(vpmaddwd, "avx2", "vpmaddwd ymm13, ymm14, ymm15\nvpaddd ymm\\i, ymm\\i, ymm13");
peak!(vpdpbusd_vex, "avx2,avxvnni", "{{vex}} vpdpbusd ymm\\i, ymm14, ymm15");
peak!(vpdpbusd_256, "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni", "{{evex}} vpdpbusd ymm\\i, ymm14, ymm15");
peak!(vpdpbusd_512, "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni", "vpdpbusd zmm\\i, zmm14, zmm15");
peak!(vdpbf16ps, "avx512f,avx512bf16", "vdpbf16ps zmm\\i, zmm14, zmm15");
peak!(vfmadd_256, "avx2,fma", "vfmadd231ps ymm\\i, ymm14, ymm15");
peak!(vfmadd_512, "avx512f", "vfmadd231ps zmm\\i, zmm14, zmm15");

/// As [`super::read`].
#[target_feature(enable = "avx2")]
pub(super) fn read_256(data: &[u8]) -> u64 {
    let mut sums = [_mm256_setzero_si256(); 8];
    let (blocks, rest) = data.as_chunks::<256>();
    for block in blocks {
        for (sum, bytes) in sums.iter_mut().zip(block.as_chunks::<32>().0) {
            // SAFETY: 32 bytes are what is read.
            *sum = _mm256_add_epi64(*sum, unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) });
        }
    }
    // SAFETY: eight registers are 32 words, and any bits are words.
    words(unsafe { &*std::ptr::from_ref(&sums).cast::<[u64; 32]>() }).wrapping_add(tail(rest))
}

/// As [`super::read`].
#[target_feature(enable = "avx512f")]
pub(super) fn read_512(data: &[u8]) -> u64 {
    let mut sums = [_mm512_setzero_si512(); 4];
    let (blocks, rest) = data.as_chunks::<256>();
    for block in blocks {
        for (sum, bytes) in sums.iter_mut().zip(block.as_chunks::<64>().0) {
            // SAFETY: 64 bytes are what is read.
            *sum = _mm512_add_epi64(*sum, unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) });
        }
    }
    // SAFETY: four registers are 32 words, and any bits are words.
    words(unsafe { &*std::ptr::from_ref(&sums).cast::<[u64; 32]>() }).wrapping_add(tail(rest))
}
