//! Rotary position embeddings: which axis turns which pair of dimensions, and how far.
//!
//! Pair j of a head turns by the angle inv_freq\[j\] · position\[axis(j)\], with
//! inv_freq\[j\] = theta^(−2j / rotary_dim) (Su et al., "RoFormer"). The family differs in three
//! things only, and all three are data here: how many dimensions turn, which axis of the position
//! each pair follows, and whether a pair is (2j, 2j+1) or (j, j + half).

use candle_core::Tensor;

use crate::rows::{from_rows, with_strided_rows};
use crate::{Error, Positions, Result, Run};

/// The widest rotation that is built. Heads have some hundred dimensions; a config that claims billions
/// would be paid for in memory before any tensor could contradict it.
const WIDEST: usize = 1 << 16;

/// Which two dimensions of a head form pair j.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// (2j, 2j + 1): the GLM text decoders.
    Interleaved,
    /// (j, j + rotary_dim / 2): the vision tower, and Llama.
    HalfSplit,
}

/// A rotation scheme for heads of one width.
#[derive(Debug, Clone)]
pub struct Rope {
    pairs: Vec<Pair>,
    pairing: Pairing,
}

#[derive(Debug, Clone, Copy)]
struct Pair {
    inv_freq: f32,
    axis: usize,
}

/// Cosines and sines for a stretch of rows, (n, pairs) each.
#[derive(Debug, Clone)]
pub struct Angles {
    cos: Vec<f32>,
    sin: Vec<f32>,
    rows: usize,
}

impl Rope {
    /// M-RoPE as `Glm4vTextRotaryEmbedding` has it: the first `sections[0]` pairs follow the temporal
    /// axis, the next the vertical one, the last the horizontal one.
    ///
    /// # Errors
    /// [`Error::Config`] when the sections do not add up to half of `rotary_dim`.
    pub fn sectioned(theta: f64, rotary_dim: usize, sections: &[usize], pairing: Pairing) -> Result<Self> {
        let total = sections.iter().try_fold(0usize, |sum, s| sum.checked_add(*s));
        if total != Some(rotary_dim / 2) || sections.len() > 3 {
            return Err(Error::Config {
                field: "mrope_section",
                got: format!("{sections:?}"),
                why: "at most three sections that add up to half of the rotary width",
            });
        }
        let axes = sections.iter().enumerate().flat_map(|(axis, s)| std::iter::repeat_n(axis, *s));
        let pairs =
            inverse_frequencies(theta, rotary_dim)?.zip(axes).map(|(inv_freq, axis)| Pair { inv_freq, axis }).collect();
        Ok(Self { pairs, pairing })
    }

    /// One-dimensional RoPE over the first `rotary_dim` dimensions.
    ///
    /// # Errors
    /// [`Error::Config`] when theta or the width cannot make angles.
    pub fn plain(theta: f64, rotary_dim: usize, pairing: Pairing) -> Result<Self> {
        let pairs = inverse_frequencies(theta, rotary_dim)?.map(|inv_freq| Pair { inv_freq, axis: 0 }).collect();
        Ok(Self { pairs, pairing })
    }

    /// The vision tower's rotation of a whole head of `width`: the first half of the pairs follows
    /// the row, the second half the column, both with the frequencies of `width / 2` dimensions.
    ///
    /// # Errors
    /// [`Error::Config`] when theta or the width cannot make angles.
    pub fn axial(theta: f64, width: usize) -> Result<Self> {
        if !width.is_multiple_of(4) {
            return Err(Error::Config {
                field: "hidden_size",
                got: width.to_string(),
                why: "the width of a vision head must be a multiple of four",
            });
        }
        let of_axis =
            |axis| Ok::<_, Error>(inverse_frequencies(theta, width / 2)?.map(move |inv_freq| Pair { inv_freq, axis }));
        let pairs = of_axis(1)?.chain(of_axis(2)?).collect();
        Ok(Self { pairs, pairing: Pairing::HalfSplit })
    }

    /// Angles of these positions, formed in f32 whatever the model stores: in bf16, positions above
    /// 256 would collapse onto their neighbours.
    #[must_use]
    pub fn angles(&self, positions: &Positions) -> Angles {
        let count = positions.len() * self.pairs.len();
        let (mut cos, mut sin) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for position in positions.as_slice() {
            for pair in &self.pairs {
                let (s, c) = f64::from(pair.inv_freq * position[pair.axis] as f32).sin_cos();
                cos.push(c as f32);
                sin.push(s as f32);
            }
        }
        Angles { cos, sin, rows: positions.len() }
    }

    /// Turns the heads of `x`, (n, h, d) → (n, h, d). Dimensions beyond the rotary width stay. Some heads of
    /// a larger tensor are read in place.
    ///
    /// # Errors
    /// [`Error::Shape`] when `angles` were made for another number of rows, or heads are too narrow.
    pub fn apply(&self, run: &Run<'_>, x: &Tensor, angles: &Angles) -> Result<Tensor> {
        let (n, h, d) = x.dims3()?;
        let half = self.pairs.len();
        if n != angles.rows || d < 2 * half {
            return Err(Error::Shape {
                name: "heads to be rotated".into(),
                expected: vec![angles.rows, h, 2 * half],
                got: vec![n, h, d],
            });
        }
        let mut out = run.zeros(n * h * d);
        if h * d > 0 {
            with_strided_rows(x, |x, stride| {
                run.for_rows(&mut out, h * d, 1, |first, rows| {
                    for (i, row) in rows.chunks_exact_mut(h * d).enumerate().map(|(i, row)| (first + i, row)) {
                        row.copy_from_slice(&x[i * stride..][..h * d]);
                        let (cos, sin) = (&angles.cos[i * half..][..half], &angles.sin[i * half..][..half]);
                        row.chunks_exact_mut(d).for_each(|head| self.turn(head, cos, sin));
                    }
                });
            })?;
        }
        from_rows(out, &[n, h, d])
    }

    fn turn(&self, head: &mut [f32], cos: &[f32], sin: &[f32]) {
        let half = self.pairs.len();
        for (j, (c, s)) in cos.iter().zip(sin).enumerate() {
            let (a, b) = match self.pairing {
                Pairing::Interleaved => (2 * j, 2 * j + 1),
                Pairing::HalfSplit => (j, j + half),
            };
            (head[a], head[b]) = (head[a] * c - head[b] * s, head[b] * c + head[a] * s);
        }
    }
}

/// theta^(−2j / dim) for j < dim / 2, rounded to f32 where transformers rounds: the exponent, the
/// power, and its inverse. One unit in the last place is worth a milliradian at position 65 535.
fn inverse_frequencies(theta: f64, dim: usize) -> Result<impl Iterator<Item = f32>> {
    if dim > WIDEST {
        return Err(Error::Config {
            field: "head_dim",
            got: dim.to_string(),
            why: "no head turns more than 65536 dimensions",
        });
    }
    if !(theta.is_finite() && theta > 1.0) {
        return Err(Error::Config {
            field: "rope_theta",
            got: theta.to_string(),
            why: "must be a finite number above one",
        });
    }
    if !dim.is_multiple_of(2) {
        return Err(Error::Config {
            field: "partial_rotary_factor",
            got: dim.to_string(),
            why: "the rotary width must be even",
        });
    }
    Ok((0..dim / 2).map(move |j| {
        let exponent = (2 * j) as f32 / dim as f32;
        1.0 / (theta.powf(f64::from(exponent)) as f32)
    }))
}

#[cfg(test)]
mod tests {
    use autoglm_testing::Golden;

    use super::*;
    use crate::Workers;

    fn text() -> Rope {
        Rope::sectioned(10_000.0, 64, &[8, 12, 12], Pairing::Interleaved).unwrap()
    }

    fn heads(n: usize, h: usize, d: usize) -> Tensor {
        from_rows((0..n * h * d).map(|i| ((i * 31 % 97) as f32 - 48.0) * 0.05).collect(), &[n, h, d]).unwrap()
    }

    #[test]
    fn inverse_frequencies_of_glm_4_1v_are_the_published_ones() {
        let rope = text();
        let want = [
            (0, 1.0),
            (1, 0.749_894_2),
            (7, 0.133_352_14),
            (8, 0.1),
            (19, 0.004_216_965),
            (20, 0.003_162_277_7),
            (31, 0.000_133_352_14),
        ];
        for (j, f) in want {
            assert!((rope.pairs[j].inv_freq / f - 1.0f32).abs() < 2e-7, "{j}");
        }
        assert_eq!([7, 8, 19, 20].map(|j| rope.pairs[j].axis), [0, 1, 1, 2]);
    }

    #[test]
    fn frequencies_and_angles_equal_transformers() {
        // Sines and cosines of the same f32 angle, each rounded to f32.
        const ROUNDING: f32 = 2e-7;
        let golden = Golden::component("rope");
        let flat = |name: &str| golden.tensor(name).flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let rope = text();
        assert_eq!(rope.pairs.iter().map(|p| p.inv_freq).collect::<Vec<_>>(), flat("text.inv_freq"));
        let axes = golden.integers("text.position_ids");
        let n = axes.len() / 3;
        let mut positions = Positions::default();
        (0..n).for_each(|i| positions.push([0, 1, 2].map(|axis| axes[axis * n + i] as u32)));
        let angles = rope.angles(&positions);
        // transformers writes each angle of an interleaved pair twice, and the half-split ones end to end.
        for (name, ours) in [("text.cos", &angles.cos), ("text.sin", &angles.sin)] {
            for (ours, theirs) in ours.iter().zip(flat(name).iter().step_by(2)) {
                assert!((ours - theirs).abs() <= ROUNDING, "{name}: {ours} {theirs}");
            }
        }
        let rope = Rope::axial(10_000.0, 128).unwrap();
        let mut positions = Positions::default();
        golden.integers("vision.position_ids").chunks(2).for_each(|p| positions.push([0, p[0] as u32, p[1] as u32]));
        let angles = rope.angles(&positions);
        for (name, ours) in [("vision.cos", &angles.cos), ("vision.sin", &angles.sin)] {
            for (ours, theirs) in ours.chunks(64).zip(flat(name).chunks(128)) {
                for (ours, theirs) in ours.iter().zip(theirs) {
                    assert!((ours - theirs).abs() <= ROUNDING, "{name}: {ours} {theirs}");
                }
            }
        }
    }

    #[test]
    fn text_only_m_rope_equals_plain_rope() {
        let workers = Workers::new(2).unwrap();
        let run = Run::new(&workers);
        let plain = Rope::plain(10_000.0, 64, Pairing::Interleaved).unwrap();
        let positions = Positions::text(4_000, 5).unwrap();
        let x = heads(5, 3, 128);
        let a = text().apply(&run, &x, &text().angles(&positions)).unwrap();
        let b = plain.apply(&run, &x, &plain.angles(&positions)).unwrap();
        assert_eq!(
            a.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            b.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        );
    }

    #[test]
    fn long_positions_stay_close_to_f64() {
        // An angle is a product in f32, as in transformers: at position 65 535 its last place is worth 2^-8.
        for (position, bound) in [(40, 4e-6), (4_096, 3e-4), (65_535, 4e-3)] {
            let rope = text();
            let angles = rope.angles(&Positions::text(position, 1).unwrap());
            for (j, (c, s)) in angles.cos.iter().zip(&angles.sin).enumerate() {
                let exact = f64::from(position) * 10_000f64.powf(-(2.0 * j as f64) / 64.0);
                let off = (f64::from(*s).atan2(f64::from(*c)) - exact).sin().abs();
                assert!(off < bound, "pair {j} at {position}: {off:e}");
            }
        }
    }

    #[test]
    fn a_rotation_keeps_the_length_of_every_pair_and_the_dimensions_beyond() {
        let workers = Workers::new(1).unwrap();
        let x = heads(2, 2, 128);
        let rope = text();
        let mut positions = Positions::default();
        positions.push([3, 7, 11]);
        positions.push([3, 8, 5]);
        let y = rope.apply(&Run::new(&workers), &x, &rope.angles(&positions)).unwrap();
        let (x, y) =
            (x.flatten_all().unwrap().to_vec1::<f32>().unwrap(), y.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        for (x, y) in x.chunks(128).zip(y.chunks(128)) {
            assert_eq!(x[64..], y[64..]);
            for j in 0..32 {
                let length = |v: &[f32]| v[2 * j].hypot(v[2 * j + 1]);
                assert!((length(x) - length(y)).abs() < 1e-5);
            }
        }
        assert_ne!(x[..64], y[..64]);
    }

    #[test]
    fn sections_that_do_not_add_up_are_refused() {
        assert!(Rope::sectioned(10_000.0, 64, &[8, 12, 11], Pairing::Interleaved).is_err());
        assert!(Rope::sectioned(10_000.0, 64, &[usize::MAX, 33], Pairing::Interleaved).is_err());
        assert!(Rope::sectioned(f64::NAN, 64, &[8, 12, 12], Pairing::Interleaved).is_err());
        assert!(Rope::axial(10_000.0, 30).is_err());
        assert!(Rope::plain(10_000.0, usize::MAX - 1, Pairing::Interleaved).is_err());
        assert!(Rope::axial(10_000.0, 1 << 31).is_err());
    }
}
