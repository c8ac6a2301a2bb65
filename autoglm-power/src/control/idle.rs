//! When memory is given back while nothing is asked for: a multi-slope ski rental that learns how long it will be.
//!
//! Memory rests on [`Level`]s, each of which costs less while it lasts and more to wake from. Between two neighbours the
//! choice is a ski rental of its own: staying costs Δp a second, going costs ΔE once. Going after ΔE/Δp seconds never costs
//! more than twice of what knowing the next request would (Karlin et al.; Augustine, Irani & Swamy for several levels).
//! Where the lengths of gaps are known, a threshold below that is cheaper:
//!
//! ```text
//! θ* = argmin_θ≤ΔE/Δp  Σ_gaps w(gap) · (min(gap, θ) Δp + [gap > θ] ΔE)
//! ```
//!
//! The learned threshold is used as long as what it cost so far, over all gaps that there were, is not more than what the
//! fixed one would have cost and one waking beyond; so whoever plays against it gains that one.

/// A way to rest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// What it costs, in W.
    pub watts: f64,
    /// What waking from it costs, in J.
    pub wake_j: f64,
}

/// How deep memory rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Depth {
    /// Weights, keys and values are in memory.
    Hot,
    /// Keys and values are on disk, the weights still mapped.
    Spilled,
    /// The weights are gone too.
    Dropped,
    /// The process is gone, and with it what the system or a card keeps for it.
    Exited,
}

/// After how many seconds each depth is gone to; infinite for never.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// To [`Depth::Spilled`].
    pub spill_s: f64,
    /// To [`Depth::Dropped`].
    pub drop_s: f64,
    /// To [`Depth::Exited`].
    pub exit_s: f64,
}

impl Thresholds {
    /// Nothing is ever given back.
    pub const NEVER: Self = Self { spill_s: f64::INFINITY, drop_s: f64::INFINITY, exit_s: f64::INFINITY };

    /// How deep it rests after so many seconds.
    #[must_use]
    pub fn depth(&self, idle_s: f64) -> Depth {
        if idle_s >= self.exit_s {
            Depth::Exited
        } else if idle_s >= self.drop_s {
            Depth::Dropped
        } else if idle_s >= self.spill_s {
            Depth::Spilled
        } else {
            Depth::Hot
        }
    }
}

/// Decides how deep to rest.
#[derive(Debug, Clone)]
pub struct IdleManager {
    /// What each depth costs, from [`Depth::Hot`].
    levels: [Level; LEVELS],
    /// Gaps by their length, older ones fading.
    gaps: [f64; BUCKETS],
    /// What the learned and the fixed thresholds would have cost over all gaps, in J.
    learned_j: f64,
    fixed_j: f64,
}

const LEVELS: usize = 4;

/// Buckets of gaps: from a second, each √2 longer than the one before, up to four days.
const BUCKETS: usize = 37;
const FACTOR: f64 = std::f64::consts::SQRT_2;

/// What gaps are thought to be before any was seen: most are the seconds between two steps of a task, the rest the hours
/// between two tasks. They count as two gaps.
const ASSUMED: [(f64, f64); 4] = [(3.0, 1.2), (900.0, 0.2), (3600.0, 0.3), (10_800.0, 0.3)];

/// Gaps fade to a half over thirty of them.
const FADE: f64 = 0.977;

/// Above this share of time in which all tasks wait for memory, it is given back one depth earlier.
const PRESSED: f64 = 0.1;

impl IdleManager {
    /// With what each depth costs, from [`Depth::Hot`] on.
    #[must_use]
    pub fn new(levels: [Level; 4]) -> Self {
        let mut gaps = [0.0; BUCKETS];
        for (seconds, weight) in ASSUMED {
            gaps[bucket(seconds)] += weight;
        }
        Self { levels, gaps, learned_j: 0.0, fixed_j: 0.0 }
    }

    /// What the depths cost was measured anew.
    pub fn set_levels(&mut self, levels: [Level; 4]) {
        self.levels = levels;
    }

    /// The next request came after so many seconds.
    pub fn woken(&mut self, gap_s: f64) {
        if !gap_s.is_finite() || gap_s < 0.0 {
            return;
        }
        self.learned_j += self.cost(&self.learned(), gap_s);
        self.fixed_j += self.cost(&self.fixed(), gap_s);
        self.gaps.iter_mut().for_each(|weight| *weight *= FADE);
        self.gaps[bucket(gap_s)] += 1.0;
    }

    /// When each depth is gone to if nothing is asked for.
    #[must_use]
    pub fn thresholds(&self) -> Thresholds {
        let allowance = self.levels.iter().map(|level| level.wake_j).fold(0.0, f64::max);
        if self.learned_j <= self.fixed_j + allowance { self.learned() } else { self.fixed() }
    }

    /// How deep to rest now. Pressure for memory, a fraction of time, counts as one depth.
    #[must_use]
    pub fn step(&self, idle_s: f64, memory_pressure: Option<f64>) -> Depth {
        let depth = self.thresholds().depth(idle_s);
        if memory_pressure.is_some_and(|pressure| pressure > PRESSED) {
            return match depth {
                Depth::Hot => Depth::Spilled,
                Depth::Spilled | Depth::Dropped => Depth::Dropped,
                Depth::Exited => Depth::Exited,
            };
        }
        depth
    }

    /// Energy of a gap of so many seconds, waking included, in J.
    #[must_use]
    pub fn cost(&self, at: &Thresholds, gap_s: f64) -> f64 {
        let begins = [0.0, at.spill_s, at.drop_s, at.exit_s];
        let mut energy = 0.0;
        for (index, level) in self.levels.iter().enumerate() {
            let next = begins[index + 1..].iter().copied().fold(f64::INFINITY, f64::min).min(gap_s);
            energy += level.watts * (next - begins[index].min(next)).max(0.0);
        }
        energy + self.levels[at.depth(gap_s) as usize].wake_j
    }

    /// Break-even thresholds: at most twice of the best, whatever comes.
    fn fixed(&self) -> Thresholds {
        self.along(|delta_w, delta_j| delta_j / delta_w)
    }

    /// The cheapest thresholds for gaps as they were, at most the break-even ones.
    fn learned(&self) -> Thresholds {
        self.along(|delta_w, delta_j| {
            let break_even = delta_j / delta_w;
            let expected = |threshold: f64| -> f64 {
                let gaps = self.gaps.iter().enumerate().filter(|(_, weight)| **weight > 0.0);
                let cost = |(index, weight): (usize, &f64)| {
                    let gap = middle(index);
                    weight * (gap.min(threshold) * delta_w + if gap > threshold { delta_j } else { 0.0 })
                };
                gaps.map(cost).sum()
            };
            // Between the ends of buckets the cost only rises.
            let ends = (0..BUCKETS).map(|index| middle(index) * FACTOR).take_while(|end| *end < break_even);
            let candidates = ends.chain([break_even]);
            candidates.map(|t| (expected(t), t)).min_by(|a, b| a.0.total_cmp(&b.0)).map_or(break_even, |best| best.1)
        })
    }

    /// Thresholds of all levels that are worth going to, from those of neighbours. A level is left out where the next one is
    /// gone to no later.
    fn along(&self, threshold: impl Fn(f64, f64) -> f64) -> Thresholds {
        let mut at = [0.0, f64::INFINITY, f64::INFINITY, f64::INFINITY];
        let mut stack = vec![0];
        for next in 1..LEVELS {
            loop {
                let from = stack[stack.len() - 1];
                let delta_w = self.levels[from].watts - self.levels[next].watts;
                let delta_j = self.levels[next].wake_j - self.levels[from].wake_j;
                // Resting deeper for nothing is worth it at once, and for no gain never.
                let begins = if delta_w <= 0.0 { f64::INFINITY } else { threshold(delta_w, delta_j.max(0.0)) };
                if begins.is_infinite() {
                    break;
                }
                if stack.len() > 1 && begins <= at[from] {
                    at[from] = f64::INFINITY;
                    stack.pop();
                    continue;
                }
                at[next] = begins;
                stack.push(next);
                break;
            }
        }
        Thresholds { spill_s: at[1], drop_s: at[2], exit_s: at[3] }
    }
}

fn bucket(seconds: f64) -> usize {
    let index = (seconds.max(1.0).ln() / FACTOR.ln()).floor();
    (index as usize).min(BUCKETS - 1)
}

/// The middle of a bucket, in s.
fn middle(index: usize) -> f64 {
    FACTOR.powf(index as f64 + 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A phone: 20 mW for what a reload gives back for 9 J.
    const PHONE: [Level; 4] = [
        Level { watts: 0.020, wake_j: 0.0 },
        Level { watts: 0.018, wake_j: 0.4 },
        Level { watts: 0.001, wake_j: 9.0 },
        Level { watts: 0.0, wake_j: 11.0 },
    ];

    fn best(manager: &IdleManager, gap_s: f64) -> f64 {
        manager.levels.iter().map(|level| level.watts * gap_s + level.wake_j).fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn break_even_never_costs_more_than_twice_the_best() {
        for scale in [0.1, 1.0, 20.0, 400.0] {
            let levels = PHONE.map(|level| Level { watts: level.watts * scale, ..level });
            let manager = IdleManager::new(levels);
            let fixed = manager.fixed();
            for step in 0..4000 {
                let gap = 1.01_f64.powi(step / 2) * 0.5;
                let (cost, best) = (manager.cost(&fixed, gap), best(&manager, gap));
                assert!(cost <= 2.0 * best * 1.0001 + 1e-9, "{scale}: {gap} s costs {cost} J and {best} J at best");
            }
        }
    }

    #[test]
    fn hours_after_seconds_are_learned() {
        let mut manager = IdleManager::new(PHONE);
        let (mut cost, mut optimum) = (0.0, 0.0);
        for _ in 0..20 {
            for gap in [2.0, 2.0, 2.0, 2.0, 2.0, 7200.0] {
                cost += manager.cost(&manager.thresholds(), gap);
                optimum += best(&manager, gap);
                manager.woken(gap);
            }
        }
        assert!(cost < 1.15 * optimum, "{cost} J where {optimum} J would do");
    }

    #[test]
    fn whoever_plays_against_it_gains_no_more_than_one_waking() {
        let mut manager = IdleManager::new(PHONE);
        let (mut cost, mut optimum) = (0.0, 0.0);
        for _ in 0..400 {
            // Just after it let go.
            let at = manager.thresholds();
            let gap =
                [at.spill_s, at.drop_s, at.exit_s].into_iter().filter(|t| t.is_finite()).fold(1.0, f64::max) + 0.1;
            cost += manager.cost(&at, gap);
            optimum += best(&manager, gap);
            manager.woken(gap);
        }
        assert!(cost <= 2.0 * optimum + 2.0 * 11.0, "{cost} J where {optimum} J would do");
    }

    #[test]
    fn pressure_for_memory_goes_one_deeper() {
        let manager = IdleManager::new(PHONE);
        assert_eq!(manager.step(0.0, Some(0.0)), Depth::Hot);
        assert_eq!(manager.step(0.0, Some(0.5)), Depth::Spilled);
        assert_eq!(manager.step(1e9, Some(0.5)), Depth::Exited);
        assert_eq!(manager.step(1e9, None), Depth::Exited);
    }

    #[test]
    fn a_level_that_is_never_worth_it_is_passed_over() {
        let mut levels = PHONE;
        levels[1] = Level { watts: 0.0199, wake_j: 8.0 };
        let fixed = IdleManager::new(levels).fixed();
        assert!(fixed.spill_s.is_infinite() && fixed.drop_s.is_finite());
        let free = [Level { watts: 0.02, wake_j: 0.0 }; 4];
        let never = IdleManager::new(free).thresholds();
        assert!(never.spill_s.is_infinite() && never.drop_s.is_infinite() && never.exit_s.is_infinite());
    }
}
