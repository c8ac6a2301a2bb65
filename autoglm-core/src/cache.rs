//! What a sequence remembers: the contract of key/value caches, and the plain dense one.

use candle_core::Tensor;

use crate::attention::{Attend, KeyValues, KvFormat, Mask, attend};
use crate::{Error, Result, Run};

/// One layer's queries, keys and values of this step, already rotated.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// (n, h, d).
    pub q: &'a Tensor,
    /// (n, kv_h, d).
    pub k: &'a Tensor,
    /// (n, kv_h, d).
    pub v: &'a Tensor,
    /// Factor of the scores.
    pub scale: f32,
}

impl Step<'_> {
    /// Whether keys and values are those of `kv_heads` heads of width `head_dim`. → rows.
    ///
    /// # Errors
    /// [`Error::Shape`] when they are others.
    pub fn check(&self, kv_heads: usize, head_dim: usize) -> Result<usize> {
        let (n, _, d) = self.q.dims3()?;
        for (name, x) in [("keys", self.k), ("values", self.v)] {
            let expected = [n, kv_heads, head_dim];
            if x.dims() != expected || d != head_dim {
                return Err(Error::Shape {
                    name: format!("{name} for the cache"),
                    expected: expected.to_vec(),
                    got: x.dims().to_vec(),
                });
            }
        }
        Ok(n)
    }
}

/// One sequence's past.
///
/// The cache answers the attention instead of handing its rows out, so that packed and paged caches
/// never unpack their history.
pub trait KvCache: Send {
    /// Rows stored for `layer`.
    fn len(&self, layer: usize) -> usize;

    /// Stores this step's keys and values, then attends causally over everything kept, this step's
    /// rows as they were stored: → (n, h, d).
    ///
    /// # Errors
    /// - [`Error::ContextFull`] when the rows do not fit; nothing is stored then.
    /// - [`Error::Shape`] when heads or widths are not those the cache was made for.
    fn attend(&mut self, run: &Run<'_>, layer: usize, step: Step<'_>) -> Result<Tensor>;

    /// Forgets all but the first `len` rows, in every layer that has more.
    ///
    /// # Errors
    /// [`Error::Truncate`] when some layer has fewer than `len` rows.
    fn truncate(&mut self, len: usize) -> Result<()>;

    /// Bytes held for keys and values.
    fn bytes(&self) -> u64;
}

/// Keys and values as the kernels read them, one growing buffer per layer and head. In
/// [`KvFormat::F32`], which is exact, or [`KvFormat::Bf16`], which halves memory and time.
#[derive(Debug)]
pub struct DenseCache {
    layers: Vec<KeyValues>,
    kv_heads: usize,
    head_dim: usize,
    limit: usize,
}

impl DenseCache {
    /// An empty cache of at most `limit` rows for `n_layers` layers of `kv_heads` heads of `head_dim`.
    #[must_use]
    pub fn new(n_layers: usize, kv_heads: usize, head_dim: usize, limit: usize, format: KvFormat) -> Self {
        let layers = (0..n_layers).map(|_| KeyValues::new(kv_heads, head_dim, format)).collect();
        Self { layers, kv_heads, head_dim, limit }
    }

    /// An independent copy.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { layers: self.layers.clone(), ..*self }
    }
}

impl KvCache for DenseCache {
    fn len(&self, layer: usize) -> usize {
        self.layers.get(layer).map_or(0, KeyValues::len)
    }

    fn attend(&mut self, run: &Run<'_>, layer: usize, step: Step<'_>) -> Result<Tensor> {
        let n = step.check(self.kv_heads, self.head_dim)?;
        let limit = self.limit;
        let count = self.layers.len();
        let layer = self.layers.get_mut(layer).ok_or(Error::Rows {
            what: "layers of the cache",
            expected: layer + 1,
            got: count,
        })?;
        let past = layer.len();
        let needed = past.checked_add(n).ok_or(Error::Overflow { what: "rows of the cache" })?;
        if needed > limit {
            return Err(Error::ContextFull { needed, limit });
        }
        if needed > layer.capacity() {
            // Doubling, so that a long decode copies its past rarely.
            layer.reserve(needed.max(layer.capacity().saturating_mul(2)).max(64).min(limit))?;
        }
        layer.push(run, step.k, step.v)?;
        attend(run, step.q, &layer.stretches(), Attend { mask: Mask::Causal { past }, scale: step.scale })
    }

    fn truncate(&mut self, len: usize) -> Result<()> {
        if let Some(short) = self.layers.iter().find(|l| l.len() < len) {
            return Err(Error::Truncate { len: short.len(), to: len });
        }
        self.layers.iter_mut().for_each(|l| l.truncate(len));
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.layers.iter().map(KeyValues::bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Workers;
    use crate::rows::from_rows;

    fn rows(n: usize, h: usize, seed: usize) -> Tensor {
        from_rows((0..n * h * 4).map(|i| ((i * 53 + seed * 17) % 89) as f32 / 44.0 - 1.0).collect(), &[n, h, 4])
            .unwrap()
    }

    fn step_all(cache: &mut DenseCache, n: usize, seed: usize) -> Vec<f32> {
        let workers = Workers::new(2).unwrap();
        let (q, k, v) = (rows(n, 4, seed), rows(n, 2, seed + 1), rows(n, 2, seed + 2));
        let answer = cache.attend(&Run::new(&workers), 0, Step { q: &q, k: &k, v: &v, scale: 0.5 }).unwrap();
        answer.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn truncate_then_replay_is_as_if_it_never_happened() {
        for (format, kept) in [(KvFormat::F32, 70), (KvFormat::Bf16, 70), (KvFormat::Bf16, 71)] {
            let mut cache = DenseCache::new(1, 2, 4, 1000, format);
            step_all(&mut cache, kept, 1);
            let first = step_all(&mut cache, 3, 2);
            cache.truncate(kept).unwrap();
            step_all(&mut cache, 90, 9);
            cache.truncate(kept).unwrap();
            assert_eq!(first, step_all(&mut cache, 3, 2));
            let refused = cache.truncate(kept + 4);
            assert!(matches!(refused, Err(Error::Truncate { len, to }) if (len, to) == (kept + 3, kept + 4)));
        }
    }

    #[test]
    fn bf16_holds_half_the_bytes() {
        let bytes = |format| {
            let mut cache = DenseCache::new(1, 2, 4, 1000, format);
            step_all(&mut cache, 100, 1);
            cache.bytes()
        };
        assert_eq!(bytes(KvFormat::F32), 2 * bytes(KvFormat::Bf16));
    }

    #[test]
    fn a_fork_and_its_origin_diverge_without_touching_each_other() {
        let mut one = DenseCache::new(1, 2, 4, 1000, KvFormat::F32);
        step_all(&mut one, 5, 1);
        let mut two = one.fork();
        let mut three = one.fork();
        step_all(&mut two, 4, 7);
        step_all(&mut two, 4, 8);
        assert_eq!(step_all(&mut one, 4, 3), step_all(&mut three, 4, 3));
    }

    #[test]
    fn a_full_context_is_an_error_and_stores_nothing() {
        let mut cache = DenseCache::new(1, 2, 4, 6, KvFormat::F32);
        step_all(&mut cache, 5, 1);
        let workers = Workers::new(1).unwrap();
        let (q, k) = (rows(2, 4, 0), rows(2, 2, 0));
        let full = cache.attend(&Run::new(&workers), 0, Step { q: &q, k: &k, v: &k, scale: 1.0 });
        assert!(matches!(full, Err(Error::ContextFull { needed: 7, limit: 6 })));
        assert_eq!(cache.len(0), 5);
    }

    #[test]
    fn heads_the_cache_was_not_made_for_are_an_error() {
        let mut cache = DenseCache::new(1, 2, 4, 6, KvFormat::F32);
        let workers = Workers::new(1).unwrap();
        let (q, k) = (rows(1, 4, 0), rows(1, 4, 0));
        assert!(matches!(
            cache.attend(&Run::new(&workers), 0, Step { q: &q, k: &k, v: &k, scale: 1.0 }),
            Err(Error::Shape { .. })
        ));
    }
}
