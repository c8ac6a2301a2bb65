//! The pool: blocks, their budget, and the index over what was computed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use autoglm_core::Unit;

use crate::block::Block;
use crate::key::Key;
use crate::ledger::Ledger;
use crate::sync::{Mutex, lock};
use crate::tree::{Id, Tree};
use crate::{Error, PooledCache, Result, Root, Shape};

/// Blocks of keys and values for any number of sequences, within a budget of bytes. Cloning copies a
/// handle.
///
/// A sequence begins with [`Pool::open`], which finds what is already computed of it, and makes what it
/// computes known with [`PooledCache::commit`]. Blocks are shared until somebody writes to them.
#[derive(Debug, Clone)]
pub struct Pool {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) shape: Shape,
    ledger: Arc<Ledger>,
    index: Mutex<Index>,
    asked: AtomicU64,
    reused: AtomicU64,
    evicted: AtomicU64,
}

#[derive(Debug)]
struct Index {
    tree: Tree<Arc<Block>>,
    /// A name is a tenant's own.
    pins: HashMap<(Key, String), Id>,
}

/// What a pool holds and what became of its lookups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolStats {
    /// Bytes there may be.
    pub budget: u64,
    /// Bytes of blocks in use, by sequences or by the index.
    pub used: u64,
    /// The most bytes that were ever held at a time.
    pub peak: u64,
    /// Nodes of the index.
    pub nodes: usize,
    /// Nodes that lookups looked at.
    pub visited: u64,
    /// Rows of prompts that were opened.
    pub asked_rows: u64,
    /// Those of them that were computed already.
    pub reused_rows: u64,
    /// Prefixes that were given up for others.
    pub evicted: u64,
}

/// A prompt that is kept under a name.
#[derive(Debug)]
pub struct Pinned {
    /// The name, which is a tenant's own.
    pub name: String,
    /// A sequence that holds it, of its tenant.
    pub cache: PooledCache,
    /// What it is.
    pub units: Vec<Unit>,
}

impl PoolStats {
    /// Share of the rows of prompts that were computed already.
    #[must_use]
    pub fn hit_rate(&self) -> f64 {
        if self.asked_rows == 0 { 0.0 } else { self.reused_rows as f64 / self.asked_rows as f64 }
    }
}

impl Pool {
    /// An empty pool of at most `budget` bytes.
    ///
    /// # Errors
    /// [`Error::Budget`] when not even one block fits.
    pub fn new(shape: Shape, budget: u64) -> Result<Self> {
        let block = shape.block_bytes(0).max(shape.block_bytes(1));
        if budget < block {
            return Err(Error::Budget { budget, block });
        }
        let inner = Inner {
            shape,
            ledger: Arc::new(Ledger::new(budget)),
            index: Mutex::new(Index { tree: Tree::new(), pins: HashMap::new() }),
            asked: AtomicU64::new(0),
            reused: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What the pool is for.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.inner.shape
    }

    /// A cache for a prompt of `units`, which holds what is already computed of it: at most `most` rows,
    /// in whole units. It may grow to `limit` rows. → the cache and its rows.
    #[must_use]
    pub fn open(&self, root: Root, units: &[Unit], most: usize, limit: usize) -> (PooledCache, usize) {
        let mut index = lock(&self.inner.index);
        let found = index.tree.find(root.0, units, most.min(limit));
        found.node.into_iter().for_each(|node| index.tree.lease(node));
        drop(index);
        let asked = units.iter().fold(0u64, |rows, unit| rows.saturating_add(unit.rows() as u64));
        self.inner.asked.fetch_add(asked, Ordering::Relaxed);
        self.inner.reused.fetch_add(found.rows as u64, Ordering::Relaxed);
        (PooledCache::new(self.clone(), root, found.blocks, found.rows, found.node, limit), found.rows)
    }

    /// Ends a pin of a tenant's. → whether there was one.
    pub fn unpin(&self, root: Root, name: &str) -> bool {
        let mut index = lock(&self.inner.index);
        let pinned = index.pins.remove(&(root.0, name.to_owned()));
        pinned.into_iter().for_each(|node| index.tree.unpin(node));
        pinned.is_some()
    }

    /// All that is pinned, of all tenants, each as a sequence that may grow to `limit` rows.
    #[must_use]
    pub fn pinned(&self, limit: usize) -> Vec<Pinned> {
        let mut index = lock(&self.inner.index);
        let pins: Vec<_> = index.pins.iter().map(|((root, name), node)| (Root(*root), name.clone(), *node)).collect();
        let held = pins.into_iter().map(|(root, name, node)| {
            index.tree.lease(node);
            let (units, blocks) = index.tree.path(node);
            let rows = index.tree.rows(node);
            Pinned { name, cache: PooledCache::new(self.clone(), root, blocks, rows, Some(node), limit), units }
        });
        held.collect()
    }

    /// What the pool holds and what became of its lookups.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let index = lock(&self.inner.index);
        PoolStats {
            budget: self.inner.ledger.budget(),
            used: self.inner.ledger.used(),
            peak: self.inner.ledger.peak(),
            nodes: index.tree.len(),
            visited: index.tree.visited(),
            asked_rows: self.inner.asked.load(Ordering::Relaxed),
            reused_rows: self.inner.reused.load(Ordering::Relaxed),
            evicted: self.inner.evicted.load(Ordering::Relaxed),
        }
    }

    /// Makes `units` of a cache known. → their node, which is leased, and the blocks that count for them.
    pub(crate) fn insert(&self, root: Root, units: &[Unit], blocks: &[Arc<Block>]) -> (Id, Vec<Arc<Block>>) {
        let mut index = lock(&self.inner.index);
        let (node, blocks) = index.tree.insert(root.0, units, blocks);
        index.tree.lease(node);
        (node, blocks)
    }

    /// Forgets what goes on behind `keep` rows of the path to a leased node. → where the lease is now.
    pub(crate) fn forget(&self, node: Id, keep: usize) -> Id {
        let mut index = lock(&self.inner.index);
        let left = index.tree.retreat(node, keep);
        let end = index.tree.forget(node, keep);
        // The path may have been cut where a lease could not be before.
        index.tree.lease(end);
        index.tree.release(left);
        end
    }

    /// Moves a lease up to where at most `rows` rows end.
    pub(crate) fn retreat(&self, node: Id, rows: usize) -> Id {
        lock(&self.inner.index).tree.retreat(node, rows)
    }

    /// Pins a leased node. → its rows; none where it has none.
    pub(crate) fn pin(&self, root: Root, name: &str, node: Id) -> Option<usize> {
        let mut index = lock(&self.inner.index);
        let rows = index.tree.rows(node);
        if rows == 0 {
            return None;
        }
        index.tree.pin(node);
        if let Some(before) = index.pins.insert((root.0, name.to_owned()), node) {
            index.tree.unpin(before);
        }
        Some(rows)
    }

    /// Ends a lease.
    pub(crate) fn release(&self, node: Id) {
        lock(&self.inner.index).tree.release(node);
    }

    /// One more lease of a node that is leased.
    pub(crate) fn lease(&self, node: Id) {
        lock(&self.inner.index).tree.lease(node);
    }

    /// Block `index` of a sequence, all zeros, for which prefixes that nobody uses are given up.
    ///
    /// # Errors
    /// [`autoglm_core::Error::CacheFull`] when everything else is in use.
    pub(crate) fn block(&self, index: usize) -> autoglm_core::Result<Block> {
        let Inner { shape, ledger, .. } = &*self.inner;
        loop {
            if let Some(block) = Block::new(ledger, shape, index)? {
                return Ok(block);
            }
            if !lock(&self.inner.index).tree.evict(|block| Arc::strong_count(block) == 1) {
                return Err(autoglm_core::Error::CacheFull {
                    needed: shape.block_bytes(index),
                    used: ledger.used(),
                    budget: ledger.budget(),
                });
            }
            self.inner.evicted.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
