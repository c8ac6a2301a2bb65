//! What a decoder sees: rows, their absolute positions, and which rows owe logits.

use candle_core::Tensor;

use crate::{Error, Result};

/// Absolute position of each row on the three axes of M-RoPE, n × \[t, h, w\].
///
/// Text rows have the same number on all axes; a decoder with one-dimensional RoPE reads the first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Positions(Vec<[u32; 3]>);

impl Positions {
    /// Positions `start..start + n`, equal on all axes: a run of text.
    ///
    /// # Errors
    /// [`Error::Overflow`] when the last position does not fit into 32 bits.
    pub fn text(start: u32, n: usize) -> Result<Self> {
        let mut positions = Self::default();
        positions.push_text(start, n)?;
        Ok(positions)
    }

    /// Appends a run of text that starts at `start`.
    ///
    /// # Errors
    /// [`Error::Overflow`] when the last position does not fit into 32 bits.
    pub fn push_text(&mut self, start: u32, n: usize) -> Result<()> {
        let end = u32::try_from(n)
            .ok()
            .and_then(|n| start.checked_add(n))
            .ok_or(Error::Overflow { what: "text positions" })?;
        self.0.extend((start..end).map(|p| [p; 3]));
        Ok(())
    }

    /// Appends one row.
    pub fn push(&mut self, position: [u32; 3]) {
        self.0.push(position);
    }

    /// The rows, n × \[t, h, w\].
    #[must_use]
    pub fn as_slice(&self) -> &[[u32; 3]] {
        &self.0
    }

    /// Rows `start..start + len`.
    ///
    /// # Errors
    /// [`Error::Rows`] when there are fewer.
    pub fn narrow(&self, start: usize, len: usize) -> Result<Self> {
        let end = start.saturating_add(len);
        match self.0.get(start..end) {
            Some(rows) => Ok(Self(rows.to_vec())),
            None => Err(Error::Rows { what: "positions", expected: end, got: self.0.len() }),
        }
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Which rows of a step owe logits. The head is as large as several layers, so nobody pays for
/// logits that nobody reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// None: a prompt chunk that is not the last.
    Nothing,
    /// The last row: the next token.
    Last,
    /// Every row: comparing with another implementation.
    All,
}

/// One step's rows for one sequence.
#[derive(Debug, Clone)]
pub struct DecoderInput {
    rows: Tensor, // (n, c)
    positions: Positions,
    want: Want,
}

impl DecoderInput {
    /// Joins rows (n, c) in f32 with n positions.
    ///
    /// # Errors
    /// - [`Error::Rows`] when their numbers differ or are zero.
    /// - [`Error::Tensor`] when `rows` has not two dimensions.
    pub fn new(rows: Tensor, positions: Positions, want: Want) -> Result<Self> {
        let (n, _) = rows.dims2()?;
        if n != positions.len() || n == 0 {
            return Err(Error::Rows { what: "positions of decoder rows", expected: n, got: positions.len() });
        }
        Ok(Self { rows, positions, want })
    }

    /// The rows, (n, c).
    #[must_use]
    pub fn rows(&self) -> &Tensor {
        &self.rows
    }

    /// The rows' positions.
    #[must_use]
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Which rows owe logits.
    #[must_use]
    pub fn want(&self) -> Want {
        self.want
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// The same rows as consecutive inputs of at most `size` rows, so that the activations of a long
    /// prompt stay bounded. Only the piece with the last row owes [`Want::Last`].
    ///
    /// # Errors
    /// [`Error::Rows`] when `size` is zero.
    pub fn chunks(&self, size: usize) -> Result<Vec<Self>> {
        if size == 0 {
            return Err(Error::Rows { what: "rows per chunk", expected: 1, got: 0 });
        }
        let n = self.len();
        (0..n)
            .step_by(size)
            .map(|start| {
                let len = size.min(n - start);
                let want = if self.want == Want::Last && start + len < n { Want::Nothing } else { self.want };
                Self::new(self.rows.narrow(0, start, len)?, self.positions.narrow(start, len)?, want)
            })
            .collect()
    }

    /// Never true: an input has at least one row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_positions_that_leave_32_bits_are_an_error() {
        assert!(Positions::text(u32::MAX - 1, 3).is_err());
        assert_eq!(Positions::text(5, 2).unwrap().as_slice(), &[[5; 3], [6; 3]]);
    }

    #[test]
    fn narrowing_past_the_end_is_an_error() {
        let positions = Positions::text(0, 4).unwrap();
        assert!(positions.narrow(2, 3).is_err());
        assert_eq!(positions.narrow(2, 2).unwrap().as_slice(), &[[2; 3], [3; 3]]);
    }
}
