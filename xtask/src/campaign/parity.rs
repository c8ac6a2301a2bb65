//! How far the logits are from transformers', case by case, in standard deviations, and whether that is near enough.

use std::path::{Path, PathBuf};

use autoglm::{Model, OpenOptions, TokenId};
use safetensors::SafeTensors;
use serde::Deserialize;

use crate::error::{Error, Result};

/// The bound for prompts of text alone, in standard deviations of the logits; `autoglm/tests/parity.rs` holds
/// the same.
const TEXT: f64 = 1e-4;

/// The bound for prompts with pictures.
const IMAGES: f64 = 2e-3;

/// The bound for prompts with sounds and without pictures.
const SOUNDS: f64 = 1e-4;

#[derive(Debug, Deserialize)]
struct Request {
    input_ids: Vec<u32>,
    #[serde(default)]
    images: Vec<PathBuf>,
    #[serde(default)]
    audio: Vec<PathBuf>,
    #[serde(default)]
    greedy: usize,
}

/// What was measured of a case.
#[derive(Debug)]
struct Measured {
    rows: usize,
    pictures: usize,
    sounds: usize,
    apart: f64,
    greedy_equal: bool,
}

impl Measured {
    /// Whether the case is as near to transformers as the project promises. A difference that is no
    /// number is not.
    fn holds(&self) -> bool {
        let bound = match (self.pictures, self.sounds) {
            (0, 0) => TEXT,
            (0, _) => SOUNDS,
            _ => IMAGES,
        };
        self.greedy_equal && self.apart <= bound
    }

    fn row(&self) -> String {
        let same = if self.greedy_equal { "equal" } else { "DIFFERENT" };
        format!("{} | {} | {} | {:.1e} | {same}", self.rows, self.pictures, self.sounds, self.apart)
    }
}

/// Prints one row per golden case.
///
/// # Errors
/// [`Error::Parity`] when a case is beyond its bound or picks other tokens, after all rows are printed.
pub(crate) fn run(root: &Path) -> Result<()> {
    let cases = root.join("goldens/cases");
    let mut names: Vec<_> = std::fs::read_dir(&cases)
        .and_then(|folder| folder.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<Vec<_>>>())
        .map_err(Error::file("list", &cases))?;
    names.sort();
    println!(
        "| case | rows | pictures | sounds | largest difference, sd of the logits | greedy ids |\n|---|---|---|---|---|---|"
    );
    let mut failed = Vec::new();
    for name in names {
        let measured = compare(&cases.join(&name))?;
        println!("| {} | {} |", name.display(), measured.row());
        if !measured.holds() {
            failed.push(name.to_string_lossy().into_owned());
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Error::Parity { cases: failed }) }
}

fn compare(case: &Path) -> Result<Measured> {
    let read = |name: &Path| {
        let path = case.join(name);
        std::fs::read(&path).map_err(Error::file("read", &path))
    };
    let request: Request = serde_json::from_slice(&read(Path::new("request.json"))?)
        .map_err(|source| Error::Json { path: case.join("request.json"), source })?;
    let all = |names: &[PathBuf]| names.iter().map(|name| read(name)).collect::<Result<Vec<_>>>();
    let (images, sounds) = (all(&request.images)?, all(&request.audio)?);
    let ids: Vec<TokenId> = request.input_ids.iter().map(|id| TokenId(*id)).collect();
    let expected = read(Path::new("expected.safetensors"))?;
    let damaged = || Error::Golden { path: case.join("expected.safetensors") };
    let expected = SafeTensors::deserialize(&expected).map_err(|_| damaged())?;
    let wanted = expected.tensor("logits").map_err(|_| damaged())?;
    let wanted: Vec<f64> = wanted.data().as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect();
    let model = Model::open_with(case, &OpenOptions::default())?;
    let (pictures, heard) = (images.len(), sounds.len());
    let given = |files: Vec<Vec<u8>>| files.into_iter().map(Ok::<_, autoglm::Error>);
    let mut prompt = model.prompt(&ids, given(images), given(sounds))?;
    let mut got = Vec::new();
    prompt.logits(|rows| {
        got.extend(rows.iter().map(|v| f64::from(*v)));
        Ok::<_, Error>(())
    })?;
    if got.len() != wanted.len() {
        return Err(damaged());
    }
    let rows = prompt.len();
    let greedy: Vec<i64> = prompt.greedy(request.greedy)?.iter().map(|id| i64::from(id.0)).collect();
    let greedy_wanted = expected.tensor("greedy_ids").map_err(|_| damaged())?;
    let greedy_wanted: Vec<i64> =
        greedy_wanted.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect();
    Ok(Measured { rows, pictures, sounds: heard, apart: apart(&got, &wanted), greedy_equal: greedy == greedy_wanted })
}

/// The largest difference in standard deviations of `wanted`.
fn apart(got: &[f64], wanted: &[f64]) -> f64 {
    let n = wanted.len().max(1) as f64;
    let mean = wanted.iter().sum::<f64>() / n;
    let deviation = (wanted.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    // `max` would drop a NaN.
    let largest = got
        .iter()
        .zip(wanted)
        .map(|(g, w)| (g - w).abs())
        .fold(0.0, |a: f64, b| if b > a || b.is_nan() { b } else { a });
    largest / deviation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_of_a_known_pair_is_the_textbook_value() {
        let wanted = [1.0, -1.0, 1.0, -1.0];
        assert!((apart(&[1.0, -1.5, 1.0, -1.0], &wanted) - 0.5).abs() < 1e-12);
        assert!(apart(&[f64::NAN, -1.0, 1.0, -1.0], &wanted).is_nan());
    }

    #[test]
    fn a_case_prints_its_row() {
        let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("../goldens/cases/text-v5");
        let measured = compare(&case).unwrap();
        let row = measured.row();
        assert!(measured.holds() && row.ends_with("| equal") && row.contains("e-"), "{row}");
    }

    #[test]
    fn a_case_holds_within_its_bound_and_with_the_same_tokens_only() {
        let case =
            |pictures, apart, greedy_equal| Measured { rows: 1, pictures, sounds: 0, apart, greedy_equal }.holds();
        assert!(case(0, TEXT, true) && case(1, IMAGES, true));
        assert!(!case(0, IMAGES, true) && !case(1, 2.0 * IMAGES, true));
        assert!(!case(0, 0.0, false) && !case(0, f64::NAN, true));
    }
}
