//! The orders in which packed integer weights lie, one per family of instructions.
//!
//! Outputs are grouped into panels, and within a panel the codes of `step` consecutive inputs of one
//! output lie together, because one integer instruction multiplies that many:
//!
//! ```text
//!            panel  step   8 bit                      4 bit
//! X86          64     4    [n/64][k/4][64][4]  q+128  [n/64][k/8 ][64][4]  q+8
//! Dotprod       8     4    [n/8 ][k/4][ 8][4]  q      [n/8 ][k/8 ][ 8][4]  q
//! I8mm          8     8    [n/8 ][k/8][ 8][8]  q      [n/8 ][k/16][ 8][8]  q
//! ```
//!
//! A byte of 4-bit codes holds two inputs that are `step` apart: the low nibble the earlier one. x86
//! multiplies unsigned by signed bytes, so its codes are stored with an offset, which the kernel takes
//! back through the sums of the activations. Outputs are padded to whole panels and inputs to
//! multiples of [`K_ALIGN`]; padding has the code of zero.

use crate::{Error, Isa, Result};

/// Inputs are padded to a multiple of this many, with zeros.
pub const K_ALIGN: usize = 64;

/// The widest input: 65 536 products of at most 255 · 127 fit into 32 bits.
pub const K_MOST: usize = 1 << 16;

/// How many bits a weight has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bits {
    /// −127..=127.
    Eight,
    /// −8..=7.
    Four,
}

/// The order of packed codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// For `vpdpbusd` and `vpmaddwd`.
    X86,
    /// For `sdot`.
    Dotprod,
    /// For `smmla`.
    I8mm,
}

impl Layout {
    /// The order that the kernels of `isa` read.
    #[must_use]
    pub fn of(isa: Isa) -> Self {
        match isa {
            Isa::NeonI8mm(_) => Self::I8mm,
            Isa::Neon(_) | Isa::NeonDotprod(_) => Self::Dotprod,
            Isa::Scalar if cfg!(target_arch = "aarch64") => Self::Dotprod,
            _ => Self::X86,
        }
    }

    /// The name in packed files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86",
            Self::Dotprod => "dotprod",
            Self::I8mm => "i8mm",
        }
    }

    /// The order of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::X86, Self::Dotprod, Self::I8mm].into_iter().find(|layout| layout.name() == name)
    }

    /// Outputs in a panel.
    #[must_use]
    pub const fn panel(self) -> usize {
        match self {
            Self::X86 => 64,
            Self::Dotprod | Self::I8mm => 8,
        }
    }

    /// Consecutive inputs of one output that lie together.
    #[must_use]
    pub const fn step(self) -> usize {
        match self {
            Self::X86 | Self::Dotprod => 4,
            Self::I8mm => 8,
        }
    }

    /// What is added to a code where it is stored.
    #[must_use]
    pub const fn offset(self, bits: Bits) -> i32 {
        match (self, bits) {
            (Self::X86, Bits::Eight) => 128,
            (Self::X86, Bits::Four) => 8,
            _ => 0,
        }
    }

    /// Outputs with their padding.
    #[must_use]
    pub const fn padded_outputs(self, n: usize) -> usize {
        n.next_multiple_of(self.panel())
    }

    /// Bytes of the codes of (n, k) weights.
    ///
    /// # Errors
    /// [`Error::Size`] when k is zero or beyond [`K_MOST`], or the bytes do not fit an address.
    pub fn bytes(self, bits: Bits, n: usize, k: usize) -> Result<usize> {
        if k == 0 || k > K_MOST {
            return Err(Error::Size { what: "the input width of integer weights", got: k, why: "1 to 65536" });
        }
        let outputs = n.checked_next_multiple_of(self.panel());
        let codes = outputs.and_then(|outputs| outputs.checked_mul(padded_inputs(k)));
        let codes = codes.ok_or(Error::Size { what: "the outputs of integer weights", got: n, why: "too many" })?;
        Ok(match bits {
            Bits::Eight => codes,
            Bits::Four => codes / 2,
        })
    }

    /// Where the code of output `n` and input `k` lies: its byte, and whether it is the high nibble.
    #[must_use]
    pub const fn place(self, bits: Bits, k_padded: usize, n: usize, k: usize) -> (usize, bool) {
        let (panel, step) = (self.panel(), self.step());
        let (per_byte, high) = match bits {
            Bits::Eight => (1, false),
            Bits::Four => (2, (k / step) % 2 == 1),
        };
        let block = (n / panel) * (k_padded / (step * per_byte)) + k / (step * per_byte);
        ((block * panel + n % panel) * step + k % step, high)
    }
}

/// Inputs with their padding.
#[must_use]
pub const fn padded_inputs(k: usize) -> usize {
    k.next_multiple_of(K_ALIGN)
}

/// Writes one output's codes, k of them in −127..=127 or −8..=7, to their places in `packed`, which
/// holds all of the weights' codes. What lies behind k becomes zero.
///
/// # Panics
/// When `packed` is too short for output `n`.
pub fn pack_output(layout: Layout, bits: Bits, codes: &[i8], n: usize, packed: &mut [u8]) {
    let k_padded = padded_inputs(codes.len());
    let offset = layout.offset(bits);
    for k in 0..k_padded {
        let code = i32::from(codes.get(k).copied().unwrap_or(0));
        let (at, high) = layout.place(bits, k_padded, n, k);
        let stored = (code + offset) as u8;
        packed[at] = match (bits, high) {
            (Bits::Eight, _) => stored,
            (Bits::Four, false) => packed[at] & 0xf0 | stored & 0x0f,
            (Bits::Four, true) => packed[at] & 0x0f | stored << 4,
        };
    }
}

/// The code of output `n` and input `k`.
///
/// # Panics
/// When `packed` is too short for it.
#[must_use]
pub fn code(layout: Layout, bits: Bits, packed: &[u8], k_padded: usize, n: usize, k: usize) -> i32 {
    let (at, high) = layout.place(bits, k_padded, n, k);
    let byte = packed[at];
    let stored = match (bits, high) {
        (Bits::Eight, _) => byte,
        (Bits::Four, false) => byte & 0x0f,
        (Bits::Four, true) => byte >> 4,
    };
    match (layout.offset(bits), bits) {
        (0, Bits::Eight) => i32::from(stored as i8),
        (0, Bits::Four) => i32::from((stored << 4) as i8 >> 4),
        (offset, _) => i32::from(stored) - offset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUTS: [Layout; 3] = [Layout::X86, Layout::Dotprod, Layout::I8mm];

    #[test]
    fn codes_come_back_from_their_places() {
        for layout in LAYOUTS {
            for (bits, most) in [(Bits::Eight, 127i32), (Bits::Four, 7)] {
                for (n, k) in [(1, 1), (9, 64), (65, 70), (130, 191)] {
                    let value =
                        |row: usize, column: usize| ((row * 31 + column * 7) as i32 % (2 * most + 1) - most) as i8;
                    let mut packed = vec![0u8; layout.bytes(bits, n, k).unwrap()];
                    for row in 0..n {
                        let codes: Vec<i8> = (0..k).map(|column| value(row, column)).collect();
                        pack_output(layout, bits, &codes, row, &mut packed);
                    }
                    for row in 0..n {
                        for column in 0..padded_inputs(k) {
                            let want = if column < k { i32::from(value(row, column)) } else { 0 };
                            assert_eq!(code(layout, bits, &packed, padded_inputs(k), row, column), want);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_byte_has_one_place() {
        for layout in LAYOUTS {
            for bits in [Bits::Eight, Bits::Four] {
                let (n, k) = (2 * layout.panel(), 128);
                let mut seen = vec![0; layout.bytes(bits, n, k).unwrap()];
                for row in 0..n {
                    for column in 0..k {
                        let (at, high) = layout.place(bits, k, row, column);
                        seen[at] += if high { 16 } else { 1 };
                    }
                }
                let whole = if bits == Bits::Four { 17 } else { 1 };
                assert!(seen.iter().all(|count| *count == whole), "{layout:?} {bits:?}");
            }
        }
    }

    #[test]
    fn sizes_that_no_weight_has_are_refused() {
        for layout in LAYOUTS {
            assert!(layout.bytes(Bits::Eight, 1, 0).is_err());
            assert!(layout.bytes(Bits::Eight, 1, K_MOST + 1).is_err());
            assert!(layout.bytes(Bits::Eight, usize::MAX, 64).is_err());
            assert_eq!(Layout::named(layout.name()), Some(layout));
        }
    }
}
