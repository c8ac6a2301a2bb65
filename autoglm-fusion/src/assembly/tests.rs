//! Positions against transformers, and the laws of appending.

use autoglm_core::{Keep, MediaDigest, Modality};
use candle_core::{DType, Device};
use proptest::prelude::*;

use super::*;

const PLACEHOLDER: TokenId = TokenId(9_999);
const HEARD: TokenId = TokenId(9_998);
const BOTH: Placeholders = Placeholders { image: Some(PLACEHOLDER), audio: Some(HEARD) };

/// A table whose row i is (i, i).
#[derive(Debug)]
struct Counting;

impl Embedding for Counting {
    fn rows(&self, ids: &[TokenId]) -> autoglm_core::Result<Tensor> {
        let values: Vec<f32> = ids.iter().flat_map(|id| [id.0 as f32; 2]).collect();
        Ok(Tensor::from_vec(values, (ids.len(), 2), &Device::Cpu)?)
    }

    fn vocab_size(&self) -> usize {
        1 << 20
    }

    fn width(&self) -> usize {
        2
    }
}

/// A picture of h × w merged patches whose rows all hold −`tag`.
fn picture(h: u32, w: u32, tag: u8) -> Embeds {
    let coords: Vec<[u32; 3]> = (0..h).flat_map(|y| (0..w).map(move |x| [0, y, x])).collect();
    let rows = (Tensor::ones((coords.len(), 2), DType::F32, &Device::Cpu).unwrap() * -f64::from(tag)).unwrap();
    Embeds::new(rows, coords, [1, h, w], Modality::Image, MediaDigest([tag; 32])).unwrap()
}

/// A sound of n rows that all hold −`tag`.
fn sound(n: u32, tag: u8) -> Embeds {
    let rows = (Tensor::ones((n as usize, 2), DType::F32, &Device::Cpu).unwrap() * -f64::from(tag)).unwrap();
    Embeds::new(rows, (0..n).map(|i| [i; 3]).collect(), [n; 3], Modality::Audio, MediaDigest([tag; 32])).unwrap()
}

fn ids(list: &[u32]) -> Vec<TokenId> {
    list.iter().map(|id| TokenId(*id)).collect()
}

fn assembled(list: &[u32], media: &[Embeds]) -> Assembly {
    let mut assembly = Assembly::new(10_000);
    assembly.append(&ids(list), media, BOTH).unwrap();
    assembly
}

fn rows(assembly: &Assembly, range: Range<usize>) -> Vec<Vec<f32>> {
    assembly.input(range, &Counting, Want::All).unwrap().rows().to_vec2().unwrap()
}

#[test]
fn no_place_is_beyond_the_context_however_few_rows_stay() {
    let one = picture(3, 24, 1).keep(Keep::share(1e-6).unwrap()).unwrap();
    assert_eq!((one.len(), one.advance()), (1, 24));
    let mut assembly = Assembly::new(26);
    let list = ids(&[7, PLACEHOLDER.0]);
    assembly.append(&list, std::slice::from_ref(&one), BOTH).unwrap();
    let refused = assembly.append(&list, &[one], BOTH).unwrap_err();
    assert!(matches!(refused, Error::Oversize { rows: 50, limit: 26 }), "{refused}");
    assembly.push(TokenId(7)).unwrap();
    assert!(matches!(assembly.push(TokenId(7)), Err(Error::Oversize { rows: 27, limit: 26 })));
    assert_eq!((assembly.len(), assembly.next_position()), (3, 26));
}

#[test]
fn a_picture_moves_the_cursor_by_its_larger_side() {
    // Five text tokens, a 4 × 6 grid of patches, one token: the example of the model's fact sheet.
    let assembly = assembled(&[1, 2, 3, 4, 5, PLACEHOLDER.0, 6], &[picture(2, 3, 1)]);
    let expected = [
        [0; 3],
        [1; 3],
        [2; 3],
        [3; 3],
        [4; 3],
        [5, 5, 5],
        [5, 5, 6],
        [5, 5, 7],
        [5, 6, 5],
        [5, 6, 6],
        [5, 6, 7],
        [8; 3],
    ];
    assert_eq!(assembly.positions().as_slice(), &expected);
    assert_eq!(assembly.next_position(), 9);
}

#[test]
fn positions_equal_those_of_get_rope_index() {
    let golden = autoglm_testing::repository().join("goldens/components/mrope.json");
    let cases: serde_json::Value = serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
    let merge = cases["spatial_merge_size"].as_u64().unwrap() as u32;
    let cases = cases["cases"].as_array().unwrap();
    assert!(cases.len() >= 5);
    for case in cases {
        let grids = case["grids"].as_array().unwrap();
        let side = |v: &serde_json::Value| u32::try_from(v.as_u64().unwrap()).unwrap();
        let media: Vec<Embeds> = grids.iter().map(|g| picture(side(&g[1]) / merge, side(&g[2]) / merge, 1)).collect();
        // Runs of [type, length]; a run of type 1 is one picture and stands for one placeholder.
        let mut list = Vec::new();
        for run in case["runs"].as_array().unwrap() {
            match side(&run[0]) {
                0 => list.extend(std::iter::repeat_n(7, side(&run[1]) as usize)),
                _ => list.push(PLACEHOLDER.0),
            }
        }
        let assembly = assembled(&list, &media);
        for (row, got) in assembly.positions().as_slice().iter().enumerate() {
            let want = [0, 1, 2].map(|axis| side(&case["position_ids"][axis][row]));
            assert_eq!(*got, want, "row {row} of {}", case["name"]);
        }
        let delta = i64::from(assembly.next_position()) - assembly.len() as i64;
        assert_eq!(delta, case["delta"].as_i64().unwrap(), "{}", case["name"]);
    }
}

#[test]
fn placeholders_and_media_must_match() {
    let mut assembly = Assembly::new(100);
    let lone = assembly.append(&ids(&[1, PLACEHOLDER.0]), &[], BOTH);
    assert!(matches!(lone, Err(Error::LonePlaceholder { modality: Modality::Image, index: 1 })));
    let few = assembly.append(&ids(&[PLACEHOLDER.0, PLACEHOLDER.0]), &[picture(1, 1, 1)], BOTH);
    assert!(matches!(few, Err(Error::CountMismatch { placeholders: 2, media: 1, .. })));
    let many = assembly.append(&ids(&[1]), &[picture(1, 1, 1)], BOTH);
    assert!(matches!(many, Err(Error::CountMismatch { placeholders: 0, media: 1, .. })));
    assert!(assembly.is_empty());
}

#[test]
fn a_sound_counts_on_as_words_do_and_stands_beside_a_picture() {
    let assembly = assembled(&[1, PLACEHOLDER.0, HEARD.0, 2, HEARD.0], &[picture(1, 2, 1), sound(3, 2), sound(1, 3)]);
    let expected = [[0; 3], [1, 1, 1], [1, 1, 2], [3; 3], [4; 3], [5; 3], [6; 3], [7; 3]];
    assert_eq!(assembly.positions().as_slice(), &expected);
    assert_eq!(rows(&assembly, 2..7), [[-1.0; 2], [-2.0; 2], [-2.0; 2], [-2.0; 2], [2.0; 2]]);
}

#[test]
fn a_sound_without_a_row_leaves_its_neighbours_where_they_would_be() {
    let silent = assembled(&[1, HEARD.0, 2], &[sound(0, 1)]);
    assert_eq!(silent.positions().as_slice(), &[[0; 3], [1; 3]]);
    assert_eq!(silent.units().map(|unit| unit.rows()).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn media_in_another_order_than_their_placeholders_are_refused() {
    let mut assembly = Assembly::new(100);
    let swapped = assembly.append(&ids(&[HEARD.0, PLACEHOLDER.0]), &[picture(1, 1, 1), sound(2, 2)], BOTH);
    assert!(matches!(swapped, Err(Error::Order { index: 0, expected: Modality::Audio, got: Modality::Image })));
    let other = assembly.append(&ids(&[HEARD.0]), &[picture(1, 1, 1)], BOTH);
    assert!(matches!(other, Err(Error::CountMismatch { modality: Modality::Image, placeholders: 0, media: 1 })));
    let deaf = Placeholders { audio: None, ..BOTH };
    let word = assembly.append(&ids(&[HEARD.0]), &[sound(1, 1)], deaf);
    assert!(matches!(word, Err(Error::CountMismatch { modality: Modality::Audio, placeholders: 0, media: 1 })));
    assert!(assembly.is_empty());
}

#[test]
fn a_prompt_larger_than_the_context_is_refused_whole() {
    let mut assembly = Assembly::new(8);
    assembly.append(&ids(&[1, 2]), &[], BOTH).unwrap();
    let big = assembly.append(&ids(&[3, PLACEHOLDER.0]), &[picture(2, 3, 1)], BOTH);
    assert!(matches!(big, Err(Error::Oversize { rows: 9, limit: 8 })));
    assert_eq!(assembly.len(), 2);
    assembly.append(&ids(&[PLACEHOLDER.0]), &[picture(2, 3, 1)], BOTH).unwrap();
    assert!(matches!(assembly.push(TokenId(1)), Err(Error::Oversize { rows: 9, limit: 8 })));
}

#[test]
fn media_of_another_width_are_refused() {
    let rows = Tensor::zeros((1, 3), DType::F32, &Device::Cpu).unwrap();
    let wide = Embeds::new(rows, vec![[0; 3]], [1, 1, 1], Modality::Image, MediaDigest([0; 32])).unwrap();
    let assembly = assembled(&[PLACEHOLDER.0], &[wide]);
    assert!(matches!(assembly.input(0..1, &Counting, Want::All), Err(Error::Width { expected: 2, got: 3 })));
}

#[test]
#[allow(clippy::reversed_empty_ranges, reason = "a reversed range is what a caller must not get away with")]
fn rows_outside_the_prompt_are_an_error() {
    let assembly = assembled(&[1, 2, 3], &[]);
    for range in [0..4, 3..3, 2..1] {
        assert!(matches!(assembly.input(range, &Counting, Want::All), Err(Error::Range { rows: 3, .. })));
    }
}

#[test]
fn common_rows_count_whole_units() {
    let a = assembled(&[1, 2, PLACEHOLDER.0, 3], &[picture(2, 2, 1)]);
    let same = assembled(&[1, 2, PLACEHOLDER.0, 4], &[picture(2, 2, 1)]);
    let other = assembled(&[1, 2, PLACEHOLDER.0, 3], &[picture(2, 2, 2)]);
    assert_eq!(a.common_rows(&same), 6);
    assert_eq!(a.common_rows(&other), 2);
}

proptest! {
    #[test]
    fn appending_in_pieces_equals_assembling_at_once(
        tokens in prop::collection::vec(0u32..50, 1..30),
        sizes in prop::collection::vec((1u32..5, 1u32..5), 0..4),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let mut list = tokens;
        let step = list.len() / (sizes.len() + 1);
        for i in 0..sizes.len() {
            list.insert((i + 1) * step + i, PLACEHOLDER.0);
        }
        let media: Vec<Embeds> = sizes.iter().enumerate().map(|(i, (h, w))| picture(*h, *w, i as u8 + 1)).collect();
        let whole = assembled(&list, &media);
        let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(list.len())).chain([list.len()]).collect();
        cuts.sort_unstable();
        let (mut grown, mut from, mut used) = (Assembly::new(10_000), 0, 0);
        for to in cuts {
            let piece = &list[from..to];
            let count = piece.iter().filter(|id| **id == PLACEHOLDER.0).count();
            grown.append(&ids(piece), &media[used..used + count], BOTH).unwrap();
            (from, used) = (to, used + count);
        }
        prop_assert_eq!(whole.positions(), grown.positions());
        prop_assert_eq!(whole.next_position(), grown.next_position());
        prop_assert_eq!(whole.common_rows(&grown), whole.len());
        prop_assert_eq!(rows(&whole, 0..whole.len()), rows(&grown, 0..grown.len()));
    }

    #[test]
    fn a_thinned_prompt_is_the_whole_one_without_the_rows_left_out(
        sizes in prop::collection::vec((1u32..7, 1u32..7), 1..4), share in 0.01f64..1.0, even in any::<bool>(),
    ) {
        let keep = if even { Keep::evenly(share) } else { Keep::share(share) }.unwrap();
        let list: Vec<u32> = sizes.iter().flat_map(|_| [1, 2, PLACEHOLDER.0]).chain([3, 4]).collect();
        let whole: Vec<Embeds> = sizes.iter().enumerate().map(|(i, (h, w))| picture(*h, *w, i as u8 + 1)).collect();
        let thin: Vec<Embeds> = whole.iter().map(|picture| picture.keep(keep).unwrap()).collect();
        let (full, few) = (assembled(&list, &whole), assembled(&list, &thin));
        // Rows of the whole prompt that are text, or whose place in their picture stayed.
        let mut stay = Vec::new();
        let mut row = 0;
        for (whole, thin) in whole.iter().zip(&thin) {
            stay.extend([row, row + 1]);
            let places = whole.coords().iter().enumerate().filter(|(_, place)| thin.coords().contains(place));
            stay.extend(places.map(|(i, _)| row + 2 + i));
            row += 2 + whole.len();
        }
        stay.extend([row, row + 1]);
        prop_assert_eq!(few.len(), stay.len());
        let positions: Vec<[u32; 3]> = stay.iter().map(|row| full.positions().as_slice()[*row]).collect();
        prop_assert_eq!(few.positions().as_slice(), &positions);
        prop_assert_eq!(few.next_position(), full.next_position());
        let all = rows(&full, 0..full.len());
        let kept: Vec<Vec<f32>> = stay.iter().map(|row| all[*row].clone()).collect();
        prop_assert_eq!(rows(&few, 0..few.len()), kept);
        // What was computed of one is of use for the other up to the first picture that lost a row.
        let first = whole.iter().zip(&thin).position(|(whole, thin)| whole.len() != thin.len());
        let before = first.map_or(full.len(), |first| whole[..first].iter().map(|p| 2 + p.len()).sum::<usize>() + 2);
        prop_assert_eq!(full.common_rows(&few), before);
    }

    #[test]
    fn any_range_of_rows_is_that_part_of_the_whole(h in 1u32..5, w in 1u32..5, start in 0usize..20, len in 1usize..20) {
        let assembly = assembled(&[1, 2, 3, PLACEHOLDER.0, 4, 5, 6], &[picture(h, w, 1)]);
        let (start, end) = (start.min(assembly.len() - 1), (start + len).min(assembly.len()));
        prop_assume!(start < end);
        let whole = rows(&assembly, 0..assembly.len());
        prop_assert_eq!(&rows(&assembly, start..end), &whole[start..end]);
        let input = assembly.input(start..end, &Counting, Want::All).unwrap();
        prop_assert_eq!(input.positions().as_slice(), &assembly.positions().as_slice()[start..end]);
    }

    #[test]
    fn positions_never_run_backwards_between_text_rows(sizes in prop::collection::vec((1u32..9, 1u32..9), 1..4)) {
        let list: Vec<u32> = sizes.iter().flat_map(|_| [1, PLACEHOLDER.0]).chain([2]).collect();
        let media: Vec<Embeds> = sizes.iter().map(|(h, w)| picture(*h, *w, 1)).collect();
        let assembly = assembled(&list, &media);
        let largest = assembly.positions().as_slice().iter().flatten().max().copied().unwrap();
        prop_assert_eq!(assembly.next_position(), largest + 1);
    }
}
