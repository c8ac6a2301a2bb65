//! Where patches are, and the learned table of positions stretched over a picture.

use crate::Result;
use autoglm_core::rows::with_rows;
use candle_core::Tensor;

/// The (row, column) of each patch of an h × w grid in merge order: squares of `merge` × `merge`
/// patches in reading order, and the patches of a square in reading order. Sides are multiples of
/// `merge`; what is left over has no place.
pub(crate) fn places(h: u32, w: u32, merge: u32) -> Vec<(u32, u32)> {
    let squares = (0..h / merge).flat_map(|y| (0..w / merge).map(move |x| (y * merge, x * merge)));
    squares.flat_map(|(y, x)| (0..merge).flat_map(move |i| (0..merge).map(move |j| (y + i, x + j)))).collect()
}

/// Learned positions of a square picture, (side, side, c).
#[derive(Debug)]
pub(crate) struct PositionTable {
    table: Vec<f32>,
    side: usize,
    width: usize,
}

/// Four neighbours along one axis of the table, and their weights.
#[derive(Debug, Clone, Copy)]
struct Cubic {
    at: [usize; 4],
    weights: [f32; 4],
}

impl Cubic {
    /// The place of cell `i` of `n` in a table of `side` cells, as torch's
    /// `grid_sample(mode="bicubic", padding_mode="border", align_corners=False)` finds it. Every step
    /// is one in f32, since the reference's are.
    fn new(i: u32, n: u32, side: usize) -> Self {
        let normalised = (i as f32 + 0.5) / n as f32 * 2.0 - 1.0;
        let place = ((normalised + 1.0) * side as f32 - 1.0) / 2.0;
        let t = place - place.floor();
        let first = place.floor() as isize - 1;
        let last = side as isize - 1;
        Self {
            at: std::array::from_fn(|tap| (first + tap as isize).clamp(0, last) as usize),
            weights: [far(t + 1.0), near(t), near(1.0 - t), far(1.0 - t + 1.0)],
        }
    }
}

/// Keys' kernel with a = -0.75: torch's for interpolation without antialiasing.
const A: f32 = -0.75;

/// The kernel within one cell of its centre.
fn near(x: f32) -> f32 {
    ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
}

/// The kernel between one and two cells from its centre.
fn far(x: f32) -> f32 {
    ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
}

impl PositionTable {
    /// `table` is (side², c).
    pub(crate) fn new(table: &Tensor, side: usize) -> Result<Self> {
        let (_, width) = table.dims2()?;
        Ok(Self { table: with_rows(table, <[f32]>::to_vec)?, side, width })
    }

    /// The table for a picture of h × w patches. Columns are interpolated here, once for all rows of
    /// the picture; rows where a position is read.
    pub(crate) fn stretch(&self, h: u32, w: u32) -> Stretched {
        let c = self.width;
        let mut columns = vec![0f32; self.side * w as usize * c];
        let at: Vec<Cubic> = (0..w).map(|x| Cubic::new(x, w, self.side)).collect();
        for (line, out) in columns.chunks_exact_mut((w as usize * c).max(1)).enumerate() {
            for (cubic, out) in at.iter().zip(out.chunks_exact_mut(c)) {
                let neighbours = cubic.at.map(|x| &self.table[(line * self.side + x) * c..][..c]);
                mix(neighbours, cubic.weights, |k, value| out[k] = value);
            }
        }
        Stretched { columns, rows: (0..h).map(|y| Cubic::new(y, h, self.side)).collect(), w: w as usize, width: c }
    }
}

/// A table of positions whose columns are a picture's.
#[derive(Debug)]
pub(crate) struct Stretched {
    columns: Vec<f32>, // (side, w, c)
    rows: Vec<Cubic>,
    w: usize,
    width: usize,
}

impl Stretched {
    /// Adds the position of a patch, (row, column), to its embedding (c).
    pub(crate) fn add(&self, (y, x): (u32, u32), row: &mut [f32]) {
        let cubic = self.rows[y as usize];
        let neighbours = cubic.at.map(|line| &self.columns[(line * self.w + x as usize) * self.width..][..self.width]);
        mix(neighbours, cubic.weights, |k, value| row[k] += value);
    }
}

#[inline(always)]
fn mix(of: [&[f32]; 4], by: [f32; 4], mut give: impl FnMut(usize, f32)) {
    let [a, b, c, d] = of;
    for (k, (((a, b), c), d)) in a.iter().zip(b).zip(c).zip(d).enumerate() {
        give(k, a * by[0] + b * by[1] + c * by[2] + d * by[3]);
    }
}

#[cfg(test)]
mod tests {
    use autoglm_testing::{Golden, assert_close};

    use super::*;
    use autoglm_core::rows::from_rows;

    /// In f32 a weight is what is left of terms up to 6, and torch may fuse their products and sums:
    /// an error of some 4e-7 for each of eight weights, times values up to four deviations.
    const F32: f64 = 1e-5;

    #[test]
    fn places_come_square_by_square() {
        assert_eq!(places(2, 4, 2), [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3)]);
        assert_eq!(places(3, 2, 1), [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]);
    }

    #[test]
    fn stretched_tables_are_those_of_grid_sample() {
        let golden = Golden::component("pos_embed");
        let table = PositionTable::new(&golden.tensor("table"), 24).unwrap();
        for (h, w) in [(24, 24), (2, 2), (2, 30), (30, 2), (6, 6), (10, 4), (36, 48), (172, 78)] {
            let want = golden.tensor(&format!("embeds.{h}x{w}"));
            let (stretched, places) = (table.stretch(h, w), places(h, w, 2));
            let mut rows = vec![0f32; places.len() * 4];
            for (row, place) in rows.chunks_exact_mut(4).zip(&places) {
                stretched.add(*place, row);
            }
            // One channel counts cells, hundreds of times the others: compare them one by one.
            let got = from_rows(rows, &[places.len(), 4]).unwrap();
            for channel in 0..4 {
                let of = |x: &Tensor| x.narrow(1, channel, 1).unwrap();
                assert_close(&format!("{h}x{w} channel {channel}"), &of(&got), &of(&want), F32);
            }
        }
    }

    #[test]
    fn a_picture_of_the_table_s_size_reads_the_table_itself() {
        // Cells of a side that is a power of two lie where f32 says they do.
        let values: Vec<f32> = (0..32).map(|i| i as f32).collect();
        let table = PositionTable::new(&from_rows(values.clone(), &[16, 2]).unwrap(), 4).unwrap();
        let stretched = table.stretch(4, 4);
        for (place, want) in places(4, 4, 1).iter().zip(values.chunks_exact(2)) {
            let mut row = [0.0; 2];
            stretched.add(*place, &mut row);
            assert_eq!(row, want);
        }
    }
}
