//! The loops of an attention, and the register tiles inside them.
//!
//! Rows are the heads of all queries, one after the other. Per tile of keys: scores of all rows in
//! register tiles (the keys of a tile stay in the first-level cache while rows go by), the running
//! softmax row by row, then weights times values in register tiles over the head's dimensions.
#![allow(unsafe_code)]

use super::format::{Format, Pairs, Single};
use super::int8::{self, Part, Scaled, Tile};
use super::{Head, Line, Past, Queries, Seen, TILE};
use crate::exp::{exp, exp_lanes};
use crate::isa::Isa;
use crate::lanes::scalar::Plain;
use crate::lanes::{LANES, Lanes};
use crate::{Block, attention};

/// Groups of sixteen keys in a tile.
pub(super) const GROUPS: usize = TILE / LANES;

/// The operands of an attention, whose shapes fit.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) queries: Queries<'a>,
    pub(super) past: Past<'a>,
    pub(super) seen: Seen,
    pub(super) scale: f32,
}

/// Lines of scratch per row: its query, a tile of scores and of weights, its answer so far, the sixteen
/// sums of its weights, and (m, a).
pub(super) fn lines_per_row(head: Head) -> usize {
    let head = head.wide();
    head.steps().div_ceil(16) + GROUPS + GROUPS / head.format.per_word() + head.value_width() + 2
}

/// Lines of scratch per task: the keys or values of a tile where they are to be widened.
pub(super) fn lines_per_task(head: Head) -> usize {
    if head.format == attention::Format::Int8 { int8::lines_per_tile(head) } else { 0 }
}

/// Runs the body for `isa`. Tiles are as large as its registers hold.
pub(super) fn attend(isa: Isa, job: Job<'_>, scratch: &mut [Line], out: Block<'_>) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni256(proof) | Isa::Avx512Vnni(proof) => x86::avx512(proof, job, scratch, out),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Bf16(proof) => x86::avx512_bf16(proof, job, scratch, out),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(proof) => x86::avx2(proof, job, scratch, out),
        #[cfg(target_arch = "x86_64")]
        Isa::AvxVnni(proof) => x86::avx2(proof.avx2(), job, scratch, out),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(proof) => by_format::<crate::lanes::neon::Quads, 2, 2>(proof, job, scratch, out),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonDotprod(proof) => by_format::<crate::lanes::neon::Quads, 2, 2>(proof.neon(), job, scratch, out),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonI8mm(proof) => by_format::<crate::lanes::neon::Quads, 2, 2>(proof.dotprod().neon(), job, scratch, out),
        _ => by_format::<Plain, 1, 1>((), job, scratch, out),
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;
    use crate::attention::format::Hardware;
    use crate::isa::{Avx2, Avx512Bf16, Avx512Vnni};
    use crate::lanes::{avx2::Ymm, avx512::Zmm};

    pub(super) fn avx2(proof: Avx2, job: Job<'_>, scratch: &mut [Line], out: Block<'_>) {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn body(proof: Avx2, job: Job<'_>, scratch: &mut [Line], out: Block<'_>) {
            by_format::<Ymm, 4, 1>(proof, job, scratch, out);
        }
        // SAFETY: `proof` says that the processor has all of these.
        unsafe { body(proof, job, scratch, out) }
    }

    pub(super) fn avx512(proof: Avx512Vnni, job: Job<'_>, scratch: &mut [Line], out: Block<'_>) {
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
        fn body(proof: Avx512Vnni, job: Job<'_>, scratch: &mut [Line], out: Block<'_>) {
            by_format::<Zmm, 6, 4>(proof, job, scratch, out);
        }
        // SAFETY: `proof` says that the processor has all of these.
        unsafe { body(proof, job, scratch, out) }
    }

    pub(super) fn avx512_bf16(proof: Avx512Bf16, job: Job<'_>, scratch: &mut [Line], out: Block<'_>) {
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
        fn body<F: Format<Zmm>>(proof: Avx512Bf16, format: F, job: Job<'_>, scratch: &mut [Line], out: Block<'_>) {
            answer::<Zmm, F, 6, 4>(proof.vnni(), format, job, scratch, out);
        }
        let pairs = Hardware(proof);
        match job.past.head.format {
            attention::Format::F32 => avx512(proof.vnni(), job, scratch, out),
            // SAFETY: `proof` says that the processor has all of these.
            attention::Format::Bf16 => unsafe { body(proof, pairs, job, scratch, out) },
            // SAFETY: as above.
            attention::Format::Int8 => unsafe { body(proof, Scaled(pairs), job, scratch, out) },
        }
    }
}

#[inline(always)]
fn by_format<V: Lanes, const M: usize, const N: usize>(
    proof: V::Proof,
    job: Job<'_>,
    scratch: &mut [Line],
    out: Block<'_>,
) {
    match job.past.head.format {
        attention::Format::F32 => answer::<V, Single, M, N>(proof, Single, job, scratch, out),
        attention::Format::Bf16 => answer::<V, Pairs, M, N>(proof, Pairs, job, scratch, out),
        attention::Format::Int8 => answer::<V, Scaled<Pairs>, M, N>(proof, Scaled(Pairs), job, scratch, out),
    }
}

/// Scratch, cut up; each part has one stretch per row.
struct Scratch<'a> {
    query: &'a mut [Line],   // (rows, steps / 16)
    scores: &'a mut [Line],  // (rows, 8)
    weights: &'a mut [Line], // (rows, 8 / per word)
    answer: &'a mut [Line],  // (rows, d / 16)
    sums: &'a mut [Line],    // (rows)
    running: &'a mut [Line], // (rows): m, a
}

/// What does not change while a job runs.
#[derive(Clone, Copy)]
struct Sizes {
    rows: usize,
    /// Words of a query or key.
    steps: usize,
    /// Lines of a query.
    query: usize,
    /// Lines of a row of weights.
    weights: usize,
    /// Lines of a row of values.
    width: usize,
}

/// Consecutive rows of one register tile, and how many keys the last of them sees.
#[derive(Clone, Copy)]
struct Band {
    row: usize,
    seen: usize,
}

#[inline(always)]
fn answer<V: Lanes, F: Format<V>, const M: usize, const N: usize>(
    proof: V::Proof,
    format: F,
    job: Job<'_>,
    scratch: &mut [Line],
    out: Block<'_>,
) {
    let (head, count, group) = (job.past.head, job.queries.count, job.queries.group);
    let sizes = Sizes {
        rows: count * group,
        steps: head.wide().steps(),
        query: head.wide().steps().div_ceil(16),
        weights: GROUPS / F::PER_WORD,
        width: head.value_width(),
    };
    let (wide, scratch) = scratch.split_at_mut(lines_per_task(head));
    let (query, rest) = scratch.split_at_mut(sizes.rows * sizes.query);
    let (scores, rest) = rest.split_at_mut(sizes.rows * GROUPS);
    let (weights, rest) = rest.split_at_mut(sizes.rows * sizes.weights);
    let (answer, rest) = rest.split_at_mut(sizes.rows * sizes.width);
    let (sums, rest) = rest.split_at_mut(sizes.rows);
    let running = &mut rest[..sizes.rows];
    let mut s = Scratch { query, scores, weights, answer, sums, running };
    begin::<V, F>(job, sizes, &mut s);
    let most = job.seen.by(count - 1);
    for first in (0..most).step_by(TILE) {
        let groups = (most - first).div_ceil(LANES).min(GROUPS);
        let keys = Tile::of::<V, F>(Part::Keys, job.past, first, groups, wide);
        let mut g = 0;
        while g < groups {
            let n = if g + N <= groups { N } else { 1 };
            let mut row = 0;
            while row < sizes.rows {
                let m = if row + M <= sizes.rows { M } else { 1 };
                let band = Band { row, seen: job.seen.by((row + m - 1) / group) };
                if band.seen > first + g * LANES {
                    match (m == M, n == N) {
                        (true, true) => score::<V, F, M, N>(proof, format, &keys, sizes, &mut s, band, g),
                        (true, false) => score::<V, F, M, 1>(proof, format, &keys, sizes, &mut s, band, g),
                        (false, true) => score::<V, F, 1, N>(proof, format, &keys, sizes, &mut s, band, g),
                        (false, false) => score::<V, F, 1, 1>(proof, format, &keys, sizes, &mut s, band, g),
                    }
                }
                row += m;
            }
            g += n;
        }
        let values = Tile::of::<V, F>(Part::Values, job.past, first, groups, wide);
        for row in 0..sizes.rows {
            let visible = job.seen.by(row / group).saturating_sub(first).min(TILE);
            soften::<V, F>(proof, format, &values, sizes, &mut s, row, visible);
        }
        let mut c = 0;
        while c < sizes.width {
            let n = if c + N <= sizes.width { N } else { 1 };
            let mut row = 0;
            while row < sizes.rows {
                let m = if row + M <= sizes.rows { M } else { 1 };
                let band = Band { row, seen: job.seen.by((row + m - 1) / group) };
                if band.seen > first {
                    match (m == M, n == N) {
                        (true, true) => gather::<V, F, M, N>(proof, format, &values, sizes, &mut s, band, first, c),
                        (true, false) => gather::<V, F, M, 1>(proof, format, &values, sizes, &mut s, band, first, c),
                        (false, true) => gather::<V, F, 1, N>(proof, format, &values, sizes, &mut s, band, first, c),
                        (false, false) => gather::<V, F, 1, 1>(proof, format, &values, sizes, &mut s, band, first, c),
                    }
                }
                row += m;
            }
            c += n;
        }
    }
    finish::<V>(proof, job, sizes, &s, out);
}

/// Queries scaled and in words, nothing answered, nothing seen.
#[inline(always)]
fn begin<V: Lanes, F: Format<V>>(job: Job<'_>, sizes: Sizes, s: &mut Scratch<'_>) {
    let Queries { rows, stride, group, .. } = job.queries;
    let d = job.past.head.dim;
    for row in 0..sizes.rows {
        let query = &rows[row / group * stride + row % group * d..][..d];
        let words = s.query[row * sizes.query..][..sizes.query].iter_mut().flat_map(|line| &mut line.0);
        for (word, numbers) in words.zip(query.chunks(F::PER_WORD)) {
            let second = numbers.get(1).map_or(0.0, |x| x * job.scale);
            *word = F::word(numbers[0] * job.scale, second);
        }
    }
    s.answer.fill(Line::ZERO);
    s.sums.fill(Line::ZERO);
    for line in s.running.iter_mut() {
        line.0[0] = f32::NEG_INFINITY.to_bits();
    }
}

/// Scores of M rows against N groups of keys: one chain per score, over the head's dimensions.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn score<V: Lanes, F: Format<V>, const M: usize, const N: usize>(
    proof: V::Proof,
    format: F,
    tile: &Tile<'_>,
    sizes: Sizes,
    s: &mut Scratch<'_>,
    band: Band,
    g: usize,
) {
    let steps = sizes.steps;
    let mut keys = [&[][..]; N];
    for (keys, group) in keys.iter_mut().zip(&tile.lines[g..g + N]) {
        *keys = &group[..steps];
    }
    let queries = &s.query[band.row * sizes.query..][..M * sizes.query];
    let queries: *const u32 = queries.as_ptr().cast();
    let mut sums = [[V::splat(proof, 0.0); N]; M];
    for step in 0..steps {
        let mut k = [V::splat_word(proof, 0); N];
        for (j, k) in k.iter_mut().enumerate() {
            // SAFETY: step < steps, the length of each group's keys.
            *k = V::words(proof, unsafe { &keys[j].get_unchecked(step).0 });
        }
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: step < steps ≤ 16 · lines of a query, so this is inside row i of the M rows in `queries`.
            let q = V::splat_word(proof, unsafe { *queries.add(i * sizes.query * 16 + step) });
            for j in 0..N {
                sums[j] = format.step(sums[j], q, k[j]);
            }
        }
    }
    for (i, sums) in sums.into_iter().enumerate() {
        let to = &mut s.scores[(band.row + i) * GROUPS + g..][..N];
        for (j, (to, sum)) in to.iter_mut().zip(sums).enumerate() {
            let score = if F::SCALED { sum.mul(tile.scale(proof, g + j)) } else { sum };
            score.store_bits(&mut to.0);
        }
    }
}

/// The softmax of one row taken `visible` keys further: scores become weights.
#[inline(always)]
fn soften<V: Lanes, F: Format<V>>(
    proof: V::Proof,
    format: F,
    values: &Tile<'_>,
    sizes: Sizes,
    s: &mut Scratch<'_>,
    row: usize,
    visible: usize,
) {
    let weights = &mut s.weights[row * sizes.weights..][..sizes.weights];
    let running = &mut s.running[row].0;
    if visible == 0 {
        weights.fill(Line::ZERO);
        running[1] = 1f32.to_bits();
        return;
    }
    let scores = &s.scores[row * GROUPS..][..GROUPS];
    let of = |g: usize| V::of_words(V::words(proof, &scores[g].0));
    let nothing = V::splat(proof, f32::NEG_INFINITY);
    let mut largest = nothing;
    for g in 0..visible / LANES {
        largest = of(g).max(largest);
    }
    if !visible.is_multiple_of(LANES) {
        largest = of(visible / LANES).first(visible % LANES, nothing).max(largest);
    }
    let (before, tile) = (f32::from_bits(running[0]), largest.largest());
    let now = if tile > before { tile } else { before };
    let shrink = exp(before - now);
    running[0] = now.to_bits();
    running[1] = shrink.to_bits();
    let (zero, now) = (V::splat(proof, 0.0), V::splat(proof, now));
    let mut sums = V::of_words(V::words(proof, &s.sums[row].0)).mul(V::splat(proof, shrink));
    for (pair, to) in weights.chunks_exact_mut(2 / F::PER_WORD).enumerate() {
        let mut p = [zero; 2];
        for (half, p) in p.iter_mut().enumerate() {
            let g = 2 * pair + half;
            if visible >= (g + 1) * LANES {
                *p = exp_lanes(proof, of(g).sub(now));
            } else if visible > g * LANES {
                *p = exp_lanes(proof, of(g).sub(now)).first(visible - g * LANES, zero);
            }
        }
        if F::SCALED {
            sums = sums.add(p[0]).add(p[1]);
            for (half, p) in p.iter_mut().enumerate() {
                let g = 2 * pair + half;
                if visible > g * LANES {
                    // The scale of a key that is not seen may be no number: zero times it is not what is kept.
                    *p = p.mul(values.scale(proof, g)).first((visible - g * LANES).min(LANES), zero);
                }
            }
            format.keep(proof, p, zero, to);
        } else {
            sums = format.keep(proof, p, sums, to);
        }
    }
    sums.store_bits(&mut s.sums[row].0);
}

/// N lines of the answers of M rows taken one tile further: one chain per number, over the tile's keys.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn gather<V: Lanes, F: Format<V>, const M: usize, const N: usize>(
    proof: V::Proof,
    format: F,
    tile: &Tile<'_>,
    sizes: Sizes,
    s: &mut Scratch<'_>,
    band: Band,
    first: usize,
    c: usize,
) {
    let width = sizes.width;
    let visible = (band.seen - first).min(TILE);
    let weights = &s.weights[band.row * sizes.weights..][..M * sizes.weights];
    let weights: *const u32 = weights.as_ptr().cast();
    let mut sums = [[V::splat(proof, 0.0); N]; M];
    for (i, sums) in sums.iter_mut().enumerate() {
        let shrink = V::splat(proof, f32::from_bits(s.running[band.row + i].0[1]));
        let from = &s.answer[(band.row + i) * width + c..][..N];
        for (sum, line) in sums.iter_mut().zip(from) {
            *sum = V::of_words(V::words(proof, &line.0)).mul(shrink);
        }
    }
    let per_group = LANES / F::PER_WORD;
    for (g, values) in tile.lines[..visible.div_ceil(LANES)].iter().enumerate() {
        let steps = (visible - g * LANES).min(LANES).div_ceil(F::PER_WORD);
        let values = &values[..steps * width];
        for step in 0..steps {
            let mut v = [V::splat_word(proof, 0); N];
            for (j, v) in v.iter_mut().enumerate() {
                // SAFETY: step < steps and c + N ≤ width, so this is inside row `step` of `values`.
                *v = V::words(proof, unsafe { &values.get_unchecked(step * width + c + j).0 });
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                // SAFETY: the weights of a row are 128 / per word words, of which a group has its share,
                // so this is inside row i of the M rows in `weights`.
                let p = V::splat_word(proof, unsafe { *weights.add(i * sizes.weights * 16 + g * per_group + step) });
                for j in 0..N {
                    sums[j] = format.step(sums[j], p, v[j]);
                }
            }
        }
    }
    for (i, sums) in sums.into_iter().enumerate() {
        let to = &mut s.answer[(band.row + i) * width + c..][..N];
        for (to, sum) in to.iter_mut().zip(sums) {
            sum.store_bits(&mut to.0);
        }
    }
}

/// Divides the answers by the sums of their weights.
#[inline(always)]
fn finish<V: Lanes>(proof: V::Proof, job: Job<'_>, sizes: Sizes, s: &Scratch<'_>, mut out: Block<'_>) {
    let (d, group) = (job.past.head.dim, job.queries.group);
    for row in 0..sizes.rows {
        let sum = V::of_words(V::words(proof, &s.sums[row].0)).sum();
        let inverse = V::splat(proof, 1.0 / sum);
        // Adding zero makes every zero positive: a key that is not seen adds +0, which may or may not have met −0.
        let zero = V::splat(proof, 0.0);
        let to = &mut out.row(row / group)[row % group * d..][..d];
        for (to, line) in to.chunks_mut(LANES).zip(&s.answer[row * sizes.width..]) {
            let answer = V::of_words(V::words(proof, &line.0)).mul(inverse).add(zero);
            let mut numbers = [0.0; LANES];
            answer.store(&mut numbers);
            to.copy_from_slice(&numbers[..to.len()]);
        }
    }
}
