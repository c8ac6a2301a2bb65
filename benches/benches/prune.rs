//! Sums of activations, narrowing a feed-forward network and leaving heads out, at a sixteenth of the real widths.
//!
//! Throughput is multiply-adds of the lower triangle for sums and of a factorisation for factors, and neurons that go for narrowing, whose cost grows with
//! the third power of the width.

use std::hint::black_box;

use autoglm_prune::{Attention, Criterion as Chosen, FeedForward, Gram, Target, shrink, shrink_heads};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const F: usize = 856;
const C: usize = 256;
const ROWS: usize = 2048;

fn pruning(criterion: &mut Criterion) {
    let mut random = fastrand::Rng::with_seed(1);
    let mut numbers = |n: usize| -> Vec<f32> { (0..n).map(|_| random.f32() - 0.5).collect() };
    let (x, gate, up, down) = (numbers(ROWS * F), numbers(F * C), numbers(F * C), numbers(C * F));
    let mut group = criterion.benchmark_group(format!("prune/{F}"));
    group.sample_size(10).throughput(Throughput::Elements((ROWS * F * (F + 1) / 2) as u64));
    let mut gram = Gram::new(F).expect("room");
    group.bench_function("sums", |b| {
        b.iter(|| {
            gram = Gram::new(F).expect("room");
            gram.add(black_box(&x), None).expect("numbers");
        });
    });
    group.throughput(Throughput::Elements((F * F * F / 3) as u64));
    group.bench_function("inverse_factor", |b| b.iter(|| black_box(&gram).inverse_factor()));
    let row = |of: &[f32], k: usize, i: usize, into: &mut Vec<f32>| {
        into.clear();
        into.extend_from_slice(&of[i * k..][..k]);
    };
    let network = FeedForward {
        width: F,
        outputs: C,
        gate: &|j, into| row(&gate, C, j, into),
        up: &|j, into| row(&up, C, j, into),
        down: &|i, into| row(&down, F, i, into),
        gains: None,
    };
    let to = F * 4 / 5;
    group.throughput(Throughput::Elements((F - to) as u64));
    for chosen in [Chosen::Obs, Chosen::Wanda] {
        let target = Target { to, criterion: chosen, refit: true, seed: 0 };
        group.bench_function(chosen.name(), |b| b.iter(|| shrink(black_box(&network), &gram, target)));
    }
}

/// A quarter of the real model's heads go, which are in two groups; throughput is heads that go.
fn heads(criterion: &mut Criterion) {
    const HEADS: usize = 32;
    const WIDTH: usize = 256;
    let mut random = fastrand::Rng::with_seed(2);
    let mut numbers = |n: usize| -> Vec<f32> { (0..n).map(|_| random.f32() - 0.5).collect() };
    let (x, q, o) = (numbers(ROWS * WIDTH), numbers(WIDTH * C), numbers(C * WIDTH));
    let mut gram = Gram::new(WIDTH).expect("room");
    gram.add(&x, None).expect("numbers");
    let head_dim = WIDTH / HEADS;
    let row = |of: &[f32], k: usize, i: usize, into: &mut Vec<f32>| {
        into.clear();
        into.extend_from_slice(&of[i * k..][..k]);
    };
    let attention = Attention {
        heads: HEADS,
        groups: 2,
        head_dim,
        outputs: C,
        q: &|head, into| row(&q, head_dim * C, head, into),
        o: &|i, into| row(&o, WIDTH, i, into),
        gains: None,
    };
    let target = Target { to: HEADS * 3 / 4, criterion: Chosen::Obs, refit: true, seed: 0 };
    let mut group = criterion.benchmark_group(format!("prune/{HEADS}_heads"));
    group.sample_size(10).throughput(Throughput::Elements((HEADS / 4) as u64));
    group.bench_function("obs", |b| b.iter(|| shrink_heads(black_box(&attention), &gram, target)));
}

criterion_group!(benches, pruning, heads);
criterion_main!(benches);
