//! Any number of samples per second into the one that an encoder reads.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler};

use crate::{Error, Result, Sound};

/// Samples of the lower of the two rates that are worked on at once, at least. The filter's length grows with them, and
/// with it how sharply it cuts at that rate's limit: at 1024 a tone of 7.5 kHz passes on the way to 16 kHz.
const CHUNK: usize = 1024;

/// The samples of `sound` at `rate` per second, ⌈n · rate / sound.rate()⌉ of them.
///
/// # Errors
/// - [`Error::SampleRate`] when `rate` is one that no recorder has.
/// - [`Error::Resampling`] when the resampler refuses.
pub fn resample(sound: &Sound, rate: u32) -> Result<Vec<f32>> {
    crate::sound::check_rate(rate)?;
    let (from, samples) = (sound.rate(), sound.samples());
    if from == rate || samples.is_empty() {
        return Ok(samples.to_vec());
    }
    let refuse = |source: Box<dyn std::error::Error + Send + Sync>| Error::Resampling { from, to: rate, source };
    // Two rates meet every `step` samples. The filter is as long as a chunk, and its middle is a sample only where
    // that is an even number; elsewhere all that is heard would come half a sample late.
    let step = (from / gcd(from, rate)) as usize;
    let least = CHUNK * (from.div_ceil(rate) as usize).max(1);
    let chunk = 2 * step * least.div_ceil(2 * step);
    let fft = Fft::<f32>::new(from as usize, rate as usize, chunk, 1, FixedSync::Both);
    let mut fft = fft.map_err(|e| refuse(e.into()))?;
    let input = InterleavedSlice::new(samples, 1, samples.len()).map_err(|e| refuse(e.into()))?;
    let resampled = fft.process_all(&input, samples.len(), None).map_err(|e| refuse(e.into()))?;
    let mut resampled = resampled.take_data();
    let wanted = (samples.len() as u64 * u64::from(rate)).div_ceil(u64::from(from));
    resampled.resize(usize::try_from(wanted).unwrap_or(usize::MAX), 0.0);
    Ok(resampled)
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    fn sine(rate: u32, hertz: f64, seconds: f64) -> Sound {
        let n = (f64::from(rate) * seconds) as usize;
        let at = |i: usize| (0.5 * (TAU * hertz * i as f64 / f64::from(rate)).sin()) as f32;
        Sound::new(rate, (0..n).map(at).collect()).unwrap()
    }

    #[test]
    fn a_tone_stays_the_tone_it_was_and_where_it_was() {
        for from in [8_000, 11_025, 22_050, 24_000, 44_100, 48_000, 96_000, 192_000, 16_001] {
            let resampled = resample(&sine(from, 440.0, 1.0), 16_000).unwrap();
            let want = sine(16_000, 440.0, 1.0);
            assert!(resampled.len().abs_diff(16_000) <= 1, "{from}: {}", resampled.len());
            // The filter rings where the tone is switched on and off.
            for (i, (got, want)) in resampled.iter().zip(want.samples()).enumerate().skip(1_000).take(14_000) {
                assert!((got - want).abs() < 1e-3, "{from}: sample {i} is {got}, not {want}");
            }
        }
    }

    #[test]
    fn high_tones_pass_on_the_way_down() {
        for from in [22_050, 44_100, 48_000, 96_000, 192_000] {
            let resampled = resample(&sine(from, 7_400.0, 1.0), 16_000).unwrap();
            let (mut ours, mut theirs) = (0f64, 0f64);
            for (got, want) in resampled.iter().zip(sine(16_000, 7_400.0, 1.0).samples()).skip(4_000).take(8_000) {
                ours += f64::from(*got).powi(2);
                theirs += f64::from(*want).powi(2);
            }
            assert!((ours / theirs - 1.0).abs() < 0.02, "{from}: {}", ours / theirs);
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_gone() {
        let resampled = resample(&sine(48_000, 11_000.0, 1.0), 16_000).unwrap();
        assert!(resampled.iter().skip(1_000).take(14_000).all(|v| v.abs() < 1e-3));
    }

    #[test]
    fn the_loudest_sound_stays_finite() {
        for from in [2_000, 44_100, 767_957] {
            let loud = (0..from).map(|i| if i / 100 % 2 == 0 { 16_777_216.0 } else { -16_777_216.0 });
            let sound = Sound::new(from, loud.collect()).unwrap();
            assert!(resample(&sound, 16_000).unwrap().iter().all(|sample| sample.is_finite()), "{from}");
        }
    }

    #[test]
    fn few_samples_become_as_many_as_they_stand_for() {
        for n in 0..40 {
            let sound = Sound::new(44_100, vec![0.25; n]).unwrap();
            assert_eq!(resample(&sound, 16_000).unwrap().len(), (n * 16_000).div_ceil(44_100));
        }
        let same = Sound::new(16_000, vec![0.1, -0.2]).unwrap();
        assert_eq!(resample(&same, 16_000).unwrap(), same.samples());
    }
}
