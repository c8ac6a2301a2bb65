//! What goes or stays as one: a neuron, or a head.

use faer::Mat;

use crate::{Error, Result, Row};

/// Neurons or heads: columns of a linear map that go or stay together, and the weights that compute what these take.
#[derive(Clone, Copy)]
pub(crate) struct Units<'a> {
    pub(crate) count: usize,
    /// Columns of each.
    pub(crate) size: usize,
    /// Runs of units of which equally many stay; a unit stands for none of another run.
    pub(crate) groups: usize,
    /// Units of each group that stay.
    pub(crate) stay: usize,
    /// Weights that are equal where one unit computes a multiple of what another does.
    pub(crate) equal: &'a Row<'a>,
    /// Weights that what a unit computes goes in proportion to; none where there are no such.
    pub(crate) scaled: Option<&'a Row<'a>>,
    /// Rows of the map behind them.
    pub(crate) outputs: usize,
    /// Row i of that map (count · size).
    pub(crate) map: &'a Row<'a>,
    /// What each output is multiplied by behind the norm that follows.
    pub(crate) gains: Option<&'a [f32]>,
}

impl Units<'_> {
    /// The map behind them, (outputs, count · size).
    pub(crate) fn matrix(&self) -> Mat<f64> {
        let mut matrix = Mat::zeros(self.outputs, self.count * self.size);
        let mut row = Vec::new();
        for i in 0..self.outputs {
            (self.map)(i, &mut row);
            row.iter().enumerate().for_each(|(j, x)| matrix[(i, j)] = f64::from(*x));
        }
        matrix
    }

    /// γ, of ones where no norm follows.
    ///
    /// # Errors
    /// [`Error::Rows`] when there are not as many as outputs.
    pub(crate) fn gains(&self) -> Result<Vec<f64>> {
        match self.gains {
            Some(gains) if gains.len() != self.outputs => Err(Error::Rows { expected: self.outputs, got: gains.len() }),
            Some(gains) => Ok(gains.iter().map(|x| f64::from(*x)).collect()),
            None => Ok(vec![1.0; self.outputs]),
        }
    }

    /// The size of the weights that compute each of `left`: ‖gate_j‖ · ‖up_j‖, or ‖q_h‖.
    pub(crate) fn sizes(&self, left: &Left) -> Vec<f64> {
        let mut row = Vec::new();
        let mut norm = |weights: &Row<'_>, unit: usize| {
            weights(unit, &mut row);
            row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
        };
        let mut size = |unit: &usize| norm(self.equal, *unit) * self.scaled.map_or(1.0, |weights| norm(weights, *unit));
        left.numbers.iter().map(&mut size).collect()
    }

    /// The group of a unit.
    pub(crate) fn group(&self, unit: usize) -> usize {
        unit / (self.count / self.groups)
    }
}

/// The units among which is chosen. Places count these, numbers count all that there were.
#[derive(Debug)]
pub(crate) struct Left {
    /// Columns of each.
    pub(crate) size: usize,
    /// Numbers by place, in order.
    pub(crate) numbers: Vec<usize>,
    /// Group of each place.
    pub(crate) groups: Vec<usize>,
    /// Units of each group that stay.
    pub(crate) stay: usize,
    /// How many groups there are.
    pub(crate) many: usize,
}

impl Left {
    pub(crate) fn new(units: &Units<'_>, numbers: Vec<usize>) -> Self {
        let groups = numbers.iter().map(|unit| units.group(*unit)).collect();
        Self { size: units.size, numbers, groups, stay: units.stay, many: units.groups }
    }

    /// Columns of all of them.
    pub(crate) fn columns(&self) -> usize {
        self.numbers.len() * self.size
    }

    /// The number of a column, by its place.
    pub(crate) fn column(&self, place: usize) -> usize {
        self.numbers[place / self.size] * self.size + place % self.size
    }

    /// Places of the columns of the units at `places`.
    pub(crate) fn columns_of(&self, places: &[usize]) -> Vec<usize> {
        places.iter().flat_map(|place| place * self.size..(place + 1) * self.size).collect()
    }

    /// How many of each group are to go.
    pub(crate) fn to_go(&self) -> Vec<usize> {
        let mut to_go = vec![0; self.many];
        self.groups.iter().for_each(|group| to_go[*group] += 1);
        to_go.iter().map(|there| there - self.stay).collect()
    }
}
