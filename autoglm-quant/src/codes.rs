//! One output's weights into codes and steps.

use half::f16;

use crate::Packing;

/// The largest magnitude of an 8-bit code.
const EIGHT: f32 = 127.0;

/// The ends of 4-bit codes.
const FOUR: (f32, f32) = (-8.0, 7.0);

/// The steps that are tried for a 4-bit group, as shares of the one that puts the group's largest
/// magnitude on code −8. A smaller step clips the largest weights and tells the others apart better.
const SHARES: [f32; 9] = [0.76, 0.79, 0.82, 0.85, 0.88, 0.91, 0.94, 0.97, 1.0];

/// Adding 1.5·2^23 rounds to nearest even, and unlike a call of `round` it vectorises everywhere.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// Quantises `weights` (k): writes `codes` (k) and the factors of groups, as many as k has, and
/// answers the channel's scale, by which all factors are relative: value = code · factor · channel.
/// It is not finite where a weight is not.
pub(crate) fn quantise(packing: Packing, weights: &[f32], codes: &mut [i8], factors: &mut [f16]) -> f32 {
    pulp::Arch::new().dispatch(|| match packing {
        Packing::Eight { group: None } => {
            let step = largest(weights) / EIGHT;
            write(weights, step, (-EIGHT, EIGHT), codes);
            step
        }
        Packing::Eight { group: Some(group) } => {
            grouped(weights, group.size(), |weights| largest(weights) / EIGHT, (-EIGHT, EIGHT), codes, factors)
        }
        Packing::Four { group } => grouped(weights, group.size(), four_bit_step, FOUR, codes, factors),
    })
}

/// The least and the largest code.
pub(crate) const fn ends(packing: Packing) -> (f32, f32) {
    match packing {
        Packing::Eight { .. } => (-EIGHT, EIGHT),
        Packing::Four { .. } => FOUR,
    }
}

#[inline(always)]
fn grouped(
    weights: &[f32],
    size: usize,
    step: impl Fn(&[f32]) -> f32,
    ends: (f32, f32),
    codes: &mut [i8],
    factors: &mut [f16],
) -> f32 {
    // The longest row has 2^16 weights, and so 2048 groups of 32.
    let mut steps = [0f32; 2048];
    let mut channel = 0f32;
    for (step_of, group) in steps.iter_mut().zip(weights.chunks(size)) {
        *step_of = step(group);
        if !step_of.is_finite() {
            return f32::NAN;
        }
        channel = channel.max(step_of.abs());
    }
    factors.fill(f16::ZERO);
    let groups = weights.chunks(size).zip(codes.chunks_mut(size)).zip(factors);
    for (((weights, codes), factor), step) in groups.zip(steps) {
        *factor = f16::from_f32(if channel > 0.0 { step / channel } else { 0.0 });
        // Codes are chosen for the step that the product will see, not for the one before rounding.
        write(weights, factor.to_f32() * channel, ends, codes);
    }
    channel
}

/// The codes nearest to weights / step.
#[inline(always)]
pub(crate) fn write(weights: &[f32], step: f32, (low, high): (f32, f32), codes: &mut [i8]) {
    let inverse = 1.0 / step;
    // Weights below 1e-37 are no different from zero for any sum of products.
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    for (code, w) in codes.iter_mut().zip(weights) {
        *code = ((w * inverse).clamp(low, high) + ROUND).to_bits() as i8;
    }
}

/// The largest magnitude; not finite where a weight is not.
#[inline(always)]
pub(crate) fn largest(weights: &[f32]) -> f32 {
    let bits = |w: &f32| w.to_bits() & 0x7fff_ffff;
    // As integers, magnitudes order as they do as numbers, with infinity and then NaN on top.
    f32::from_bits(weights.iter().map(bits).max().unwrap_or(0))
}

/// The step of a 4-bit group with the smallest square error.
///
/// The weight of largest magnitude falls on the side that has one code more, so steps may be
/// negative. For each share of [`SHARES`] the codes q are fixed first; for them the best step is
/// Σwq / Σq², and the error that remains is Σw² − (Σwq)² / Σq², so that the largest second term wins.
#[inline(always)]
fn four_bit_step(weights: &[f32]) -> f32 {
    let most = largest(weights);
    if !most.is_finite() || most == 0.0 {
        return most;
    }
    let negative = weights.iter().any(|w| *w == -most);
    let whole = if negative { -most / FOUR.0 } else { most / FOUR.0 };
    let (mut best, mut best_step) = (-1.0, whole);
    for share in SHARES {
        let inverse = 1.0 / (whole * share);
        if !inverse.is_finite() {
            break;
        }
        let (product, square) = sums(weights, inverse);
        let gain = if square > 0.0 { product * product / square } else { 0.0 };
        if gain > best {
            (best, best_step) = (gain, if square > 0.0 { product / square } else { whole });
        }
    }
    best_step
}

/// Σwq and Σq² for the codes at this inverse of a step, in eight interleaved sums.
#[inline(always)]
pub(crate) fn sums(weights: &[f32], inverse: f32) -> (f32, f32) {
    let code = |w: f32| ((w * inverse).clamp(FOUR.0, FOUR.1) + ROUND) - ROUND;
    let (blocks, tail) = weights.as_chunks::<8>();
    let (mut products, mut squares) = ([0f32; 8], [0f32; 8]);
    for block in blocks {
        for lane in 0..8 {
            let q = code(block[lane]);
            products[lane] += block[lane] * q;
            squares[lane] += q * q;
        }
    }
    let (mut product, mut square) = (products.iter().sum::<f32>(), squares.iter().sum::<f32>());
    for w in tail {
        let q = code(*w);
        product += w * q;
        square += q * q;
    }
    (product, square)
}

#[cfg(test)]
mod tests;
