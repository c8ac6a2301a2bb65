//! Softmax attention over stored keys and values: never a matrix of all queries by all keys.
//!
//! [`KeyValues`] keeps what the kernels read, in their order ([`autoglm_kernels::attention`]);
//! [`attend`] cuts the queries into tasks of one key head and some queries each. The query heads that
//! share a key head are rows of one product, so that grouped heads read their keys once. A query's bits
//! depend on what it sees alone, not on the cut.

use std::ops::Range;

use autoglm_kernels::Block;
use autoglm_kernels::attention::{self as kernel, Head, Line, Past, Queries, Seen, Stretch, WHOLE};
use candle_core::Tensor;

pub use autoglm_kernels::attention::Format as KvFormat;

use crate::rows::{from_rows, with_strided_rows};
use crate::{Error, Result, Run};

/// Rows, heads times queries, that one task works on. With the real heads they and a tile of keys fill
/// half of a second-level cache of one MiB.
const ROWS_PER_TASK: usize = 192;

/// Tasks per thread below which tasks are made smaller, so that no thread waits long for another.
const TASKS_PER_THREAD: usize = 4;

/// Rows from which storing them is worth handing to threads.
const MANY_ROWS: usize = 16;

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

/// Keys and values of some tokens, in the order the kernels read them.
#[derive(Debug, Clone)]
pub struct KeyValues {
    heads: Vec<Stored>,
    head: Head,
    len: usize,
    capacity: usize,
}

/// One head's keys and values.
#[derive(Debug, Clone, Default)]
struct Stored {
    keys: Vec<Line>,
    values: Vec<Line>,
}

impl KeyValues {
    /// No tokens yet, of `kv_heads` heads of width `d`.
    #[must_use]
    pub fn new(kv_heads: usize, d: usize, format: KvFormat) -> Self {
        Self { heads: vec![Stored::default(); kv_heads], head: Head { dim: d, format }, len: 0, capacity: 0 }
    }

    /// Tokens stored.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no token is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Tokens there is room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.heads.iter().map(|h| size_of::<Line>() as u64 * (h.keys.len() + h.values.len()) as u64).sum()
    }

    /// Makes room for `tokens` tokens in all.
    ///
    /// # Errors
    /// [`Error::Memory`] when the system has not the memory; what is stored stays.
    pub fn reserve(&mut self, tokens: usize) -> Result<()> {
        if tokens <= self.capacity {
            return Ok(());
        }
        let (keys, values) = (self.head.key_lines(tokens), self.head.value_lines(tokens));
        for stored in &mut self.heads {
            grow(&mut stored.keys, keys)?;
            grow(&mut stored.values, values)?;
        }
        self.capacity = tokens;
        Ok(())
    }

    /// Stores the next tokens: k and v (n, kv_h, d), which may be some heads of a larger tensor.
    ///
    /// # Errors
    /// [`Error::Shape`] when heads or widths are others, or there is no room.
    pub fn push(&mut self, run: &Run<'_>, k: &Tensor, v: &Tensor) -> Result<()> {
        let (n, at, head) = (k.dim(0)?, self.len, self.head);
        for (name, x) in [("keys", k), ("values", v)] {
            let expected = [n.min(self.capacity - self.len), self.heads.len(), head.dim];
            if x.dims() != expected {
                let name = format!("{name} to be stored");
                return Err(Error::Shape { name, expected: expected.to_vec(), got: x.dims().to_vec() });
            }
        }
        if n == 0 {
            return Ok(());
        }
        let rooms = self.heads.iter_mut().enumerate().map(|(kv_head, stored)| Room {
            head,
            kv_head,
            keys: &mut stored.keys,
            values: &mut stored.values,
            at,
            rows: 0..n,
        });
        store(run, rooms.collect(), k, v)?;
        self.len = at + n;
        Ok(())
    }

    /// Forgets all but the first `len` tokens. Does nothing when there are fewer.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

/// Where some rows of one head are to be stored.
#[derive(Debug)]
pub struct Room<'a> {
    /// How they are held.
    pub head: Head,
    /// Which key head.
    pub kv_head: usize,
    /// A stretch of keys.
    pub keys: &'a mut [Line],
    /// A stretch of values.
    pub values: &'a mut [Line],
    /// Token of the stretch that the first row becomes.
    pub at: usize,
    /// Which of the rows.
    pub rows: Range<usize>,
}

/// Stores rows of k and v (n, kv_h, d), which may be some heads of a larger tensor.
///
/// # Errors
/// [`Error::Tensor`] when they are not f32 on the CPU.
///
/// # Panics
/// When a room is too small, or names a head or rows that k and v do not have: bugs of the caller.
pub fn store(run: &Run<'_>, rooms: Vec<Room<'_>>, k: &Tensor, v: &Tensor) -> Result<()> {
    let few = rooms.iter().map(|room| room.rows.end).max().is_none_or(|rows| rows < MANY_ROWS);
    with_strided_rows(k, |k, k_stride| {
        with_strided_rows(v, |v, v_stride| {
            let fill = |room: Room<'_>| {
                let Room { head, kv_head, keys, values, at, rows } = room;
                for (i, row) in rows.enumerate() {
                    let from = kv_head * head.dim;
                    head.store_key(keys, at + i, &k[row * k_stride + from..][..head.dim]);
                    head.store_value(values, at + i, &v[row * v_stride + from..][..head.dim]);
                }
            };
            if few { rooms.into_iter().for_each(fill) } else { run.for_each(rooms, fill) }
        })
    })??;
    Ok(())
}

/// Some tokens' keys and values where they lie: in one piece, or in the blocks of a pool.
#[derive(Debug, Clone)]
pub struct Stretches<'a> {
    /// Each key head's stretches, in the order of their tokens.
    pub heads: Vec<Vec<Stretch<'a>>>,
    /// How each head is held.
    pub head: Head,
    /// Tokens of a stretch.
    pub tokens: usize,
    /// Tokens in all.
    pub len: usize,
}

impl KeyValues {
    /// Where they lie.
    #[must_use]
    pub fn stretches(&self) -> Stretches<'_> {
        let heads =
            self.heads.iter().map(|h| vec![Stretch { format: self.head.format, keys: &h.keys, values: &h.values }]);
        Stretches { heads: heads.collect(), head: self.head, tokens: WHOLE, len: self.len }
    }
}

/// Lengthens `lines` to `len` by zeros. Asking before taking turns what does not fit into an error.
fn grow(lines: &mut Vec<Line>, len: usize) -> Result<()> {
    let more = len.saturating_sub(lines.len());
    lines.try_reserve_exact(more).map_err(|source| Error::Memory {
        name: "keys and values".into(),
        bytes: len.saturating_mul(size_of::<Line>()),
        source,
    })?;
    lines.resize(lines.len() + more, Line::ZERO);
    Ok(())
}

/// Attention of q (n, h, d) over what is stored for kv_h heads → (n, h, d). Query head i reads key head
/// i / (h / kv_h). q may be some heads of a larger tensor.
///
/// # Errors
/// [`Error::Shape`] when heads, widths or, under [`Mask::Causal`], lengths do not fit.
pub fn attend(run: &Run<'_>, q: &Tensor, past: &Stretches<'_>, how: Attend) -> Result<Tensor> {
    let (n, h, d) = q.dims3()?;
    check(q, past, how.mask)?;
    let mut out = run.zeros(n * h * d);
    if out.is_empty() {
        return from_rows(out, &[n, h, d]);
    }
    let (kv_h, head) = (past.heads.len(), past.head);
    let group = h / kv_h;
    let even = (n * kv_h).div_ceil(TASKS_PER_THREAD * run.threads());
    let per_task = (ROWS_PER_TASK / group).min(even).max(1);
    let mut tasks = Vec::new();
    for (i, columns) in Block::new(&mut out, h * d).strips(group * d).enumerate() {
        let mut rest = columns;
        for start in (0..n).step_by(per_task) {
            let (rows, after) = rest.split_rows(per_task.min(n - start));
            rest = after;
            tasks.push((i, start, rows));
        }
    }
    with_strided_rows(q, |q, stride| {
        run.try_for_each(tasks, |(i, start, rows)| {
            let mut scratch = vec![Line::ZERO; head.scratch_lines(rows.rows(), group)];
            let from = start * stride + i * group * d;
            let queries = Queries { rows: &q[from..], stride, count: rows.rows(), group };
            let of_head = Past { head, stretches: &past.heads[i], tokens: past.tokens };
            let seen = match how.mask {
                Mask::Everything => Seen::All(past.len),
                Mask::Causal { past } => Seen::Causal(past + start + 1),
            };
            kernel::attend(run.isa(), queries, of_head, seen, how.scale, &mut scratch, rows)
        })
    })??;
    from_rows(out, &[n, h, d])
}

fn check(q: &Tensor, past: &Stretches<'_>, mask: Mask) -> Result<()> {
    let (n, h, d) = q.dims3()?;
    let kv_h = past.heads.len();
    let misfit = |name: &str, expected: Vec<usize>| {
        Err(Error::Shape { name: name.into(), expected, got: vec![kv_h, past.len, past.head.dim] })
    };
    if d == 0 || kv_h == 0 || h % kv_h != 0 || d != past.head.dim {
        return misfit("keys of an attention", vec![h, past.len, d]);
    }
    match mask {
        Mask::Causal { past: before } if before.checked_add(n) != Some(past.len) => {
            misfit("keys of a causal attention", vec![kv_h, before.saturating_add(n), d])
        }
        Mask::Everything if past.len == 0 => misfit("keys of an attention", vec![kv_h, 1, d]),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Workers;

    fn stored(run: &Run<'_>, k: &Tensor, v: &Tensor) -> KeyValues {
        let (t, kv_h, d) = k.dims3().unwrap();
        let mut past = KeyValues::new(kv_h, d, KvFormat::F32);
        past.reserve(t).unwrap();
        past.push(run, k, v).unwrap();
        past
    }

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
            let run = Run::new(&workers);
            let past_rows = stored(&run, &tensor(&k, &[t, kv_h, d]), &tensor(&v, &[t, kv_h, d]));
            let got = attend(&run, &tensor(&q, &[n, h, d]), &past_rows.stretches(), how).unwrap();
            let got = got.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for i in 0..n {
                for head in 0..h {
                    let query = &q[(i * h + head) * d..][..d];
                    let seen = if causal { past + i + 1 } else { t };
                    let at = |x: &[f32], j: usize, c: usize| f64::from(x[(j * kv_h + head / group) * d + c]);
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
    fn more_queries_than_a_task_holds_give_the_same_answer() {
        Problem { n: 1500, past: 40, kv_h: 1, group: 2, d: 2, causal: true }.check();
    }

    #[test]
    fn neither_threads_nor_the_layout_of_the_rows_change_a_bit() {
        let (one, three) = (Workers::new(1).unwrap(), Workers::new(3).unwrap());
        let qkv =
            from_rows((0..70 * 8 * 5).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect(), &[70, 8, 5]).unwrap();
        let part = |from, count| qkv.narrow(1, from, count).unwrap();
        let how = Attend { mask: Mask::Causal { past: 0 }, scale: 0.5 };
        for format in [KvFormat::F32, KvFormat::Bf16] {
            let answer = |workers: &Workers, copied: bool| {
                let run = Run::new(workers);
                let own = |x: Tensor| if copied { x.contiguous().unwrap() } else { x };
                let mut past = KeyValues::new(2, 5, format);
                past.reserve(70).unwrap();
                past.push(&run, &own(part(4, 2)), &own(part(6, 2))).unwrap();
                let answer = attend(&run, &own(part(0, 4)), &past.stretches(), how).unwrap();
                answer.flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            let want = answer(&one, true);
            for got in [answer(&one, false), answer(&three, true), answer(&three, false)] {
                assert_eq!(got, want);
            }
        }
    }

    #[test]
    fn lengths_that_do_not_fit_are_an_error() {
        let workers = Workers::new(1).unwrap();
        let run = Run::new(&workers);
        let x = from_rows(vec![0.0; 8], &[2, 2, 2]).unwrap();
        let mut past = stored(&run, &x, &x);
        let how = |mask| Attend { mask, scale: 1.0 };
        assert!(matches!(attend(&run, &x, &past.stretches(), how(Mask::Causal { past: 1 })), Err(Error::Shape { .. })));
        assert!(matches!(past.push(&run, &x, &x), Err(Error::Shape { .. })));
        past.truncate(0);
        assert!(matches!(attend(&run, &x, &past.stretches(), how(Mask::Everything)), Err(Error::Shape { .. })));
        let other = from_rows(vec![0.0; 4], &[2, 2, 1]).unwrap();
        assert!(matches!(past.push(&run, &x, &other), Err(Error::Shape { .. })));
        assert!(past.reserve(usize::MAX).is_err());
    }
}
