//! One channel of samples, as a recorder or a file gives them.

use crate::{Error, Result};

/// The lowest number of samples per second that is read: a quarter of a telephone's.
const LEAST_RATE: u32 = 2_000;
/// The highest; studio recorders have 192 000.
const MOST_RATE: u32 = 768_000;

/// The loudest sample that is read, 144 dB beyond full scale: whole numbers of 24 bits that somebody forgot to divide
/// are no louder. The resampler adds up millions of samples in f32, which must never become infinite.
const LOUDEST: f64 = (1 << 24) as f64;

/// One channel of sound.
#[derive(Debug, Clone, PartialEq)]
pub struct Sound {
    rate: u32,
    samples: Vec<f32>,
}

impl Sound {
    /// Joins samples, full scale at ±1, with the number of them per second.
    ///
    /// # Errors
    /// - [`Error::SampleRate`] for a rate that no recorder has.
    /// - [`Error::NotANumber`] and [`Error::TooLoud`] name the first sample that is infinite or no number, or beyond
    ///   2^24 times full scale.
    pub fn new(rate: u32, samples: Vec<f32>) -> Result<Self> {
        check_rate(rate)?;
        check_samples(0, &samples)?;
        Ok(Self { rate, samples })
    }

    /// Samples per second.
    #[must_use]
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// The samples, full scale at ±1.
    #[must_use]
    pub fn samples(&self) -> &[f32] {
        &self.samples
    }

    /// How long it takes to play.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.rate)
    }
}

pub(crate) fn check_rate(rate: u32) -> Result<()> {
    if (LEAST_RATE..=MOST_RATE).contains(&rate) {
        return Ok(());
    }
    Err(Error::SampleRate { got: rate, least: LEAST_RATE, most: MOST_RATE })
}

/// Names the first sample that cannot be computed with, of samples that follow `before` others.
pub(crate) fn check_samples(before: usize, samples: &[f32]) -> Result<()> {
    samples.iter().enumerate().try_for_each(|(i, sample)| check_sample(before + i, f64::from(*sample)))
}

pub(crate) fn check_sample(index: usize, value: f64) -> Result<()> {
    if value.abs() <= LOUDEST {
        return Ok(());
    }
    if value.is_finite() {
        return Err(Error::TooLoud { index, value, limit: LOUDEST });
    }
    Err(Error::NotANumber { index, value: value as f32 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_that_is_none_is_named() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let refused = Sound::new(16_000, vec![0.0, 1.0, bad, bad]);
            assert!(matches!(refused, Err(Error::NotANumber { index: 2, .. })), "{refused:?}");
        }
        for bad in [1e37, -f32::MAX, 16_777_218.0] {
            let refused = Sound::new(44_100, vec![0.0, -16_777_216.0, bad, f32::NAN]);
            let named = matches!(refused, Err(Error::TooLoud { index: 2, value, .. }) if value == f64::from(bad));
            assert!(named, "{refused:?}");
        }
        assert!(matches!(Sound::new(0, vec![]), Err(Error::SampleRate { got: 0, .. })));
        assert!(matches!(Sound::new(u32::MAX, vec![]), Err(Error::SampleRate { .. })));
        // Beyond full scale is a loud sound, not an error.
        assert_eq!(Sound::new(8_000, vec![3.0; 4_000]).unwrap().seconds(), 0.5);
    }
}
