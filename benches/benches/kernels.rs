//! Kernels alone, on one thread, beside what the processor can do at most.
//!
//! Throughput is operations for many rows and bytes of weights for one; the peaks are in the same
//! units, so that a line divided by `peak/…` is the fraction reached.

use std::hint::black_box;

use autoglm_kernels::activation::{Before, Recipe};
use autoglm_kernels::dense::{self, Float};
use autoglm_kernels::integer::{self, Groups, Weights};
use autoglm_kernels::layout::{Bits, Layout};
use autoglm_kernels::{Block, Isa, hadamard, peak};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use half::{bf16, f16};

/// A stretch of the widest map of the real decoder: 1 of 16 strips of gate and up.
const N: usize = 1728;
const K: usize = 4096;

fn limits(criterion: &mut Criterion) {
    let isa = Isa::best();
    let mut group = criterion.benchmark_group(format!("peak/{}", isa.name()));
    if let Some(operations) = peak::dot_peak(isa, 100_000) {
        group.throughput(Throughput::Elements(operations));
        group.bench_function("dot", |b| b.iter(|| peak::dot_peak(isa, black_box(100_000))));
    }
    let buffer = vec![1u8; 256 << 20];
    group.sample_size(10).throughput(Throughput::Bytes(buffer.len() as u64));
    group.bench_function("read", |b| b.iter(|| peak::read(isa, black_box(&buffer))));
}

fn products(criterion: &mut Criterion) {
    let isa = Isa::best();
    let layout = Layout::of(isa);
    for (name, bits, size) in
        [("w8", Bits::Eight, None), ("w8g128", Bits::Eight, Some(128)), ("w4g64", Bits::Four, Some(64))]
    {
        let codes = vec![0x5au8; layout.bytes(bits, N, K).expect("a size there is")];
        let (channel, bytes) = (vec![0.01f32; N], codes.len());
        let factors = vec![f16::ONE; size.map_or(0, |size| Groups::len(layout, size, N, K))];
        let groups = size.map(|size| Groups { size, factors: &factors });
        let weights = Weights::new((bits, layout), (N, K), &codes, &channel, groups).expect("they fit");
        let mut group = criterion.benchmark_group(format!("{name}/{N}x{K}/{}", isa.name()));
        for m in [1, 128] {
            let (a, scales) = (vec![3i8; m * K], vec![0.1f32; m]);
            let sums = vec![3 * weights.sum_width() as i32; m * K / weights.sum_width()];
            let rows = integer::Rows::new(&weights, &a, &scales, &sums).expect("they fit");
            let mut out = vec![0f32; m * N];
            group.throughput(match m {
                1 => Throughput::Bytes(bytes as u64),
                _ => Throughput::Elements((2 * m * N * K) as u64),
            });
            group.bench_function(BenchmarkId::from_parameter(m), |b| {
                b.iter(|| integer::gemm(isa, &weights, black_box(rows), 0, Block::new(&mut out, N)));
            });
        }
    }
}

fn floats(criterion: &mut Criterion) {
    let isa = Isa::best();
    let bytes = vec![0x3fu8; N * K * 4];
    for (name, kind) in [("bf16", Float::Bf16), ("f16", Float::F16), ("f32", Float::F32)] {
        let bytes = &bytes[..N * K * kind.size()];
        let weights = dense::Rows::new(bytes, kind, N, K).expect("they fit");
        let mut group = criterion.benchmark_group(format!("{name}/{N}x{K}/{}", isa.name()));
        for m in [1, 128] {
            let (x, mut out) = (vec![0.5f32; m * K], vec![0f32; m * N]);
            group.throughput(match m {
                1 => Throughput::Bytes(bytes.len() as u64),
                _ => Throughput::Elements((2 * m * N * K) as u64),
            });
            group.bench_function(BenchmarkId::from_parameter(m), |b| {
                b.iter(|| dense::gemm(isa, black_box(&x), weights, None, Block::new(&mut out, N)));
            });
            if kind == Float::Bf16 {
                let x = vec![bf16::ONE; m * K];
                group.bench_function(BenchmarkId::new("pairs", m), |b| {
                    b.iter(|| dense::pairs::gemm(isa, black_box(&x), weights, None, Block::new(&mut out, N)));
                });
            }
        }
    }
}

fn rows(criterion: &mut Criterion) {
    let isa = Isa::best();
    let mut group = criterion.benchmark_group(format!("rows/{}", isa.name()));
    let weight = vec![1f32; K];
    let x: Vec<f32> = (0..2 * K).map(|i| (i % 97) as f32 * 0.01 - 0.4).collect();
    let befores = [
        ("quantise", Before::Nothing),
        ("rms_norm_quantise", Before::RmsNorm { weight: &weight, eps: 1e-5 }),
        ("silu_mul_quantise", Before::SiluMul),
    ];
    for (name, before) in befores {
        for block in [1, hadamard::BLOCK] {
            let recipe = Recipe::new(before, K, block, K).expect("a recipe");
            let (mut scratch, mut codes, mut sums) =
                (vec![0f32; K], vec![0i8; recipe.codes()], vec![0i32; recipe.sums()]);
            let x = &x[..recipe.width_in()];
            group.throughput(Throughput::Elements(K as u64));
            group.bench_function(BenchmarkId::new(name, block), |b| {
                b.iter(|| recipe.quantise(isa, black_box(x), &mut scratch, &mut codes, &mut sums));
            });
        }
    }
}

criterion_group!(benches, limits, products, floats, rows);
criterion_main!(benches);
