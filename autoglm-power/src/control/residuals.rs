//! What was measured against what the law says: no law of a few coefficients knows every step of a table of voltages.

use super::curve::Point;

/// Where a configuration stands in each cluster: its clock over the highest, and its cores.
pub(super) type Place = Vec<(f64, f64)>;

/// Where a configuration that ran stands, how much rate and power that were measured count, from 0 to 1, and the logarithm of
/// each over the law's.
#[derive(Debug)]
struct Residual<'a> {
    place: &'a Place,
    counts: [f64; 2],
    logs: [f64; 2],
}

/// What was measured on configurations that ran.
#[derive(Debug, Default)]
pub(super) struct Residuals<'a> {
    of: Vec<Residual<'a>>,
}

/// How far apart two configurations are of which one says little of the other, in clocks over the highest: what the law misses
/// are steps of voltage.
const CLOCKS_APART: f64 = 0.15;

/// The same in shares of the cores: all of them are at one voltage.
const CORES_APART: f64 = 0.6;

/// Beyond this sum of squares of distances nothing is near: e to its negative is a hundred-thousandth.
const FAR: f64 = 12.0;

/// How many certain measurements of a configuration the law counts as much as.
const TRUST_IN_LAW: f64 = 0.2;

/// A law is not wronger than by this factor: sensors are.
const AT_MOST: f64 = 2.0;

impl<'a> Residuals<'a> {
    /// Adds what was measured, which counts so much for rate and power, and what the law says.
    pub(super) fn add(&mut self, place: &'a Place, counts: [f64; 2], measured: Point, law: Point) {
        let log = |measured: f64, law: f64| (measured / law).clamp(1.0 / AT_MOST, AT_MOST).ln();
        let logs = [log(measured.rate, law.rate), log(measured.watts, law.watts)];
        self.of.push(Residual { place, counts, logs });
    }

    /// What the law says of a configuration, corrected by what was measured on it and near it.
    pub(super) fn correct(&self, law: Point, place: &Place) -> Point {
        // Where nothing was measured near it, the law is as good as anything.
        let mut sums = [(0.0, TRUST_IN_LAW); 2];
        for residual in &self.of {
            let Some(near) = nearness(place, residual.place) else { continue };
            for (index, (sum, weight)) in sums.iter_mut().enumerate() {
                let counts = near * residual.counts[index];
                if counts > 0.0 {
                    *sum += counts * residual.logs[index];
                    *weight += counts;
                }
            }
        }
        let [rate, watts] = sums.map(|(sum, weight)| (sum / weight).exp());
        Point { rate: law.rate * rate, watts: law.watts * watts }
    }
}

/// 1 for the same configuration and less for others; none for those of other clusters and for what is far away.
pub(super) fn nearness(a: &Place, b: &Place) -> Option<f64> {
    let mut squares = 0.0;
    for ((a_clock, a_cores), (b_clock, b_cores)) in a.iter().zip(b) {
        if (*a_cores > 0.0) != (*b_cores > 0.0) {
            return None;
        }
        if *a_cores > 0.0 {
            let cores = (a_cores - b_cores) / a_cores.max(*b_cores);
            squares += ((a_clock - b_clock) / CLOCKS_APART).powi(2) + (cores / CORES_APART).powi(2);
        }
    }
    (squares < FAR).then(|| (-squares).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All cores of the first of two clusters.
    fn at(clock: f64) -> Place {
        vec![(clock, 4.0), (0.0, 0.0)]
    }

    #[test]
    fn what_was_measured_is_believed_there_and_less_the_farther_away() {
        let (measured, law) = (Point { rate: 1.0, watts: 1.5 }, Point { rate: 1.0, watts: 1.0 });
        let there = at(0.5);
        let mut residuals = Residuals::default();
        assert_eq!(residuals.correct(law, &there), law, "nothing was measured");
        residuals.add(&there, [1.0, 1.0], measured, law);
        let watts = |clock| residuals.correct(law, &at(clock)).watts;
        assert!((1.35..1.5).contains(&watts(0.5)), "{}", watts(0.5));
        assert!(watts(0.5) > watts(0.6) && watts(0.6) > watts(0.8) && (1.0..1.01).contains(&watts(1.0)));
        assert_eq!(residuals.correct(law, &at(0.5)).rate, 1.0);
        let half = vec![(1.0, 2.0), (0.0, 0.0)];
        assert!(
            residuals.correct(law, &half).watts < 1.01,
            "half of the cores at twice the clock have another voltage"
        );
        let others = vec![(0.0, 0.0), (0.5, 4.0)];
        assert_eq!(residuals.correct(law, &others), law, "other clusters have other voltages");
    }

    #[test]
    fn what_counts_nothing_and_what_is_no_number_changes_nothing() {
        let (there, law) = (at(0.3), Point { rate: 2.0, watts: 1.0 });
        let mut residuals = Residuals::default();
        residuals.add(&there, [1.0, 0.0], Point { rate: 2.0, watts: f64::NAN }, law);
        assert_eq!(residuals.correct(law, &there), law);
    }
}
