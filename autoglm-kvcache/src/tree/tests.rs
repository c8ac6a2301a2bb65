//! The index against lists of prompts: what it finds, and that blocks hold the rows they are said to.

use autoglm_core::{Keep, MediaDigest, Modality, TokenId};
use proptest::prelude::*;

use super::*;

/// What a block holds: for each of its rows a digest of everything up to that row.
type Content = Vec<Option<Key>>;

fn root(salt: u8) -> Key {
    Key([salt; 32])
}

/// Units from a small alphabet, so that prompts share beginnings: small numbers are tokens, others media
/// of as many rows.
fn units(numbers: &[u8]) -> Vec<Unit> {
    let unit = |n: &u8| match n {
        0..=2 => Unit::Token(TokenId(u32::from(*n))),
        n => Unit::Media {
            digest: MediaDigest([*n; 32]),
            modality: Modality::Image,
            tokens: usize::from(*n),
            extent: [1, u32::from(*n), 2],
            keep: Keep::ALL,
        },
    };
    numbers.iter().map(unit).collect()
}

/// The blocks of a prompt whose rows were computed in order.
fn blocks(root: Key, units: &[Unit]) -> Vec<Content> {
    let rows = units.iter().zip(root.chain(units)).flat_map(|(unit, key)| vec![Some(key); unit.rows()]);
    let rows: Vec<Option<Key>> = rows.collect();
    rows.chunks(BLOCK_TOKENS)
        .map(|rows| rows.iter().copied().chain(vec![None; BLOCK_TOKENS - rows.len()]).collect())
        .collect()
}

/// Whether the blocks that were found are those of the rows that were found.
fn check(root: Key, units: &[Unit], found: &Found<Content>) {
    assert_eq!(found.rows, units[..found.units].iter().map(Unit::rows).sum::<usize>());
    assert_eq!(found.next_position, units[..found.units].iter().map(Unit::advance).sum::<u32>());
    assert_eq!(found.blocks.len(), found.rows.div_ceil(BLOCK_TOKENS));
    let want = blocks(root, units);
    for row in 0..found.rows {
        let (block, at) = (row / BLOCK_TOKENS, row % BLOCK_TOKENS);
        assert_eq!(found.blocks[block][at], want[block][at], "row {row}");
    }
}

/// Units that `a` and `b` begin with, of at most `most` rows.
fn common(a: &[Unit], b: &[Unit], most: usize) -> usize {
    let mut rows = 0;
    a.iter()
        .zip(b)
        .take_while(|(a, b)| {
            rows += a.rows();
            a == b && rows <= most
        })
        .count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn a_lookup_finds_the_longest_known_beginning_and_its_blocks(
        prompts in prop::collection::vec(prop::collection::vec(prop_oneof![4 => 0u8..3, 1 => 3u8..90], 0..40), 1..12),
        most in prop_oneof![1 => 0usize..200, 1 => Just(usize::MAX)],
        kept in 0usize..60,
    ) {
        let mut tree = Tree::new();
        let mut known: Vec<Vec<Unit>> = Vec::new();
        for (i, numbers) in prompts.iter().enumerate() {
            let units = units(numbers);
            let found = tree.find(root(1), &units, most);
            check(root(1), &units, &found);
            prop_assert_eq!(found.units, known.iter().map(|k| common(k, &units, most)).max().unwrap_or(0));
            let (id, all) = tree.insert(root(1), &units, &blocks(root(1), &units));
            prop_assert_eq!(tree.rows(id), units.iter().map(Unit::rows).sum::<usize>());
            let after = tree.find(root(1), &units, usize::MAX);
            check(root(1), &units, &after);
            prop_assert_eq!((after.units, &after.blocks), (units.len(), &all));
            if i % 3 == 2 {
                // What nobody leases goes, and what parts from it before stays.
                tree.forget(id, kept);
                let end = common(&units, &units, kept);
                known.push(units.clone());
                for known in &mut known {
                    if common(known, &units, usize::MAX) > end {
                        known.truncate(end);
                    }
                }
                for other in known.iter().chain([&units]) {
                    let left = tree.find(root(1), other, usize::MAX);
                    check(root(1), other, &left);
                    let want = known.iter().map(|k| common(k, other, usize::MAX)).max();
                    prop_assert_eq!(Some(left.units), want);
                }
            } else {
                known.push(units);
            }
        }
        // Evicting ends, leaves nothing behind, and never gives a wrong block on the way.
        while tree.evict(|_| true) {
            for units in &known {
                let found = tree.find(root(1), units, usize::MAX);
                check(root(1), units, &found);
            }
        }
        prop_assert!(tree.len() <= 1);
    }
}

#[test]
fn another_root_visits_what_an_empty_tree_visits() {
    let mut tree = Tree::new();
    let units = units(&[1, 2, 40, 1]);
    tree.insert(root(1), &units, &blocks(root(1), &units));
    let before = tree.visited();
    assert_eq!(tree.find(root(2), &units, usize::MAX).units, 0);
    assert_eq!(tree.visited(), before);
    let mut empty = Tree::<Content>::new();
    empty.find(root(2), &units, usize::MAX);
    assert_eq!(empty.visited(), 0);
}

#[test]
fn what_is_leased_pinned_or_led_through_stays() {
    let mut tree = Tree::new();
    let (short, long, other) = (units(&[1, 2]), units(&[1, 2, 1, 1]), units(&[2, 2]));
    let [short_id, long_id, other_id] =
        [&short, &long, &other].map(|units| tree.insert(root(1), units, &blocks(root(1), units)).0);
    tree.lease(long_id);
    tree.pin(other_id);
    tree.forget(short_id, 0);
    assert!(!tree.evict(|_| true));
    tree.release(long_id);
    assert!(tree.evict(|_| true), "the longer one goes");
    assert!(tree.evict(|_| true), "then the shorter one");
    assert!(!tree.evict(|_| true));
    assert_eq!(tree.find(root(1), &other, usize::MAX).units, 2);
    tree.unpin(other_id);
    assert!(tree.evict(|_| true));
    assert_eq!(tree.len(), 0);
}

#[test]
fn the_least_recently_used_leaf_that_gives_room_goes_first() {
    let mut tree = Tree::new();
    for numbers in [[1u8, 1], [2, 1], [0, 1]] {
        let units = units(&numbers);
        tree.insert(root(1), &units, &blocks(root(1), &units));
    }
    tree.find(root(1), &units(&[1, 1]), usize::MAX);
    let twos = blocks(root(1), &units(&[2, 1]));
    // The oldest is [2, 1], but its block is in use elsewhere.
    assert!(tree.evict(|block| *block != twos[0]));
    assert_eq!(tree.find(root(1), &units(&[0, 1]), usize::MAX).units, 0);
    assert!(tree.evict(|_| true));
    assert_eq!(tree.find(root(1), &units(&[2, 1]), usize::MAX).units, 0);
    assert_eq!(tree.find(root(1), &units(&[1, 1]), usize::MAX).units, 2);
}
