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
//! for the time that the screen shines. The law is fitted to what every configuration that ran did on average, and what is left between the two corrects it there and nearby (`Residuals`).

use super::least_squares::LeastSquares;
use super::recollection::{Recollection, Seen};
use super::residuals::{Place, Residuals, nearness};
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
    pub(super) rate: f64,
    pub(super) watts: f64,
    /// One bit for a cluster that takes part.
    pub(super) mask: usize,
}

impl Part {
    /// What both add.
    pub(super) fn and(self, other: Self) -> Self {
        Self { rate: self.rate + other.rate, watts: self.watts + other.watts, mask: self.mask | other.mask }
    }
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
    /// Seconds of work that were observed.
    observed: u32,
    /// What was measured, by phase.
    seen: [Recollection; 2],
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

/// Seconds after which the law is fitted again where a configuration is known well.
const FIT_EACH_S: u32 = 8;

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
            observed: 0,
            seen: Default::default(),
        }
    }

    /// What a configuration is expected to do: what the law says, corrected by what was measured on it and near it.
    #[must_use]
    pub fn point(&self, on: &Configuration, phase: Phase) -> Point {
        let place = self.place(&on.shares);
        let mut near = Residuals::default();
        for seen in self.seen[phase as usize].iter().filter(|seen| nearness(&place, &seen.place).is_some()) {
            self.add_residual(&mut near, seen, phase);
        }
        near.correct(self.law(on, phase), &place)
    }

    /// What the device draws on top of which cores draw, in W: P₀. It is a little more than an idle device draws, since memory
    /// and the ways to it are awake whichever cores run.
    #[must_use]
    pub fn idle_w(&self) -> f64 {
        self.watts.coefficients()[0]
    }

    pub(super) fn law(&self, on: &Configuration, phase: Phase) -> Point {
        let parts = on.shares.iter().enumerate().map(|(cluster, share)| self.part(cluster, *share));
        self.together(parts.fold(Part::default(), Part::and), phase)
    }

    /// What was measured in a phase against the law.
    pub(super) fn residuals(&self, phase: Phase) -> Residuals<'_> {
        let mut residuals = Residuals::default();
        self.seen[phase as usize].iter().for_each(|seen| self.add_residual(&mut residuals, seen, phase));
        residuals
    }

    /// The configurations that ran lately.
    pub(super) fn remembered(&self) -> impl Iterator<Item = &Configuration> {
        self.seen.iter().flat_map(Recollection::iter).map(|seen| &seen.on)
    }

    /// Where a configuration stands in each cluster.
    pub(super) fn place(&self, shares: &[Share]) -> Place {
        let of = |(clocks, share): (&Clocks, &Share)| (clocks.relative(share.clock), share.cores as f64);
        self.clusters.iter().zip(shares).map(of).collect()
    }

    fn add_residual<'a>(&self, residuals: &mut Residuals<'a>, seen: &'a Seen, phase: Phase) {
        let Seen { on, place, rate, watts } = seen;
        let measured = Point { rate: rate.value, watts: watts.value };
        residuals.add(place, [rate.certainty(), watts.certainty()], measured, self.law(on, phase));
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
    pub(super) fn together(&self, sum: Part, phase: Phase) -> Point {
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
        let place = self.place(&on.shares);
        if phase == Phase::Compute && !self.scaled {
            // What the kernel calls capacity has no unit; the first measurement gives it one.
            let scale = rate / self.rates.predict(&cores_by_clock(&place)).max(1e-12);
            let prior = self.rates.coefficients().iter().map(|c| c * scale).collect();
            self.rates = LeastSquares::new(prior, 1e-2);
            self.scaled = true;
            if let Some((_, operations)) = &mut self.unit {
                *operations *= scale;
            }
        }
        let seen = &mut self.seen[phase as usize];
        seen.add(on, place, rate, watts.filter(|w| w.is_finite() && *w > 0.0));
        // What was watched for long does not change the law from one second to the next.
        self.observed = self.observed.wrapping_add(1);
        let certain = seen.last().is_some_and(|seen| seen.rate.certainty() >= 1.0);
        if certain && !self.observed.is_multiple_of(FIT_EACH_S) {
            return;
        }
        match phase {
            Phase::Compute => {
                self.fit_rates();
                self.fit_mixing(on);
                self.fit_watts();
            }
            Phase::Decode => {
                self.fit_decode_time(on, rate);
                self.fit_decode_watts();
            }
        }
    }

    fn fit_rates(&mut self) {
        self.rates.clear();
        for seen in self.seen[Phase::Compute as usize].iter() {
            let rate = seen.rate.value;
            // Relative errors count, whatever the rate.
            let weight = seen.rate.weight() / (rate * rate);
            self.rates.observe(&cores_by_clock(&seen.place), rate / self.mixing[self.mask(&seen.on)], weight);
        }
        self.rates.solve(4);
    }

    fn fit_mixing(&mut self, on: &Configuration) {
        let mask = self.mask(on);
        let predicted = self.rates.predict(&cores_by_clock(&self.place(&on.shares)));
        let rate = self.seen[Phase::Compute as usize].last().map_or(predicted, |seen| seen.rate.value);
        if mask.count_ones() > 1 && predicted > 0.0 {
            let ratio = (rate / predicted).clamp(0.5, 1.2);
            self.mixing[mask] += 0.1 * (ratio - self.mixing[mask]);
        }
    }

    fn fit_watts(&mut self) {
        self.watts.clear();
        for seen in self.seen[Phase::Compute as usize].iter().filter(|seen| seen.watts.weight() > 0.0) {
            let mut features = vec![1.0];
            for (x, cores) in &seen.place {
                features.extend([1, 3, 6].map(|power| cores * x.powi(power)));
            }
            let watts = seen.watts.value;
            // A gauge that said next to nothing once does not outweigh all others.
            let scale = watts.max(self.law(&seen.on, Phase::Compute).watts / 2.0);
            self.watts.observe(&features, watts, seen.watts.weight() / (scale * scale));
        }
        self.watts.solve(8);
    }

    fn fit_decode_time(&mut self, on: &Configuration, rate: f64) {
        let operations = self.law(on, Phase::Compute).rate;
        let (unit, _) = *self.unit.get_or_insert((1.0 / rate, operations));
        self.decode_time.clear();
        for seen in self.seen[Phase::Decode as usize].iter() {
            let time = (1.0 / (seen.rate.value * unit)).powi(4);
            let operations = self.law(&seen.on, Phase::Compute).rate;
            let features = [1.0, 1.0 / self.relative_rate(operations).powi(4)];
            self.decode_time.observe(&features, time, seen.rate.weight() / (time * time));
        }
        self.decode_time.solve(8);
    }

    fn fit_decode_watts(&mut self) {
        let idle_w = self.watts.coefficients()[0];
        let unit = self.unit.map_or(1.0, |(seconds, _)| seconds);
        self.decode_watts.clear();
        for seen in self.seen[Phase::Decode as usize].iter().filter(|seen| seen.watts.weight() > 0.0) {
            let busy_cores = self.law(&seen.on, Phase::Compute);
            let (seconds, busy) = self.decode_seconds(busy_cores.rate);
            let above = busy_cores.watts - idle_w;
            let watts = seen.watts.value;
            let scale = watts.max(busy_cores.watts / 4.0);
            let weight = seen.watts.weight() / (scale * scale);
            self.decode_watts.observe(&[above, above * busy, unit / seconds], (watts - idle_w).max(0.0), weight);
        }
        self.decode_watts.solve(4);
    }
}

/// Cores times relative clock of each cluster: what rates are proportional to.
fn cores_by_clock(place: &Place) -> Vec<f64> {
    place.iter().map(|(clock, cores)| cores * clock).collect()
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
