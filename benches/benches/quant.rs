//! Integer projections at the real model's shapes, and quantising itself.
//!
//! Throughput is bytes of packed weights read (to be held against memory bandwidth) for one row,
//! multiply-adds for many, and weights per second for quantising.

use std::hint::black_box;
use std::sync::Arc;

use autoglm_core::{Before, FloatType, Member, Run, Source, TensorSpec, Workers};
use autoglm_kernels::Isa;
use autoglm_quant::{Feedback, Group, Packing, Parts, Plain, QuantSource, Scheme};
use benches::{random_checkpoint, random_rows};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const NAME: &str = "model.layers.0.mlp.gate_up_proj";

fn projections(criterion: &mut Criterion) {
    let workers = Workers::new(2).expect("two threads");
    let run = Run::new(&workers);
    for (out, inp) in [(4096, 4096), (27_392, 4096)] {
        let checkpoint = random_checkpoint(&[TensorSpec::new(format!("{NAME}.weight"), [out, inp])], FloatType::Bf16);
        for (name, scheme) in [("int8", Scheme::int8()), ("int4", Scheme::int4())] {
            let isa = Isa::best();
            let source = || QuantSource::new(Arc::clone(&checkpoint), scheme, isa, run);
            let pack = |source: &QuantSource<'_>| source.projection(&[Member::new(NAME, out, inp)], &Before::Nothing);
            let packed = source();
            let map = pack(&packed).expect("it packs");
            let mut group = criterion.benchmark_group(format!("{name}/{out}x{inp}/{}/2t", isa.name()));
            for n in [1, 128] {
                let x = random_rows(&[n, inp]);
                assert_eq!(map.forward(&run, &x).expect("it multiplies").dims(), [n, out]);
                group.throughput(match n {
                    1 => Throughput::Bytes(packed.weights_bytes()),
                    _ => Throughput::Elements((n * out * inp) as u64),
                });
                group.bench_with_input(BenchmarkId::from_parameter(n), &x, |b, x| {
                    b.iter(|| map.forward(&run, black_box(x)))
                });
            }
            if out == 4096 {
                group.sample_size(10).throughput(Throughput::Elements((out * inp) as u64));
                group.bench_function("quantise", |b| b.iter(|| pack(&source())));
            }
        }
    }
}

/// Codes for programs with other kernels, the nearest ones and those that make up for one another; throughput is weights.
fn calibrated(criterion: &mut Criterion) {
    const OUT: usize = 256;
    const INP: usize = 4096;
    let workers = Workers::new(2).expect("two threads");
    let run = Run::new(&workers);
    let name = format!("{NAME}.weight");
    let checkpoint = random_checkpoint(&[TensorSpec::new(name.clone(), [OUT, INP])], FloatType::Bf16);
    let matrix = checkpoint.matrix(&name, OUT, INP).expect("it is there");
    let parts = Parts::new(vec![(name, matrix)], INP).expect("one width");
    let mut random = fastrand::Rng::with_seed(3);
    let mut upper = vec![0f32; INP * INP];
    for (i, row) in upper.chunks_exact_mut(INP).enumerate() {
        row[i] = 1.0;
        row[i + 1..].iter_mut().for_each(|u| *u = (random.f32() - 0.5) * 0.01);
    }
    let feedback = Feedback::new(upper, INP).expect("a positive diagonal");
    let mut group = criterion.benchmark_group(format!("calibrated/{OUT}x{INP}/2t"));
    group.sample_size(10).throughput(Throughput::Elements((OUT * INP) as u64));
    let four = Packing::Four { group: Group::G64 };
    for (name, feedback) in [("nearest", None), ("feedback", Some(&feedback))] {
        group.bench_function(name, |b| {
            b.iter(|| Plain::quantise(&run, four, FloatType::F16, black_box(&parts), feedback));
        });
    }
}

criterion_group!(benches, projections, calibrated);
criterion_main!(benches);
