//! A rectangle of a row-major matrix that can be cut into parts which threads write at once.

use std::fmt;
use std::marker::PhantomData;

/// Some rows and columns of a row-major f32 matrix, exclusively borrowed.
///
/// Cutting one gives two that share no element, so that each may go to a thread of its own. This is
/// what a `&mut [f32]` cannot express: the columns of a row-major matrix interleave.
pub struct Block<'a> {
    data: *mut f32,
    rows: usize,
    columns: usize,
    stride: usize,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: a block is an exclusive borrow of its elements, as `&mut [f32]` is, which is `Send`.
#[allow(unsafe_code)]
unsafe impl Send for Block<'_> {}

impl<'a> Block<'a> {
    /// All of `data`, as rows of `columns` elements.
    ///
    /// # Panics
    /// When `data` is not a whole number of rows.
    #[must_use]
    pub fn new(data: &'a mut [f32], columns: usize) -> Self {
        assert!(columns > 0 && data.len().is_multiple_of(columns), "the data are whole rows");
        Self { data: data.as_mut_ptr(), rows: data.len() / columns, columns, stride: columns, borrowed: PhantomData }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The columns before `at`, and those from `at` on.
    ///
    /// # Panics
    /// When there are fewer than `at` columns.
    #[must_use]
    pub fn split_columns(self, at: usize) -> (Self, Self) {
        assert!(at <= self.columns, "the cut is inside the block");
        // The pointer of an empty right part may stand one past its last row, so it wraps instead of adding.
        let right = Self { data: self.data.wrapping_add(at), columns: self.columns - at, ..self };
        (Self { columns: at, ..self }, right)
    }

    /// The rows before `at`, and those from `at` on.
    ///
    /// # Panics
    /// When there are fewer than `at` rows.
    #[must_use]
    pub fn split_rows(self, at: usize) -> (Self, Self) {
        assert!(at <= self.rows, "the cut is inside the block");
        let below = Self { data: self.data.wrapping_add(at * self.stride), rows: self.rows - at, ..self };
        (Self { rows: at, ..self }, below)
    }

    /// Cuts the block into strips of `columns` columns; the last may be narrower.
    ///
    /// # Panics
    /// When `columns` is zero.
    pub fn strips(self, columns: usize) -> impl Iterator<Item = Block<'a>> {
        assert!(columns > 0, "a strip has columns");
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let all = rest.take().filter(|all| all.columns > 0)?;
            let at = columns.min(all.columns);
            let (strip, after) = all.split_columns(at);
            rest = Some(after);
            Some(strip)
        })
    }

    /// Row `row` of the block.
    ///
    /// # Panics
    /// When there is no such row.
    #[allow(unsafe_code)]
    pub fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "the row is inside the block");
        // SAFETY: the block lies inside the slice it was made of, and no other block has its elements.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(row * self.stride), self.columns) }
    }
}

impl fmt::Debug for Block<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block of {} x {}", self.rows, self.columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_cover_the_matrix_once() {
        for width in 1..8 {
            let mut data = vec![0f32; 3 * 7];
            let block = Block::new(&mut data, 7);
            for mut strip in block.strips(width) {
                assert!(strip.columns() <= width);
                for row in 0..strip.rows() {
                    strip.row(row).iter_mut().for_each(|x| *x += 1.0 + row as f32);
                }
            }
            for (i, x) in data.iter().enumerate() {
                assert_eq!(*x, 1.0 + (i / 7) as f32);
            }
        }
    }

    #[test]
    fn rows_below_a_cut_are_the_later_ones() {
        let mut data: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let (mut above, mut below) = Block::new(&mut data, 4).split_rows(1);
        assert_eq!((above.rows(), below.rows()), (1, 2));
        assert_eq!(above.row(0), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(below.row(1), [8.0, 9.0, 10.0, 11.0]);
        let (left, mut right) = below.split_columns(3);
        assert_eq!((left.columns(), right.row(0)[0]), (3, 7.0));
    }

    #[test]
    #[should_panic(expected = "the row is inside the block")]
    fn a_row_behind_the_last_is_a_bug() {
        Block::new(&mut [0.0; 4], 2).row(2);
    }
}
