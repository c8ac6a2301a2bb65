//! Softmax attention in query tiles: never a matrix of all queries by all keys.
//!
//! For each key/value head and each tile of queries: scores = q·kᵀ·scale, hidden keys dropped,
//! softmax in f32, answer = p·v. The query heads that share a key head are rows of one product, so
//! that grouped heads read their keys once.

use candle_core::Tensor;
use rayon::prelude::*;

use crate::rows::{from_rows, with_rows};
use crate::softmax::softmax;
use crate::{Error, Result, Run};

/// Scores that one tile may hold, in numbers: 8 MiB, about a second-level cache.
const TILE_SCORES: usize = 2 << 20;

/// Which keys a query may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// All of them: patches of one picture.
    Everything,
    /// Query i sees keys 0..=past + i: text after `past` earlier rows.
    Causal {
        /// Keys that were there before this step's first query.
        past: usize,
    },
}

/// How to attend.
#[derive(Debug, Clone, Copy)]
pub struct Attend {
    /// Which keys a query may see.
    pub mask: Mask,
    /// Factor of the scores, usually d^-0.5.
    pub scale: f32,
}

/// Attention of q (n, h, d) over k and v (kv_h, t, d) → (n, h, d). Query head i reads key head
/// i / (h / kv_h). k and v may be views with any stride between heads.
///
/// # Errors
/// [`Error::Shape`] when heads, widths or, under [`Mask::Causal`], lengths do not fit.
pub fn attend(run: &Run<'_>, q: &Tensor, k: &Tensor, v: &Tensor, how: Attend) -> Result<Tensor> {
    let (n, h, d) = q.dims3()?;
    let (kv_h, t, _) = k.dims3()?;
    check(q, k, v, how.mask)?;
    let group = h / kv_h;
    let tile = (TILE_SCORES / (group * t).max(1)).clamp(1, n.max(1));
    let tasks: Vec<(usize, usize)> =
        (0..kv_h).flat_map(|head| (0..n).step_by(tile).map(move |start| (head, start))).collect();
    let tiles = run.install(|| {
        tasks
            .par_iter()
            .map(|&(head, start)| Tile { head, start, rows: tile.min(n - start), group }.answer(q, k, v, how))
            .collect::<Result<Vec<_>>>()
    })?;
    let mut out = vec![0f32; n * h * d];
    for (&(head, start), answer) in tasks.iter().zip(&tiles) {
        with_rows(answer, |answer| {
            for (row, block) in answer.chunks_exact(group * d).enumerate() {
                let at = ((start + row) * h + head * group) * d;
                out[at..at + group * d].copy_from_slice(block);
            }
        })?;
    }
    from_rows(out, &[n, h, d])
}

fn check(q: &Tensor, k: &Tensor, v: &Tensor, mask: Mask) -> Result<()> {
    let (n, h, d) = q.dims3()?;
    let (kv_h, t, _) = k.dims3()?;
    let misfit = |name: &str, expected: Vec<usize>, got: &Tensor| {
        Err(Error::Shape { name: name.into(), expected, got: got.dims().to_vec() })
    };
    if d == 0 || kv_h == 0 || h % kv_h != 0 || k.dims() != [kv_h, t, d] {
        return misfit("keys of an attention", vec![h, t, d], k);
    }
    if v.dims() != k.dims() {
        return misfit("values of an attention", k.dims().to_vec(), v);
    }
    match mask {
        Mask::Causal { past } if past.checked_add(n) != Some(t) => {
            misfit("keys of a causal attention", vec![kv_h, past.saturating_add(n), d], k)
        }
        _ => Ok(()),
    }
}

/// Some queries of all the heads that share one key head.
struct Tile {
    head: usize,
    start: usize,
    rows: usize,
    group: usize,
}

impl Tile {
    /// (rows · group, d), the heads of one query next to each other.
    fn answer(&self, q: &Tensor, k: &Tensor, v: &Tensor, how: Attend) -> Result<Tensor> {
        let (_, _, d) = q.dims3()?;
        // Keys behind the last query of the tile are hidden from all of it.
        let t = match how.mask {
            Mask::Everything => k.dims3()?.1,
            Mask::Causal { past } => past + self.start + self.rows,
        };
        let q = q
            .narrow(0, self.start, self.rows)?
            .narrow(1, self.head * self.group, self.group)?
            .contiguous()?
            .reshape((self.rows * self.group, d))?;
        let of_head = |x: &Tensor| x.narrow(0, self.head, 1)?.squeeze(0)?.narrow(0, 0, t);
        let scores = q.matmul(&of_head(k)?.t()?)?;
        let mut weights = with_rows(&scores, <[f32]>::to_vec)?;
        for (i, row) in weights.chunks_exact_mut(t).enumerate() {
            let seen = match how.mask {
                Mask::Everything => t,
                Mask::Causal { past } => past + self.start + i / self.group + 1,
            };
            let (seen, hidden) = row.split_at_mut(seen);
            softmax(seen, how.scale);
            hidden.fill(0.0);
        }
        let weights = from_rows(weights, &[self.rows * self.group, t])?;
        Ok(weights.matmul(&of_head(v)?)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Workers;

    /// Products and sums of a few hundred numbers near 1, in f32.
    const CLOSE: f64 = 2e-5;

    /// An attention to be computed both ways.
    #[derive(Debug, Clone)]
    struct Problem {
        n: usize,
        past: usize,
        kv_h: usize,
        group: usize,
        d: usize,
        causal: bool,
    }

    impl Problem {
        fn sample(&self, count: usize, seed: usize) -> Vec<f32> {
            (0..count).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0).collect()
        }

        fn check(&self) {
            let Self { n, past, kv_h, group, d, causal } = *self;
            let (h, t) = (kv_h * group, past + n);
            let (q, k, v) = (self.sample(n * h * d, 1), self.sample(kv_h * t * d, 2), self.sample(kv_h * t * d, 3));
            let workers = Workers::new(2).unwrap();
            let how = Attend { mask: if causal { Mask::Causal { past } } else { Mask::Everything }, scale: 0.7 };
            let tensor = |x: &[f32], shape: &[usize]| from_rows(x.to_vec(), shape).unwrap();
            let got = attend(
                &Run::new(&workers),
                &tensor(&q, &[n, h, d]),
                &tensor(&k, &[kv_h, t, d]),
                &tensor(&v, &[kv_h, t, d]),
                how,
            )
            .unwrap();
            let got = got.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for i in 0..n {
                for head in 0..h {
                    let query = &q[(i * h + head) * d..][..d];
                    let seen = if causal { past + i + 1 } else { t };
                    let at = |x: &[f32], j: usize, c: usize| f64::from(x[((head / group) * t + j) * d + c]);
                    let weights: Vec<f64> = (0..seen)
                        .map(|j| {
                            ((0..d).map(|c| f64::from(query[c]) * at(&k, j, c)).sum::<f64>() * 0.7f32 as f64).exp()
                        })
                        .collect();
                    let sum: f64 = weights.iter().sum();
                    for c in 0..d {
                        let want: f64 = weights.iter().enumerate().map(|(j, w)| w / sum * at(&v, j, c)).sum();
                        assert!((f64::from(got[(i * h + head) * d + c]) - want).abs() < CLOSE, "{self:?}");
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn attention_matches_naive_loops_in_f64(n in 1usize..20, past in 0usize..20, kv_h in 1usize..3, group in 1usize..4, d in 1usize..9, causal: bool) {
            Problem { n, past, kv_h, group, d, causal }.check();
        }
    }

    #[test]
    fn more_scores_than_a_tile_holds_give_the_same_answer() {
        Problem { n: 1500, past: 40, kv_h: 1, group: 2, d: 2, causal: true }.check();
    }

    #[test]
    fn lengths_that_do_not_fit_the_mask_are_an_error() {
        let workers = Workers::new(1).unwrap();
        let x = from_rows(vec![0.0; 8], &[2, 2, 2]).unwrap();
        let how = Attend { mask: Mask::Causal { past: 1 }, scale: 1.0 };
        assert!(matches!(attend(&Run::new(&workers), &x, &x, &x, how), Err(Error::Shape { .. })));
    }
}
