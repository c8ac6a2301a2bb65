//! Every instruction set against the twin, and the twin against exact products.

use super::*;

fn sample(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| (((i * 7919 + seed * 104_729) % 20_011) as f32 - 10_005.0) * 1e-4).collect()
}

fn run(isa: Isa, (m, n, k): (usize, usize, usize), x: &[bf16], w: &[u8], bias: Option<&[f32]>) -> Vec<f32> {
    let mut out = vec![f32::NAN; m * n];
    gemm(isa, x, Rows::new(w, Float::Bf16, n, k).unwrap(), bias, Block::new(&mut out, n)).unwrap();
    out
}

fn rounded(x: &[f32]) -> Vec<bf16> {
    let mut r = vec![bf16::ZERO; x.len()];
    round(Isa::best(), x, &mut r);
    r
}

#[test]
fn rounding_is_that_of_the_half_crate() {
    let mut values = sample(1000, 1);
    values.extend([0.0, -0.0, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e-40, 1.003_906_3, 1.011_718_8]);
    for isa in Isa::all() {
        let mut got = vec![bf16::ZERO; values.len()];
        round(isa, &values, &mut got);
        assert!(got.iter().zip(&values).all(|(r, x)| r.to_bits() == bf16::from_f32(*x).to_bits()));
        round(isa, &[f32::NAN], &mut got[..1]);
        assert!(got[0].is_nan());
    }
}

#[test]
fn every_instruction_set_gives_the_same_bits_and_they_are_the_product() {
    for (m, n, k) in [(1, 1, 1), (3, 7, 31), (4, 6, 64), (5, 13, 200), (9, 8, 33), (37, 9, 2100)] {
        let x = rounded(&sample(m * k, 3));
        let w: Vec<u8> = rounded(&sample(n * k, 5)).iter().flat_map(|w| w.to_le_bytes()).collect();
        // An odd address.
        let mut shifted = vec![0u8];
        shifted.extend(&w);
        let bias = sample(n, 9);
        let want = run(Isa::Scalar, (m, n, k), &x, &w, Some(&bias));
        for isa in Isa::all() {
            assert_eq!(run(isa, (m, n, k), &x, &shifted[1..], Some(&bias)), want, "{} {m}x{n}x{k}", isa.name());
        }
        for i in 0..m {
            for j in 0..n {
                let w = |c: usize| bf16::from_le_bytes([w[(j * k + c) * 2], w[(j * k + c) * 2 + 1]]);
                let exact: f64 = (0..k).map(|c| x[i * k + c].to_f64() * w(c).to_f64()).sum();
                // At most 2100 products below 1, each rounded in f32.
                assert!((f64::from(want[i * n + j]) - exact - f64::from(bias[j])).abs() < 2e-4);
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_among_many() {
    let (m, n, k) = (11, 20, 160);
    let x = rounded(&sample(m * k, 3));
    let w: Vec<u8> = rounded(&sample(n * k, 5)).iter().flat_map(|w| w.to_le_bytes()).collect();
    for isa in Isa::all() {
        let all = run(isa, (m, n, k), &x, &w, None);
        for i in [0, 4, 10] {
            assert_eq!(run(isa, (1, n, k), &x[i * k..][..k], &w, None), all[i * n..][..n]);
        }
    }
}

#[test]
fn other_weights_are_refused() {
    let weights = Rows::new(&[0; 4], Float::F32, 1, 1).unwrap();
    let refused = gemm(Isa::best(), &[bf16::ZERO], weights, None, Block::new(&mut [0.0], 1));
    assert!(matches!(refused, Err(Error::Size { got: 4, .. })));
}
