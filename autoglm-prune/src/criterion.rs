//! Which neurons of a feed-forward network stay, and which heads of an attention.

use faer::Mat;

use crate::units::Left;
use crate::{Error, Gram, Result, obs};

/// What neurons and heads are chosen by. All but the first are there to be compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Criterion {
    /// The error that the removal of a neuron, or of a head, adds when all others are re-fitted, one removal after the other (Hassibi &
    /// Stork, "Optimal Brain Surgeon").
    Obs,
    /// Chance.
    Random,
    /// The size of the weights, ‖gate_j‖ · ‖up_j‖ · ‖down_j‖ of a neuron and ‖q_h‖ · ‖o_h‖ of a head.
    Magnitude,
    /// ‖down_j‖₁ · √(mean of x_j²), the structured form of Sun et al., "Wanda" (An et al., "FLAP", call it Wanda-sp); of a
    /// head the sum over its columns.
    Wanda,
    /// √(Σ over sequences of (mean |x_j|)²) (Muralidharan et al., "Minitron"); of a head the length of these over its
    /// columns.
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

    /// Which of `left` stay; `map` (c, columns) has their columns of the map behind them, `sizes` are of the weights before
    /// them, `gains` (c) what outputs are multiplied by behind the norm. → places in `left`, in order.
    pub(crate) fn keep(
        self,
        left: &Left,
        (gram, map, sizes, gains): (&Gram, &Mat<f64>, &[f64], &[f64]),
        seed: u64,
    ) -> Result<Vec<usize>> {
        let all = 0..left.numbers.len();
        let columns = |place: usize| place * left.size..(place + 1) * left.size;
        let scores: Vec<f64> = match self {
            Self::Obs => return obs::keep(left, gram, map, gains),
            Self::Random => {
                let mut random = fastrand::Rng::with_seed(seed);
                all.clone().map(|_| random.f64()).collect()
            }
            Self::Magnitude => {
                let norm = |place: usize| columns(place).map(|j| map.col(j).squared_norm_l2()).sum::<f64>().sqrt();
                all.clone().map(|place| sizes[place] * norm(place)).collect()
            }
            Self::Wanda => {
                let of = |j: usize| map.col(j).norm_l1() * gram.root_mean_square(left.column(j));
                all.clone().map(|place| columns(place).map(of).sum()).collect()
            }
            Self::Minitron => {
                let square = |j: usize| gram.size(left.column(j)).powi(2);
                all.clone().map(|place| columns(place).map(square).sum::<f64>().sqrt()).collect()
            }
        };
        if let Some(value) = scores.iter().find(|score| !score.is_finite()) {
            return Err(Error::NotFinite { value: *value as f32 });
        }
        let mut order: Vec<usize> = all.collect();
        // Largest first; among equals the first, so that there is one answer.
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
        let mut room = vec![left.stay; left.many];
        order.retain(|place| {
            let room = &mut room[left.groups[*place]];
            let stays = *room > 0;
            *room -= usize::from(stays);
            stays
        });
        order.sort_unstable();
        Ok(order)
    }
}
