//! Logits into the next id: penalties, temperature, truncation, one draw.
//!
//! The meanings are vLLM's, which the AutoGLM client was written against. In this order:
//!
//! 1. repetition penalty r, over every id of the prompt and the reply: a positive logit is divided by
//!    r, another one multiplied;
//! 2. frequency penalty f and presence penalty p, over the reply only: an id that came up k > 0 times
//!    loses f·k + p;
//! 3. temperature 0 takes the largest logit, and of equal ones the lowest id, as `torch.argmax`;
//!    otherwise the logits are divided by the temperature;
//! 4. min-p drops ids less probable than that fraction of the most probable one; top-k drops logits
//!    below the k-th largest (equal ones stay); top-p keeps the fewest ids, the most probable first,
//!    whose probabilities among those left reach p;
//! 5. one draw from what is left.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use autoglm_core::TokenId;

use crate::{Error, Result};

/// How the next id is chosen. Greedy unless a temperature is set; penalties apply to both.
///
/// Values are checked when a [`Sampler`] is made.
///
/// ```
/// use autoglm_text::Sampling;
///
/// let sampling = Sampling::default().temperature(0.7).top_p(0.9).seed(42);
/// assert!(!sampling.is_greedy());
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    repetition_penalty: f32,
    frequency_penalty: f32,
    presence_penalty: f32,
    seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self::greedy()
    }
}

impl Sampling {
    /// The most probable id each time.
    #[must_use]
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: 0,
        }
    }

    /// Divides the logits, from 0 (greedy) up; 1 samples from the model's own probabilities.
    #[must_use]
    pub fn temperature(self, temperature: f32) -> Self {
        Self { temperature, ..self }
    }

    /// Keeps the k largest logits; 0 keeps all.
    #[must_use]
    pub fn top_k(self, top_k: usize) -> Self {
        Self { top_k, ..self }
    }

    /// Keeps the most probable ids that reach this probability together, above 0 and up to 1.
    #[must_use]
    pub fn top_p(self, top_p: f32) -> Self {
        Self { top_p, ..self }
    }

    /// Drops ids less probable than this fraction of the most probable one, from 0 to 1.
    #[must_use]
    pub fn min_p(self, min_p: f32) -> Self {
        Self { min_p, ..self }
    }

    /// Weakens ids of the prompt and the reply, above 0; 1 is none.
    #[must_use]
    pub fn repetition_penalty(self, repetition_penalty: f32) -> Self {
        Self { repetition_penalty, ..self }
    }

    /// Subtracted from a logit for each time its id came up in the reply, from -2 to 2.
    #[must_use]
    pub fn frequency_penalty(self, frequency_penalty: f32) -> Self {
        Self { frequency_penalty, ..self }
    }

    /// Subtracted from a logit if its id came up in the reply, from -2 to 2.
    #[must_use]
    pub fn presence_penalty(self, presence_penalty: f32) -> Self {
        Self { presence_penalty, ..self }
    }

    /// Starts the random numbers: equal seeds and logits draw equal ids. 0 unless set.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Whether no random number is drawn.
    #[must_use]
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    fn check(&self) -> Result<()> {
        // A comparison with NaN is false, so NaN is outside of every range.
        let options = [
            (
                "temperature",
                self.temperature,
                (0.0..f32::INFINITY).contains(&self.temperature),
                "must be 0 or above, and finite",
            ),
            ("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "must be above 0 and at most 1"),
            ("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "must be from 0 to 1"),
            (
                "repetition_penalty",
                self.repetition_penalty,
                self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite(),
                "must be above 0, and finite",
            ),
            (
                "frequency_penalty",
                self.frequency_penalty,
                (-2.0..=2.0).contains(&self.frequency_penalty),
                "must be from -2 to 2",
            ),
            (
                "presence_penalty",
                self.presence_penalty,
                (-2.0..=2.0).contains(&self.presence_penalty),
                "must be from -2 to 2",
            ),
        ];
        match options.into_iter().find(|(_, _, fits, _)| !fits) {
            Some((option, got, _, why)) => Err(Error::Sampling { option, got: f64::from(got), why }),
            None => Ok(()),
        }
    }
}

/// Chooses the ids of one reply, and remembers them for the penalties.
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    prompt: HashSet<TokenId>,
    /// How often each id came up in the reply.
    counts: HashMap<TokenId, u32>,
    random: fastrand::Rng,
}

impl Sampler {
    /// A sampler for a reply to `prompt`, of which only the repetition penalty takes notice.
    ///
    /// # Errors
    /// [`Error::Sampling`] naming the first option outside its range.
    pub fn new(sampling: Sampling, prompt: &[TokenId]) -> Result<Self> {
        sampling.check()?;
        let prompt = if sampling.repetition_penalty == 1.0 { HashSet::new() } else { prompt.iter().copied().collect() };
        Ok(Self { sampling, prompt, counts: HashMap::new(), random: fastrand::Rng::with_seed(sampling.seed) })
    }

    /// Chooses the next id from `logits` (v) and counts it. The penalties change `logits` in place.
    ///
    /// # Errors
    /// - [`Error::Logit`] for NaN and +∞; −∞ rules an id out.
    /// - [`Error::NoCandidate`] when every id is ruled out.
    /// - [`autoglm_core::Error::TokenOutOfRange`] when the prompt has an id that has no logit.
    pub fn sample(&mut self, logits: &mut [f32]) -> Result<TokenId> {
        self.penalise(logits)?;
        let most = largest(logits)?;
        let chosen = if self.sampling.is_greedy() { most } else { self.draw(logits, logits[most]) };
        // `largest` checked that every place is a u32.
        let id = TokenId(chosen as u32);
        self.count(id);
        Ok(id)
    }

    /// Counts an id of the reply that somebody else chose, for the penalties of those that follow.
    pub fn count(&mut self, id: TokenId) {
        *self.counts.entry(id).or_insert(0) += 1;
    }

    fn penalise(&self, logits: &mut [f32]) -> Result<()> {
        let Sampling { repetition_penalty, frequency_penalty, presence_penalty, .. } = self.sampling;
        let vocab_size = logits.len();
        let mut at = |id: TokenId, change: &dyn Fn(f32) -> f32| match logits.get_mut(id.0 as usize) {
            Some(logit) => {
                *logit = change(*logit);
                Ok(())
            }
            None => Err(autoglm_core::Error::TokenOutOfRange { id, vocab_size }),
        };
        if repetition_penalty != 1.0 {
            let only_in_reply = self.counts.keys().filter(|id| !self.prompt.contains(id));
            for id in self.prompt.iter().chain(only_in_reply) {
                at(*id, &|x| if x > 0.0 { x / repetition_penalty } else { x * repetition_penalty })?;
            }
        }
        if frequency_penalty != 0.0 || presence_penalty != 0.0 {
            for (id, count) in &self.counts {
                at(*id, &|x| x - frequency_penalty * *count as f32 - presence_penalty)?;
            }
        }
        Ok(())
    }

    /// Draws by temperature, min-p, top-k and top-p. `most` is the largest logit, which stays.
    fn draw(&mut self, logits: &[f32], most: f32) -> usize {
        let Sampling { temperature, top_k, top_p, min_p, .. } = self.sampling;
        // Probabilities relative to the largest, in f64: the sum over 151 552 of them stays exact
        // enough for a cut at 0.999, and no temperature overflows.
        let weight = |logit: f32| ((f64::from(logit) - f64::from(most)) / f64::from(temperature)).exp();
        let mut left: Vec<(usize, f64)> = logits.iter().map(|x| weight(*x)).enumerate().collect();
        if top_k > 0 && top_k < left.len() {
            let (_, kth, _) = left.select_nth_unstable_by(top_k - 1, by_weight);
            let kth = logits[kth.0];
            left.retain(|(place, _)| logits[*place] >= kth);
        }
        let min_p = f64::from(min_p);
        left.retain(|(_, weight)| *weight > 0.0 && *weight >= min_p);
        if top_p < 1.0 {
            keep_nucleus(&mut left, f64::from(top_p));
        }
        // The order of places, whatever the selections above made of it: draws depend on the seed only.
        left.sort_unstable_by_key(|(place, _)| *place);
        let total: f64 = left.iter().map(|(_, weight)| weight).sum();
        let mut mark = self.random.f64() * total;
        for (place, weight) in &left {
            mark -= weight;
            if mark < 0.0 {
                return *place;
            }
        }
        // The sums were rounded in another order than the differences: the mark lies at the very end.
        left.last().expect("the largest logit has weight one and is never dropped").0
    }
}

/// Heavier first, and of equal ones the lower place.
fn by_weight(a: &(usize, f64), b: &(usize, f64)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// Keeps the heaviest until they reach the fraction `top_p` of all.
fn keep_nucleus(left: &mut Vec<(usize, f64)>, top_p: f64) {
    let goal = top_p * left.iter().map(|(_, weight)| weight).sum::<f64>();
    // Sorting all of a large vocabulary costs more than everything else here, and a few dozen usually
    // reach the goal: sort a head, and a four times longer one as long as it falls short.
    let mut head = 64;
    loop {
        let sorted = head.min(left.len());
        if sorted < left.len() {
            left.select_nth_unstable_by(sorted, by_weight);
        }
        left[..sorted].sort_unstable_by(by_weight);
        let mut reached = 0.0;
        let enough = left[..sorted].iter().position(|(_, weight)| {
            reached += weight;
            reached >= goal
        });
        match enough {
            Some(last) => return left.truncate(last + 1),
            None if sorted == left.len() => return,
            None => head *= 4,
        }
    }
}

/// Place of the largest logit, the first of equal ones.
fn largest(logits: &[f32]) -> Result<usize> {
    let mut most: Option<usize> = None;
    for (place, logit) in logits.iter().enumerate() {
        if logit.is_nan() || *logit == f32::INFINITY || u32::try_from(place).is_err() {
            return Err(Error::Logit { id: place as u32, got: *logit });
        }
        if *logit > most.map_or(f32::NEG_INFINITY, |m| logits[m]) {
            most = Some(place);
        }
    }
    most.ok_or(Error::NoCandidate { logits: logits.len() })
}

#[cfg(test)]
mod tests;
