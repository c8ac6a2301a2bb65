//! Attention against naive loops in f64, and the laws that hold bit for bit.

use half::bf16;
use proptest::prelude::*;

use super::*;

const FORMATS: [Format; 3] = [Format::F32, Format::Bf16, Format::Int8];

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

impl Stored {
    fn stretch(&self) -> Stretch<'_> {
        Stretch { keys: &self.keys, values: &self.values, format: self.head.format }
    }
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
    let cut = |lines: &[Line], per_stretch: usize| -> Vec<Vec<Line>> {
        let behind = Line([f32::NAN.to_bits(); 16]);
        lines.chunks(per_stretch).map(|lines| lines.iter().copied().chain([behind]).collect()).collect()
    };
    let Stored { head, keys, values } = stored;
    let keys = cut(keys, head.key_lines(tokens));
    let values = cut(values, head.value_lines(tokens));
    let format = head.format;
    let stretches: Vec<_> = keys.iter().zip(&values).map(|(keys, values)| Stretch { keys, values, format }).collect();
    ask(isa, Past { head: *head, stretches: &stretches, tokens }, q, group, seen)
}

fn ask(isa: Isa, past: Past<'_>, q: &[f32], group: usize, seen: Seen) -> Vec<f32> {
    let width = group * past.head.dim;
    let count = q.len() / width;
    // What scratch holds beforehand must not matter.
    let mut scratch = vec![Line([f32::NAN.to_bits(); 16]); past.head.scratch_lines(count, group)];
    let mut out = vec![f32::NAN; q.len()];
    let queries = Queries { rows: q, stride: width, count, group };
    attend(isa, queries, past, seen, SCALE, &mut scratch, Block::new(&mut out, width)).unwrap();
    out
}

/// Rows of d numbers as a head holds them.
fn kept(format: Format, rows: &[f32], d: usize) -> Vec<f64> {
    let row = |row: &[f32]| -> Vec<f64> {
        let scale = row.iter().fold(0f32, |m, x| m.max(x.abs())) / 127.0;
        let number = |x: &f32| match format {
            Format::F32 => f64::from(*x),
            Format::Bf16 => f64::from(bf16::from_f32(*x).to_f32()),
            Format::Int8 if scale == 0.0 => 0.0,
            Format::Int8 => f64::from((x / scale).round_ties_even()) * f64::from(scale),
        };
        row.iter().map(number).collect()
    };
    rows.chunks(d).flat_map(row).collect()
}

fn same(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
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
            assert!(same(&got, &other), "{} {self:?}: {got:?} {other:?}", isa.name());
        }
        for tokens in [16, 32, 48, 128] {
            let paged = answer_in(tokens, Isa::best(), &stored, &q, self.group, self.seen());
            assert!(same(&got, &paged), "{tokens} {self:?}");
        }
        self.close(&got, &self.exact(&q, &kept(self.format, &k, self.d), &kept(self.format, &v, self.d)));
    }

    fn close(&self, got: &[f32], exact: &[f64]) {
        let bound = match self.format {
            // Products and sums of a few hundred numbers near one, in f32.
            Format::F32 => 2e-5,
            // Weights are rounded by 2^-8 each, above and below the line, where their sums are at most one.
            Format::Bf16 => 1e-2,
            // Weights times scales are rounded by 2^-8 each, and their products with codes add up to one at
            // most, as values do; the weights below the line are not rounded. The rest is as in F32.
            Format::Int8 => 1.0 / 256.0 + 2e-5,
        };
        for (got, want) in got.iter().zip(exact) {
            assert!((f64::from(*got) - want).abs() < bound, "{self:?}: {got} {want}");
        }
    }

    /// Naive loops over the numbers as they are stored.
    fn exact(&self, q: &[f32], k: &[f64], v: &[f64]) -> Vec<f64> {
        let Self { d, group, format, .. } = *self;
        let q: Vec<f32> = q.iter().map(|x| x * SCALE).collect();
        let q = kept(if format == Format::Int8 { Format::Bf16 } else { format }, &q, d);
        let mut out = Vec::new();
        for (row, query) in q.chunks(d).enumerate() {
            let seen = self.seen().by(row / group);
            let weights: Vec<f64> =
                (0..seen).map(|j| query.iter().zip(&k[j * d..]).map(|(q, k)| q * k).sum::<f64>().exp()).collect();
            let sum: f64 = weights.iter().sum();
            out.extend((0..d).map(|c| weights.iter().enumerate().map(|(j, w)| w / sum * v[j * d + c]).sum::<f64>()));
        }
        out
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn attention_matches_naive_loops_and_every_instruction_set_has_its_bits(
        n in 1usize..20, past in 0usize..300, group in 1usize..18, d in 1usize..40, causal: bool,
        format in prop::sample::select(&FORMATS[..])
    ) {
        Problem { n, past, group, d, causal, format }.check();
    }

    #[test]
    fn a_query_depends_neither_on_its_company_nor_on_what_follows(
        n in 2usize..40, past in 0usize..260, cut in 1usize..39, group in 1usize..8, d in 1usize..70,
        format in prop::sample::select(&FORMATS[..])
    ) {
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
        let alone = store(problem.head(), &k, &v);
        let fresh = answer(Isa::best(), &alone, &q, 2, Seen::All(t));
        for cut in 0..t {
            let poison = vec![f32::NAN; (50 - cut) * 5];
            let before = |rows: &[f32]| [&rows[..cut * 5], &poison].concat();
            let mut stored = store(problem.head(), &before(&k), &before(&v));
            for i in cut..t {
                problem.head().store_key(&mut stored.keys, i, &k[i * 5..][..5]);
                problem.head().store_value(&mut stored.values, i, &v[i * 5..][..5]);
            }
            let again = answer(Isa::best(), &stored, &q, 2, Seen::All(t));
            assert!(same(&again, &fresh), "{format:?} {cut} {t}");
            if format == Format::Int8 {
                // The scales behind the last tokens.
                let (keys, values) = (alone.keys.len() - 1, alone.values.len() - 1);
                assert_eq!((stored.keys[keys], stored.values[values]), (alone.keys[keys], alone.values[values]));
            }
        }
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
        // A weight times a scale is rounded to bf16.
        let rounding = if format == Format::Int8 { 1.0 / 256.0 } else { 0.0 };
        for isa in Isa::all() {
            let last = answer(isa, &store(head, &k, &v), &[1.0], 1, Seen::All(300));
            assert!((last[0] - 0.5).abs() <= 0.5 * rounding, "{last:?}");
            let level = answer(isa, &store(head, &k[..299], &v[..299]), &[1.0], 1, Seen::All(299));
            assert!((level[0] - 8.0).abs() < 8.0 * rounding + 1e-4, "{level:?}");
        }
    }
}

#[test]
fn stored_integers_are_half_a_scale_off_at_most() {
    for d in [1, 3, 4, 5, 16, 31, 128] {
        let head = Head { dim: d, format: Format::Int8 };
        assert_eq!((head.key_lines(16), head.value_lines(17)), (d.div_ceil(4) + 1, 2 * (4 * d.div_ceil(16) + 1)));
        let mut rows: Vec<Vec<f32>> = (0..37).map(|i| sample(d, i)).collect();
        rows[3].iter_mut().for_each(|x| *x *= 1e30);
        rows[4].iter_mut().for_each(|x| *x *= 1e-30);
        rows[5].fill(0.0);
        rows[6].fill(f32::MIN_POSITIVE);
        rows[7].fill(-3.0);
        rows[8].fill(f32::MAX);
        let stored = store(head, &rows.concat(), &rows.concat());
        let byte = |word: u32, i: usize| f64::from(word.to_le_bytes()[i] as i8);
        for (t, row) in rows.iter().enumerate() {
            let keys = &stored.keys[head.key_lines(t / 16 * 16)..];
            let values = &stored.values[head.value_lines(t / 16 * 16)..];
            let (width, w) = (d.div_ceil(16), t % 16);
            let scale = f32::from_bits(keys[d.div_ceil(4)].0[w]);
            assert_eq!(scale.to_bits(), values[4 * width].0[w]);
            let largest = row.iter().fold(0f32, |m, x| m.max(x.abs()));
            // What would have a subnormal scale is held as zeros.
            assert_eq!(scale, if largest > 127.0 * f32::MIN_POSITIVE { largest / 127.0 } else { 0.0 });
            for (c, x) in row.iter().enumerate() {
                let key = byte(keys[c / 4].0[w], c % 4);
                assert_eq!(key, byte(values[w / 4 * width + c / 16].0[c % 16], w % 4));
                let (scale, off) = (f64::from(scale), (f64::from(*x) - key * f64::from(scale)).abs());
                // The quotient, of up to 127, is rounded to f32 before it is rounded to an integer.
                assert!(off <= scale * (0.5 + 1e-5) || scale == 0.0 && off < 127.0 * 1.2e-38, "{x} {key} {scale}");
            }
        }
    }
}

#[test]
fn integers_that_stand_for_no_number_are_not_hidden_and_not_met_before_they_are_seen() {
    let problem = Problem { n: 1, past: 39, group: 2, d: 5, causal: true, format: Format::Int8 };
    let (q, k, v) = (problem.queries(), problem.keys(), problem.values());
    let good = store(problem.head(), &k, &v);
    for (at, bad) in [16, 21, 30, 39].into_iter().flat_map(|at| [f32::NAN, f32::INFINITY].map(|bad| (at, bad))) {
        let spoilt = |rows: &[f32]| {
            let mut rows = rows.to_vec();
            rows[at * 5 + 3] = bad;
            rows
        };
        for stored in [store(problem.head(), &spoilt(&k), &v), store(problem.head(), &k, &spoilt(&v))] {
            for isa in Isa::all() {
                let met = answer(isa, &stored, &q, 2, Seen::All(at + 1));
                assert!(met.iter().all(|x| x.is_nan()), "{} {at} {bad} {met:?}", isa.name());
                let before = answer(isa, &stored, &q, 2, Seen::All(at));
                assert!(same(&before, &answer(isa, &good, &q, 2, Seen::All(at))), "{} {at} {bad}", isa.name());
            }
        }
    }
}

#[test]
fn stretches_of_bf16_stand_among_stretches_of_integers() {
    for (n, past, group, d, exact) in
        [(1, 30, 2, 5, 16), (9, 300, 3, 40, 32), (14, 290, 16, 128, 128), (3, 9, 1, 7, 16)]
    {
        let problem = Problem { n, past, group, d, causal: true, format: Format::Int8 };
        let (q, k, v) = (problem.queries(), problem.keys(), problem.values());
        let seen = problem.seen();
        // The first `exact` tokens are held in bf16.
        let by = |isa: Isa, tokens: usize| {
            let held: Vec<Stored> = (0..problem.t())
                .step_by(tokens)
                .map(|first| {
                    let format = if first < exact { Format::Bf16 } else { Format::Int8 };
                    let here = |rows: &[f32]| rows[first * d..rows.len().min((first + tokens) * d)].to_vec();
                    store(Head { dim: d, format }, &here(&k), &here(&v))
                })
                .collect();
            let stretches: Vec<_> = held.iter().map(Stored::stretch).collect();
            ask(isa, Past { head: problem.head(), stretches: &stretches, tokens }, &q, group, seen)
        };
        let got = by(Isa::Scalar, exact);
        for isa in Isa::all() {
            assert!(same(&by(isa, exact), &got), "{} {problem:?}", isa.name());
            assert!(same(&by(isa, 16), &got), "{} {problem:?}", isa.name());
        }
        let mixed = |rows: &[f32]| {
            let (first, rest) = rows.split_at(rows.len().min(exact * d));
            [kept(Format::Bf16, first, d), kept(Format::Int8, rest, d)].concat()
        };
        problem.close(&got, &problem.exact(&q, &mixed(&k), &mixed(&v)));
    }
}

#[test]
fn a_stretch_is_held_as_its_head_or_as_bf16_among_integers() {
    for (outer, inner) in FORMATS.into_iter().flat_map(|outer| FORMATS.map(|inner| (outer, inner))) {
        let head = Head { dim: 4, format: outer };
        let lines = vec![Line::ZERO; 64];
        let stretches = [Stretch { keys: &lines, values: &lines, format: inner }];
        let (mut scratch, mut out) = (vec![Line::ZERO; head.scratch_lines(1, 1)], [0.0; 4]);
        let queries = Queries { rows: &[0.0; 4], stride: 4, count: 1, group: 1 };
        let past = Past { head, stretches: &stretches, tokens: WHOLE };
        let done = attend(Isa::best(), queries, past, Seen::All(1), 1.0, &mut scratch, Block::new(&mut out, 4));
        let fits = outer == inner || (outer, inner) == (Format::Int8, Format::Bf16);
        assert_eq!(done.is_ok(), fits, "{outer:?} {inner:?}");
        assert!(fits || matches!(done, Err(Error::Size { what: "the bytes per number of a stretch", .. })));
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
        let stretches = [stored.stretch()];
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

#[test]
fn what_is_cleared_was_never_stored() {
    for format in FORMATS {
        for d in [1, 5, 16, 18] {
            let head = Head { dim: d, format };
            let (k, v) = (sample(64 * d, 1), sample(64 * d, 2));
            let whole = store(head, &k, &v);
            for from in 0..=64 {
                let (mut keys, mut values) = (whole.keys.clone(), whole.values.clone());
                head.clear_from(&mut keys, &mut values, from);
                let mut want = store(head, &k[..from * d], &v[..from * d]);
                want.keys.resize(keys.len(), Line::ZERO);
                want.values.resize(values.len(), Line::ZERO);
                assert!(keys == want.keys && values == want.values, "{format:?} d {d} from {from}");
            }
        }
    }
}
