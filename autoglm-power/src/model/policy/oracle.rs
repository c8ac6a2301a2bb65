//! `oracle`: knows the device, the air and the next request, which no device does. What it gains over `ours` is what perfect
//! knowledge is worth under the same limits of time and heat.

use super::{Plan, Policy, Request, Seen, Step, is_fast_by_lot};
use crate::control::{
    BodyLaw, FADE, HASTE_W, Limits, Phase, Point, SLOWDOWN, Thresholds, price_of_time, sustained_rate,
};
use crate::model::physics::Physics;
use crate::{Configuration, Share, Topology};

/// The best configuration of each second by the device's own constants.
pub(super) struct Oracle {
    /// Configurations than which none is both faster and cheaper, the slowest first, by phase.
    fronts: [Vec<(Point, Configuration)>; 2],
    /// The big cores at their highest and at their lowest clocks, by phase.
    reference: [[Point; 2]; 2],
    air: Air,
    /// Time that steps would have taken on the reference, by phase, older ones fading.
    shares_s: [f64; 2],
    /// Price of time, in W.
    price_w: f64,
    current: Configuration,
    lot: u64,
}

/// What becomes of heat.
struct Air {
    limits: Limits,
    ambient_c: f64,
    body: BodyLaw,
    junction_r: f64,
    /// What the phone draws with its screen on, in W.
    idle_w: f64,
}

impl Oracle {
    pub(super) fn new(topology: &Topology, lot: u64, truth: &Physics<'_>, ambient_c: f64) -> Self {
        let phases = [Phase::Compute, Phase::Decode];
        let big = Configuration::big_cores(topology);
        let idle = &truth.device.idle;
        let thermal = &truth.device.thermal;
        Self {
            fronts: phases.map(|phase| front(topology, truth, phase)),
            reference: phases.map(|phase| [truth.point(&big, phase), truth.point(&big.lowest_clocks(), phase)]),
            air: Air {
                limits: Limits::default(),
                ambient_c,
                body: BodyLaw {
                    a: 1.0 / thermal.body_c,
                    c: (idle.awake_w + idle.screen_w * truth.assumed.screen_heat) / thermal.body_c,
                    b: 1.0 / (thermal.body_r * thermal.body_c),
                },
                junction_r: thermal.junction_r,
                idle_w: idle.awake_w + idle.screen_w,
            },
            shares_s: [1.0, 0.3],
            price_w: 1.0,
            current: big,
            lot,
        }
    }

    /// The cheapest of a phase under a budget of inference, at a price of time.
    fn best(&self, phase: usize, budget_w: f64, price_w: f64) -> &(Point, Configuration) {
        let cost = |point: &Point| (point.watts + self.air.idle_w + price_w) / point.rate;
        let fits = self.fronts[phase].iter().filter(|(point, _)| point.watts <= budget_w);
        fits.min_by(|a, b| cost(&a.0).total_cmp(&cost(&b.0))).unwrap_or(&self.fronts[phase][0])
    }

    /// What the reference does on average if it may draw so much on average.
    fn sustained(&self, phase: usize, watts: f64) -> f64 {
        let [high, low] = self.reference[phase];
        sustained_rate(high, low, watts)
    }
}

impl Air {
    /// Power of inference that brings neither body nor junction to its limit.
    fn allows_w(&self, body_c: f64) -> f64 {
        let limits = &self.limits;
        let for_body = self.body.allows_w(limits, self.ambient_c, limits.body_limit(self.ambient_c) - body_c, 0.0);
        for_body.min((limits.junction_limit_c() - body_c) / self.junction_r)
    }
}

impl Policy for Oracle {
    fn request(&mut self, seen: &Seen, request: &Request) -> Plan {
        let body_c = seen.reading.body_c.unwrap_or(self.air.ambient_c);
        let bang_bang_w = (self.air.limits.hovers_at_c() - body_c) / self.air.junction_r;
        self.price_w = price_of_time(12, |price_w| {
            let takes = |phase: usize| {
                let best = self.best(phase, f64::INFINITY, price_w).0.rate;
                self.shares_s[phase] * self.sustained(phase, bang_bang_w) / best
            };
            takes(0) + takes(1) > SLOWDOWN * (self.shares_s[0] + self.shares_s[1])
        });
        self.shares_s = self.shares_s.map(|s| s * FADE);
        Plan { thinks: !is_fast_by_lot(self.lot, request.number), visual_share: 1.0, reuses: true }
    }

    fn run(&mut self, seen: &Seen, step: &Step) -> &Configuration {
        let phase = step.phase as usize;
        self.shares_s[phase] += step.done.unwrap_or(0.0) / self.reference[phase][0].rate;
        let budget_w = self.air.allows_w(seen.reading.body_c.unwrap_or(self.air.ambient_c));
        let cold = self.best(phase, f64::INFINITY, self.price_w).0;
        // Whom heat slows down anyway has no time to save energy with.
        let price_w = if cold.watts > budget_w { HASTE_W } else { self.price_w };
        let (_, on) = self.best(phase, budget_w, price_w);
        self.current = on.clone();
        &self.current
    }

    fn rest(&mut self, _: &Seen) -> Thresholds {
        Thresholds::NEVER
    }

    fn knows_the_future(&self) -> bool {
        true
    }
}

/// Configurations that are looked at, roughly, at most, whatever a device has.
const CONFIGURATIONS: f64 = 40_000.0;

/// Configurations of whole and half clusters than which none is both faster and cheaper.
fn front(topology: &Topology, truth: &Physics<'_>, phase: Phase) -> Vec<(Point, Configuration)> {
    let mut all = vec![Configuration::default()];
    // As many clocks of each cluster as keep all of them together within CONFIGURATIONS.
    let each = CONFIGURATIONS.powf(1.0 / topology.clusters.len().max(1) as f64) as usize;
    for cluster in &topology.clusters {
        let clocks = cluster.clocks_khz.len();
        let mut numbers = vec![cluster.cores.len(), cluster.cores.len().div_ceil(2)];
        numbers.dedup();
        let used = (0..clocks)
            .rev()
            .step_by(clocks.div_ceil((each / numbers.len()).max(1)))
            .chain([0])
            .flat_map(|clock| numbers.iter().map(move |cores| Share { cores: *cores, clock }));
        let choices: Vec<Share> = std::iter::once(Share::default()).chain(used).collect();
        let with = |on: &Configuration| -> Vec<Configuration> {
            let longer = |share: &Share| Configuration { shares: on.shares.iter().copied().chain([*share]).collect() };
            choices.iter().map(longer).collect()
        };
        all = all.iter().flat_map(with).collect();
    }
    let used = all.into_iter().filter(|on| on.threads() > 0);
    let mut points: Vec<(Point, Configuration)> = used.map(|on| (truth.point(&on, phase), on)).collect();
    points.sort_by(|a, b| a.0.watts.total_cmp(&b.0.watts).then(b.0.rate.total_cmp(&a.0.rate)));
    let mut fastest = 0.0;
    points.retain(|(point, _)| {
        let better = point.rate > fastest;
        fastest = f64::max(fastest, point.rate);
        better
    });
    points
}
