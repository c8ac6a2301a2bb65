//! How fast a device computes and what it draws on each configuration, learned while it works.
//!
//! ```text
//! S(k)  = Σ_c n_c s_c f_c · m(which clusters)             operations per second, many rows at once
//! t(k)⁴ = t_read⁴ + (t_one / S(k))⁴                        one row at a time: reading and computing overlap
//! P(k)  = P₀ + Σ_c n_c (a_c x_c + b_c x_c³ + d_c x_c⁶)     x_c = f_c / highest f_c, many rows at once
//! P₁(k) = P₀ + (P(k) − P₀)(σ + σ′ busy) + e / t(k)         one row at a time; busy = (t_one / S(k)) / t(k)
//! ```
//!
//! The powers of x stand for voltages that rise with the clock; all coefficients are non-negative, so more cores or a higher
//! clock never seem to draw less. P is what the whole device draws, its screen included: a slower configuration pays
//! for the time that the screen shines.

use super::least_squares::LeastSquares;
use crate::{Configuration, Share, Topology};

/// What is being computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Many rows at once, a picture or a prompt: bound by operations.
    Compute,
    /// One row at a time: bound by reading the weights.
    Decode,
}

/// What a configuration is expected to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Work per second, in the unit that it was measured in.
    pub rate: f64,
    /// Power, in W: of the whole device, where its gauge is what was learned from.
    pub watts: f64,
}

/// What the share of one cluster adds to rate and power.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Part {
    rate: f64,
    watts: f64,
    /// One bit for a cluster that takes part.
    mask: usize,
}

/// What was learned of a device.
#[derive(Debug, Clone)]
pub struct Curve {
    clusters: Vec<Clocks>,
    /// Rates per core and relative clock of each cluster.
    rates: LeastSquares,
    /// Measured over predicted rates, by which clusters take part.
    mixing: Vec<f64>,
    watts: LeastSquares,
    /// t_read⁴ and t_one⁴, in units of `unit`⁴.
    decode_time: LeastSquares,
    decode_watts: LeastSquares,
    /// Seconds per unit of decoded work on the first configuration measured, and the rate of operations expected there:
    /// they keep fourth powers near 1.
    unit: Option<(f64, f64)>,
    /// Scale of the rates, from the first measurement.
    scaled: bool,
}

#[derive(Debug, Clone)]
struct Clocks {
    /// Each clock over the highest.
    relative: Vec<f64>,
    /// Rate of a core at its highest clock against the fastest core's, as the kernel thinks.
    capacity: f64,
}

/// Powers of the relative clock in P(k).
const POWERS: usize = 3;

/// Observations fade to a third over so many: minutes of work, in which a device does not become another.
const FADE: f64 = 0.999;

/// The first guess of what a core of the highest capacity draws, in W, and of an idle device with its screen on.
const CORE_W: f64 = 1.5;
const AWAKE_W: f64 = 1.5;

impl Curve {
    /// Knows nothing but what the kernel says of the processor.
    #[must_use]
    pub fn new(topology: &Topology) -> Self {
        let clusters: Vec<Clocks> = topology.clusters.iter().map(Clocks::of).collect();
        let rates = clusters.iter().map(|c| c.capacity).collect();
        let core_w = |c: &Clocks| [0.2, 0.5, 0.3].map(|share| share * CORE_W * c.capacity.powf(1.5));
        let watts = std::iter::once(AWAKE_W).chain(clusters.iter().flat_map(core_w)).collect();
        let masks = 1 << clusters.len().min(16);
        Self {
            clusters,
            rates: LeastSquares::new(rates, 1e-4),
            mixing: vec![1.0; masks],
            watts: LeastSquares::new(watts, 0.02),
            decode_time: LeastSquares::new(vec![0.7, 0.3], 0.02),
            decode_watts: LeastSquares::new(vec![0.5, 0.5, 0.2], 0.02),
            unit: None,
            scaled: false,
        }
    }

    /// What a configuration is expected to do.
    #[must_use]
    pub fn point(&self, on: &Configuration, phase: Phase) -> Point {
        let parts = on.shares.iter().enumerate().map(|(cluster, share)| self.part(cluster, *share));
        self.together(parts, phase)
    }

    /// What the share of one cluster adds.
    pub(super) fn part(&self, cluster: usize, share: Share) -> Part {
        let Some(clocks) = self.clusters.get(cluster).filter(|_| share.cores > 0) else { return Part::default() };
        let (cores, x) = (share.cores as f64, clocks.relative(share.clock));
        let cubed = x * x * x;
        let first = 1 + cluster * POWERS;
        let powers = &self.watts.coefficients()[first..first + POWERS];
        Part {
            rate: cores * x * self.rates.coefficients()[cluster],
            watts: cores * (powers[0] * x + powers[1] * cubed + powers[2] * cubed * cubed),
            mask: 1 << cluster.min(15),
        }
    }

    /// What parts of all clusters do together.
    pub(super) fn together(&self, parts: impl Iterator<Item = Part>, phase: Phase) -> Point {
        let sum = parts.fold(Part::default(), |sum, part| Part {
            rate: sum.rate + part.rate,
            watts: sum.watts + part.watts,
            mask: sum.mask | part.mask,
        });
        let rate = (sum.rate * self.mixing[sum.mask & (self.mixing.len() - 1)]).max(1e-12);
        let idle_w = self.watts.coefficients()[0];
        match phase {
            Phase::Compute => Point { rate, watts: idle_w + sum.watts },
            Phase::Decode => {
                let (seconds, busy) = self.decode_seconds(rate);
                let unit = self.unit.map_or(1.0, |(seconds, _)| seconds);
                let features = [sum.watts, sum.watts * busy, unit / seconds];
                Point { rate: 1.0 / seconds, watts: idle_w + self.decode_watts.predict(&features) }
            }
        }
    }

    fn mask(&self, on: &Configuration) -> usize {
        let parts = on.shares.iter().enumerate().map(|(cluster, share)| self.part(cluster, *share).mask);
        parts.fold(0, |all, one| all | one) & (self.mixing.len() - 1)
    }

    /// Seconds per unit of decoded work at a rate of operations, and the share of them in which cores are busy.
    fn decode_seconds(&self, rate: f64) -> (f64, f64) {
        let unit = self.unit.map_or(1.0, |(seconds, _)| seconds);
        let [read, one] = self.decode_time.coefficients() else { return (unit, 0.5) };
        let relative = self.relative_rate(rate);
        let compute = one / relative.powi(4);
        let seconds = (read + compute).max(1e-12);
        (unit * seconds.sqrt().sqrt(), (compute / seconds).sqrt().sqrt())
    }

    /// A rate of operations over that of the first configuration on which one row at a time was computed.
    fn relative_rate(&self, rate: f64) -> f64 {
        self.unit.map_or(1.0, |(_, first)| (rate / first).max(1e-6))
    }

    /// Learns from a second of work on a configuration.
    pub fn observe(&mut self, on: &Configuration, phase: Phase, rate: f64, watts: Option<f64>) {
        let plausible = rate.is_finite() && rate > 0.0;
        if !plausible || on.threads() == 0 {
            return;
        }
        match phase {
            Phase::Compute => self.observe_compute(on, rate, watts),
            Phase::Decode => self.observe_decode(on, rate, watts),
        }
    }

    fn observe_compute(&mut self, on: &Configuration, rate: f64, watts: Option<f64>) {
        let features: Vec<f64> = self
            .clusters
            .iter()
            .zip(&on.shares)
            .map(|(c, share)| share.cores as f64 * c.relative(share.clock))
            .collect();
        if !self.scaled {
            // What the kernel calls capacity has no unit; the first measurement gives it one.
            let scale = rate / self.rates.predict(&features).max(1e-12);
            let prior = self.rates.coefficients().iter().map(|c| c * scale).collect();
            self.rates = LeastSquares::new(prior, 1e-2);
            self.scaled = true;
        }
        let mask = self.mask(on);
        // Relative errors count, whatever the rate.
        self.rates.observe(&features, rate / self.mixing[mask], 1.0 / (rate * rate), FADE);
        self.rates.solve(4);
        let predicted = self.rates.predict(&features);
        if mask.count_ones() > 1 && predicted > 0.0 {
            let ratio = (rate / predicted).clamp(0.5, 1.2);
            self.mixing[mask] += 0.1 * (ratio - self.mixing[mask]);
        }
        if let Some(watts) = watts.filter(|w| w.is_finite() && *w > 0.0) {
            let mut features = vec![1.0];
            for (clocks, share) in self.clusters.iter().zip(&on.shares) {
                let x = clocks.relative(share.clock);
                features.extend([1, 3, 6].map(|power| share.cores as f64 * x.powi(power)));
            }
            self.watts.observe(&features, watts, 1.0 / (watts * watts), FADE);
            self.watts.solve(4);
        }
    }

    fn observe_decode(&mut self, on: &Configuration, rate: f64, watts: Option<f64>) {
        let operations = self.point(on, Phase::Compute).rate;
        let (unit, _) = *self.unit.get_or_insert((1.0 / rate, operations));
        let time = (1.0 / (rate * unit)).powi(4);
        let features = [1.0, 1.0 / self.relative_rate(operations).powi(4)];
        self.decode_time.observe(&features, time, 1.0 / (time * time), FADE);
        self.decode_time.solve(8);
        if let Some(watts) = watts.filter(|w| w.is_finite() && *w > 0.0) {
            let idle_w = self.watts.coefficients()[0];
            let (seconds, busy) = self.decode_seconds(operations);
            let above = self.point(on, Phase::Compute).watts - idle_w;
            let features = [above, above * busy, unit / seconds];
            self.decode_watts.observe(&features, (watts - idle_w).max(0.0), 1.0 / (watts * watts), FADE);
            self.decode_watts.solve(4);
        }
    }
}

impl Clocks {
    fn of(cluster: &crate::Cluster) -> Self {
        let highest = cluster.clocks_khz.last().copied().unwrap_or(1).max(1);
        let relative = cluster.clocks_khz.iter().map(|khz| f64::from(*khz) / f64::from(highest)).collect();
        Self { relative, capacity: cluster.capacity.map_or(1.0, |c| (f64::from(c) / 1024.0).clamp(0.01, 1.0)) }
    }

    /// A clock over the highest; 1 where no clock is known.
    fn relative(&self, clock: usize) -> f64 {
        self.relative.get(clock).or(self.relative.last()).copied().unwrap_or(1.0)
    }
}
