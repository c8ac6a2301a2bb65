//! Every implementation against plain Rust, operation by operation.

use super::*;
use crate::Isa;

/// Numbers of every sign and size, and what is no number.
fn sample(seed: u32) -> [f32; 16] {
    const ODD: [f32; 8] = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1.0, -1.5, 3e38];
    std::array::from_fn(|l| {
        let bits = (l as u32 + 16 * seed).wrapping_mul(2_654_435_761);
        if bits % 5 == 0 {
            ODD[(bits >> 8) as usize % 8]
        } else {
            ((bits >> 8) as f32 - 8e6) * 2f32.powi(bits as i32 % 20)
        }
    })
}

/// Results of all operations, one row of sixteen each.
fn all<V: Lanes>(proof: V::Proof, seed: u32) -> Vec<[f32; 16]> {
    let of = |x: &[f32; 16]| V::load(proof, x);
    let (a, b, c) = (of(&sample(seed)), of(&sample(seed + 1)), of(&sample(seed + 2)));
    let words = sample(seed).map(f32::to_bits);
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    // One byte behind the start of the allocation, so that no address is even by chance.
    let shifted: Vec<u8> = [0].into_iter().chain(bytes).collect();
    let whole = std::array::from_fn(|l| l as f32 * 13.0 - 100.0);
    let mut rows = vec![
        V::splat(proof, 1.25),
        a,
        V::load_f32(proof, shifted[1..].first_chunk().unwrap()),
        V::load_f16(proof, shifted[1..].first_chunk().unwrap()),
        V::load_bf16(proof, shifted[1..].first_chunk().unwrap()),
        a.add(b),
        a.sub(b),
        a.mul(b),
        a.mul_add(b, c),
        a.max(b),
        a.min(b),
        a.zero_where_below(b, c),
        of(&whole).power_of_two(),
        V::of_words(V::words(proof, &words)),
        V::of_words(V::splat_word(proof, 0x4049_0fdb)),
        V::low_bf16(V::words(proof, &words)),
        V::high_bf16(V::words(proof, &words)),
    ];
    rows.extend((0..18).map(|count| a.first(count, b)));
    let mut stored: Vec<[f32; 16]> = rows
        .into_iter()
        .map(|row| {
            let mut to = [0.0; 16];
            row.store(&mut to);
            to
        })
        .collect();
    let finite = of(&sample(seed).map(|x| if x.is_finite() { x } else { 0.1 }));
    stored.push([a.sum(), finite.sum(), a.largest(), finite.largest()].repeat(4).try_into().unwrap());
    stored
}

/// Bits, with one pattern for all that is no number: which one comes out of two is not prescribed.
fn bits(rows: Vec<[f32; 16]>) -> Vec<[u32; 16]> {
    rows.into_iter().map(|row| row.map(|x| if x.is_nan() { u32::MAX } else { x.to_bits() })).collect()
}

#[test]
fn every_implementation_has_the_bits_of_plain_rust() {
    for isa in Isa::all() {
        for seed in 0..50 {
            let got = match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2(proof) => all::<avx2::Ymm>(proof, seed),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512Vnni256(proof) | Isa::Avx512Vnni(proof) => all::<avx512::Zmm>(proof, seed),
                #[cfg(target_arch = "aarch64")]
                Isa::Neon(proof) => all::<neon::Quads>(proof, seed),
                _ => continue,
            };
            assert_eq!(bits(got), bits(all::<scalar::Plain>((), seed)), "{} {seed}", isa.name());
        }
    }
}

#[test]
fn the_sum_is_the_tree_that_is_written_down() {
    let x: [f32; 16] = std::array::from_fn(|l| (l as f32 * 0.37).sin());
    let eight: [f32; 8] = std::array::from_fn(|l| x[l] + x[l + 8]);
    let four: [f32; 4] = std::array::from_fn(|l| eight[l] + eight[l + 4]);
    let want = (four[0] + four[2]) + (four[1] + four[3]);
    assert_eq!(scalar::Plain::load((), &x).sum(), want);
}
