//! Proof values for instruction sets: holding one means that this processor has it.
//!
//! A kernel body takes the proof as an argument, so that calling it on a processor that lacks its
//! instructions does not compile. [`Isa`] is the choice among them that is handed down to every
//! kernel; [`Isa::best`] looks at the processor, [`Isa::all`] lists what a test can run here.

use std::fmt;

/// Declares a proof value and how it is obtained.
macro_rules! proof {
    ($(#[$doc:meta])* $name:ident, $arch:literal, $detect:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub struct $name {
            _private: (),
        }

        impl $name {
            /// The proof, if this processor has the instructions.
            #[must_use]
            pub fn detect() -> Option<Self> {
                #[cfg(target_arch = $arch)]
                if $detect {
                    return Some(Self { _private: () });
                }
                None
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    };
}

proof! {
    /// AVX2, FMA and F16C.
    Avx2, "x86_64",
    std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("fma")
        && std::arch::is_x86_feature_detected!("f16c")
}

proof! {
    /// AVX-VNNI: `vpdpbusd` on 256-bit registers, without AVX-512. Implies [`Avx2`].
    AvxVnni, "x86_64",
    Avx2::detect().is_some() && std::arch::is_x86_feature_detected!("avxvnni")
}

proof! {
    /// AVX-512 F, BW, DQ and VL with VNNI: `vpdpbusd` on 512-bit registers. Implies [`Avx2`].
    Avx512Vnni, "x86_64",
    Avx2::detect().is_some()
        && std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx512vl")
        && std::arch::is_x86_feature_detected!("avx512vnni")
}

proof! {
    /// AVX512-BF16: `vdpbf16ps`. Implies [`Avx512Vnni`].
    Avx512Bf16, "x86_64",
    Avx512Vnni::detect().is_some() && std::arch::is_x86_feature_detected!("avx512bf16")
}

proof! {
    /// Advanced SIMD, which every 64-bit Arm has.
    Neon, "aarch64",
    std::arch::is_aarch64_feature_detected!("neon")
}

proof! {
    /// `sdot`. Implies [`Neon`].
    NeonDotprod, "aarch64",
    Neon::detect().is_some() && std::arch::is_aarch64_feature_detected!("dotprod")
}

proof! {
    /// `smmla`. Implies [`NeonDotprod`].
    NeonI8mm, "aarch64",
    NeonDotprod::detect().is_some() && std::arch::is_aarch64_feature_detected!("i8mm")
}

impl AvxVnni {
    /// What it implies.
    #[must_use]
    pub fn avx2(self) -> Avx2 {
        Avx2 { _private: () }
    }
}

impl Avx512Vnni {
    /// What it implies.
    #[must_use]
    pub fn avx2(self) -> Avx2 {
        Avx2 { _private: () }
    }
}

impl Avx512Bf16 {
    /// What it implies.
    #[must_use]
    pub fn vnni(self) -> Avx512Vnni {
        Avx512Vnni { _private: () }
    }
}

impl NeonDotprod {
    /// What it implies.
    #[must_use]
    pub fn neon(self) -> Neon {
        Neon { _private: () }
    }
}

impl NeonI8mm {
    /// What it implies.
    #[must_use]
    pub fn dotprod(self) -> NeonDotprod {
        NeonDotprod { _private: () }
    }
}

/// The instruction set that kernels run on.
///
/// Each level implies what is said to be implied by its proof; a kernel without a body for a level
/// runs the body of the next lower one. Results are the same bits on every level, except where a
/// kernel says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isa {
    /// Plain Rust, on any processor.
    Scalar,
    /// 256-bit x86.
    Avx2(Avx2),
    /// 256-bit x86 with integer dot products.
    AvxVnni(AvxVnni),
    /// What [`Isa::Avx512Vnni`] is, with integer products on 256-bit registers: some processors are faster so.
    /// [`fastest`](crate::integer::fastest) finds out.
    Avx512Vnni256(Avx512Vnni),
    /// 512-bit x86 with integer dot products.
    Avx512Vnni(Avx512Vnni),
    /// 512-bit x86 with integer and bf16 dot products.
    Avx512Bf16(Avx512Bf16),
    /// 128-bit Arm.
    Neon(Neon),
    /// 128-bit Arm with integer dot products.
    NeonDotprod(NeonDotprod),
    /// 128-bit Arm with integer matrix products.
    NeonI8mm(NeonI8mm),
}

impl Isa {
    /// The best level of this processor.
    #[must_use]
    pub fn best() -> Self {
        Self::all().last().unwrap_or(Self::Scalar)
    }

    /// Every level that this processor has, from the plainest to the best.
    pub fn all() -> impl Iterator<Item = Self> {
        [
            Some(Self::Scalar),
            Avx2::detect().map(Self::Avx2),
            AvxVnni::detect().map(Self::AvxVnni),
            Avx512Vnni::detect().map(Self::Avx512Vnni256),
            Avx512Vnni::detect().map(Self::Avx512Vnni),
            Avx512Bf16::detect().map(Self::Avx512Bf16),
            Neon::detect().map(Self::Neon),
            NeonDotprod::detect().map(Self::NeonDotprod),
            NeonI8mm::detect().map(Self::NeonI8mm),
        ]
        .into_iter()
        .flatten()
    }

    /// The name that reports print.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2(_) => "avx2",
            Self::AvxVnni(_) => "avx-vnni",
            Self::Avx512Vnni256(_) => "avx512-vnni-256",
            Self::Avx512Vnni(_) => "avx512-vnni",
            Self::Avx512Bf16(_) => "avx512-bf16",
            Self::Neon(_) => "neon",
            Self::NeonDotprod(_) => "neon-dotprod",
            Self::NeonI8mm(_) => "neon-i8mm",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_level_is_one_of_all_and_scalar_is_always_there() {
        assert_eq!(Isa::all().next(), Some(Isa::Scalar));
        assert!(Isa::all().any(|isa| isa == Isa::best()));
    }

    #[test]
    fn names_are_distinct() {
        let names: std::collections::BTreeSet<_> = Isa::all().map(Isa::name).collect();
        assert_eq!(names.len(), Isa::all().count());
    }
}
