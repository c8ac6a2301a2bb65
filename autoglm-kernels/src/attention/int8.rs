//! Keys and values as 8-bit integers: how a row becomes codes and a scale, and how the codes of a tile
//! become the pairs that the loops multiply.
//!
//! Integers up to 127 are bf16 numbers, so widening is exact, and a scale that stands outside a chain of
//! products costs one multiplication per score and per weight. What is widened is used by all rows.

use super::body::GROUPS;
use super::format::Format;
use super::{Head, Line, Past};
use crate::attention;
use crate::lanes::{LANES, Lanes};

/// The largest code. The smallest is its negative, so that a number and its negative have one code.
const LARGEST: f32 = 127.0;

/// 1.5 · 2^23: adding it rounds a small number to the nearest integer, ties to even, into the lowest bits.
const ROUND: f32 = 12_582_912.0;

/// Tokens whose bytes share a word of values.
const PER_WORD: usize = 4;

/// The scale of a row: its largest number has the largest code. Not a number where one of them is not
/// finite; zero where it would be subnormal, and so would not divide to the right code.
fn scale_of(row: &[f32]) -> f32 {
    // Magnitudes are ordered as their bits are, and what is not finite is above all numbers.
    let largest = f32::from_bits(row.iter().map(|x| x.abs().to_bits()).fold(0, u32::max));
    match largest / LARGEST {
        _ if !largest.is_finite() => f32::NAN,
        scale if scale < f32::MIN_POSITIVE => 0.0,
        scale => scale,
    }
}

/// The code of a number as a byte; zero where the scale is zero or not a number.
fn code(x: f32, scale: f32) -> u32 {
    if scale > 0.0 { ((x / scale).clamp(-LARGEST, LARGEST) + ROUND).to_bits() & 0xff } else { 0 }
}

/// Writes token `at`'s scale, and clears those of later tokens, which a cache has forgotten.
fn store_scale(line: &mut Line, at: usize, scale: f32) {
    line.0[at..].fill(0);
    line.0[at] = scale.to_bits();
}

/// Writes the key of token `at` to its group of sixteen.
pub(super) fn store_key(group: &mut [Line], at: usize, key: &[f32]) {
    let scale = scale_of(key);
    let (codes, scales) = group.split_at_mut(group.len() - 1);
    store_scale(&mut scales[0], at, scale);
    for (line, numbers) in codes.iter_mut().zip(key.chunks(PER_WORD)) {
        line.0[at] = numbers.iter().rev().fold(0, |word, x| word << 8 | code(*x, scale));
    }
}

/// Writes the value of token `at` to its group of sixteen, and clears later tokens of its words.
pub(super) fn store_value(group: &mut [Line], at: usize, value: &[f32]) {
    let scale = scale_of(value);
    let (codes, scales) = group.split_at_mut(group.len() - 1);
    store_scale(&mut scales[0], at, scale);
    let width = codes.len() / PER_WORD;
    let shift = at % PER_WORD * 8;
    let earlier = (1u32 << shift) - 1;
    for (line, numbers) in codes[at / PER_WORD * width..].iter_mut().zip(value.chunks(LANES)) {
        for (word, x) in line.0.iter_mut().zip(numbers) {
            *word = *word & earlier | code(*x, scale) << shift;
        }
    }
}

/// As [`Head::clear_from`].
pub(super) fn clear_from(head: Head, keys: &mut [Line], values: &mut [Line], from: usize) {
    let (first, at) = (from / LANES, from % LANES);
    let (of_keys, of_values) = (head.key_lines(LANES), head.value_lines(LANES));
    let end = keys.len().min((first + 1) * of_keys);
    if at == 0 {
        keys[first * of_keys..].fill(Line::ZERO);
        values[first * of_values..].fill(Line::ZERO);
        return;
    }
    keys[first * of_keys..end].iter_mut().for_each(|line| line.0[at..].fill(0));
    keys[end..].fill(Line::ZERO);
    let (group, rest) = values[first * of_values..].split_at_mut(of_values);
    rest.fill(Line::ZERO);
    let (codes, scales) = group.split_at_mut(of_values - 1);
    scales[0].0[at..].fill(0);
    let width = head.value_width();
    let earlier = (1u32 << (at % PER_WORD * 8)) - 1;
    for (r, lines) in codes.chunks_mut(width).enumerate().skip(at / PER_WORD) {
        let mask = if r == at / PER_WORD { earlier } else { 0 };
        lines.iter_mut().flat_map(|line| &mut line.0).for_each(|word| *word &= mask);
    }
}

/// Lines that the keys or values of a tile take when they are widened, with their scales.
pub(super) fn lines_per_tile(head: Head) -> usize {
    let group = head.wide().key_lines(LANES).max(head.wide().value_lines(LANES));
    group.saturating_add(1).saturating_mul(GROUPS)
}

/// What a tile is read of.
#[derive(Clone, Copy)]
pub(super) enum Part {
    Keys,
    Values,
}

/// The keys or values of a tile, sixteen tokens at a time, and their scales where the format has some;
/// nothing where no query sees any.
pub(super) struct Tile<'a> {
    pub(super) lines: [&'a [Line]; GROUPS],
    scales: &'a [Line],
}

impl<'a> Tile<'a> {
    /// `groups` groups from token `first` on: where they lie, or widened into `wide` when they are integers.
    /// The values of a tile take the place of its keys in `wide`, so that a task goes through half the memory.
    #[inline(always)]
    pub(super) fn of<V: Lanes, F: Format<V>>(
        part: Part,
        past: Past<'a>,
        first: usize,
        groups: usize,
        wide: &'a mut [Line],
    ) -> Self {
        let (scales, mut wide) = wide.split_at_mut(if F::SCALED { GROUPS } else { 0 });
        let mut lines = [&[][..]; GROUPS];
        for (g, lines) in lines[..groups].iter_mut().enumerate() {
            let token = first + g * LANES;
            let (stretch, at) = (past.stretches[token / past.tokens], token % past.tokens);
            let head = stretch.head(past.head.dim);
            *lines = match part {
                Part::Keys => &stretch.keys[head.key_lines(at)..],
                Part::Values => &stretch.values[head.value_lines(at)..],
            };
            if !F::SCALED {
                continue;
            }
            if stretch.format != attention::Format::Int8 {
                scales[g] = Line([1f32.to_bits(); LANES]);
                continue;
            }
            let to;
            match part {
                Part::Keys => {
                    (to, wide) = wide.split_at_mut(head.wide().key_lines(LANES));
                    scales[g] = widen_keys(head, lines, to);
                }
                Part::Values => {
                    (to, wide) = wide.split_at_mut(head.wide().value_lines(LANES));
                    scales[g] = widen_values(head, lines, to);
                }
            }
            *lines = to;
        }
        Self { lines, scales }
    }

    /// The scales of group `g`.
    #[inline(always)]
    pub(super) fn scale<V: Lanes>(&self, proof: V::Proof, g: usize) -> V {
        V::of_words(V::words(proof, &self.scales[g].0))
    }
}

/// Widens the keys of sixteen tokens: four dimensions per word become lines of two each. Their scales.
#[inline(always)]
fn widen_keys(head: Head, from: &[Line], to: &mut [Line]) -> Line {
    let steps = head.steps();
    for (line, to) in from[..steps].iter().zip(to.chunks_mut(2)) {
        let pairs = widen(line);
        to[0] = pairs[0];
        // The last dimensions may need but one line.
        if let Some(to) = to.get_mut(1) {
            *to = pairs[1];
        }
    }
    from[steps]
}

/// Widens the values of sixteen tokens: four tokens per word become rows of two each. Their scales.
#[inline(always)]
fn widen_values(head: Head, from: &[Line], to: &mut [Line]) -> Line {
    let width = head.value_width();
    for r in 0..LANES / PER_WORD {
        let rows = &mut to[2 * r * width..][..2 * width];
        let (first, second) = rows.split_at_mut(width);
        for ((line, first), second) in from[r * width..].iter().zip(first).zip(second) {
            [*first, *second] = widen(line);
        }
    }
    from[LANES / PER_WORD * width]
}

/// The four bytes of each word as two lines of bf16 pairs.
#[inline(always)]
fn widen(line: &Line) -> [Line; 2] {
    let mut pairs = [Line::ZERO; 2];
    for (to, word) in pairs[0].0.iter_mut().zip(line.0) {
        *to = pair(word);
    }
    for (to, word) in pairs[1].0.iter_mut().zip(line.0) {
        *to = pair(word >> 16);
    }
    pairs
}

/// The two lower bytes of a word as bf16. As a byte of the significand of 2^23, or of 2^15, a number that
/// is not negative adds itself, which spares the shifts that are the narrowest way through processors.
#[inline(always)]
fn pair(word: u32) -> u32 {
    let shifted = word ^ 0x8080;
    let first = f32::from_bits(shifted & 0xff | 0x4b00_0000) - (8_388_608.0 + 128.0);
    let second = f32::from_bits(shifted & 0xff00 | 0x4700_0000) - (32_768.0 + 128.0);
    first.to_bits() >> 16 | second.to_bits()
}

/// A format whose keys and values are integers times the scales of their tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scaled<F>(pub(super) F);

impl<V: Lanes, F: Format<V>> Format<V> for Scaled<F> {
    const PER_WORD: usize = F::PER_WORD;
    const SCALED: bool = true;

    #[inline(always)]
    fn step(self, sum: V, a: V::Words, b: V::Words) -> V {
        self.0.step(sum, a, b)
    }

    #[inline(always)]
    fn keep(self, proof: V::Proof, weights: [V; 2], sums: V, to: &mut [Line]) -> V {
        self.0.keep(proof, weights, sums, to)
    }

    #[inline(always)]
    fn word(first: f32, second: f32) -> u32 {
        F::word(first, second)
    }
}
