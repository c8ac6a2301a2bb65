//! Dense projections and attention at the real model's shapes.
//!
//! Throughput is bytes of weights read (to be held against memory bandwidth) for one row, and
//! multiply-adds for many.

use std::hint::black_box;

use autoglm_core::attention::{Attend, Mask, attend};
use autoglm_core::rope::{Pairing, Rope};
use autoglm_core::{Before, FloatType, KeyValues, KvFormat, Member, Positions, Run, Source, TensorSpec, Workers};
use benches::{random_rows, random_source};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn dense(criterion: &mut Criterion) {
    let workers = Workers::new(2).expect("two threads");
    let run = Run::new(&workers);
    let (out, inp) = (4096, 4096);
    let specs = [TensorSpec::new("w.weight", [out, inp])];
    for kind in [FloatType::Bf16, FloatType::F16, FloatType::F32] {
        let source = random_source(&specs, kind);
        let map = source.projection(&[Member::new("w", out, inp)], &Before::Nothing).expect("the map is there");
        let mut group =
            criterion.benchmark_group(format!("dense_{}/{out}x{inp}/{}/2t", kind.name(), autoglm_core::float::isa()));
        for n in [1, 128] {
            let x = random_rows(&[n, inp]);
            assert_eq!(map.forward(&run, &x).expect("it multiplies").dims(), [n, out]);
            group.throughput(match n {
                1 => Throughput::Bytes((out * inp * kind.size()) as u64),
                _ => Throughput::Elements((n * out * inp) as u64),
            });
            group.bench_with_input(BenchmarkId::from_parameter(n), &x, |b, x| {
                b.iter(|| map.forward(&run, black_box(x)))
            });
        }
    }
}

fn attention(criterion: &mut Criterion) {
    let workers = Workers::new(2).expect("two threads");
    let run = Run::new(&workers);
    for (name, format) in [("f32", KvFormat::F32), ("bf16", KvFormat::Bf16), ("int8", KvFormat::Int8)] {
        let mut group = criterion.benchmark_group(format!("attend/32x128/kv2/{name}/{}/2t", run.isa().name()));
        for (n, past) in [(1, 4095), (128, 3968)] {
            let q = random_rows(&[n, 32, 128]);
            let (k, v) = (random_rows(&[past + n, 2, 128]), random_rows(&[past + n, 2, 128]));
            let mut stored = KeyValues::new(2, 128, format);
            stored.reserve(past + n).expect("a few megabytes");
            stored.push(&run, &k, &v).expect("there is room");
            let how = Attend { mask: Mask::Causal { past }, scale: 0.088 };
            assert_eq!(attend(&run, &q, &stored.stretches(), how).expect("it attends").dims(), [n, 32, 128]);
            // Scores and answers: two products of d for every query head and key that is seen.
            let seen = n * past + n * (n + 1) / 2;
            group.throughput(Throughput::Elements((2 * 128 * 32 * seen) as u64));
            group.bench_function(BenchmarkId::from_parameter(format!("{n}+{past}")), |b| {
                b.iter(|| attend(&run, black_box(&q), &stored.stretches(), how))
            });
        }
    }
}

fn rope(criterion: &mut Criterion) {
    let workers = Workers::new(2).expect("two threads");
    let run = Run::new(&workers);
    let rope = Rope::sectioned(10_000.0, 64, &[8, 12, 12], Pairing::Interleaved).expect("the real sections");
    let angles = rope.angles(&Positions::text(0, 512).expect("few positions"));
    let q = random_rows(&[512, 32, 128]);
    criterion.bench_function("rope/512x32x128/2t", |b| b.iter(|| rope.apply(&run, black_box(&q), &angles)));
}

criterion_group!(benches, dense, attention, rope);
criterion_main!(benches);
