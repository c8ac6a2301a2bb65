//! Narrowed networks against dense solvers, plain loops and what was planted.

use faer::linalg::solvers::SolveLstsq;

use super::*;

const F: usize = 24;
const C: usize = 6;

/// A network with random weights, and rows of activations as they might come out of silu(gate) · up.
struct Case {
    gate: Vec<Vec<f32>>,
    up: Vec<Vec<f32>>,
    down: Vec<Vec<f32>>,
    x: Vec<f32>,
    weights: Vec<f32>,
}

impl Case {
    fn new(seed: u64, rows: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut number = || random.f32() * 2.0 - 1.0;
        let mut matrix = |n: usize, k: usize| (0..n).map(|_| (0..k).map(|_| number()).collect()).collect();
        let (gate, up, down): (Vec<Vec<f32>>, _, _) = (matrix(F, C), matrix(F, C), matrix(C, F));
        let mut case = Self { gate, up, down, x: Vec::new(), weights: Vec::new() };
        for input in matrix(rows, C) {
            case.x.extend(case.activations(&input));
        }
        case.weights = (0..rows).map(|row| 1.0 / case.square(row)).collect();
        case
    }

    fn activations(&self, input: &[f32]) -> Vec<f32> {
        let dot = |row: &[f32]| row.iter().zip(input).map(|(a, b)| a * b).sum::<f32>();
        let silu = |x: f32| x / (1.0 + (-x).exp());
        self.gate.iter().zip(&self.up).map(|(gate, up)| silu(dot(gate)) * dot(up)).collect()
    }

    /// Mean square of what the network gives for a row.
    fn square(&self, row: usize) -> f32 {
        let x = &self.x[row * F..][..F];
        let y = |down: &[f32]| down.iter().zip(x).map(|(a, b)| a * b).sum::<f32>();
        self.down.iter().map(|down| y(down).powi(2)).sum::<f32>() / C as f32 + 1e-5
    }

    fn gram(&self, weighted: bool) -> Gram {
        let mut gram = Gram::new(F).unwrap();
        gram.add(&self.x, weighted.then_some(&self.weights)).unwrap();
        gram
    }

    fn shrink(&self, gram: &Gram, to: usize, criterion: Criterion, refit: bool) -> Result<Shrunk> {
        let row = |rows: &[Vec<f32>], j: usize, into: &mut Vec<f32>| rows[j].clone_into(into);
        let network = FeedForward {
            width: F,
            outputs: C,
            gate: &|j, into| row(&self.gate, j, into),
            up: &|j, into| row(&self.up, j, into),
            down: &|i, into| row(&self.down, i, into),
            gains: None,
        };
        shrink(&network, gram, Target { to, criterion, refit, seed: 1 })
    }

    /// Σ ω ‖y − y'‖² / Σ ω ‖y‖², term by term.
    fn error(&self, shrunk: &Shrunk, weighted: bool) -> f64 {
        let (mut missed, mut all) = (0.0, 0.0);
        for (x, weight) in self.x.chunks_exact(F).zip(&self.weights) {
            let weight = if weighted { f64::from(*weight) } else { 1.0 };
            for (old, new) in self.down.iter().zip(shrunk.map.chunks_exact(shrunk.kept.len())) {
                let y: f64 = old.iter().zip(x).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                let kept = shrunk.kept.iter().zip(new).map(|(j, a)| f64::from(x[*j]) * f64::from(*a));
                missed += weight * (y - kept.sum::<f64>()).powi(2);
                all += weight * y * y;
            }
        }
        missed / all
    }
}

#[test]
fn the_fit_is_the_least_squares_of_a_dense_solver() {
    let case = Case::new(1, 200);
    let gram = case.gram(true);
    let shrunk = case.shrink(&gram, 16, Criterion::Obs, true).unwrap();
    // The same with every row written out: √ω x_S, and below it √λ times one for each neuron.
    let mean = (0..F).map(|j| gram.product(j, j)).sum::<f64>() / F as f64;
    let lambda = |j: usize| 1e-2 * (F as f64 / 200.0).powi(2) * gram.product(j, j) + 1e-9 * mean;
    let rows = case.weights.len();
    let root = |t: usize| f64::from(case.weights[t]).sqrt();
    let left = Mat::from_fn(rows + 16, 16, |t, s| match t.checked_sub(rows) {
        None => root(t) * f64::from(case.x[t * F + shrunk.kept[s]]),
        Some(at) => {
            if at == s {
                lambda(shrunk.kept[s]).sqrt()
            } else {
                0.0
            }
        }
    });
    let right = Mat::from_fn(rows + 16, C, |t, i| match t.checked_sub(rows) {
        None => root(t) * (0..F).map(|j| f64::from(case.down[i][j]) * f64::from(case.x[t * F + j])).sum::<f64>(),
        Some(at) => lambda(shrunk.kept[at]).sqrt() * f64::from(case.down[i][shrunk.kept[at]]),
    });
    let dense = left.qr().solve_lstsq(&right);
    for i in 0..C {
        for s in 0..16 {
            assert!((dense[(s, i)] - f64::from(shrunk.map[i * 16 + s])).abs() < 1e-5, "{i} {s}");
        }
    }
    assert!((shrunk.error - case.error(&shrunk, true)).abs() < 1e-6 * shrunk.error.max(1e-3));
}

#[test]
fn more_neurons_and_a_fit_never_do_harm() {
    let case = Case::new(2, 400);
    let gram = case.gram(true);
    for criterion in Criterion::ALL {
        let mut before = f64::MAX;
        for to in [4, 8, 12, 16, 20, 24] {
            let error = |refit| case.shrink(&gram, to, criterion, refit).unwrap().error;
            let (fitted, plain) = (error(true), error(false));
            assert!(fitted <= plain * (1.0 + 1e-9) + 1e-12, "{criterion:?} {to}: {fitted} {plain}");
            assert!(fitted <= before, "{criterion:?} {to}: {fitted} {before}");
            before = fitted;
        }
        assert!(before < 1e-12, "all of them are what there was");
    }
}

#[test]
fn weighing_rows_as_the_norm_does_is_better_behind_the_norm() {
    for seed in 3..8 {
        let case = Case::new(seed, 400);
        let error = |weighted| {
            // The same neurons, so that only the fit differs.
            let shrunk = case.shrink(&case.gram(weighted), 16, Criterion::Magnitude, true).unwrap();
            case.error(&shrunk, true)
        };
        assert!(error(true) <= error(false), "{seed}");
    }
}

#[test]
fn the_surgeon_is_ahead_of_chance_and_of_sizes() {
    for seed in 10..15 {
        let case = Case::new(seed, 400);
        let gram = case.gram(true);
        let error = |criterion| case.shrink(&gram, 16, criterion, true).unwrap().error;
        for other in [Criterion::Random, Criterion::Magnitude, Criterion::Wanda, Criterion::Minitron] {
            assert!(error(Criterion::Obs) <= error(other), "{seed} {other:?}");
        }
    }
}

#[test]
fn loud_neurons_do_not_drown_the_others() {
    // Scales of neurons over orders of magnitude, as gated networks have them, and a few that hardly ever wake although
    // their weights are large.
    let mut case = Case::new(50, 4000);
    let scale = |j: usize| if j % 6 == 5 { 1e-6 } else { 10f32.powi((j % 5) as i32 - 3) };
    for row in case.x.chunks_exact_mut(F) {
        row.iter_mut().enumerate().for_each(|(j, x)| *x *= scale(j));
    }
    for row in &mut case.down {
        row.iter_mut().enumerate().filter(|(j, _)| j % 6 == 5).for_each(|(_, w)| *w *= 20.0);
    }
    let gram = case.gram(false);
    let error = |criterion| case.shrink(&gram, 20, criterion, true).unwrap().error;
    assert!(
        error(Criterion::Obs) <= 1.01 * error(Criterion::Wanda),
        "{} {}",
        error(Criterion::Obs),
        error(Criterion::Wanda)
    );
    let kept = case.shrink(&gram, 20, Criterion::Obs, true).unwrap().kept;
    assert!((0..F).filter(|j| j % 6 == 5).all(|idle| !kept.contains(&idle)), "{kept:?}");
}

#[test]
fn outputs_that_the_norm_silences_do_not_count() {
    let case = Case::new(60, 1000);
    let gram = case.gram(true);
    let row = |rows: &[Vec<f32>], j: usize, into: &mut Vec<f32>| rows[j].clone_into(into);
    let gains = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    let network = FeedForward {
        width: F,
        outputs: C,
        gate: &|j, into| row(&case.gate, j, into),
        up: &|j, into| row(&case.up, j, into),
        down: &|i, into| row(&case.down, i, into),
        gains: Some(&gains),
    };
    let target = Target { to: 12, criterion: Criterion::Obs, refit: true, seed: 0 };
    let heard = shrink(&network, &gram, target).unwrap();
    let all = shrink(&FeedForward { gains: None, ..network }, &gram, target).unwrap();
    let first = |shrunk: &Shrunk| {
        let (mut missed, mut energy) = (0.0, 0.0);
        for (x, weight) in case.x.chunks_exact(F).zip(&case.weights) {
            let y: f32 = case.down[0].iter().zip(x).map(|(a, b)| a * b).sum();
            let kept: f32 = shrunk.kept.iter().zip(&shrunk.map).map(|(j, a)| x[*j] * a).sum();
            missed += weight * (y - kept).powi(2);
            energy += weight * y * y;
        }
        f64::from(missed / energy)
    };
    assert!(first(&heard) < first(&all), "{} {}", first(&heard), first(&all));
    assert!((heard.error - first(&heard)).abs() < 1e-4 * heard.error.max(1e-2));
    let short = FeedForward { gains: Some(&gains[..3]), ..network };
    assert!(matches!(shrink(&short, &gram, target), Err(Error::Rows { expected: C, got: 3 })));
}

#[test]
fn what_changes_nothing_goes_first_and_nothing_changes() {
    let mut case = Case::new(20, 100);
    let (gate, up) = (case.gate[3].clone(), case.up[3].clone());
    // Neuron 3 in three parts, one of them twice as large and turned round; neuron 7 computes zero, neuron 9 is not read.
    case.gate[11].clone_from(&gate);
    case.up[11].clone_from(&up);
    case.gate[17] = gate;
    case.up[17] = up.iter().map(|x| x * -2.0).collect();
    case.up[7] = vec![0.0; C];
    case.down.iter_mut().for_each(|row| row[9] = 0.0);
    let inputs = Case::new(21, 50);
    for criterion in Criterion::ALL {
        // No row was seen: none is needed.
        let shrunk = case.shrink(&Gram::new(F).unwrap(), F - 4, criterion, true).unwrap();
        assert_eq!((shrunk.redundant, shrunk.error), (4, 0.0));
        assert!([7, 9, 11, 17].iter().all(|gone| !shrunk.kept.contains(gone)));
        for input in inputs.x.chunks_exact(C).take(50) {
            let x = case.activations(input);
            for (old, new) in case.down.iter().zip(shrunk.map.chunks_exact(F - 4)) {
                let y: f32 = old.iter().zip(&x).map(|(a, b)| a * b).sum();
                let kept: f32 = shrunk.kept.iter().zip(new).map(|(j, a)| x[*j] * a).sum();
                assert!((y - kept).abs() < 1e-4, "{y} {kept}");
            }
        }
        // Where fewer are to go, fewer go.
        assert_eq!(case.shrink(&Gram::new(F).unwrap(), F - 2, criterion, true).unwrap().redundant, 2);
    }
}

#[test]
fn a_neuron_that_others_can_stand_for_goes_and_never_both_of_two() {
    let mut case = Case::new(30, 8000);
    // What no look at the weights tells: activation 5 is the sum of 6 and 7, and 1 is almost 2.
    for row in case.x.chunks_exact_mut(F) {
        row[5] = row[6] + row[7];
        row[1] = row[2] * 1.001;
    }
    let shrunk = case.shrink(&case.gram(false), F - 2, Criterion::Obs, true).unwrap();
    assert!(shrunk.error < 1e-5, "{}", shrunk.error);
    assert!(shrunk.kept.contains(&1) || shrunk.kept.contains(&2));
    assert_eq!([5, 6, 7].iter().filter(|j| shrunk.kept.contains(j)).count(), 2);
}

#[test]
fn what_cannot_be_done_is_said() {
    let case = Case::new(40, 10);
    let gram = case.gram(true);
    for to in [0, F + 1] {
        assert!(matches!(case.shrink(&gram, to, Criterion::Obs, true), Err(Error::Width { width: F, .. })));
    }
    let (other, empty) = (Gram::new(F + 1).unwrap(), Gram::new(F).unwrap());
    assert!(matches!(case.shrink(&other, 4, Criterion::Obs, true), Err(Error::Rows { .. })));
    assert!(matches!(case.shrink(&empty, 4, Criterion::Obs, true), Err(Error::NothingSeen)));
    for criterion in Criterion::ALL {
        assert_eq!(Criterion::named(criterion.name()), Some(criterion));
    }
}
