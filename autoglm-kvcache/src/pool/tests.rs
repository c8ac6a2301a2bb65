//! The pool under threads, in many orders, and within its budget.

use autoglm_core::{KvCache, KvFormat, TokenId};

use super::*;
use crate::Identity;
use crate::key::Key;
use crate::shape::BLOCK_TOKENS;

fn shape() -> Shape {
    Shape::new(1, 1, 4, KvFormat::F32).expect("a shape")
}

fn root(salt: u8) -> Root {
    let identity =
        Identity { salt: [salt; 32], weights: [0; 32], precision: "f32".to_owned(), config: "none".to_owned() };
    identity.root(&shape())
}

/// Units and, for each row, what a test writes in the place of its key.
fn prompt(root: Root, ids: &[u32]) -> (Vec<Unit>, Vec<Key>) {
    let units: Vec<Unit> = ids.iter().map(|id| Unit::Token(TokenId(*id))).collect();
    let marks = root.0.chain(&units);
    (units, marks)
}

/// Whether the cache holds the rows of a prompt.
fn check(cache: &PooledCache, marks: &[Key]) {
    for (row, mark) in marks.iter().enumerate() {
        assert_eq!(cache.blocks[row / BLOCK_TOKENS].mark(row % BLOCK_TOKENS), mark.0, "row {row}");
    }
}

/// Computes the rows that the cache does not have yet.
fn extend(cache: &mut PooledCache, marks: &[Key]) -> autoglm_core::Result<()> {
    let from = cache.len(0);
    cache.extend_by(marks.len() - from)?;
    for (row, mark) in marks.iter().enumerate().skip(from) {
        let block = Arc::get_mut(&mut cache.blocks[row / BLOCK_TOKENS]).expect("its own block");
        block.set_mark(row % BLOCK_TOKENS, mark.0);
    }
    Ok(())
}

/// One session: some prompts that grow, are cut, forked and forgotten.
fn session(pool: &Pool, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let root = root(rng.u8(1..3));
    let mut ids: Vec<u32> = Vec::new();
    for _ in 0..3 {
        ids.truncate(rng.usize(0..=ids.len()));
        let more = rng.usize(1..90);
        ids.extend((0..more).map(|_| rng.u32(0..2) * u32::from(rng.u8(0..8) == 0)));
        let (units, marks) = prompt(root, &ids);
        let (mut cache, rows) = pool.open(root, &units, marks.len() - 1, 1000);
        check(&cache, &marks[..rows]);
        match extend(&mut cache, &marks) {
            Ok(()) => check(&cache, &marks),
            Err(autoglm_core::Error::CacheFull { .. }) => continue,
            Err(other) => panic!("{other}"),
        }
        cache.commit(&units).expect("as many rows as units");
        check(&cache, &marks);
        let mut twin = cache.fork();
        let kept = rng.usize(0..marks.len());
        if rng.bool() {
            cache.forget(kept).expect("fewer rows");
            check(&cache, &marks[..kept]);
        }
        // The other one goes on as if nothing had happened.
        ids.extend([7; 3]);
        let (units, longer) = prompt(root, &ids);
        if extend(&mut twin, &longer).is_ok() {
            check(&twin, &longer);
            twin.commit(&units).expect("as many rows as units");
        }
        check(&twin, &marks);
        assert!(pool.stats().used <= pool.stats().budget && pool.stats().peak <= pool.stats().budget);
    }
}

/// Sessions on threads of their own, and afterwards an empty pool.
fn sessions(count: u64, blocks: u64) {
    let seed = shuttle::rand::Rng::r#gen::<u64>(&mut shuttle::rand::thread_rng());
    let pool = Pool::new(shape(), blocks * shape().block_bytes(1)).expect("a budget");
    let threads = (0..count).map(|i| {
        let pool = pool.clone();
        shuttle::thread::spawn(move || session(&pool, seed.wrapping_add(i)))
    });
    threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().expect("no panic"));
    while lock(&pool.inner.index).tree.evict(|_| true) {}
    let stats = pool.stats();
    assert_eq!((stats.used, stats.nodes), (0, 0), "nothing is leaked");
}

#[test]
fn eight_sessions_in_any_order_stay_within_the_budget_and_keep_their_rows() {
    shuttle::check_random_with_seed(|| sessions(8, 30), 7, 60);
}

#[test]
fn two_sessions_that_fight_for_a_few_blocks_keep_their_rows() {
    let schedules = shuttle::scheduler::PctScheduler::new_from_seed(7, 3, 150);
    shuttle::Runner::new(schedules, shuttle::Config::default()).run(|| sessions(2, 7));
}

#[test]
fn pins_outlast_pressure_and_names_move() {
    shuttle::check_random(
        || {
            let pool = Pool::new(shape(), 4 * shape().block_bytes(1)).expect("a budget");
            let (units, marks) = prompt(root(1), &[5; 40]);
            let (mut cache, _) = pool.open(root(1), &units, 40, 1000);
            assert!(matches!(cache.pin("greeting"), Err(Error::Unknown { .. })));
            extend(&mut cache, &marks).expect("room");
            cache.commit(&units).expect("rows");
            assert_eq!(cache.pin("greeting").expect("committed"), 40);
            drop(cache);
            let pinned = pool.pinned(1000);
            assert_eq!(pinned.len(), 1);
            assert_eq!(
                (pinned[0].name.as_str(), pinned[0].cache.rows(), pinned[0].cache.root()),
                ("greeting", 40, root(1))
            );
            assert_eq!(pinned[0].units, units);
            assert_eq!(pinned[0].cache.held(&units).len(), units.len());
            drop(pinned);
            let other = |id: u32, len: usize| {
                let (units, marks) = prompt(root(1), &vec![id; len]);
                let (mut cache, rows) = pool.open(root(1), &units, len, 1000);
                extend(&mut cache, &marks[..len]).map(|()| {
                    cache.commit(&units).expect("rows");
                    rows
                })
            };
            assert_eq!(other(6, 64).expect("room beside the pin"), 0);
            assert!(matches!(other(7, 96), Err(autoglm_core::Error::CacheFull { .. })));
            assert_eq!(other(5, 41).expect("room"), 40, "the pinned prefix is still there");
            assert!(pool.unpin(root(1), "greeting") && !pool.unpin(root(1), "greeting"));
            assert!(other(8, 128).is_ok());
        },
        1,
    );
}

/// One test after the other, in the order in which they are written: what a lease keeps.
fn alone(test: impl Fn() + Send + Sync + 'static) {
    shuttle::check_random_with_seed(test, 1, 1);
}

#[test]
fn a_sequence_that_was_cut_holds_no_more_than_it_has() {
    alone(|| {
        let pool = Pool::new(shape(), 6 * shape().block_bytes(1)).expect("a budget");
        let (units, marks) = prompt(root(1), &[5; 150]);
        let (mut cache, _) = pool.open(root(1), &units, 0, 1000);
        extend(&mut cache, &marks).expect("room");
        cache.commit(&units).expect("rows");
        // It goes another way behind its first rows: what it had there makes room for it.
        cache.truncate(10).expect("fewer rows");
        let (_, other) = prompt(root(1), &[&[5; 10][..], &[6; 150]].concat());
        extend(&mut cache, &other).expect("its own dead rows can go");
        check(&cache, &other);
    });
}

#[test]
fn what_is_kept_of_a_sequence_stays_known_and_can_be_pinned() {
    alone(|| {
        let pool = Pool::new(shape(), 30 * shape().block_bytes(1)).expect("a budget");
        let (units, marks) = prompt(root(1), &[5; 150]);
        let (mut cache, _) = pool.open(root(1), &units, 0, 1000);
        extend(&mut cache, &marks).expect("room");
        cache.commit(&units).expect("rows");
        let twin = cache.fork();
        cache.forget(70).expect("fewer rows");
        assert_eq!(pool.open(root(1), &units, 150, 1000).1, 150, "the twin still has them");
        assert_eq!(cache.pin("begin").expect("it is known"), 70);
        drop(twin);
        // Leaves of a fork that is gone go with what they stand on.
        let (longer, more) = prompt(root(1), &[5; 170]);
        let mut fork = cache.fork();
        extend(&mut fork, &more).expect("room");
        fork.commit(&longer).expect("rows");
        let mut two = fork.fork();
        drop(fork);
        two.forget(70).expect("fewer rows");
        assert_eq!(pool.open(root(1), &longer, 170, 1000).1, 70);
        assert_eq!(pool.stats().used, 3 * shape().block_bytes(1));
    });
}

#[test]
fn a_step_without_room_holds_no_blocks() {
    alone(|| {
        let pool = Pool::new(shape(), 6 * shape().block_bytes(1)).expect("a budget");
        let (_, marks) = prompt(root(1), &[5; 300]);
        let (mut cache, _) = pool.open(root(1), &[], 0, 1000);
        assert!(matches!(extend(&mut cache, &marks), Err(autoglm_core::Error::CacheFull { .. })));
        assert_eq!((cache.rows(), pool.stats().used), (0, 0));
        let (mut other, _) = pool.open(root(2), &[], 0, 1000);
        extend(&mut other, &marks[..190]).expect("all of the room");
    });
}

#[test]
fn names_of_pins_are_a_tenants_own() {
    alone(|| {
        let pool = Pool::new(shape(), 30 * shape().block_bytes(1)).expect("a budget");
        for salt in [1, 2] {
            let (units, marks) = prompt(root(salt), &[5; 40]);
            let (mut cache, _) = pool.open(root(salt), &units, 0, 1000);
            extend(&mut cache, &marks).expect("room");
            cache.commit(&units).expect("rows");
            cache.pin("same name").expect("it is known");
        }
        assert!(pool.unpin(root(2), "same name"));
        while lock(&pool.inner.index).tree.evict(|_| true) {}
        assert_eq!(pool.open(root(1), &prompt(root(1), &[5; 40]).0, 40, 1000).1, 40);
    });
}
