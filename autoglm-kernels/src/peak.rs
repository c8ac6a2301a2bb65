//! What this processor can do at most: loops that only multiply, and loops that only read.
//!
//! A kernel's speed says little by itself. Divided by these it says how much of the machine is used.
//!
//! ```text
//!                 integer                            bf16         f32
//! avx2            vpmaddwd, vpaddd          32                    vfmadd231ps  16
//! avx-vnni, 256   vpdpbusd                  64                    vfmadd231ps  16
//! avx512-vnni     vpdpbusd                 128                    vfmadd231ps  32
//! avx512-bf16     vpdpbusd                 128   vdpbf16ps  64    vfmadd231ps  32
//! neon            smull, smlal, sadalp      32                    fmla          8
//! neon-dotprod    sdot                      32                    fmla          8
//! neon-i8mm       smmla                     64                    fmla          8
//! ```
//!
//! The numbers are operations, where a product and its addition are two.

use crate::Isa;

#[cfg(target_arch = "aarch64")]
mod arm;
#[cfg(target_arch = "x86_64")]
mod x86;

/// Sums in a round, none of which waits for another: processors begin two a cycle and need four or five
/// cycles for each.
const SUMS: u64 = 12;

/// Multiplies integers as the bodies of [`integer`](crate::integer) do, in registers, and returns the
/// number of operations; none where plain Rust would do it.
#[must_use]
pub fn dot_peak(isa: Isa, rounds: u64) -> Option<u64> {
    let each = match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the variants hold the proof of their instructions, here and below.
        Isa::Avx2(_) => unsafe { x86::vpmaddwd(rounds, 32) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::AvxVnni(_) => unsafe { x86::vpdpbusd_vex(rounds, 64) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512Vnni256(_) => unsafe { x86::vpdpbusd_256(rounds, 64) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512Vnni(_) | Isa::Avx512Bf16(_) => unsafe { x86::vpdpbusd_512(rounds, 128) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        Isa::Neon(_) => unsafe { arm::smull(rounds, 32) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        Isa::NeonDotprod(_) => unsafe { arm::sdot(rounds, 32) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        Isa::NeonI8mm(_) => unsafe { arm::smmla(rounds, 64) },
        _ => return None,
    };
    Some(rounds * SUMS * each)
}

/// As [`dot_peak`], multiplying bf16 and adding in f32; none where no instruction does.
#[must_use]
pub fn bf16_peak(isa: Isa, rounds: u64) -> Option<u64> {
    let each: Option<u64> = match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the variant holds the proof of its instructions.
        Isa::Avx512Bf16(_) => Some(unsafe { x86::vdpbf16ps(rounds, 64) }),
        _ => None,
    };
    each.map(|each| rounds * SUMS * each)
}

/// As [`dot_peak`], multiplying and adding f32.
#[must_use]
pub fn fma_peak(isa: Isa, rounds: u64) -> Option<u64> {
    let each = match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the variants hold the proof of their instructions, here and below.
        Isa::Avx2(_) | Isa::AvxVnni(_) | Isa::Avx512Vnni256(_) => unsafe { x86::vfmadd_256(rounds, 16) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512Vnni(_) | Isa::Avx512Bf16(_) => unsafe { x86::vfmadd_512(rounds, 32) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        Isa::Neon(_) | Isa::NeonDotprod(_) | Isa::NeonI8mm(_) => unsafe { arm::fmla(rounds, 8) },
        _ => return None,
    };
    Some(rounds * SUMS * each)
}

/// Reads all of `data`, from the first byte on, with the widest loads: the sum of its words of 64 bits,
/// where a last shorter one is filled with zeros. The same on every instruction set.
#[must_use]
pub fn read(isa: Isa, data: &[u8]) -> u64 {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the variants hold the proof of their instructions, here and below.
        Isa::Avx2(_) | Isa::AvxVnni(_) => unsafe { x86::read_256(data) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512Vnni256(_) | Isa::Avx512Vnni(_) | Isa::Avx512Bf16(_) => unsafe { x86::read_512(data) },
        _ => sum(data),
    }
}

/// Four lines of 64 bytes at a time, which compilers turn into 128-bit registers.
fn sum(data: &[u8]) -> u64 {
    let mut sums = [0u64; 32];
    let (blocks, rest) = data.as_chunks::<256>();
    for block in blocks {
        for (sum, bytes) in sums.iter_mut().zip(block.as_chunks::<8>().0) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*bytes));
        }
    }
    words(&sums).wrapping_add(tail(rest))
}

fn words(sums: &[u64]) -> u64 {
    sums.iter().fold(0, |total, sum| total.wrapping_add(*sum))
}

/// What is behind the last block.
fn tail(rest: &[u8]) -> u64 {
    rest.chunks(8).fold(0, |total, bytes| {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        total.wrapping_add(u64::from_le_bytes(word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_counted_and_their_number_is_what_was_asked_for() {
        for isa in Isa::all() {
            for peak in [dot_peak, bf16_peak, fma_peak] {
                assert!(peak(isa, 0).is_none_or(|operations| operations == 0));
                let one = peak(isa, 1);
                assert!(one.is_none_or(|one| one.is_multiple_of(2 * SUMS)));
                assert_eq!(peak(isa, 1000), one.map(|one| 1000 * one), "{}", isa.name());
            }
            let plain = isa == Isa::Scalar;
            assert_eq!((dot_peak(isa, 1).is_none(), fma_peak(isa, 1).is_none()), (plain, plain));
        }
    }

    #[test]
    fn more_rounds_take_longer() {
        for isa in Isa::all().filter(|isa| *isa != Isa::Scalar) {
            for peak in [dot_peak, bf16_peak, fma_peak] {
                let best = |rounds| {
                    let time = |_| {
                        let start = std::time::Instant::now();
                        std::hint::black_box(peak(isa, rounds));
                        start.elapsed()
                    };
                    (0..5).map(time).min()
                };
                // A loop that was optimised away would take as long for a thousand times as many.
                assert!(peak(isa, 1).is_none() || best(100_000) > best(100), "{}", isa.name());
            }
        }
    }

    #[test]
    fn every_byte_counts_and_instruction_sets_agree() {
        let mut data: Vec<u8> = (0..1100).map(|i| (i * 37 % 251) as u8).collect();
        for len in [0, 1, 7, 8, 63, 64, 255, 256, 257, 1024, 1099] {
            for start in [0, 1] {
                let want = read(Isa::Scalar, &data[start..start + len]);
                assert!(Isa::all().all(|isa| read(isa, &data[start..start + len]) == want), "{len}");
            }
        }
        for isa in Isa::all() {
            let before = read(isa, &data);
            for at in 0..data.len() {
                data[at] ^= 0x10;
                assert_ne!(read(isa, &data), before, "{} byte {at}", isa.name());
                data[at] ^= 0x10;
            }
        }
    }

    #[test]
    fn the_sum_is_of_little_endian_words() {
        let data: Vec<u8> = [3u64, u64::MAX, 40].iter().flat_map(|word| word.to_le_bytes()).chain([5]).collect();
        assert!(Isa::all().all(|isa| read(isa, &data) == 47));
    }
}
