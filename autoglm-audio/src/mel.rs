//! Bands of frequencies as the ear tells them apart: Slaney's mel scale, linear below 1 kHz and logarithmic
//! above (Slaney, "Auditory Toolbox"; librosa's and transformers' `mel_filter_bank(norm="slaney")`).

/// Width of a mel below the corner, in hertz.
const LINEAR: f64 = 200.0 / 3.0;
/// From here on the scale is logarithmic, in hertz.
const CORNER: f64 = 1_000.0;
/// The corner in mels.
const CORNER_MEL: f64 = CORNER / LINEAR;

/// Natural logarithm of the ratio of two frequencies that lie one mel apart.
fn log_step() -> f64 {
    6.4f64.ln() / 27.0
}

fn mel(hertz: f64) -> f64 {
    if hertz < CORNER { hertz / LINEAR } else { CORNER_MEL + (hertz / CORNER).ln() / log_step() }
}

fn hertz(mel: f64) -> f64 {
    if mel < CORNER_MEL { mel * LINEAR } else { CORNER * (log_step() * (mel - CORNER_MEL)).exp() }
}

/// A triangle over the bins of a spectrum.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Filter {
    /// First bin that it lets through.
    pub(crate) first: usize,
    /// Its weight at that bin and the following ones.
    pub(crate) weights: Vec<f64>,
}

/// `count` triangles of equal area from 0 to half of `rate`, over `bins` bins of a spectrum. A band that lies
/// between two bins is empty.
pub(crate) fn filters(count: usize, bins: usize, rate: u32) -> Vec<Filter> {
    let highest = f64::from(rate) / 2.0;
    let corners: Vec<f64> = (0..count + 2).map(|i| hertz(mel(highest) * i as f64 / (count + 1) as f64)).collect();
    let bin = |i: usize| highest * i as f64 / (bins - 1) as f64;
    let of = |corners: &[f64]| {
        let (low, peak, high) = (corners[0], corners[1], corners[2]);
        let height = 2.0 / (high - low);
        let weight = |f: f64| ((f - low) / (peak - low)).min((high - f) / (high - peak)).max(0.0) * height;
        let inside: Vec<usize> = (0..bins).filter(|i| weight(bin(*i)) > 0.0).collect();
        // Transformers keeps its filters in f32 while it multiplies.
        let weights = inside.iter().map(|i| f64::from(weight(bin(*i)) as f32)).collect();
        Filter { first: inside.first().copied().unwrap_or(0), weights }
    };
    corners.windows(3).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_are_whisper_s() {
        let filters = filters(128, 201, 16_000);
        let at = |band: usize| -> Vec<(usize, f64)> {
            let Filter { first, weights } = &filters[band];
            weights.iter().enumerate().map(|(i, w)| (first + i, *w)).collect()
        };
        let sum: f64 = filters.iter().flat_map(|f| &f.weights).sum();
        assert!((sum - 3.190_985_53).abs() < 1e-6, "{sum}");
        let close = |band: usize, want: &[(usize, f64)]| {
            let got = at(band);
            assert_eq!(got.len(), want.len(), "{band}: {got:?}");
            for ((bin, weight), (want_bin, want)) in got.iter().zip(want) {
                assert!(bin == want_bin && (weight - want).abs() < 1e-9, "{band}: {got:?}");
            }
        };
        close(0, &[(1, 0.012_373_986_3)]);
        close(1, &[(1, 0.030_392_564_9)]);
        close(10, &[(6, 0.011_289_184_4), (7, 0.001_084_801_92)]);
        close(64, &[(42, 0.006_749_682_7), (43, 0.018_091_517_6)]);
        assert_eq!((at(127)[0].0, at(127).len()), (191, 9));
    }

    #[test]
    fn hertz_and_mel_undo_each_other() {
        for f in [0.0, 40.0, 999.0, 1_000.0, 1_001.0, 7_999.0] {
            assert!((hertz(mel(f)) - f).abs() < 1e-9 * f.max(1.0), "{f}");
        }
    }
}
