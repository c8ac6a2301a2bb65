//! How much a layer changes the rows that pass through it.

use crate::{Error, Result};

/// The Block Influence of a layer, 1 − E\[cos(x, x')\] over rows x that enter and x' that leave it: near zero where the
/// layer hardly turns them (Men et al., "ShortGPT"). A shortlist, no verdict: what matters is what comes out of the
/// whole model without it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Influence {
    sum: f64,
    rows: u64,
}

impl Influence {
    /// Adds rows of width c as they enter and as they leave.
    ///
    /// # Errors
    /// [`Error::Rows`] when these are not equally many whole rows.
    pub fn add(&mut self, before: &[f32], after: &[f32], c: usize) -> Result<()> {
        if before.len() != after.len() || c == 0 || !before.len().is_multiple_of(c) {
            return Err(Error::Rows { expected: before.len(), got: after.len() });
        }
        for (x, y) in before.chunks_exact(c).zip(after.chunks_exact(c)) {
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            let sizes = (dot(x, x) * dot(y, y)).sqrt();
            // A row of zeros is turned nowhere.
            self.sum += if sizes > 0.0 { 1.0 - dot(x, y) / sizes } else { 0.0 };
            self.rows += 1;
        }
        Ok(())
    }

    /// The mean; nothing before a row was seen.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        (self.rows > 0).then(|| self.sum / self.rows as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_only_stretched_has_none_and_what_is_turned_round_has_two() {
        let mut none = Influence::default();
        assert_eq!(none.value(), None);
        none.add(&[1.0, 2.0, 0.0, 0.0], &[2.0, 4.0, 0.0, 0.0], 2).unwrap();
        assert!(none.value().unwrap().abs() < 1e-12);
        let mut two = Influence::default();
        two.add(&[1.0, 2.0], &[-3.0, -6.0], 2).unwrap();
        assert!((two.value().unwrap() - 2.0).abs() < 1e-12);
        assert!(two.add(&[1.0, 2.0], &[1.0], 2).is_err());
    }
}
