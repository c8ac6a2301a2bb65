//! e^x in f32, the same bits on every instruction set.
//!
//! x = k·ln 2 + r with |r| ≤ ln 2 / 2; e^r by its Taylor polynomial of degree 7, whose next term is
//! below 1e-8; 2^k by building the exponent. ln 2 is split so that k·ln 2 is exact (Cody & Waite).
//! Products and sums are fused wherever both stand side by side.

use crate::lanes::Lanes;

/// Below this the result is 0 instead of a subnormal number.
const LOWEST: f32 = -87.3;
/// Above this the result is infinite.
const HIGHEST: f32 = 88.3;
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;
/// Adding and subtracting 1.5·2^23 rounds to the nearest integer without a call.
const ROUND: f32 = 12_582_912.0;
/// 1/7!, 1/6!, … 1/0!.
const TAYLOR: [f32; 8] = [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];

/// e^x within 2 units in the last place where the result is normal, 0 below −87.3, infinite above 88.3.
#[inline(always)]
#[must_use]
pub fn exp(x: f32) -> f32 {
    // A number that is none stays so through every comparison.
    let at_least = if LOWEST > x { LOWEST } else { x };
    let clamped = if HIGHEST < at_least { HIGHEST } else { at_least };
    let k = clamped.mul_add(std::f32::consts::LOG2_E, ROUND) - ROUND;
    let r = k.mul_add(-LN_2_LOW, k.mul_add(-LN_2_HIGH, clamped));
    let mut p = TAYLOR[0];
    for coefficient in &TAYLOR[1..] {
        p = p.mul_add(r, *coefficient);
    }
    let value = p * f32::from_bits(((k as i32 + 127) as u32) << 23);
    if x < LOWEST {
        0.0
    } else if x > HIGHEST {
        f32::INFINITY
    } else {
        value
    }
}

/// [`exp`] of sixteen numbers of at most 88.3.
#[inline(always)]
pub(crate) fn exp_lanes<V: Lanes>(proof: V::Proof, x: V) -> V {
    let of = |x| V::splat(proof, x);
    let lowest = of(LOWEST);
    let clamped = of(HIGHEST).min(lowest.max(x));
    let round = of(ROUND);
    let k = clamped.mul_add(of(std::f32::consts::LOG2_E), round).sub(round);
    let r = k.mul_add(of(-LN_2_LOW), k.mul_add(of(-LN_2_HIGH), clamped));
    let mut p = of(TAYLOR[0]);
    for coefficient in &TAYLOR[1..] {
        p = p.mul_add(r, of(*coefficient));
    }
    p.mul(k.power_of_two()).zero_where_below(x, lowest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::scalar::Plain;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        let mut x = -87.0f32;
        while x < 88.0 {
            let want = f64::from(x).exp();
            let error = (f64::from(exp(x)) - want).abs() / want;
            // One unit in the last place of f32 is at most 1.2e-7 of the value.
            assert!(error < 2.4e-7, "{x}: {error:e}");
            x += 0.0137;
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(1e30), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn sixteen_at_once_are_sixteen_apart() {
        for i in 0..2000 {
            let x: [f32; 16] = std::array::from_fn(|l| -0.0031 * (16 * i + l) as f32);
            let mut got = [0.0; 16];
            exp_lanes((), Plain::load((), &x)).store(&mut got);
            assert_eq!(got, x.map(exp));
        }
        let mut odd = [0.0; 16];
        let x = [f32::NEG_INFINITY, f32::NAN, -1e30, 88.0].repeat(4).try_into().unwrap();
        exp_lanes((), Plain::load((), &x)).store(&mut odd);
        assert!(odd[0] == 0.0 && odd[1].is_nan() && odd[2] == 0.0 && odd[3] == exp(88.0));
    }
}
