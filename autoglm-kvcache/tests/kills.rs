//! A process that is killed while it saves leaves the old snapshot or the new one, and nothing else that
//! the next one would not sweep away.
//!
//! `KILLS` says how often, `cargo xtask campaign kills` more often than a test has time for.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use autoglm_core::{KvCache, KvFormat, Run, TokenId, Unit, Workers, cache::Step, rows::from_rows};
use autoglm_kvcache::{Identity, Pool, Shape};

/// Where the child saves; set for the child alone.
const FOLDER: &str = "AUTOGLM_KILLS_FOLDER";

/// What the child says before the number of a version that it has saved.
const SAVED: &str = "saved version ";

const ROWS: usize = 600;

fn identity() -> Identity {
    Identity { salt: [1; 32], weights: [2; 32], precision: "f32".into(), config: "none".into() }
}

fn pool() -> Pool {
    Pool::new(Shape::new(4, 2, 64, KvFormat::F32).expect("a shape"), 1 << 26).expect("a budget")
}

fn units(version: u32) -> Vec<Unit> {
    (0..ROWS as u32).map(|i| Unit::Token(TokenId(i + version * 10_000))).collect()
}

/// The version that a snapshot is of, after everything in it was checked.
fn version(path: &Path) -> u32 {
    let pool = pool();
    let loaded = pool.load(&identity(), identity().root(pool.shape()), 4096, path, None);
    let (_, loaded) = loaded.unwrap_or_else(|error| panic!("{error:?}"));
    let Some(Unit::Token(first)) = loaded.first() else { panic!("no token") };
    assert_eq!(loaded, units(first.0 / 10_000));
    first.0 / 10_000
}

/// What the child does: saves one version after the other until it is killed.
fn save_forever(path: &Path) {
    let (workers, pool) = (Workers::new(1).expect("a thread"), pool());
    let (mut cache, _) = pool.open(identity().root(pool.shape()), &[], 0, 4096);
    for layer in 0..4 {
        let tensor = |heads: usize| from_rows(vec![0.5; ROWS * heads * 64], &[ROWS, heads, 64]).expect("a tensor");
        let step = Step { q: &tensor(2), k: &tensor(2), v: &tensor(2), scale: 0.1 };
        cache.attend(&Run::new(&workers), layer, step).expect("room");
    }
    for next in if path.exists() { version(path) + 1 } else { 1 }.. {
        cache.save(&units(next), &identity(), path, None).expect("a folder to write to");
        let mut out = std::io::stdout();
        writeln!(out, "{SAVED}{next}").and_then(|()| out.flush()).expect("a parent that listens");
    }
}

#[test]
fn a_killed_process_leaves_a_whole_snapshot() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return save_forever(&Path::new(&folder).join("system"));
    }
    let kills: u64 = std::env::var("KILLS").map_or(20, |kills| kills.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("system");
    let mut rng = fastrand::Rng::with_seed(3);
    let (mut saved, mut killed_in_the_middle) = (0, 0);
    for kill in 0..kills {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "a_killed_process_leaves_a_whole_snapshot", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a second process");
        // The first one is given time to save anything at all.
        let before = std::fs::metadata(&path).and_then(|m| m.modified()).ok();
        while std::fs::metadata(&path).and_then(|m| m.modified()).ok() == before {
            assert!(child.try_wait().expect("the child").is_none(), "the child ended by itself");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(rng.u64(0..60_000)));
        child.kill().expect("the child");
        let said = String::from_utf8(child.wait_with_output().expect("the child").stdout).expect("text");
        // A line that the kill cut short counts for nothing; the first one stands behind the test's name.
        let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let numbers = whole.lines().filter_map(|line| line.split_once(SAVED)?.1.parse().ok());
        saved = numbers.fold(saved, |_, number| number);
        // The one that was saved last, or the next, which had its name before it could be said.
        let found = version(&path);
        assert!((saved..=saved + 1).contains(&found), "kill {kill}: {found} after {saved}");
        saved = found;
        let left = std::fs::read_dir(folder.path()).expect("the folder").count();
        assert!(left <= 2, "kill {kill} left {left} files");
        killed_in_the_middle += u64::from(left == 2);
    }
    println!("{kills} kills, {killed_in_the_middle} of them in the middle of a file, {saved} versions saved");
    assert!(killed_in_the_middle > 0, "no kill hit a write");
}
