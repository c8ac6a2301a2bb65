//! One sequence in a pool.

use std::sync::Arc;

use autoglm_core::attention::{Attend, Mask, Room, Stretches, attend, store};
use autoglm_core::cache::Step;
use autoglm_core::{Error, KvCache, Result, Run, Unit};
use candle_core::Tensor;

use crate::block::Block;
use crate::shape::BLOCK_TOKENS;
use crate::tree::Id;
use crate::{Pool, Root};

/// One sequence's past, in blocks of a pool. What others hold as well is copied before it is written to,
/// so a sequence may begin with another's blocks and end in the middle of one.
#[derive(Debug)]
pub struct PooledCache {
    pool: Pool,
    pub(crate) root: Root,
    pub(crate) blocks: Vec<Arc<Block>>,
    /// Rows of each layer.
    lens: Vec<usize>,
    /// The node of the index up to which this sequence is known.
    pub(crate) lease: Option<Id>,
    limit: usize,
}

impl PooledCache {
    pub(crate) fn new(
        pool: Pool,
        root: Root,
        blocks: Vec<Arc<Block>>,
        rows: usize,
        lease: Option<Id>,
        limit: usize,
    ) -> Self {
        let lens = vec![rows; pool.shape().layers()];
        Self { pool, root, blocks, lens, lease, limit }
    }

    /// Rows that every layer has.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.lens.iter().copied().min().unwrap_or(0)
    }

    /// The pool it is in.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The identity under which its prefixes are known.
    #[must_use]
    pub fn root(&self) -> Root {
        self.root
    }

    /// The beginning of `units` all of whose rows are here.
    #[must_use]
    pub fn held<'u>(&self, units: &'u [Unit]) -> &'u [Unit] {
        let (mut rows, here) = (0usize, self.rows());
        let whole = units.iter().take_while(|unit| {
            rows = rows.saturating_add(unit.rows());
            rows <= here
        });
        &units[..whole.count()]
    }

    /// Makes known what this sequence holds: `units`, which are all of its rows or a beginning of them. Where
    /// others computed the same before, it goes on with their blocks and its own are freed.
    ///
    /// # Errors
    /// [`crate::Error::Units`] when the units are more rows than some layer has.
    pub fn commit(&mut self, units: &[Unit]) -> crate::Result<()> {
        let rows = rows_of(units);
        if rows > self.rows() {
            return Err(crate::Error::Units { units: units.len(), rows, held: self.rows() });
        }
        if rows == 0 {
            return Ok(());
        }
        let (node, blocks) = self.pool.insert(self.root, units, &self.blocks);
        self.lease.replace(node).into_iter().for_each(|before| self.pool.release(before));
        drop(self.adopt(blocks, rows));
        Ok(())
    }

    /// Forgets everything but the first `keep` rows, here and in the index, as far as no other sequence
    /// uses it: a screenshot that was taken out of a conversation will not come again at its place.
    ///
    /// # Errors
    /// [`Error::Truncate`] when some layer has fewer rows.
    pub fn forget(&mut self, keep: usize) -> Result<()> {
        // Afterwards only others hold what is to go.
        let lease = self.lease.take();
        let cut = self.truncate(keep);
        self.lease = lease.map(|node| if cut.is_ok() { self.pool.forget(node, keep) } else { node });
        cut
    }

    /// Keeps what was committed until it is unpinned, whatever else needs room. A name that the tenant has
    /// pinned already moves. → rows that are kept.
    ///
    /// # Errors
    /// [`crate::Error::Unknown`] when nothing was committed.
    pub fn pin(&self, name: &str) -> crate::Result<usize> {
        let pinned = self.lease.and_then(|node| self.pool.pin(self.root, name, node));
        pinned.ok_or_else(|| crate::Error::Unknown { name: name.to_owned() })
    }

    /// A second sequence that begins like this one. It takes no room until one of them goes on.
    #[must_use]
    pub fn fork(&self) -> Self {
        self.lease.into_iter().for_each(|node| self.pool.lease(node));
        Self { pool: self.pool.clone(), blocks: self.blocks.clone(), lens: self.lens.clone(), ..*self }
    }

    /// Goes on with `blocks` for the first `rows` rows. → the blocks it had for them.
    pub(crate) fn adopt(&mut self, blocks: Vec<Arc<Block>>, rows: usize) -> Vec<Arc<Block>> {
        // A block that goes on behind these rows keeps what only this sequence has in it.
        let whole = if self.lens.iter().all(|len| *len == rows) { blocks.len() } else { rows / BLOCK_TOKENS };
        self.blocks.iter_mut().zip(blocks).take(whole).map(|(own, known)| std::mem::replace(own, known)).collect()
    }

    /// Makes the blocks of rows `from..to` this sequence's own, and as many as they need.
    ///
    /// # Errors
    /// [`Error::CacheFull`]; no further block is held then.
    fn make_room(&mut self, from: usize, to: usize) -> Result<()> {
        let before = self.blocks.len();
        let made = self.make_own(from, to);
        if made.is_err() {
            self.blocks.truncate(before);
        }
        made
    }

    fn make_own(&mut self, from: usize, to: usize) -> Result<()> {
        for index in from / BLOCK_TOKENS..to.div_ceil(BLOCK_TOKENS) {
            match self.blocks.get_mut(index) {
                None => self.blocks.push(Arc::new(self.pool.block(index)?)),
                Some(block) => {
                    if Arc::get_mut(block).is_none() {
                        let mut own = self.pool.block(index)?;
                        own.copy_from(block);
                        *block = Arc::new(own);
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes the rows of k and v behind the `past` rows of a layer.
    fn write(&mut self, run: &Run<'_>, layer: usize, past: usize, step: &Step<'_>) -> Result<()> {
        let n = step.k.dim(0)?;
        let shape = *self.pool.shape();
        let mut rooms = Vec::new();
        for (index, block) in self.blocks.iter_mut().enumerate().skip(past / BLOCK_TOKENS) {
            let start = (index * BLOCK_TOKENS).max(past);
            let end = ((index + 1) * BLOCK_TOKENS).min(past + n);
            if start >= end {
                break;
            }
            let block = Arc::get_mut(block).unwrap_or_else(|| unreachable!("room was made before"));
            let head = shape.head_of(index);
            rooms.extend(block.layer_mut(&shape, index, layer).enumerate().map(|(kv_head, (keys, values))| Room {
                head,
                kv_head,
                keys,
                values,
                at: start % BLOCK_TOKENS,
                rows: start - past..end - past,
            }));
        }
        store(run, rooms, step.k, step.v)
    }

    /// Room for `rows` more rows of each layer, as if something were in them.
    #[cfg(test)]
    pub(crate) fn extend_by(&mut self, rows: usize) -> Result<()> {
        let from = self.rows();
        self.make_room(from, from + rows)?;
        self.lens.fill(from + rows);
        Ok(())
    }

    fn stretches(&self, layer: usize, len: usize) -> Stretches<'_> {
        let shape = self.pool.shape();
        let of = |kv_head: usize| {
            let blocks = self.blocks.iter().enumerate().take(len.div_ceil(BLOCK_TOKENS));
            blocks.map(|(index, block)| block.stretch(shape, index, layer, kv_head)).collect()
        };
        Stretches { heads: (0..shape.kv_heads()).map(of).collect(), head: shape.head(), tokens: BLOCK_TOKENS, len }
    }
}

/// Rows of some units; more than there can be where they are made up.
pub(crate) fn rows_of(units: &[Unit]) -> usize {
    units.iter().fold(0, |rows, unit| rows.saturating_add(unit.rows()))
}

impl KvCache for PooledCache {
    fn len(&self, layer: usize) -> usize {
        self.lens.get(layer).copied().unwrap_or(0)
    }

    fn attend(&mut self, run: &Run<'_>, layer: usize, step: Step<'_>) -> Result<Tensor> {
        let n = step.check(self.pool.shape().kv_heads(), self.pool.shape().head().dim)?;
        let count = self.lens.len();
        let past = *self.lens.get(layer).ok_or(Error::Rows {
            what: "layers of the cache",
            expected: layer + 1,
            got: count,
        })?;
        let needed = past.checked_add(n).ok_or(Error::Overflow { what: "rows of the cache" })?;
        if needed > self.limit {
            return Err(Error::ContextFull { needed, limit: self.limit });
        }
        self.make_room(past, needed)?;
        self.write(run, layer, past, &step)?;
        self.lens[layer] = needed;
        let how = Attend { mask: Mask::Causal { past }, scale: step.scale };
        attend(run, step.q, &self.stretches(layer, needed), how)
    }

    fn truncate(&mut self, len: usize) -> Result<()> {
        if let Some(short) = self.lens.iter().find(|l| **l < len) {
            return Err(Error::Truncate { len: *short, to: len });
        }
        self.lens.fill(len);
        self.blocks.truncate(len.div_ceil(BLOCK_TOKENS));
        // What was cut off is held no longer.
        self.lease = self.lease.map(|node| self.pool.retreat(node, len));
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.blocks.iter().map(|block| block.bytes()).sum()
    }
}

impl Drop for PooledCache {
    fn drop(&mut self) {
        self.lease.take().into_iter().for_each(|node| self.pool.release(node));
    }
}
