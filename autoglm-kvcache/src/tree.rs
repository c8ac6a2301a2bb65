//! The index: a radix tree over units, whose edges carry the blocks of their rows.
//!
//! An edge may end anywhere, a block only at multiples of 32 rows, so a block that an edge ends in is
//! held by the edges on both sides. Where two prompts part in the middle of a block, each side has a
//! block of its own for that index; both hold the same bits for the rows that they share, and the
//! deeper one counts.
//!
//! The tree knows neither locks nor bytes. What a block is, is the caller's affair.

use std::collections::HashMap;
use std::ops::Range;

use autoglm_core::Unit;

use crate::key::Key;
use crate::shape::BLOCK_TOKENS;

/// Names a node for as long as it is leased, pinned or has children.
pub(crate) type Id = usize;

#[derive(Debug)]
struct Node<B> {
    parent: Option<Id>,
    /// The link after the first unit of the edge, under which the parent knows this node.
    link: Key,
    edge: Vec<Unit>,
    /// The link after the last one.
    key: Key,
    rows: Range<usize>,
    /// Position of a text row behind the edge: a picture takes fewer positions than rows.
    next_position: u32,
    /// Of the blocks that the rows lie in.
    blocks: Vec<B>,
    children: HashMap<Key, Id>,
    leases: usize,
    pins: usize,
    last_use: u64,
}

impl<B> Node<B> {
    fn is_free(&self) -> bool {
        self.children.is_empty() && self.leases == 0 && self.pins == 0
    }
}

/// What a lookup found.
#[derive(Debug)]
pub(crate) struct Found<B> {
    /// The node that ends where the match does; none where nothing is known of the root.
    pub(crate) node: Option<Id>,
    /// The blocks of all rows that were found.
    pub(crate) blocks: Vec<B>,
    pub(crate) units: usize,
    pub(crate) rows: usize,
    /// Position of a text row behind them.
    pub(crate) next_position: u32,
}

#[derive(Debug)]
pub(crate) struct Tree<B> {
    nodes: Vec<Option<Node<B>>>,
    unused: Vec<Id>,
    roots: HashMap<Key, Id>,
    clock: u64,
    visited: u64,
}

impl<B: Clone> Tree<B> {
    pub(crate) fn new() -> Self {
        Self { nodes: Vec::new(), unused: Vec::new(), roots: HashMap::new(), clock: 0, visited: 0 }
    }

    /// Nodes there are, roots included.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len() - self.unused.len()
    }

    /// Nodes that lookups have looked at so far.
    pub(crate) fn visited(&self) -> u64 {
        self.visited
    }

    fn node(&self, id: Id) -> &Node<B> {
        self.nodes[id].as_ref().unwrap_or_else(|| unreachable!("ids are of nodes that cannot go"))
    }

    fn node_mut(&mut self, id: Id) -> &mut Node<B> {
        self.nodes[id].as_mut().unwrap_or_else(|| unreachable!("ids are of nodes that cannot go"))
    }

    fn add(&mut self, node: Node<B>) -> Id {
        match self.unused.pop() {
            Some(id) => {
                self.nodes[id] = Some(node);
                id
            }
            None => {
                self.nodes.push(Some(node));
                self.nodes.len() - 1
            }
        }
    }

    /// The longest known beginning of `units` of at most `most` rows, in whole units. An edge that it
    /// ends in is cut there.
    pub(crate) fn find(&mut self, root: Key, units: &[Unit], most: usize) -> Found<B> {
        let mut found = Found { node: None, blocks: Vec::new(), units: 0, rows: 0, next_position: 0 };
        let Some(mut at) = self.roots.get(&root).copied() else {
            return found;
        };
        self.clock += 1;
        let clock = self.clock;
        let mut key = root;
        loop {
            self.visited += 1;
            let node = self.node_mut(at);
            node.last_use = clock;
            found.node = Some(at);
            (found.rows, found.next_position) = (node.rows.end, node.next_position);
            found.blocks.truncate(node.rows.start / BLOCK_TOKENS);
            found.blocks.extend(node.blocks.iter().cloned());
            let rest = &units[found.units..];
            let Some(unit) = rest.first() else { return found };
            let Some(child) = node.children.get(&key.then(unit)).copied() else { return found };
            let edge = &self.node(child).edge;
            let mut rows = found.rows;
            let same = edge.iter().zip(rest).take_while(|(a, b)| {
                rows = rows.saturating_add(a.rows());
                a == b && rows <= most
            });
            let shared = same.count();
            if shared == 0 {
                return found;
            }
            let whole = shared == edge.len();
            let links = key.chain(&rest[..shared]);
            key = links[shared - 1];
            if whole && key != self.node(child).key {
                // Equal units under unequal links: damage. What cannot be trusted is not used.
                return found;
            }
            at = if whole { child } else { self.split(child, shared, key) };
            found.units += shared;
        }
    }

    /// Makes `units`, whose rows lie in `blocks`, known. → its node and the blocks that now count for it:
    /// those that were known before, where there are any.
    pub(crate) fn insert(&mut self, root: Key, units: &[Unit], blocks: &[B]) -> (Id, Vec<B>) {
        let start = match self.roots.get(&root) {
            Some(id) => *id,
            None => {
                let id = self.add(Node {
                    parent: None,
                    link: root,
                    edge: Vec::new(),
                    key: root,
                    rows: 0..0,
                    next_position: 0,
                    blocks: Vec::new(),
                    children: HashMap::new(),
                    leases: 0,
                    pins: 0,
                    last_use: 0,
                });
                self.roots.insert(root, id);
                id
            }
        };
        let found = self.find(root, units, usize::MAX);
        let parent = found.node.unwrap_or(start);
        let rest = &units[found.units..];
        let Some(first) = rest.first() else {
            return (parent, found.blocks);
        };
        let above = self.node(parent).key;
        let link = above.then(first);
        let key = above.chain(rest).last().copied().unwrap_or(above);
        let rows = found.rows..found.rows + rest.iter().map(Unit::rows).sum::<usize>();
        let own = &blocks[rows.start / BLOCK_TOKENS..rows.end.div_ceil(BLOCK_TOKENS)];
        let next_position = rest.iter().fold(found.next_position, |next, unit| next.saturating_add(unit.advance()));
        let id = self.add(Node {
            parent: Some(parent),
            link,
            edge: rest.to_vec(),
            key,
            rows: rows.clone(),
            next_position,
            blocks: own.to_vec(),
            children: HashMap::new(),
            leases: 0,
            pins: 0,
            last_use: self.clock,
        });
        self.node_mut(parent).children.insert(link, id);
        if let Some(first) = own.first() {
            self.share_straddled(parent, rows.start, first);
        }
        let mut all = found.blocks;
        all.truncate(rows.start / BLOCK_TOKENS);
        all.extend_from_slice(own);
        (id, all)
    }

    /// Lets the nodes from `id` upwards that end in the block of row `row` use the block that goes on
    /// with it, which holds their rows as well, instead of one each.
    fn share_straddled(&mut self, mut id: Id, row: usize, block: &B) {
        loop {
            let node = self.node_mut(id);
            if node.rows.end.is_multiple_of(BLOCK_TOKENS) || node.rows.end / BLOCK_TOKENS != row / BLOCK_TOKENS {
                return;
            }
            if let Some(last) = node.blocks.last_mut() {
                *last = block.clone();
            }
            match node.parent {
                Some(parent) => id = parent,
                None => return,
            }
        }
    }

    /// Cuts the edge of `id` behind its first `units` units, whose link is `key`. The node keeps the
    /// rest, and with it leases and pins. → the node of the first part.
    fn split(&mut self, id: Id, units: usize, key: Key) -> Id {
        let lower = self.node_mut(id);
        let rest = lower.edge.split_off(units);
        let upper_edge = std::mem::replace(&mut lower.edge, rest);
        let rows = upper_edge.iter().map(Unit::rows).sum::<usize>();
        let advance = |edge: &[Unit]| edge.iter().fold(0u32, |sum, unit| sum.saturating_add(unit.advance()));
        let middle = lower.rows.start + rows;
        let first = lower.rows.start / BLOCK_TOKENS;
        let upper_blocks = lower.blocks[..middle.div_ceil(BLOCK_TOKENS) - first].to_vec();
        lower.blocks.drain(..middle / BLOCK_TOKENS - first);
        let lower_link = key.then(&lower.edge[0]);
        let upper = Node {
            parent: lower.parent,
            link: lower.link,
            key,
            rows: lower.rows.start..middle,
            next_position: lower.next_position - advance(&lower.edge),
            blocks: upper_blocks,
            children: HashMap::from([(lower_link, id)]),
            leases: 0,
            pins: 0,
            last_use: lower.last_use,
            edge: upper_edge,
        };
        lower.rows.start = middle;
        lower.link = lower_link;
        let (parent, link) = (upper.parent, upper.link);
        let upper = self.add(upper);
        self.node_mut(id).parent = Some(upper);
        if let Some(parent) = parent {
            self.node_mut(parent).children.insert(link, upper);
        }
        upper
    }

    /// Keeps a node from going.
    pub(crate) fn lease(&mut self, id: Id) {
        self.node_mut(id).leases += 1;
    }

    /// Ends a lease.
    pub(crate) fn release(&mut self, id: Id) {
        self.node_mut(id).leases -= 1;
        self.drop_idle_root(id);
    }

    /// Moves a lease up to where at most `rows` rows end.
    pub(crate) fn retreat(&mut self, id: Id, rows: usize) -> Id {
        let mut at = id;
        while let (true, Some(parent)) = (self.node(at).rows.end > rows, self.node(at).parent) {
            at = parent;
        }
        self.node_mut(at).leases += 1;
        self.node_mut(id).leases -= 1;
        at
    }

    /// Keeps a node until it is unpinned, whether or not anybody uses it.
    pub(crate) fn pin(&mut self, id: Id) {
        self.node_mut(id).pins += 1;
    }

    /// Ends a pin.
    pub(crate) fn unpin(&mut self, id: Id) {
        self.node_mut(id).pins -= 1;
        self.drop_idle_root(id);
    }

    /// Rows up to the end of a node.
    pub(crate) fn rows(&self, id: Id) -> usize {
        self.node(id).rows.end
    }

    /// The units up to the end of a node, and the blocks that their rows lie in.
    pub(crate) fn path(&self, id: Id) -> (Vec<Unit>, Vec<B>) {
        let mut nodes = vec![self.node(id)];
        while let Some(parent) = nodes.last().and_then(|node| node.parent) {
            nodes.push(self.node(parent));
        }
        let (mut units, mut blocks) = (Vec::new(), Vec::new());
        for node in nodes.into_iter().rev() {
            units.extend(node.edge.iter().cloned());
            // The block that an edge begins in is the deeper one's.
            blocks.truncate(node.rows.start / BLOCK_TOKENS);
            blocks.extend(node.blocks.iter().cloned());
        }
        (units, blocks)
    }

    /// Removes what goes on behind the first `keep` rows of the path to `id`, as far as nobody leases or
    /// pins it. → where the path ends now, at or before `keep`.
    pub(crate) fn forget(&mut self, id: Id, keep: usize) -> Id {
        let (mut above, mut top) = (id, None);
        while let (true, Some(parent)) = (self.node(above).rows.end > keep, self.node(above).parent) {
            (top, above) = (Some(above), parent);
        }
        let Some(top) = top else { return above };
        if self.node(top).rows.start < keep {
            let mut rows = self.node(top).rows.start;
            let kept = self.node(top).edge.iter().take_while(|unit| {
                rows = rows.saturating_add(unit.rows());
                rows <= keep
            });
            let kept = kept.count();
            if kept > 0 {
                let key = self.node(above).key.chain(&self.node(top).edge[..kept])[kept - 1];
                above = self.split(top, kept, key);
            }
        }
        let mut below = vec![top];
        let mut next = 0;
        while let Some(id) = below.get(next) {
            below.extend(self.node(*id).children.values());
            next += 1;
        }
        // Children before their parents.
        for id in below.into_iter().rev() {
            if self.node(id).is_free() {
                self.remove(id);
            }
        }
        above
    }

    /// Removes a leaf that nobody leases or pins, of those that give room the one that was not used for
    /// the longest time. → whether there was one.
    pub(crate) fn evict(&mut self, gives_room: impl Fn(&B) -> bool) -> bool {
        let leaves = self.nodes.iter().enumerate().filter_map(|(id, node)| Some((id, node.as_ref()?)));
        let free = leaves.filter(|(_, node)| node.is_free() && node.parent.is_some());
        // A leaf whose blocks are all in use elsewhere gives no room itself, but may stand before one
        // that does.
        let oldest = free.min_by_key(|(_, node)| (!node.blocks.iter().any(&gives_room), node.last_use));
        let Some((id, parent)) = oldest.map(|(id, node)| (id, node.parent)) else {
            return false;
        };
        self.remove(id);
        parent.into_iter().for_each(|parent| self.drop_idle_root(parent));
        true
    }

    fn remove(&mut self, id: Id) {
        let Some(node) = self.nodes[id].take() else { return };
        self.unused.push(id);
        match node.parent {
            Some(parent) => self.node_mut(parent).children.remove(&node.link),
            None => self.roots.remove(&node.key),
        };
    }

    /// Removes a node if it is a root that leads nowhere and nobody holds: it is not worth remembering.
    fn drop_idle_root(&mut self, id: Id) {
        if self.node(id).parent.is_none() && self.node(id).is_free() {
            self.remove(id);
        }
    }
}

#[cfg(test)]
mod tests;
