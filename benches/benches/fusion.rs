//! Laying out an agent's conversation: ten screenshots among text, rows and positions; and leaving out half of a
//! screenshot's rows.

use std::hint::black_box;

use autoglm_core::rows::from_rows;
use autoglm_core::{Embeds, Keep, MediaDigest, Modality, TokenId};
use autoglm_fusion::{Assembly, Placeholders};
use benches::random_rows;
use criterion::{Criterion, criterion_group, criterion_main};

fn assemble(criterion: &mut Criterion) {
    // A 1080 × 2400 screenshot has 86 × 39 merged patches.
    let (h, w) = (86u32, 39u32);
    let coords: Vec<[u32; 3]> = (0..h).flat_map(|y| (0..w).map(move |x| [0, y, x])).collect();
    let rows = random_rows(&[coords.len(), 64]);
    let picture =
        Embeds::new(rows, coords, [1, h, w], Modality::Image, MediaDigest([1; 32])).expect("rows have coordinates");
    let media = vec![picture; 10];
    let turn: Vec<TokenId> = std::iter::repeat_n(TokenId(1), 200).chain([TokenId(9)]).collect();
    let ids: Vec<TokenId> = std::iter::repeat_n(turn, 10).flatten().collect();
    let placeholders = Placeholders { image: Some(TokenId(9)), audio: None };
    let assembled = || {
        let mut assembly = Assembly::new(65_536);
        assembly.append(black_box(&ids), &media, placeholders).expect("it fits");
        assembly
    };
    assert_eq!(assembled().len(), 10 * (200 + 86 * 39));
    criterion.bench_function("assemble/10x1080x2400", |b| b.iter(assembled));
    let (a, b) = (assembled(), assembled());
    criterion.bench_function("common_rows/10x1080x2400", |bench| bench.iter(|| black_box(&a).common_rows(&b)));
}

/// A screenshot's rows as wide as the real decoder's, most of them background.
fn keep(criterion: &mut Criterion) {
    const WIDTH: usize = 4096;
    let (h, w) = (86u32, 39u32);
    let mut random = fastrand::Rng::with_seed(3);
    let background: Vec<f32> = (0..WIDTH).map(|_| random.f32() - 0.5).collect();
    let mut rows = Vec::with_capacity((h * w) as usize * WIDTH);
    for i in 0..h * w {
        let much = if i % 5 == 0 { 1.0 } else { 0.05 };
        rows.extend(background.iter().map(|value| value + much * (random.f32() - 0.5)));
    }
    let coords: Vec<[u32; 3]> = (0..h).flat_map(|y| (0..w).map(move |x| [0, y, x])).collect();
    let rows = from_rows(rows, &[coords.len(), WIDTH]).expect("as many numbers as rows have");
    let picture =
        Embeds::new(rows, coords, [1, h, w], Modality::Image, MediaDigest([1; 32])).expect("rows have coordinates");
    for (name, keep) in [("differing", Keep::share(0.5)), ("even", Keep::evenly(0.5)), ("all", Keep::share(1.0))] {
        let keep = keep.expect("a share");
        assert_eq!(picture.keep(keep).expect("a picture").len(), keep.rows(86 * 39));
        criterion.bench_function(&format!("keep/1080x2400/4096/{name}"), |b| b.iter(|| black_box(&picture).keep(keep)));
    }
}

criterion_group!(benches, assemble, keep);
criterion_main!(benches);
