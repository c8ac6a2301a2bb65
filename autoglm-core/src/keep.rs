//! Which rows of a picture stay, where a prompt is to have fewer of them.
//!
//! The rows that stay keep the places of the whole picture, so a decoder that reads coordinates off a screen still finds them
//! where they were. What is left out is chosen by two rules, both of them a matter of the picture alone:
//!
//! ```text
//! k        rows that stay: the share, rounded to millionths, of all, rounded up
//! lattice  every s-th row of every s-th line, s the least of 2, 4, 8, … for which that is at most half of k
//! rest     of the other rows those that are farthest from the lattice:
//!          d(i) = 1 − max cos(xᵢ, xⱼ) over the up to four places j of the lattice around i
//! ```
//!
//! The lattice always stays, so that no region is without a row. The background of a screenshot is a row that the lattice has
//! already; an icon or a line of text is none, and takes the room. Equally far rows go by the order of Bayer's ordered dither
//! (B. E. Bayer, "An optimum method for two-level rendition of continuous-tone pictures", 1973), in which the first rows of
//! any number are spread over the picture. [`Keep::evenly`] takes all rows in that order and looks at nothing else.

use crate::{Error, Result};

/// A share of a picture's rows, and how they are chosen. The default is all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Keep {
    millionths: u32,
    choice: Choice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Choice {
    Differing,
    Even,
}

/// The whole, in millionths.
const WHOLE: u32 = 1_000_000;

/// Marks an even choice in [`Keep::code`]: no share is as large.
const EVEN: u32 = 1 << 31;

impl Default for Keep {
    fn default() -> Self {
        Self::ALL
    }
}

impl Keep {
    /// All rows.
    pub const ALL: Self = Self { millionths: WHOLE, choice: Choice::Differing };

    /// A share of the rows, above 0 and at most 1: a lattice over the picture, and what differs most from it. It is rounded to
    /// millionths.
    ///
    /// # Errors
    /// [`Error::Share`] for any other number.
    pub fn share(share: f64) -> Result<Self> {
        if share > 0.0 && share <= 1.0 {
            // In range, so the cast cuts nothing off; however little it is, it is not nothing.
            let millionths = ((share * f64::from(WHOLE)).round() as u32).max(1);
            return Ok(Self { millionths, ..Self::ALL });
        }
        Err(Error::Share { got: share })
    }

    /// A share of the rows, spread evenly whatever they show: to compare with.
    ///
    /// # Errors
    /// As for [`Keep::share`].
    pub fn evenly(share: f64) -> Result<Self> {
        let Self { millionths, .. } = Self::share(share)?;
        // All rows are the same rows however they are chosen.
        Ok(if millionths == WHOLE { Self::ALL } else { Self { millionths, choice: Choice::Even } })
    }

    /// How many of `rows` rows stay: at least one of any.
    #[must_use]
    pub fn rows(self, rows: usize) -> usize {
        // At most `rows`, which is a usize.
        (rows as u128 * u128::from(self.millionths)).div_ceil(u128::from(WHOLE)) as usize
    }

    /// A number that stands for it in digests and files; it never changes. Whoever changes which rows a share chooses changes
    /// what stored keys and values mean, and with it the pool's version of numerics.
    #[must_use]
    pub fn code(self) -> u32 {
        self.millionths | if self.choice == Choice::Even { EVEN } else { 0 }
    }

    /// The one that a number stands for.
    #[must_use]
    pub fn coded(code: u32) -> Option<Self> {
        let choice = if code & EVEN == 0 { Choice::Differing } else { Choice::Even };
        let keep = Self { millionths: code & !EVEN, choice };
        let known = (1..WHOLE).contains(&keep.millionths) || keep == Self::ALL;
        known.then_some(keep)
    }

    /// The rows that stay of a picture of h × w rows in reading order, `rows` (h · w, c), in that order.
    pub(crate) fn choose(self, rows: &[f32], (h, w): (usize, usize)) -> Vec<usize> {
        let (n, stay) = (h * w, self.rows(h * w));
        let mut order: Vec<usize> = (0..n).collect();
        match self.choice {
            Choice::Even => order.sort_by_key(|i| dither(i / w, i % w)),
            Choice::Differing => {
                let distances = distances(rows, (h, w), spacing((h, w), stay));
                order.sort_by(|a, b| {
                    let tie = || dither(a / w, a % w).cmp(&dither(b / w, b % w));
                    distances[*b].total_cmp(&distances[*a]).then_with(tie)
                });
            }
        }
        order.truncate(stay);
        order.sort_unstable();
        order
    }
}

/// The distance between places of the lattice of which at most half of `stay` rows are.
fn spacing((h, w): (usize, usize), stay: usize) -> usize {
    let mut spacing = 2;
    while 2 * h.div_ceil(spacing) * w.div_ceil(spacing) > stay && spacing < h.max(w) {
        spacing *= 2;
    }
    spacing
}

/// How far each row is from the rows of the lattice around it; infinitely far for those themselves.
fn distances(rows: &[f32], (h, w): (usize, usize), spacing: usize) -> Vec<f32> {
    let c = rows.len() / (h * w).max(1);
    let row = |y: usize, x: usize| &rows[(y * w + x) * c..][..c];
    let lengths: Vec<f32> = (0..h * w).map(|i| length(row(i / w, i % w))).collect();
    let around = |at: usize, side: usize| {
        let before = at / spacing * spacing;
        [before, at.next_multiple_of(spacing)].into_iter().filter(move |place| *place < side)
    };
    let distance = |i: usize| {
        let (y, x) = (i / w, i % w);
        if y % spacing == 0 && x % spacing == 0 {
            return f32::INFINITY;
        }
        let places = around(y, h).flat_map(|y| around(x, w).map(move |x| (y, x)));
        let nearest = places.map(|(ly, lx)| {
            let both = (lengths[i] * lengths[ly * w + lx]).max(f32::MIN_POSITIVE);
            dot(row(y, x), row(ly, lx)) / both
        });
        1.0 - nearest.fold(-1.0, f32::max)
    };
    (0..h * w).map(distance).collect()
}

fn length(x: &[f32]) -> f32 {
    dot(x, x).sqrt()
}

/// The sum of products in eight lanes, which compilers turn into vectors without another order of the sums.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut lanes = [0f32; 8];
    for (a, b) in a.iter().zip(b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    lanes.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// A place's rank in Bayer's order, in which each lattice of half the spacing follows the one before it.
fn dither(y: usize, x: usize) -> u64 {
    // A side of a picture has far fewer bits; two of each make a digit.
    (0..u32::BITS).fold(0, |rank, bit| {
        let (y, x) = (y as u64 >> bit & 1, x as u64 >> bit & 1);
        rank << 2 | (x ^ y) << 1 | y
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A picture of h × w rows of four numbers: all alike, but for those at `odd`, each of which is unlike any other.
    fn flat((h, w): (usize, usize), odd: &[usize]) -> Vec<f32> {
        let row = |i: usize| match odd.iter().position(|at| *at == i) {
            None => [1.0, 1.0, 0.0, 0.0],
            Some(which) => [0.0, 0.1, 1.0, which as f32],
        };
        (0..h * w).flat_map(row).collect()
    }

    fn share(share: f64) -> Keep {
        Keep::share(share).unwrap()
    }

    #[test]
    fn a_share_is_above_nothing_and_at_most_everything() {
        for bad in [0.0, -0.5, 1.000_001, f64::NAN, f64::INFINITY, -0.0] {
            for made in [Keep::share(bad), Keep::evenly(bad)] {
                let refused = made.unwrap_err();
                assert!(matches!(refused, Error::Share { .. }), "{bad}");
                assert!(refused.to_string().starts_with(&format!("{bad} is no share")), "{refused}");
            }
        }
        assert_eq!((share(1.0), Keep::evenly(1.0).unwrap()), (Keep::ALL, Keep::ALL));
        assert_eq!(
            [share(0.25).rows(72), share(0.3).rows(10), share(1e-12).rows(72), Keep::ALL.rows(0)],
            [18, 3, 1, 0]
        );
        assert_eq!(Keep::ALL.rows(usize::MAX), usize::MAX);
    }

    #[test]
    fn even_shares_are_the_patterns_of_ordered_dither() {
        let drawn = |share| {
            let stay = Keep::evenly(share).unwrap().choose(&[], (4, 8));
            let line =
                |y: usize| (0..8).map(|x| if stay.contains(&(y * 8 + x)) { '#' } else { '.' }).collect::<String>();
            [0, 1, 2, 3].map(line)
        };
        assert_eq!(drawn(0.5), ["#.#.#.#.", ".#.#.#.#", "#.#.#.#.", ".#.#.#.#"]);
        assert_eq!(drawn(0.25), ["#.#.#.#.", "........", "#.#.#.#.", "........"]);
        assert_eq!(drawn(0.125), ["#...#...", "........", "..#...#.", "........"]);
        assert_eq!(drawn(0.75), ["########", ".#.#.#.#", "########", ".#.#.#.#"]);
    }

    #[test]
    fn what_differs_stays_and_the_background_makes_room_for_it() {
        // An icon at (1, 1), another at (3, 4), a third on the lattice.
        let size = (6, 6);
        let odd = [7, 22, 14];
        let stay = share(0.4).choose(&flat(size, &odd), size);
        assert_eq!(stay.len(), 15);
        // At most half of fifteen rows are on a lattice: every fourth row, four of them.
        for place in [0, 4, 24, 28].into_iter().chain(odd) {
            assert!(stay.contains(&place), "{place} of {stay:?}");
        }
        // The same share spread evenly sees neither.
        let even = Keep::evenly(0.4).unwrap().choose(&flat(size, &odd), size);
        assert!(even.len() == 15 && !even.contains(&22), "{even:?}");
    }

    #[test]
    fn a_row_beside_one_place_of_the_lattice_that_shows_the_same_is_background() {
        // The right half is another colour than the left: (0, 3) lies between a place of each.
        let size = (4, 6);
        let rows: Vec<f32> = (0..24).flat_map(|i| if i % 6 < 3 { [1.0, 0.0] } else { [0.0, 1.0] }).collect();
        let far = distances(&rows, size, 2);
        assert!(far.iter().all(|d| *d == f32::INFINITY || d.abs() < 1e-6), "{far:?}");
    }

    proptest! {
        #[test]
        fn a_lattice_over_the_whole_picture_always_stays(
            h in 1usize..20, w in 1usize..20, millionths in 1u32..1_000_000, seed in any::<u64>(),
        ) {
            let keep = Keep::coded(millionths).unwrap();
            let mut state = seed;
            let rows: Vec<f32> = (0..h * w * 9).map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
            }).collect();
            let stay = keep.choose(&rows, (h, w));
            prop_assert_eq!(stay.len(), keep.rows(h * w));
            prop_assert!(stay.is_sorted_by(|a, b| a < b));
            let spacing = spacing((h, w), stay.len());
            for (y, x) in (0..h).step_by(spacing).flat_map(|y| (0..w).step_by(spacing).map(move |x| (y, x))) {
                prop_assert!(stay.contains(&(y * w + x)));
            }
        }

        #[test]
        fn a_number_stands_for_one_choice(code in any::<u32>()) {
            prop_assert!(Keep::coded(code).is_none_or(|keep| keep.code() == code));
            for keep in [share(0.3), Keep::evenly(0.3).unwrap(), Keep::ALL, share(1e-9), share(0.999_999)] {
                prop_assert_eq!(Keep::coded(keep.code()), Some(keep));
            }
        }
    }

    #[test]
    fn rows_that_are_no_numbers_are_a_choice_as_well() {
        let rows = vec![f32::NAN; 36 * 4];
        assert_eq!(share(0.5).choose(&rows, (6, 6)).len(), 18);
        let rows = vec![0.0; 36 * 4];
        assert_eq!(share(0.5).choose(&rows, (6, 6)).len(), 18);
    }
}
