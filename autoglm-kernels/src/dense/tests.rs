//! Products against the order that is written down, bit for bit, and against f64.

use half::{bf16, f16};

use super::*;

const KINDS: [Float; 3] = [Float::F32, Float::F16, Float::Bf16];

fn sample(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0).collect()
}

/// The stored bytes, `shift` bytes behind the start of an allocation, and the numbers they hold.
fn store(kind: Float, values: &[f32], shift: usize) -> (Vec<u8>, Vec<f32>) {
    let mut bytes = vec![0u8; shift];
    let mut stored = Vec::new();
    for v in values {
        match kind {
            Float::F32 => {
                bytes.extend(v.to_le_bytes());
                stored.push(*v);
            }
            Float::F16 => {
                bytes.extend(f16::from_f32(*v).to_le_bytes());
                stored.push(f16::from_f32(*v).to_f32());
            }
            Float::Bf16 => {
                bytes.extend(bf16::from_f32(*v).to_le_bytes());
                stored.push(bf16::from_f32(*v).to_f32());
            }
        }
    }
    (bytes, stored)
}

/// One result in the order of the module's description.
fn in_order(x: &[f32], w: &[f32], bias: f32) -> f32 {
    let k = x.len().next_multiple_of(16);
    let at = |row: &[f32], i: usize| row.get(i).copied().unwrap_or(0.0);
    let mut lanes: Vec<f32> =
        (0..16).map(|l| (l..k).step_by(16).fold(0.0, |sum, i| at(x, i).mul_add(at(w, i), sum))).collect();
    while lanes.len() > 1 {
        let half = lanes.len() / 2;
        lanes = (0..half).map(|l| lanes[l] + lanes[l + half]).collect();
    }
    lanes[0] + bias
}

/// A product to be computed on every instruction set.
struct Problem {
    kind: Float,
    m: usize,
    n: usize,
    k: usize,
    shift: usize,
    biased: bool,
}

impl Problem {
    fn check(&self) {
        let Self { kind, m, n, k, shift, biased } = *self;
        let (x, bias) = (sample(m * k, 1), sample(n, 3));
        let (bytes, stored) = store(kind, &sample(n * k, 2), shift);
        let rows = Rows::new(&bytes[shift..], kind, n, k).unwrap();
        let of = |j: usize| if biased { bias[j] } else { 0.0 };
        for isa in Isa::all() {
            let mut out = vec![f32::NAN; m * n];
            gemm(isa, &x, rows, biased.then_some(&bias), Block::new(&mut out, n)).unwrap();
            for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                let (x, w) = (&x[i * k..][..k], &stored[j * k..][..k]);
                let got = out[i * n + j];
                // Adding a bias of zero turns a sum of −0 into +0, which the kernel without bias does not do.
                assert!(got == in_order(x, w, of(j)), "{} {kind:?} ({m}, {n}, {k}) at {i}, {j}", isa.name());
                let exact: f64 = x.iter().zip(w).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
                // k + 1 roundings of sums of k products of magnitude at most one.
                let bound = (k + 1) as f64 * (k as f64 + 1.0) * 2f64.powi(-24);
                assert!((f64::from(got) - exact - f64::from(of(j))).abs() <= bound, "{} {kind:?} {k}", isa.name());
            }
        }
    }
}

#[test]
fn every_length_and_address_has_the_bits_of_the_order_written_down() {
    for kind in KINDS {
        for k in 0..70 {
            Problem { kind, m: 1 + k % 3, n: 1 + k % 8, k, shift: k % 5, biased: k % 2 == 0 }.check();
        }
    }
}

#[test]
fn every_ragged_tile_has_the_bits_of_the_order_written_down() {
    for kind in KINDS {
        for (m, n) in (1..10).flat_map(|m| (1..14).map(move |n| (m, n))) {
            Problem { kind, m, n, k: 33, shift: 1, biased: false }.check();
        }
    }
}

#[test]
fn more_rows_than_a_block_are_put_together_in_order() {
    // Blocks of 512 KiB are 4 rows here.
    Problem { kind: Float::F16, m: 11, n: 7, k: 30_000, shift: 0, biased: true }.check();
}

#[test]
fn a_row_does_not_depend_on_its_company_nor_on_the_cut() {
    let (m, n, k) = (9, 29, 75);
    let x = sample(m * k, 1);
    for (kind, isa) in KINDS.into_iter().flat_map(|kind| Isa::all().map(move |isa| (kind, isa))) {
        let (bytes, _) = store(kind, &sample(n * k, 2), 0);
        let rows = Rows::new(&bytes, kind, n, k).unwrap();
        let mut together = vec![0.0; m * n];
        gemm(isa, &x, rows, None, Block::new(&mut together, n)).unwrap();
        for (x, together) in x.chunks(k).zip(together.chunks(n)) {
            let mut alone = vec![0.0; n];
            gemm(isa, x, rows, None, Block::new(&mut alone, n)).unwrap();
            assert_eq!(alone, together, "{} {kind:?}", isa.name());
        }
        for width in 1..n {
            let mut cut = vec![0.0; m * n];
            for (i, strip) in Block::new(&mut cut, n).strips(width).enumerate() {
                gemm(isa, &x, rows.slice(i * width, strip.columns()), None, strip).unwrap();
            }
            assert_eq!(cut, together, "{} {kind:?} {width}", isa.name());
        }
    }
}

#[test]
fn operands_that_do_not_fit_are_named() {
    let bytes = [0u8; 24];
    assert_eq!(
        Rows::new(&bytes, Float::F32, 2, 4).unwrap_err(),
        Error::Length { what: "stored matrix", expected: 32, got: 24 }
    );
    assert!(Rows::new(&bytes, Float::F16, usize::MAX, 3).is_err());
    let rows = Rows::new(&bytes, Float::F32, 2, 3).unwrap();
    let mut out = [0.0; 4];
    let got = gemm(Isa::Scalar, &[0.0; 5], rows, None, Block::new(&mut out, 2)).unwrap_err();
    assert_eq!(got, Error::Length { what: "input of a product", expected: 6, got: 5 });
    let got = gemm(Isa::Scalar, &[0.0; 3], rows, None, Block::new(&mut out, 4)).unwrap_err();
    assert_eq!(got, Error::Length { what: "columns of a product", expected: 2, got: 4 });
    let got = gemm(Isa::Scalar, &[0.0; 6], rows, Some(&[0.0]), Block::new(&mut out, 2)).unwrap_err();
    assert_eq!(got, Error::Length { what: "bias of a product", expected: 2, got: 1 });
}
