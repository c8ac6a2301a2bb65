//! What a sequence remembers: the contract of key/value caches, and the plain dense one.

use candle_core::{DType, Device, Tensor};

use crate::attention::{Attend, Mask, attend};
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

/// Keys and values in f32, one growing buffer per layer.
#[derive(Debug)]
pub struct DenseCache {
    layers: Vec<Layer>,
    kv_heads: usize,
    head_dim: usize,
    limit: usize,
}

#[derive(Debug)]
struct Layer {
    k: Tensor, // (kv_h, capacity, d)
    v: Tensor, // (kv_h, capacity, d)
    len: usize,
}

impl DenseCache {
    /// An empty cache of at most `limit` rows for `n_layers` layers of `kv_heads` heads of `head_dim`.
    ///
    /// # Errors
    /// [`Error::Tensor`] when candle cannot make an empty tensor.
    pub fn new(n_layers: usize, kv_heads: usize, head_dim: usize, limit: usize) -> Result<Self> {
        let empty = || Tensor::zeros((kv_heads, 0, head_dim), DType::F32, &Device::Cpu);
        let layers = (0..n_layers).map(|_| Ok(Layer { k: empty()?, v: empty()?, len: 0 })).collect::<Result<_>>()?;
        Ok(Self { layers, kv_heads, head_dim, limit })
    }

    /// An independent copy. (A candle tensor's `Clone` shares its buffer, which this cache writes in
    /// place.)
    ///
    /// # Errors
    /// [`Error::Tensor`] when candle cannot copy.
    pub fn fork(&self) -> Result<Self> {
        let layers = self
            .layers
            .iter()
            .map(|l| Ok(Layer { k: l.k.copy()?, v: l.v.copy()?, len: l.len }))
            .collect::<Result<_>>()?;
        Ok(Self { layers, ..*self })
    }

    fn check(&self, step: &Step<'_>) -> Result<usize> {
        let (n, _, d) = step.q.dims3()?;
        for (name, x) in [("keys", step.k), ("values", step.v)] {
            let expected = [n, self.kv_heads, self.head_dim];
            if x.dims() != expected || d != self.head_dim {
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

impl KvCache for DenseCache {
    fn len(&self, layer: usize) -> usize {
        self.layers.get(layer).map_or(0, |l| l.len)
    }

    fn attend(&mut self, run: &Run<'_>, layer: usize, step: Step<'_>) -> Result<Tensor> {
        let n = self.check(&step)?;
        let limit = self.limit;
        let count = self.layers.len();
        let layer = self.layers.get_mut(layer).ok_or(Error::Rows {
            what: "layers of the cache",
            expected: layer + 1,
            got: count,
        })?;
        let past = layer.len;
        let needed = past.checked_add(n).ok_or(Error::Overflow { what: "rows of the cache" })?;
        if needed > limit {
            return Err(Error::ContextFull { needed, limit });
        }
        layer.reserve(needed, limit)?;
        layer.k.slice_set(&step.k.transpose(0, 1)?.contiguous()?, 1, past)?;
        layer.v.slice_set(&step.v.transpose(0, 1)?.contiguous()?, 1, past)?;
        layer.len = needed;
        let (k, v) = (layer.k.narrow(1, 0, needed)?, layer.v.narrow(1, 0, needed)?);
        attend(run, step.q, &k, &v, Attend { mask: Mask::Causal { past }, scale: step.scale })
    }

    fn truncate(&mut self, len: usize) -> Result<()> {
        if let Some(short) = self.layers.iter().find(|l| l.len < len) {
            return Err(Error::Truncate { len: short.len, to: len });
        }
        self.layers.iter_mut().for_each(|l| l.len = len);
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.layers.iter().map(|l| 4 * (l.k.elem_count() + l.v.elem_count()) as u64).sum()
    }
}

impl Layer {
    /// Makes room for `needed` rows, doubling so that a long decode copies its past rarely.
    fn reserve(&mut self, needed: usize, limit: usize) -> Result<()> {
        let (kv_h, capacity, d) = self.k.dims3()?;
        if needed <= capacity {
            return Ok(());
        }
        let grown = needed.max(capacity.saturating_mul(2)).max(64).min(limit);
        for buffer in [&mut self.k, &mut self.v] {
            let larger = Tensor::zeros((kv_h, grown, d), DType::F32, &Device::Cpu)?;
            if self.len > 0 {
                larger.slice_set(&buffer.narrow(1, 0, self.len)?.contiguous()?, 1, 0)?;
            }
            *buffer = larger;
        }
        Ok(())
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
        let mut cache = DenseCache::new(1, 2, 4, 1000).unwrap();
        step_all(&mut cache, 70, 1);
        let first = step_all(&mut cache, 3, 2);
        cache.truncate(70).unwrap();
        step_all(&mut cache, 90, 9);
        cache.truncate(70).unwrap();
        assert_eq!(first, step_all(&mut cache, 3, 2));
        assert!(matches!(cache.truncate(74), Err(Error::Truncate { len: 73, to: 74 })));
    }

    #[test]
    fn a_fork_and_its_origin_diverge_without_touching_each_other() {
        let mut one = DenseCache::new(1, 2, 4, 1000).unwrap();
        step_all(&mut one, 5, 1);
        let mut two = one.fork().unwrap();
        let mut three = one.fork().unwrap();
        step_all(&mut two, 4, 7);
        step_all(&mut two, 4, 8);
        assert_eq!(step_all(&mut one, 4, 3), step_all(&mut three, 4, 3));
    }

    #[test]
    fn a_full_context_is_an_error_and_stores_nothing() {
        let mut cache = DenseCache::new(1, 2, 4, 6).unwrap();
        step_all(&mut cache, 5, 1);
        let workers = Workers::new(1).unwrap();
        let (q, k) = (rows(2, 4, 0), rows(2, 2, 0));
        let full = cache.attend(&Run::new(&workers), 0, Step { q: &q, k: &k, v: &k, scale: 1.0 });
        assert!(matches!(full, Err(Error::ContextFull { needed: 7, limit: 6 })));
        assert_eq!(cache.len(0), 5);
    }

    #[test]
    fn heads_the_cache_was_not_made_for_are_an_error() {
        let mut cache = DenseCache::new(1, 2, 4, 6).unwrap();
        let workers = Workers::new(1).unwrap();
        let (q, k) = (rows(1, 4, 0), rows(1, 4, 0));
        assert!(matches!(
            cache.attend(&Run::new(&workers), 0, Step { q: &q, k: &k, v: &k, scale: 1.0 }),
            Err(Error::Shape { .. })
        ));
    }
}
