//! Laying out an agent's conversation: ten screenshots among text, rows and positions.

use std::hint::black_box;

use autoglm_core::{Embeds, MediaDigest, Modality, TokenId};
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

criterion_group!(benches, assemble);
criterion_main!(benches);
