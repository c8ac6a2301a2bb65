//! The twin that is obviously right: one output after the other.

use super::{Groups, Rows, Weights};
use crate::Block;
use crate::layout::{code, padded_inputs};

/// As [`super::gemm`], on weights in any order.
pub(super) fn gemm(weights: &Weights<'_>, rows: Rows<'_>, first_panel: usize, out: &mut Block<'_>) {
    let k_padded = padded_inputs(weights.k);
    let first = first_panel * weights.panel();
    for (i, (codes, scale)) in rows.codes.chunks_exact(k_padded).zip(rows.scales).enumerate() {
        for (j, out) in out.row(i).iter_mut().enumerate() {
            let n = first + j;
            let sum = |from: usize, to: usize| -> i32 {
                let product =
                    |k| i32::from(codes[k]) * code(weights.layout, weights.bits, weights.codes, k_padded, n, k);
                (from..to).map(product).sum()
            };
            let total = match weights.groups {
                None => sum(0, k_padded) as f32,
                Some(groups) => {
                    let count = Groups::count(groups.size, weights.k);
                    (0..count).fold(0.0, |total: f32, group| {
                        let from = group * groups.size;
                        let part = sum(from, (from + groups.size).min(k_padded)) as f32;
                        let factor = groups.factors[Groups::place(weights.layout, count, n, group)].to_f32();
                        part.mul_add(factor, total)
                    })
                }
            };
            let value = total * (scale * weights.channel[n]);
            *out = weights.bias.map_or(value, |bias| value + bias[n]);
        }
    }
}
