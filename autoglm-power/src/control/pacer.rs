//! How much time a step may take: as much as nobody misses.

/// Keeps a deadline with as little haste as it allows. Its slowdown is the factor that a
/// [`Selector`](super::Selector) takes: how much longer than on the reference a step may take.
#[derive(Debug, Clone)]
pub struct Pacer {
    /// The slowdown that is aimed at where there is no deadline.
    aim: f64,
    /// What the selector is asked for so that the aim is met: steps that took longer make it less.
    asked: f64,
}

/// What a selector may be asked for.
const LEAST: f64 = 1.0;
const MOST: f64 = 3.0;

/// How fast what is asked for follows what steps took.
const FOLLOWS: f64 = 0.3;

impl Pacer {
    /// Without a deadline, steps take `aim` times what they take on the reference.
    #[must_use]
    pub fn new(aim: f64) -> Self {
        let aim = aim.clamp(LEAST, MOST);
        Self { aim, asked: aim }
    }

    /// The slowdown of the next step. With a deadline, `left_s` from now, it is the one that just keeps it with a
    /// margin of a tenth, where `reference_s` is what the step takes on the reference.
    #[must_use]
    pub fn step(&self, deadline: Option<(f64, f64)>) -> f64 {
        match deadline {
            Some((left_s, reference_s)) if left_s.is_finite() && reference_s > 0.0 => {
                (0.9 * left_s / reference_s).clamp(LEAST, MOST)
            }
            _ => self.asked,
        }
    }

    /// A step without a deadline took `took_s` where the reference takes `reference_s`, and was not slowed by heat.
    pub fn done(&mut self, took_s: f64, reference_s: f64) {
        let ratio = took_s / reference_s;
        if ratio.is_finite() && ratio > 0.0 {
            // Never asked for more than is aimed at: what was saved in one step is not spent in another.
            self.asked = (self.asked + FOLLOWS * (self.aim - ratio)).clamp(LEAST, self.aim);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_is_near_asks_for_haste_and_a_far_one_for_none() {
        let pacer = Pacer::new(1.1);
        assert_eq!(pacer.step(None), 1.1);
        assert_eq!(pacer.step(Some((10.0, 100.0))), 1.0);
        assert!((pacer.step(Some((200.0, 100.0))) - 1.8).abs() < 1e-12);
        assert_eq!(pacer.step(Some((1e9, 100.0))), 3.0);
    }

    #[test]
    fn steps_that_take_too_long_are_made_up_for() {
        let mut pacer = Pacer::new(1.1);
        (0..20).for_each(|_| pacer.done(pacer.step(None) * 1.05 * 100.0, 100.0));
        assert!((pacer.step(None) * 1.05 - 1.1).abs() < 0.01, "{pacer:?}");
    }
}
