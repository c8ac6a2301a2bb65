//! What a body works on: panels of outputs, and tiles of rows.
//!
//! ```text
//! for each panel of outputs:        its codes are read once from memory,
//!   for each tile of rows:          then from the nearest cache
//!     sums of groups → totals       a body's own part
//!     out = totals · (scale · channel) + bias
//! ```
//!
//! Rows are dealt to tiles evenly: eleven rows on a body whose tile has ten make six and five, because
//! a tile of one row pays for the codes as much as a full one.

use std::ops::Range;

use half::f16;

use super::{Groups, Rows, Weights};
use crate::Block;
use crate::layout::padded_inputs;

/// The outputs of one panel.
pub(super) struct Panel<'a> {
    pub(super) codes: &'a [u8],
    /// Where they stand in the block of outputs; fewer than a panel at the end of the weights.
    pub(super) columns: Range<usize>,
    /// A scale for each column.
    pub(super) channel: &'a [f32],
    pub(super) bias: Option<&'a [f32]>,
    factors: &'a [f16],
    width: usize,
    k: usize,
}

/// The panels from `first` on that `columns` columns need.
pub(super) fn panels<'a>(weights: &Weights<'a>, first: usize, columns: usize) -> impl Iterator<Item = Panel<'a>> {
    let weights = *weights;
    let (size, bytes) = (weights.panel(), weights.panel_bytes());
    let count = size * Groups::count(weights.sum_width(), weights.k);
    (0..columns).step_by(size).enumerate().map(move |(index, start)| {
        let panel = first + index;
        let columns = start..(start + size).min(columns);
        let outputs = panel * size..panel * size + columns.len();
        Panel {
            codes: &weights.codes[panel * bytes..][..bytes],
            channel: &weights.channel[outputs.clone()],
            bias: weights.bias.map(|bias| &bias[outputs]),
            factors: weights.groups.map_or(&[], |groups| &groups.factors[panel * count..][..count]),
            width: weights.sum_width(),
            k: padded_inputs(weights.k),
            columns,
        }
    })
}

impl Panel<'_> {
    /// Inputs with their padding.
    pub(super) fn k(&self) -> usize {
        self.k
    }

    /// The inputs of each group; all of them where there are no groups.
    pub(super) fn groups(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (width, k) = (self.width, self.k);
        (0..k).step_by(width).map(move |from| from..(from + width).min(k))
    }

    /// The factors of one group, one for each of the panel's N outputs.
    ///
    /// # Panics
    /// When the weights have no groups.
    pub(super) fn factors<const N: usize>(&self, group: usize) -> &[f16; N] {
        let factors = &self.factors[group * N..][..N];
        factors.try_into().unwrap_or_else(|_| unreachable!("N factors were taken"))
    }

    /// Whether there are factors.
    pub(super) fn grouped(&self) -> bool {
        !self.factors.is_empty()
    }

    /// Writes one row of outputs from the totals of all of the panel's.
    pub(super) fn finish(&self, totals: &[f32], scale: f32, row: usize, out: &mut Block<'_>) {
        let out = &mut out.row(row)[self.columns.clone()];
        for ((out, total), channel) in out.iter_mut().zip(totals).zip(self.channel) {
            *out = total * (scale * channel);
        }
        if let Some(bias) = self.bias {
            out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
        }
    }
}

/// The rows of one tile.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) codes: &'a [i8],
    pub(super) scales: &'a [f32],
    /// The first of them.
    pub(super) row: usize,
    #[cfg_attr(
        target_arch = "aarch64",
        allow(dead_code, reason = "the codes of x86 alone have an offset to take back")
    )]
    sums: &'a [i32],
}

impl Part<'_> {
    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.scales.len()
    }

    /// The sum of the activations of row `row` of the tile in a group.
    #[cfg_attr(
        target_arch = "aarch64",
        allow(dead_code, reason = "the codes of x86 alone have an offset to take back")
    )]
    pub(super) fn sum(&self, row: usize, group: usize) -> i32 {
        self.sums[row * (self.sums.len() / self.scales.len()) + group]
    }
}

/// Deals rows to tiles of at most `most`.
pub(super) fn parts(rows: Rows<'_>, most: usize) -> impl Iterator<Item = Part<'_>> {
    let mut row = 0;
    std::iter::from_fn(move || {
        let left = rows.len() - row;
        if left == 0 {
            return None;
        }
        let many = left.div_ceil(left.div_ceil(most));
        let (k, count) = (rows.codes.len() / rows.len(), rows.sums.len() / rows.len());
        let part = Part {
            codes: &rows.codes[row * k..][..many * k],
            scales: &rows.scales[row..][..many],
            sums: &rows.sums[row * count..][..many * count],
            row,
        };
        row += many;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_dealt_evenly_and_each_once() {
        for m in 1..60usize {
            let (codes, scales, sums) = (vec![0; m * 64], vec![1.0; m], vec![0; m]);
            let rows = Rows { codes: &codes, scales: &scales, sums: &sums };
            for most in 1..13 {
                let sizes: Vec<usize> = parts(rows, most).map(|part| part.len()).collect();
                assert_eq!(sizes.iter().sum::<usize>(), m);
                assert_eq!(sizes.len(), m.div_ceil(most));
                assert!(sizes.iter().all(|size| *size <= most && size + 1 >= sizes[0]), "{sizes:?}");
            }
        }
    }
}
