//! The pool: how long it takes to find a prompt, to make one known, to store a step in blocks, and to
//! fetch a system prompt from disk.

use std::hint::black_box;

use autoglm_core::cache::Step;
use autoglm_core::{KvCache, KvFormat, Run, TokenId, Unit, Workers};
use autoglm_kvcache::{Identity, Pool, PooledCache, Root, Shape};
use benches::random_rows;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// The agent's system prompt.
const ROWS: usize = 1_800;

/// Four layers of the real decoder: a tenth of it.
const LAYERS: usize = 4;

const LIMIT: usize = 65_536;

fn identity() -> Identity {
    Identity { salt: [0; 32], weights: [0; 32], precision: "int8".to_owned(), config: String::new() }
}

fn pool(format: KvFormat) -> (Pool, Root) {
    let shape = Shape::new(LAYERS, 2, 128, format).expect("a shape");
    let pool = Pool::new(shape, 1 << 30).expect("a budget");
    (pool, identity().root(&shape))
}

fn units(last: u32) -> Vec<Unit> {
    (1..ROWS as u32).chain([last]).map(|id| Unit::Token(TokenId(id))).collect()
}

/// Stores `rows` rows in every layer.
fn fill(cache: &mut PooledCache, run: &Run<'_>, rows: usize) {
    let (q, kv) = (random_rows(&[rows, 2, 128]), random_rows(&[rows, 2, 128]));
    for layer in 0..LAYERS {
        cache.attend(run, layer, Step { q: &q, k: &kv, v: &kv, scale: 0.1 }).expect("room");
    }
}

fn index(criterion: &mut Criterion) {
    let workers = Workers::new(2).expect("two threads");
    let (pool, root) = pool(KvFormat::Bf16);
    let mut group = criterion.benchmark_group("index/1800 tokens");
    group.throughput(Throughput::Elements(ROWS as u64));
    let known = units(0);
    let (mut cache, _) = pool.open(root, &known, 0, LIMIT);
    fill(&mut cache, &Run::new(&workers), ROWS);
    cache.commit(&known).expect("as many rows");
    group.bench_function("open", |b| b.iter(|| pool.open(root, black_box(&known), ROWS - 1, LIMIT).1));
    group.bench_function("commit", |b| b.iter(|| cache.commit(black_box(&known))));
    let other = Identity { salt: [1; 32], ..identity() }.root(pool.shape());
    group.bench_function("miss", |b| b.iter(|| pool.open(other, black_box(&known), ROWS - 1, LIMIT).1));
}

fn blocks(criterion: &mut Criterion) {
    let workers = Workers::new(2).expect("two threads");
    let run = Run::new(&workers);
    for (name, format) in [("bf16", KvFormat::Bf16), ("int8", KvFormat::Int8)] {
        let (pool, root) = pool(format);
        let mut group = criterion.benchmark_group(format!("blocks/{name}"));
        for rows in [1, 256] {
            let (mut cache, _) = pool.open(root, &[], 0, LIMIT);
            fill(&mut cache, &run, ROWS);
            group.throughput(Throughput::Elements(rows as u64));
            group.bench_function(BenchmarkId::new("4 layers behind 1800", rows), |b| {
                b.iter(|| {
                    fill(&mut cache, &run, rows);
                    cache.truncate(ROWS).expect("fewer rows");
                });
            });
        }
    }
}

fn snapshots(criterion: &mut Criterion) {
    let workers = Workers::new(2).expect("two threads");
    let (pool, root) = pool(KvFormat::Bf16);
    let (mut cache, _) = pool.open(root, &[], 0, LIMIT);
    fill(&mut cache, &Run::new(&workers), ROWS);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("system.kv");
    let mut group = criterion.benchmark_group("snapshot/1800 tokens of 4 layers");
    group.sample_size(10).throughput(Throughput::Bytes(pool.shape().bytes(ROWS)));
    group.bench_function("save", |b| b.iter(|| cache.save(&units(0), &identity(), &path, None)));
    group
        .bench_function("load", |b| b.iter(|| pool.load(&identity(), root, LIMIT, &path, None).expect("a snapshot").1));
}

criterion_group!(benches, index, blocks, snapshots);
criterion_main!(benches);
