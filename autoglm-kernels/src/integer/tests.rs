//! Every instruction set against the scalar twin, bit by bit, and the twin against dense arithmetic.

use super::*;
use crate::layout::pack_output;

struct Problem {
    bits: Bits,
    layout: Layout,
    n: usize,
    k: usize,
    group: Option<usize>,
    codes: Vec<u8>,
    channel: Vec<f32>,
    factors: Vec<f16>,
    bias: Option<Vec<f32>>,
}

struct Input {
    codes: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<i32>,
}

/// A small generator, so that problems are the same everywhere.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    fn within(&mut self, most: i32) -> i8 {
        ((self.next() % (2 * most as u32 + 1)) as i32 - most) as i8
    }

    fn unit(&mut self) -> f32 {
        self.next() as f32 / (1u64 << 31) as f32
    }
}

impl Problem {
    fn new((bits, layout): (Bits, Layout), (n, k): (usize, usize), group: Option<usize>, bias: bool) -> Self {
        let mut noise = Noise(n as u64 * 7 + k as u64);
        let mut codes = vec![0; layout.bytes(bits, n, k).unwrap()];
        for row in 0..n {
            let most = if bits == Bits::Four { 7 } else { 127 };
            let row_codes: Vec<i8> = (0..k).map(|_| noise.within(most)).collect();
            pack_output(layout, bits, &row_codes, row, &mut codes);
        }
        let channel = (0..n).map(|_| noise.unit() * 0.01 + 1e-4).collect();
        let count = group.map_or(0, |size| Groups::len(layout, size, n, k));
        let factors = (0..count).map(|_| f16::from_f32(noise.unit() * 0.5 + 0.5)).collect();
        let bias = bias.then(|| (0..n).map(|_| noise.unit() - 0.5).collect());
        Self { bits, layout, n, k, group, codes, channel, factors, bias }
    }

    fn weights(&self) -> Weights<'_> {
        let groups = self.group.map(|size| Groups { size, factors: &self.factors });
        let kind = (self.bits, self.layout);
        let weights = Weights::new(kind, (self.n, self.k), &self.codes, &self.channel, groups).unwrap();
        weights.with_bias(self.bias.as_deref()).unwrap()
    }

    fn input(&self, m: usize) -> Input {
        let mut noise = Noise(m as u64 + 99);
        let (weights, padded) = (self.weights(), padded_inputs(self.k));
        let mut codes = vec![0i8; m * padded];
        for row in codes.chunks_exact_mut(padded) {
            row[..self.k].iter_mut().for_each(|code| *code = noise.within(127));
        }
        let scales = (0..m).map(|_| noise.unit() + 0.01).collect();
        let sum = |part: &[i8]| part.iter().map(|code| i32::from(*code)).sum();
        let sums = codes.chunks_exact(padded).flat_map(|row| row.chunks(weights.sum_width()).map(sum)).collect();
        Input { codes, scales, sums }
    }

    fn run(&self, isa: Isa, input: &Input) -> Vec<f32> {
        let weights = self.weights();
        let rows = Rows::new(&weights, &input.codes, &input.scales, &input.sums).unwrap();
        let mut out = vec![f32::NAN; rows.len() * self.n];
        gemm(isa, &weights, rows, 0, Block::new(&mut out, self.n));
        out
    }

    fn twin(&self, input: &Input) -> Vec<f32> {
        let weights = self.weights();
        let rows = Rows::new(&weights, &input.codes, &input.scales, &input.sums).unwrap();
        let mut out = vec![f32::NAN; rows.len() * self.n];
        scalar::gemm(&weights, rows, 0, &mut Block::new(&mut out, self.n));
        out
    }
}

/// Formats that the kernels of `isa` read.
fn formats(isa: Isa) -> impl Iterator<Item = ((Bits, Layout), Option<usize>)> {
    let layout = Layout::of(isa);
    let eight = [None, Some(32), Some(64), Some(128)].map(|group| ((Bits::Eight, layout), group));
    let four = [32, 64, 128].map(|group| ((Bits::Four, layout), Some(group)));
    eight.into_iter().chain(four)
}

#[test]
fn every_instruction_set_gives_the_bits_of_the_scalar_twin_at_every_tail() {
    for isa in Isa::all() {
        for (kind, group) in formats(isa) {
            for (n, k) in [(1, 1), (7, 64), (64, 128), (70, 200), (129, 320), (256, 96)] {
                let problem = Problem::new(kind, (n, k), group, n % 2 == 1);
                for m in 1..=13 {
                    let input = problem.input(m);
                    assert_eq!(
                        problem.run(isa, &input),
                        problem.twin(&input),
                        "{} {kind:?} {group:?} {m}x{n}x{k}",
                        isa.name()
                    );
                }
            }
        }
    }
}

#[test]
fn the_largest_codes_do_not_overflow() {
    for isa in Isa::all() {
        let layout = Layout::of(isa);
        let (n, k) = (3, crate::layout::K_MOST);
        let mut codes = vec![0; layout.bytes(Bits::Eight, n, k).unwrap()];
        for (row, sign) in [127i8, -127, 127].into_iter().enumerate() {
            pack_output(layout, Bits::Eight, &vec![sign; k], row, &mut codes);
        }
        let channel = vec![1.0; n];
        let weights = Weights::new((Bits::Eight, layout), (n, k), &codes, &channel, None).unwrap();
        let (a, sums) = (vec![127i8; k], [127 * k as i32]);
        let rows = Rows::new(&weights, &a, &[1.0], &sums).unwrap();
        let mut out = vec![0.0; n];
        gemm(isa, &weights, rows, 0, Block::new(&mut out, n));
        let most = (127i64 * 127 * k as i64) as f32;
        assert_eq!(out, [most, -most, most], "{}", isa.name());
    }
}

#[test]
fn a_code_that_no_quantiser_writes_is_multiplied_all_the_same() {
    for isa in Isa::all() {
        let layout = Layout::of(isa);
        let (n, k) = (layout.panel(), 256);
        // A damaged or foreign file may hold the lowest byte, which x86 reads as −128.
        let codes = vec![0; layout.bytes(Bits::Eight, n, k).unwrap()];
        let channel = vec![1.0; n];
        let weights = Weights::new((Bits::Eight, layout), (n, k), &codes, &channel, None).unwrap();
        for m in 1..7 {
            let (a, scales, sums) = (vec![-127i8; m * k], vec![1.0; m], vec![-127 * k as i32; m]);
            let rows = Rows::new(&weights, &a, &scales, &sums).unwrap();
            let mut out = vec![0.0; m * n];
            gemm(isa, &weights, rows, 0, Block::new(&mut out, n));
            let expected = weights.value(0, 0) * -127.0 * k as f32;
            assert!(out.iter().all(|out| *out == expected), "{}: {m} rows", isa.name());
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_among_many() {
    for isa in Isa::all() {
        for (kind, group) in formats(isa) {
            let problem = Problem::new(kind, (100, 256), group, true);
            let all = problem.input(40);
            let together = problem.run(isa, &all);
            let per_row = all.sums.len() / 40;
            for row in [0, 5, 6, 39] {
                let alone = Input {
                    codes: all.codes[row * 256..][..256].to_vec(),
                    scales: vec![all.scales[row]],
                    sums: all.sums[row * per_row..][..per_row].to_vec(),
                };
                assert_eq!(problem.run(isa, &alone), together[row * 100..][..100], "{} {kind:?} {row}", isa.name());
            }
        }
    }
}

#[test]
fn strips_of_panels_are_the_whole() {
    for isa in Isa::all() {
        for (kind, group) in formats(isa) {
            let problem = Problem::new(kind, (200, 128), group, true);
            let (weights, input) = (problem.weights(), problem.input(9));
            let rows = Rows::new(&weights, &input.codes, &input.scales, &input.sums).unwrap();
            let mut out = vec![f32::NAN; 9 * 200];
            let strips = Block::new(&mut out, 200).strips(2 * weights.panel());
            for (i, strip) in strips.enumerate() {
                gemm(isa, &weights, rows, 2 * i, strip);
            }
            assert_eq!(out, problem.twin(&input), "{} {kind:?}", isa.name());
        }
    }
}

#[test]
fn misaligned_codes_give_the_same_bits() {
    for isa in Isa::all() {
        for (kind, group) in formats(isa) {
            let problem = Problem::new(kind, (70, 128), group, false);
            let input = problem.input(3);
            for shift in [1, 3, 17] {
                let mut shifted = vec![0u8; shift];
                shifted.extend(&problem.codes);
                let groups = group.map(|size| Groups { size, factors: &problem.factors });
                let weights = Weights::new(kind, (70, 128), &shifted[shift..], &problem.channel, groups).unwrap();
                let rows = Rows::new(&weights, &input.codes, &input.scales, &input.sums).unwrap();
                let mut out = vec![f32::NAN; 3 * 70];
                gemm(isa, &weights, rows, 0, Block::new(&mut out, 70));
                assert_eq!(out, problem.twin(&input), "{} {kind:?}", isa.name());
            }
        }
    }
}

#[test]
fn the_twin_is_the_product_of_what_the_codes_stand_for() {
    for layout in [Layout::X86, Layout::Dotprod, Layout::I8mm] {
        for (bits, group) in [(Bits::Eight, None), (Bits::Eight, Some(64)), (Bits::Four, Some(32))] {
            let problem = Problem::new((bits, layout), (19, 100), group, true);
            let (weights, input) = (problem.weights(), problem.input(4));
            let got = problem.twin(&input);
            for i in 0..4 {
                for j in 0..19 {
                    let product = |k: usize| f64::from(input.codes[i * 128 + k]) * f64::from(weights.value(j, k));
                    let sum: f64 = (0..100).map(product).sum::<f64>() * f64::from(input.scales[i]);
                    let want = sum + f64::from(problem.bias.as_ref().unwrap()[j]);
                    let most: f64 = (0..100).map(|k| product(k).abs()).sum::<f64>() * f64::from(input.scales[i]);
                    // A handful of roundings in f32, each relative to a partial sum.
                    assert!((f64::from(got[i * 19 + j]) - want).abs() < 1e-6 * (most + 1.0), "{layout:?} {bits:?}");
                }
            }
        }
    }
}

#[test]
fn operands_that_do_not_fit_are_errors() {
    let codes = vec![0u8; 64 * 64];
    let kind = (Bits::Eight, Layout::X86);
    assert!(matches!(Weights::new(kind, (64, 64), &codes[1..], &[1.0; 64], None), Err(Error::Length { .. })));
    assert!(matches!(Weights::new(kind, (64, 64), &codes, &[1.0; 63], None), Err(Error::Length { .. })));
    let groups = Some(Groups { size: 48, factors: &[] });
    assert!(matches!(Weights::new(kind, (64, 64), &codes, &[1.0; 64], groups), Err(Error::Size { .. })));
    let four = (Bits::Four, Layout::X86);
    assert!(matches!(Weights::new(four, (64, 64), &codes[..2048], &[1.0; 64], None), Err(Error::Size { .. })));
    let weights = Weights::new(kind, (64, 64), &codes, &[1.0; 64], None).unwrap();
    assert!(matches!(weights.with_bias(Some(&[0.0])), Err(Error::Length { .. })));
    assert!(matches!(Rows::new(&weights, &[0; 63], &[1.0], &[0]), Err(Error::Length { .. })));
    assert!(matches!(Rows::new(&weights, &[0; 64], &[1.0], &[]), Err(Error::Length { .. })));
}
