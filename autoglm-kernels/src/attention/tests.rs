//! Attention against naive loops in f64, and the laws that hold bit for bit.

use half::bf16;
use proptest::prelude::*;

use super::*;

const FORMATS: [Format; 2] = [Format::F32, Format::Bf16];

/// Some queries of one key head, to be answered in several ways.
#[derive(Debug, Clone, Copy)]
struct Problem {
    n: usize,
    past: usize,
    group: usize,
    d: usize,
    causal: bool,
    format: Format,
}

/// One head's stored keys and values.
struct Stored {
    head: Head,
    keys: Vec<Line>,
    values: Vec<Line>,
}

fn sample(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0).collect()
}

fn store(head: Head, k: &[f32], v: &[f32]) -> Stored {
    let t = k.len() / head.dim;
    let mut stored =
        Stored { head, keys: vec![Line::ZERO; head.key_lines(t)], values: vec![Line::ZERO; head.value_lines(t)] };
    for (i, (k, v)) in k.chunks(head.dim).zip(v.chunks(head.dim)).enumerate() {
        head.store_key(&mut stored.keys, i, k);
        head.store_value(&mut stored.values, i, v);
    }
    stored
}

fn answer(isa: Isa, stored: &Stored, q: &[f32], group: usize, seen: Seen) -> Vec<f32> {
    answer_in(WHOLE, isa, stored, q, group, seen)
}

/// The same from stretches of `tokens` tokens, each with a line behind it that belongs to nobody.
fn answer_in(tokens: usize, isa: Isa, stored: &Stored, q: &[f32], group: usize, seen: Seen) -> Vec<f32> {
    let width = group * stored.head.dim;
    let count = q.len() / width;
    // What scratch holds beforehand must not matter.
    let mut scratch = vec![Line([f32::NAN.to_bits(); 16]); stored.head.scratch_lines(count, group)];
    let mut out = vec![f32::NAN; q.len()];
    let queries = Queries { rows: q, stride: width, count, group };
    let cut = |lines: &[Line], per_stretch: usize| -> Vec<Vec<Line>> {
        let behind = Line([f32::NAN.to_bits(); 16]);
        lines.chunks(per_stretch).map(|lines| lines.iter().copied().chain([behind]).collect()).collect()
    };
    let keys = cut(&stored.keys, stored.head.key_lines(tokens));
    let values = cut(&stored.values, stored.head.value_lines(tokens));
    let stretches: Vec<Stretch<'_>> = keys.iter().zip(&values).map(|(keys, values)| Stretch { keys, values }).collect();
    let past = Past { head: stored.head, stretches: &stretches, tokens };
    attend(isa, queries, past, seen, SCALE, &mut scratch, Block::new(&mut out, width)).unwrap();
    out
}

const SCALE: f32 = 0.7;

impl Problem {
    fn head(&self) -> Head {
        Head { dim: self.d, format: self.format }
    }

    fn t(&self) -> usize {
        self.past + self.n
    }

    fn queries(&self) -> Vec<f32> {
        sample(self.n * self.group * self.d, 1)
    }

    fn keys(&self) -> Vec<f32> {
        sample(self.t() * self.d, 2)
    }

    fn values(&self) -> Vec<f32> {
        sample(self.t() * self.d, 3)
    }

    fn seen(&self) -> Seen {
        if self.causal { Seen::Causal(self.past + 1) } else { Seen::All(self.t()) }
    }

    fn check(&self) {
        let (q, k, v) = (self.queries(), self.keys(), self.values());
        let stored = store(self.head(), &k, &v);
        let got = answer(Isa::Scalar, &stored, &q, self.group, self.seen());
        for isa in Isa::all() {
            let other = answer(isa, &stored, &q, self.group, self.seen());
            assert!(
                got.iter().zip(&other).all(|(a, b)| a.to_bits() == b.to_bits()),
                "{} {self:?}: {got:?} {other:?}",
                isa.name()
            );
        }
        for tokens in [16, 32, 48, 128] {
            let paged = answer_in(tokens, Isa::best(), &stored, &q, self.group, self.seen());
            assert!(got.iter().zip(&paged).all(|(a, b)| a.to_bits() == b.to_bits()), "{tokens} {self:?}");
        }
        let exact = self.exact(&q, &k, &v);
        let bound = match self.format {
            // Products and sums of a few hundred numbers near one, in f32.
            Format::F32 => 2e-5,
            // Weights and values are rounded by 2^-9 each, where their sums are at most one.
            Format::Bf16 => 1e-2,
        };
        for (got, want) in got.iter().zip(exact) {
            assert!((f64::from(*got) - want).abs() < bound, "{self:?}: {got} {want}");
        }
    }

    /// Naive loops over the numbers as they are stored.
    fn exact(&self, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f64> {
        let Self { d, group, format, .. } = *self;
        let kept = |x: f32| match format {
            Format::F32 => f64::from(x),
            Format::Bf16 => f64::from(bf16::from_f32(x).to_f32()),
        };
        let mut out = Vec::new();
        for (row, query) in q.chunks(d).enumerate() {
            let seen = self.seen().by(row / group);
            let weights: Vec<f64> = (0..seen)
                .map(|j| (0..d).map(|c| kept(query[c] * SCALE) * kept(k[j * d + c])).sum::<f64>().exp())
                .collect();
            let sum: f64 = weights.iter().sum();
            out.extend(
                (0..d).map(|c| weights.iter().enumerate().map(|(j, w)| w / sum * kept(v[j * d + c])).sum::<f64>()),
            );
        }
        out
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn attention_matches_naive_loops_and_every_instruction_set_has_its_bits(
        n in 1usize..20, past in 0usize..300, group in 1usize..18, d in 1usize..40, causal: bool, bf16: bool
    ) {
        let format = if bf16 { Format::Bf16 } else { Format::F32 };
        Problem { n, past, group, d, causal, format }.check();
    }

    #[test]
    fn a_query_depends_neither_on_its_company_nor_on_what_follows(
        n in 2usize..40, past in 0usize..260, cut in 1usize..39, group in 1usize..8, d in 1usize..70, bf16: bool
    ) {
        let format = if bf16 { Format::Bf16 } else { Format::F32 };
        let problem = Problem { n, past, group, d, causal: true, format };
        let (q, k, v) = (problem.queries(), problem.keys(), problem.values());
        let cut = cut.min(n - 1);
        let whole = answer(Isa::best(), &store(problem.head(), &k, &v), &q, group, Seen::Causal(past + 1));
        let known = (past + cut) * d;
        let before = store(problem.head(), &k[..known], &v[..known]);
        let (first, second) = q.split_at(cut * group * d);
        let mut parts = answer(Isa::best(), &before, first, group, Seen::Causal(past + 1));
        let later = store(problem.head(), &k, &v);
        parts.extend(answer(Isa::best(), &later, second, group, Seen::Causal(past + cut + 1)));
        prop_assert_eq!(whole, parts);
    }
}

#[test]
fn the_real_heads_match_naive_loops() {
    for format in FORMATS {
        Problem { n: 3, past: 500, group: 16, d: 128, causal: true, format }.check();
        Problem { n: 13, past: 270, group: 1, d: 128, causal: false, format }.check();
    }
}

#[test]
fn tokens_that_were_forgotten_are_never_multiplied() {
    for (format, t) in FORMATS.into_iter().flat_map(|format| (1..40).map(move |t| (format, t))) {
        let problem = Problem { n: 1, past: t - 1, group: 2, d: 5, causal: true, format };
        let (q, k, v) = (problem.queries(), problem.keys(), problem.values());
        let fresh = answer(Isa::best(), &store(problem.head(), &k, &v), &q, 2, Seen::All(t));
        let poison = vec![f32::NAN; 50 * 5];
        let mut stored = store(problem.head(), &poison, &poison);
        for i in 0..t {
            problem.head().store_key(&mut stored.keys, i, &k[i * 5..][..5]);
            problem.head().store_value(&mut stored.values, i, &v[i * 5..][..5]);
        }
        assert_eq!(answer(Isa::best(), &stored, &q, 2, Seen::All(t)), fresh, "{format:?} {t}");
    }
}

#[test]
fn a_score_that_is_not_a_number_is_not_hidden() {
    for (format, isa) in FORMATS.into_iter().flat_map(|format| Isa::all().map(move |isa| (format, isa))) {
        let problem = Problem { n: 1, past: 200, group: 1, d: 4, causal: true, format };
        let (mut k, v) = (problem.keys(), problem.values());
        k[150 * 4] = f32::NAN;
        let got = answer(isa, &store(problem.head(), &k, &v), &problem.queries(), 1, Seen::All(201));
        assert!(got.iter().all(|x| x.is_nan()), "{} {format:?} {got:?}", isa.name());
        let before = answer(isa, &store(problem.head(), &k, &v), &problem.queries(), 1, Seen::All(150));
        assert!(before.iter().all(|x| x.is_finite()));
    }
}

#[test]
fn scores_far_apart_neither_overflow_nor_vanish() {
    for format in FORMATS {
        let head = Head { dim: 1, format };
        // The largest score comes last, so that everything before it is shrunk to nothing.
        let k: Vec<f32> = (0..300).map(|i| if i == 299 { 1e4 } else { -1e4 }).collect();
        let v: Vec<f32> = (0..300).map(|i| if i == 299 { 0.5 } else { 8.0 }).collect();
        for isa in Isa::all() {
            assert_eq!(answer(isa, &store(head, &k, &v), &[1.0], 1, Seen::All(300)), [0.5]);
            let level = answer(isa, &store(head, &k[..299], &v[..299]), &[1.0], 1, Seen::All(299));
            assert!((level[0] - 8.0).abs() < 1e-4, "{level:?}");
        }
    }
}

#[test]
fn buffers_that_are_too_short_are_named() {
    let head = Head { dim: 4, format: Format::F32 };
    let stored = store(head, &[0.0; 8], &[0.0; 8]);
    let mut scratch = vec![Line::ZERO; head.scratch_lines(1, 1)];
    let ask = |q: &[f32], count, seen, scratch: &mut [Line]| {
        let mut out = vec![0.0; 4 * count];
        let queries = Queries { rows: q, stride: 4, count, group: 1 };
        let stretches = [Stretch { keys: &stored.keys, values: &stored.values }];
        let past = Past { head, stretches: &stretches, tokens: WHOLE };
        attend(Isa::best(), queries, past, Seen::All(seen), 1.0, scratch, Block::new(&mut out, 4))
    };
    assert!(ask(&[0.0; 4], 1, 2, &mut scratch).is_ok());
    assert!(ask(&[], 0, 2, &mut []).is_ok());
    let of = |error: Result<()>| match error.unwrap_err() {
        Error::Length { what, .. } | Error::Size { what, .. } => what,
    };
    assert_eq!(of(ask(&[0.0; 3], 1, 2, &mut scratch)), "queries of an attention");
    assert_eq!(of(ask(&[0.0; 4], 1, 17, &mut scratch)), "keys of an attention");
    assert_eq!(of(ask(&[0.0; 4], 1, 3, &mut scratch)), "values of an attention");
    assert_eq!(of(ask(&[0.0; 4], 1, 2, &mut [])), "scratch of an attention");
}
