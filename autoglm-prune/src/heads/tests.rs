//! Attentions with fewer heads against every choice there is, a dense solver and what was planted.

use faer::Mat;
use faer::linalg::solvers::SolveLstsq;

use super::*;
use crate::units::Left;
use crate::{Criterion, refit};

const C: usize = 8;
const D: usize = 3;
const GROUPS: usize = 2;
/// Heads of a group.
const EACH: usize = 4;
const HEADS: usize = GROUPS * EACH;
const WIDTH: usize = HEADS * D;
/// Rows of a sequence.
const LENGTH: usize = 12;

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Attention with random weights, and the rows that its last map takes.
struct Case {
    /// By heads, rows of c and a bias.
    q: Vec<Vec<f32>>,
    k: Vec<Vec<f32>>,
    v: Vec<Vec<f32>>,
    /// By outputs.
    o: Vec<Vec<f32>>,
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut matrix = |n: usize, k: usize| -> Vec<Vec<f32>> {
            (0..n).map(|_| (0..k).map(|_| random.f32() * 2.0 - 1.0).collect()).collect()
        };
        let mut case = Self {
            q: matrix(HEADS, D * C + D),
            k: matrix(GROUPS, D * C),
            v: matrix(GROUPS, D * C),
            o: matrix(C, WIDTH),
        };
        // What a head's columns have in common drowns what tells them apart, so that a sum over single columns misleads.
        for values in &mut case.v {
            for at in C..D * C {
                values[at] = values[at % C] + 0.3 * values[at];
            }
        }
        case
    }

    /// What all heads give for `sequences` random ones of causal rows, (n, h · d).
    fn rows(&self, seed: u64, sequences: usize) -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut x = Vec::new();
        for _ in 0..sequences {
            let inputs: Vec<Vec<f32>> =
                (0..LENGTH).map(|_| (0..C).map(|_| random.f32() * 4.0 - 2.0).collect()).collect();
            let map = |weights: &[f32], input: &[f32]| -> Vec<f32> {
                let bias = weights.get(D * C..).filter(|bias| !bias.is_empty()).unwrap_or(&[0.0; D]);
                weights.chunks_exact(C).take(D).zip(bias).map(|(row, bias)| dot(row, input) + bias).collect()
            };
            for at in 0..LENGTH {
                for head in 0..HEADS {
                    let query = map(&self.q[head], &inputs[at]);
                    let group = head / EACH;
                    let share = |input: &Vec<f32>| dot(&query, &map(&self.k[group], input)).exp();
                    let shares: Vec<f32> = inputs[..=at].iter().map(share).collect();
                    let sum: f32 = shares.iter().sum();
                    let mut given = [0.0; D];
                    for (share, input) in shares.iter().zip(&inputs) {
                        let value = map(&self.v[group], input);
                        given.iter_mut().zip(value).for_each(|(given, value)| *given += share / sum * value);
                    }
                    x.extend(given);
                }
            }
        }
        x
    }

    /// What the norm behind makes of each row's weight.
    fn weights(&self, x: &[f32]) -> Vec<f32> {
        let square = |x: &[f32]| self.o.iter().map(|row| dot(row, x).powi(2)).sum::<f32>() / C as f32;
        x.chunks_exact(WIDTH).map(|x| 1.0 / (square(x) + 1e-5)).collect()
    }

    fn gram(&self, x: &[f32]) -> Gram {
        let mut gram = Gram::new(WIDTH).unwrap();
        gram.add(x, Some(&self.weights(x))).unwrap();
        gram
    }

    fn with<R>(&self, gains: Option<&[f32]>, then: impl FnOnce(&Attention<'_>) -> R) -> R {
        then(&Attention {
            heads: HEADS,
            groups: GROUPS,
            head_dim: D,
            outputs: C,
            q: &|head, into| self.q[head].clone_into(into),
            o: &|i, into| self.o[i].clone_into(into),
            gains,
        })
    }

    fn shrink(&self, gram: &Gram, to: usize, criterion: Criterion, refit: bool) -> Result<Shrunk> {
        let target = Target { to, criterion, refit, seed: 1 };
        self.with(None, |attention| shrink_heads(attention, gram, target))
    }

    /// All heads, as the choice is made among them.
    fn left(&self, to: usize) -> Left {
        let groups = (0..HEADS).map(|head| head / EACH).collect();
        Left { size: D, numbers: (0..HEADS).collect(), groups, stay: to / GROUPS, many: GROUPS }
    }

    fn map(&self) -> Mat<f64> {
        Mat::from_fn(C, WIDTH, |i, j| f64::from(self.o[i][j]))
    }

    /// Outputs of what is left for a row of all heads.
    fn outputs(shrunk: &Shrunk, x: &[f32]) -> Vec<f32> {
        let kept: Vec<f32> = shrunk.kept.iter().flat_map(|head| &x[head * D..][..D]).copied().collect();
        shrunk.map.chunks_exact(kept.len()).map(|row| dot(row, &kept)).collect()
    }
}

/// What is left when the head goes whose loss costs least of all, all others re-fitted, and then the next.
fn one_by_one(to: usize, error: impl Fn(&[usize]) -> f64) -> Vec<usize> {
    let mut stays: Vec<usize> = (0..HEADS).collect();
    while stays.len() > to {
        let there = |group: usize| stays.iter().filter(|head| *head / EACH == group).count();
        let without = |gone: usize| stays.iter().copied().filter(|head| *head != gone).collect::<Vec<usize>>();
        let may_go = stays.iter().copied().filter(|head| there(head / EACH) > to / GROUPS);
        let cheapest = may_go.min_by(|a, b| error(&without(*a)).total_cmp(&error(&without(*b)))).unwrap();
        stays = without(cheapest);
    }
    stays
}

/// Every choice of `to` heads, equally many of each group.
fn choices(to: usize) -> impl Iterator<Item = Vec<usize>> {
    let all = (0..1usize << HEADS).map(|set| (0..HEADS).filter(|head| set >> head & 1 == 1).collect());
    all.filter(move |kept: &Vec<usize>| {
        (0..GROUPS).all(|group| kept.iter().filter(|head| *head / EACH == group).count() == to / GROUPS)
    })
}

#[test]
fn each_head_that_goes_is_the_cheapest_of_all_and_few_choices_are_better() {
    let gains: Vec<f32> = (0..C).map(|i| 0.5 + i as f32 * 0.25).collect();
    let wide: Vec<f64> = gains.iter().map(|gain| f64::from(*gain)).collect();
    let mut best = 0;
    for seed in 0..8 {
        let case = Case::new(seed);
        let gram = case.gram(&case.rows(seed + 100, 300));
        for to in [6, 4, 2] {
            let error =
                |kept: &[usize]| refit::fit(kept, &case.left(to), &gram, &case.map(), &wide, true).unwrap().error;
            let target = Target { to, criterion: Criterion::Obs, refit: true, seed: 0 };
            let shrunk = case.with(Some(&gains), |attention| shrink_heads(attention, &gram, target)).unwrap();
            assert_eq!(shrunk.kept, one_by_one(to, error), "{seed} {to}");
            let least = choices(to).map(|kept| error(&kept)).fold(f64::MAX, f64::min);
            assert!(shrunk.error < 1.5 * least, "{seed} {to}: {} {least}", shrunk.error);
            best += usize::from(shrunk.error <= least * (1.0 + 1e-9));
        }
    }
    assert!(best >= 16, "the best of all choices in {best} of 24");
}

#[test]
fn the_fit_is_the_least_squares_of_a_dense_solver() {
    let case = Case::new(20);
    let x = case.rows(21, 40);
    let gram = case.gram(&x);
    let shrunk = case.shrink(&gram, 4, Criterion::Obs, true).unwrap();
    let kept: Vec<usize> = shrunk.kept.iter().flat_map(|head| head * D..(head + 1) * D).collect();
    // Every row written out: √ω x_S, and below it √λ times one for each column.
    let (rows, s) = (x.len() / WIDTH, kept.len());
    let mean = (0..WIDTH).map(|j| gram.product(j, j)).sum::<f64>() / WIDTH as f64;
    let damping = 1e-2 * (WIDTH as f64 / rows as f64).powi(2);
    let lambda = |j: usize| (damping * gram.product(j, j) + 1e-9 * mean).sqrt();
    let weights = case.weights(&x);
    let root = |t: usize| f64::from(weights[t]).sqrt();
    let left = Mat::from_fn(rows + s, s, |t, at| match t.checked_sub(rows) {
        None => root(t) * f64::from(x[t * WIDTH + kept[at]]),
        Some(diagonal) if diagonal == at => lambda(kept[at]),
        Some(_) => 0.0,
    });
    let right = Mat::from_fn(rows + s, C, |t, i| match t.checked_sub(rows) {
        None => root(t) * (0..WIDTH).map(|j| f64::from(case.o[i][j]) * f64::from(x[t * WIDTH + j])).sum::<f64>(),
        Some(at) => lambda(kept[at]) * f64::from(case.o[i][kept[at]]),
    });
    let dense = left.qr().solve_lstsq(&right);
    for i in 0..C {
        for at in 0..s {
            assert!((dense[(at, i)] - f64::from(shrunk.map[i * s + at])).abs() < 1e-5, "{i} {at}");
        }
    }
    // The error is that of the rows, one by one.
    let (mut missed, mut all) = (0.0, 0.0);
    for (x, weight) in x.chunks_exact(WIDTH).zip(weights) {
        for (row, new) in case.o.iter().zip(Case::outputs(&shrunk, x)) {
            let y = dot(row, x);
            missed += f64::from(weight * (y - new).powi(2));
            all += f64::from(weight * y * y);
        }
    }
    assert!((shrunk.error - missed / all).abs() < 1e-4 * shrunk.error, "{} {}", shrunk.error, missed / all);
}

#[test]
fn more_heads_and_a_fit_never_do_harm() {
    let case = Case::new(30);
    let gram = case.gram(&case.rows(31, 100));
    for criterion in Criterion::ALL {
        let mut before = f64::MAX;
        for to in [2, 4, 6, 8] {
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
fn the_surgeon_is_ahead_of_chance_and_of_sizes() {
    for seed in 40..45 {
        let case = Case::new(seed);
        let gram = case.gram(&case.rows(seed + 100, 100));
        let error = |criterion| case.shrink(&gram, 4, criterion, true).unwrap().error;
        for other in [Criterion::Random, Criterion::Magnitude, Criterion::Wanda, Criterion::Minitron] {
            assert!(error(Criterion::Obs) <= error(other), "{seed} {other:?}");
        }
    }
}

#[test]
fn heads_that_change_nothing_go_first_and_only_for_one_of_their_group() {
    let mut case = Case::new(50);
    // Head 2 asks what head 0 asks, and so do 5 of the other group, which has other keys, and 6, which 5 can stand for.
    for head in [2, 5, 6] {
        let queries = case.q[0].clone();
        case.q[head] = queries;
    }
    // Head 3 is not read.
    case.o.iter_mut().for_each(|row| row[3 * D..4 * D].fill(0.0));
    let x = case.rows(51, 2);
    for criterion in Criterion::ALL {
        // No row was seen, and of one group only is none needed.
        let unseen = case.shrink(&Gram::new(WIDTH).unwrap(), 4, criterion, true);
        assert!(matches!(unseen, Err(Error::NothingSeen)), "{criterion:?}");
        let shrunk = case.shrink(&Gram::new(WIDTH).unwrap(), 6, criterion, true).unwrap();
        assert_eq!((shrunk.kept.as_slice(), shrunk.redundant, shrunk.error), (&[0, 1, 3, 4, 5, 7][..], 2, 0.0));
        for x in x.chunks_exact(WIDTH) {
            for (row, new) in case.o.iter().zip(Case::outputs(&shrunk, x)) {
                assert!((dot(row, x) - new).abs() < 1e-4);
            }
        }
    }
    let gram = case.gram(&case.rows(52, 100));
    let shrunk = case.shrink(&gram, 4, Criterion::Obs, true).unwrap();
    assert_eq!((shrunk.redundant, &shrunk.kept[..2]), (3, &[0, 1][..]), "two of the first group, one of the second");
}

#[test]
fn a_bias_tells_queries_apart() {
    let mut case = Case::new(60);
    case.q[1] = case.q[0].clone();
    case.q[1][D * C] += 0.5;
    case.q[5] = case.q[4].clone();
    let gram = case.gram(&case.rows(61, 100));
    let shrunk = case.shrink(&gram, 6, Criterion::Obs, true).unwrap();
    assert_eq!((shrunk.redundant, shrunk.kept.contains(&5)), (1, false));
}

#[test]
fn what_cannot_be_done_is_said() {
    let case = Case::new(70);
    let gram = case.gram(&case.rows(71, 4));
    for to in [0, 3, 10] {
        let refused = case.shrink(&gram, to, Criterion::Obs, true);
        assert!(matches!(refused, Err(Error::Heads { heads: HEADS, groups: GROUPS, .. })), "{to}");
    }
    let other = Gram::new(WIDTH + 1).unwrap();
    assert!(matches!(case.shrink(&other, 4, Criterion::Obs, true), Err(Error::Rows { expected: WIDTH, .. })));
    let target = Target { to: 4, criterion: Criterion::Obs, refit: true, seed: 0 };
    let short = case.with(Some(&[1.0; 3]), |attention| shrink_heads(attention, &gram, target));
    assert!(matches!(short, Err(Error::Rows { expected: C, got: 3 })));
    let none = case.with(None, |attention| shrink_heads(&Attention { groups: 0, ..*attention }, &gram, target));
    assert!(matches!(none, Err(Error::Heads { groups: 0, .. })));
}

#[test]
fn attention_that_gives_nothing_does_without_any_head() {
    let case = Case::new(9);
    let gram = case.gram(&[0.0; 4 * WIDTH]);
    let shrunk = case.shrink(&gram, GROUPS, Criterion::Obs, true).unwrap();
    assert_eq!((shrunk.kept.len(), shrunk.error), (GROUPS, 0.0));
    let old = |i: usize, j: usize| case.o[i][shrunk.kept[j / D] * D + j % D];
    assert!((0..C * GROUPS * D).all(|at| shrunk.map[at] == old(at / (GROUPS * D), at % (GROUPS * D))));
    assert_eq!(gram.inverse_factor().unwrap().len(), WIDTH * WIDTH);
}
