//! Which neurons of a feed-forward network stay.

use faer::Mat;

use crate::{Error, Gram, Result, obs};

/// What neurons are chosen by. All but the first are there to be compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Criterion {
    /// The error that the removal of a neuron adds when all others are re-fitted, one removal after the other (Hassibi &
    /// Stork, "Optimal Brain Surgeon").
    Obs,
    /// Chance.
    Random,
    /// The size of a neuron's weights, ‖gate_j‖ · ‖up_j‖ · ‖down_j‖.
    Magnitude,
    /// ‖down_j‖₁ · √(mean of x_j²), the structured form of Sun et al., "Wanda" (An et al., "FLAP", call it Wanda-sp).
    Wanda,
    /// √(Σ over sequences of (mean |x_j|)²) (Muralidharan et al., "Minitron").
    Minitron,
}

impl Criterion {
    /// All of them, the default first.
    pub const ALL: [Self; 5] = [Self::Obs, Self::Random, Self::Magnitude, Self::Wanda, Self::Minitron];

    /// Its name on a command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Obs => "obs",
            Self::Random => "random",
            Self::Magnitude => "magnitude",
            Self::Wanda => "wanda",
            Self::Minitron => "minitron",
        }
    }

    /// The criterion of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|criterion| criterion.name() == name)
    }

    /// Which `to` of `neurons`, numbers among those of `gram`, stay; `down` (c, neurons) has their columns and `sizes`
    /// ‖gate_j‖ · ‖up_j‖, `gains` (c) what outputs are multiplied by behind the norm. → places in `neurons`, in order.
    pub(crate) fn keep(
        self,
        to: usize,
        neurons: &[usize],
        (gram, down, sizes, gains): (&Gram, &Mat<f64>, &[f64], &[f64]),
        seed: u64,
    ) -> Result<Vec<usize>> {
        let column = |place: usize| down.col(place);
        let scores: Vec<f64> = match self {
            Self::Obs => return obs::keep(to, neurons, gram, down, gains),
            Self::Random => {
                let mut random = fastrand::Rng::with_seed(seed);
                neurons.iter().map(|_| random.f64()).collect()
            }
            Self::Magnitude => (0..neurons.len()).map(|at| sizes[at] * column(at).norm_l2()).collect(),
            Self::Wanda => {
                let at = |(at, j): (usize, &usize)| column(at).norm_l1() * gram.root_mean_square(*j);
                neurons.iter().enumerate().map(at).collect()
            }
            Self::Minitron => neurons.iter().map(|j| gram.size(*j)).collect(),
        };
        if let Some(value) = scores.iter().find(|score| !score.is_finite()) {
            return Err(Error::NotFinite { value: *value as f32 });
        }
        let mut order: Vec<usize> = (0..neurons.len()).collect();
        // Largest first; among equals the first, so that there is one answer.
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
        order.truncate(to);
        order.sort_unstable();
        Ok(order)
    }
}
