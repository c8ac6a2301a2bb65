//! Checkpoints damaged at random where it hurts: the header's length, its names, numbers and
//! brackets, the places it gives to tensors, the numbers behind it, the end of the file.
//!
//! Two laws are held for every damaged file. It is opened or refused, never more. And if it is
//! opened, the safetensors crate, which was audited, reads the same tensors from it; if that crate
//! opens it and this one does not, the reason is one of the few in which this reader is stricter.

// The allowance in clippy.toml covers test functions, not what they share.
#![allow(clippy::unwrap_used)]

use autoglm_core::checkpoint::HeaderError;
use autoglm_core::{Checkpoint, Error, Files};
use safetensors::SafeTensors;

/// What became of the damaged files.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Opened: the damage hit a weight, or nothing that matters.
    pub(crate) opened: usize,
    /// Refused.
    pub(crate) refused: usize,
}

/// Damages a whole file `count` times. `seed` makes the sequence; case `i` does not depend on `count`.
///
/// # Panics
/// When a law is broken, or the reader itself panics.
pub(crate) fn whole_files(seed: u64, count: usize) -> Outcome {
    let valid = valid_file();
    let mut outcome = Outcome::default();
    for case in 0..count {
        let mut random = Random::of_case(seed, case);
        let mut bytes = if random.below(2) == 0 { valid.clone() } else { lying_file(&mut random) };
        for _ in 0..random.below(4) {
            damage(&mut bytes, &mut random);
        }
        let theirs = SafeTensors::deserialize(&bytes);
        match (Checkpoint::from_bytes(bytes.clone()), theirs) {
            (Ok(ours), Ok(theirs)) => {
                outcome.opened += 1;
                assert_eq!(ours.len(), theirs.len(), "seed {seed}, case {case}");
                for (name, view) in theirs.iter() {
                    let info = ours.info(name).unwrap();
                    assert_eq!((info.dtype, &info.shape[..]), (view.dtype(), view.shape()), "seed {seed}, case {case}");
                    assert_eq!(&*ours.bytes(name).unwrap(), view.data(), "seed {seed}, case {case}");
                }
                assert_eq!(ours.bytes_used() as usize, ours.tensors().map(|info| info.size()).sum::<usize>());
            }
            (Ok(_), Err(error)) => panic!("seed {seed}, case {case}: only the safetensors crate refuses it: {error}"),
            (Err(error), theirs) => {
                outcome.refused += 1;
                assert!(theirs.is_err() || is_stricter(&error), "seed {seed}, case {case}: {error:?}");
            }
        }
    }
    outcome
}

/// Damages the index of a checkpoint of two shards, and now and then a shard, `count` times.
///
/// # Panics
/// When the reader panics, or opens a checkpoint whose tensors are not those of its shards.
pub(crate) fn sharded(seed: u64, count: usize) -> Outcome {
    let index = br#"{"metadata":{"total_size":27},"weight_map":{"a.weight":"1.safetensors","b.bias":"2.safetensors","c":"1.safetensors"}}"#;
    let one = br#"{"a.weight":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},"c":{"dtype":"U8","shape":[7],"data_offsets":[12,19]}}"#;
    let two = br#"{"b.bias":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let mut outcome = Outcome::default();
    for case in 0..count {
        let mut random = Random::of_case(seed, case);
        let mut index = index.to_vec();
        for _ in 0..random.below(3) {
            damage_text(&mut index, &mut random);
        }
        let mut shards = [file(one, 19), file(two, 8)];
        for bytes in &mut shards {
            if random.below(4) == 0 {
                damage(bytes, &mut random);
            }
        }
        let [one, two] = shards;
        // Files in memory are those of a program and live as long as it does: half a kilobyte a case.
        let kept = |bytes: Vec<u8>| -> &'static [u8] { Vec::leak(bytes) };
        let shards = [("1.safetensors", kept(one)), ("2.safetensors", kept(two))];
        let index = kept(index);
        let files = Vec::leak(vec![("model.safetensors.index.json", index), shards[0], shards[1]]);
        match Checkpoint::open(&Files::embedded(files)) {
            Ok(checkpoint) => {
                outcome.opened += 1;
                let listed: serde_json::Value = serde_json::from_slice(index).unwrap();
                let listed = listed["weight_map"].as_object().unwrap();
                assert!(listed.keys().map(String::as_str).eq(checkpoint.names()), "seed {seed}, case {case}");
                for (name, shard) in listed {
                    let (_, bytes) = shards.iter().find(|(name, _)| shard == name).unwrap();
                    let theirs = SafeTensors::deserialize(bytes).unwrap();
                    let view = theirs.tensor(name).unwrap();
                    assert_eq!(&*checkpoint.bytes(name).unwrap(), view.data(), "seed {seed}, case {case}");
                }
            }
            Err(_) => outcome.refused += 1,
        }
    }
    outcome
}

/// Whether this reader alone is right to refuse a file: names or fields that occur twice, fields
/// nobody knows, metadata that is no text, and headers that do not start as the format says; or
/// shapes whose overflow a dimension of zero hides.
fn is_stricter(error: &Error) -> bool {
    let Error::Header { source, .. } = error else { return false };
    matches!(source, HeaderError::Json(_) | HeaderError::NotAnObject | HeaderError::Overflow { .. })
}

fn valid_file() -> Vec<u8> {
    let header = br#"{"__metadata__":{"format":"pt"},"model.embed.weight":{"dtype":"BF16","shape":[4,6],"data_offsets":[0,48]},"model.norm":{"dtype":"F32","shape":[6],"data_offsets":[48,72]},"scalar":{"dtype":"F16","shape":[],"data_offsets":[72,74]},"none":{"dtype":"I64","shape":[0,3],"data_offsets":[74,74]},"half":{"dtype":"F4","shape":[2,5],"data_offsets":[74,79]}}  "#;
    file(header, 79)
}

fn file(header: &[u8], data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend((0..data).map(|i| i as u8));
    bytes
}

/// A file of a few small tensors, of which one place, one name or the length of the file may be a
/// lie that is well-formed otherwise.
fn lying_file(random: &mut Random) -> Vec<u8> {
    const DTYPES: &[(&str, usize)] = &[("F32", 32), ("BF16", 16), ("U8", 8), ("I64", 64), ("F4", 4), ("F6_E2M3", 6)];
    let mut end = 0;
    let mut tensors: Vec<(String, &str, Vec<usize>, i64, i64)> = (0..1 + random.below(5))
        .map(|i| {
            let (dtype, bits) = *random.pick(DTYPES);
            let shape: Vec<usize> = (0..random.below(4)).map(|_| random.below(5)).collect();
            let start = end;
            end += (shape.iter().product::<usize>() * bits / 8) as i64;
            (format!("t{i}"), dtype, shape, start, end)
        })
        .collect();
    let (one, other) = (random.below(tensors.len()), random.below(tensors.len()));
    let by = random.below(9) as i64 - 4;
    match random.below(8) {
        0 => (tensors[one].3, tensors[one].4) = (tensors[one].3 + by, tensors[one].4 + by),
        1 => tensors[one..].iter_mut().for_each(|t| (t.3, t.4) = (t.3 + by, t.4 + by)),
        2 => (tensors[one].3, tensors[one].4) = (tensors[other].3, tensors[other].4),
        3 => tensors[one].0 = tensors[other].0.clone(),
        4 => tensors[one].1 = random.pick(DTYPES).0,
        5 => end = (end + by).max(0),
        _ => {}
    }
    tensors.swap(one, other);
    let entries: Vec<String> = tensors
        .iter()
        .map(|(name, dtype, shape, start, end)| {
            format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{end}]}}"#)
        })
        .collect();
    file(format!("{{{}}}", entries.join(",")).as_bytes(), end as usize)
}

/// Damages a whole file in one place.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    let header = bytes
        .first_chunk::<8>()
        .map_or(0, |length| u64::from_le_bytes(*length))
        .min(bytes.len().saturating_sub(8) as u64);
    match random.below(12) {
        0 => flip(bytes, random),
        1 => bytes.truncate(random.below(bytes.len() + 1)),
        2 => bytes.extend((0..1 + random.below(9)).map(|i| i as u8)),
        3 if bytes.len() >= 8 => {
            let near = header.wrapping_add(random.below(5) as u64).wrapping_sub(2);
            let wide = [0, near, 1 << 31, 1 << 32, 100_000_000, 100_000_001, 1 << 63, u64::MAX - 7, u64::MAX];
            let length = *random.pick(&wide);
            bytes[..8].copy_from_slice(&length.to_le_bytes());
        }
        4 => {
            let (from, to) = (random.below(bytes.len() + 1), random.below(bytes.len() + 1));
            let piece = bytes[from.min(to)..from.max(to)].to_vec();
            let at = random.below(bytes.len() + 1);
            bytes.splice(at..at, piece);
        }
        _ => {
            let mut text: Vec<u8> = bytes.iter().skip(8).take(header as usize).copied().collect();
            damage_text(&mut text, random);
            let data = bytes.split_off((8 + header as usize).min(bytes.len()));
            *bytes = (text.len() as u64).to_le_bytes().to_vec();
            bytes.extend(text);
            bytes.extend(data);
        }
    }
}

fn flip(bytes: &mut [u8], random: &mut Random) {
    if !bytes.is_empty() {
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(8);
    }
}

/// Damages JSON in one place: mostly a number, a string or a bracket becomes another.
fn damage_text(text: &mut Vec<u8>, random: &mut Random) {
    const NUMBERS: &[&str] = &[
        "0",
        "1",
        "-1",
        "2",
        "3",
        "47",
        "48",
        "49",
        "73",
        "74",
        "75",
        "79",
        "80",
        "2147483648",
        "4294967296",
        "9007199254740993",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "1e308",
        "1.0",
        "null",
        "true",
        "\"1\"",
        "[]",
        "{}",
        "1,1",
        "",
    ];
    const STRINGS: &[&str] = &[
        "\"F32\"",
        "\"F16\"",
        "\"BF16\"",
        "\"F64\"",
        "\"U8\"",
        "\"F4\"",
        "\"F6_E2M3\"",
        "\"C64\"",
        "\"Q4_0\"",
        "\"dtype\"",
        "\"shape\"",
        "\"data_offsets\"",
        "\"__metadata__\"",
        "\"scalar\"",
        "\"model.norm\"",
        "\"1.safetensors\"",
        "\"2.safetensors\"",
        "\"../1.safetensors\"",
        "\"a.weight\"",
        "\"b.bias\"",
        "\"\\u0063\"",
        "\"\"",
        "1",
        "null",
        "{}",
    ];
    const MARKS: &[&str] =
        &["{", "}", "[", "]", ",", ":", "\"", " ", "\n", "\\", "\0", "\u{7f}", "温", "[[[[", "{\"a\":"];
    match random.below(10) {
        0..=3 => replace(text, NUMBERS, random, &tokens(text, |c| c.is_ascii_digit())),
        4..=5 => replace(text, STRINGS, random, &strings(text)),
        6 => replace(text, MARKS, random, &tokens(text, |c| b"{}[],:".contains(&c))),
        7 => {
            // Something between two braces once more: a name twice, a field twice, an entry less its comma.
            let entries = strings(text);
            if let [first, .., last] = &entries[..] {
                let span = first.start..last.end;
                let (from, to) = (random.below(entries.len()), random.below(entries.len()));
                let piece = [b",", &text[entries[from.min(to)].start..entries[from.max(to)].start]].concat();
                let at = span.start + random.below(span.len());
                text.splice(at..at, piece);
            }
        }
        8 => {
            let (from, to) = (random.below(text.len() + 1), random.below(text.len() + 1));
            text.drain(from.min(to)..from.max(to).min(from.min(to) + 40));
        }
        _ => flip(text, random),
    }
}

fn replace(text: &mut Vec<u8>, by: &[&str], random: &mut Random, places: &[std::ops::Range<usize>]) {
    if !places.is_empty() {
        let place = random.pick(places).clone();
        text.splice(place, random.pick(by).bytes());
    }
}

/// The longest stretches of bytes that `belongs` to.
fn tokens(text: &[u8], belongs: impl Fn(u8) -> bool) -> Vec<std::ops::Range<usize>> {
    let mut found: Vec<std::ops::Range<usize>> = Vec::new();
    for (i, _) in text.iter().enumerate().filter(|(_, c)| belongs(**c)) {
        match found.last_mut() {
            Some(last) if last.end == i => last.end += 1,
            _ => found.push(i..i + 1),
        }
    }
    found
}

/// The strings, quotes included.
fn strings(text: &[u8]) -> Vec<std::ops::Range<usize>> {
    let quotes: Vec<usize> = text.iter().enumerate().filter(|(_, c)| **c == b'"').map(|(i, _)| i).collect();
    quotes.as_chunks::<2>().0.iter().map(|[open, close]| *open..close + 1).collect()
}

/// Numbers that look random and are the same everywhere (SplitMix64, Steele et al. 2014).
struct Random(u64);

impl Random {
    fn of_case(seed: u64, case: usize) -> Self {
        let mut random = Self(seed ^ (case as u64).wrapping_mul(0xd134_2543_de82_ef95));
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not zero.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
