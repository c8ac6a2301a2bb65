//! The original against the result.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use autoglm::Transcript;
use autoglm_core::{Checkpoint, DecoderInput, DenseSource, Files, KvFormat, Positions, Run, TokenId, Want};
use autoglm_text::{Decoder, TextConfig};
use serde_json::{Value, json};

use super::forward::{Difference, through};
use crate::calibration::bar;
use crate::error::{Error, Result};

/// Tokens that are decoded for their speed.
const STEPS: usize = 16;

/// What `prune.json` says under `eval`: `directory` is complete but for that file. `old` has the old id of each token,
/// where it is another.
///
/// # Errors
/// The result does not open, which would be a bug of ours, or a row of numbers is none.
pub(super) fn compare(
    run: &Run<'_>,
    before: &Decoder,
    directory: &Path,
    questions: &[Transcript],
    old: Option<&[u32]>,
) -> Result<Value> {
    let files = Files::directory(directory)?;
    let config = files.json("config.json")?.unwrap_or(Value::Null);
    let checkpoint = Arc::new(Checkpoint::open(&files)?);
    let text = TextConfig::from_json(&config)?.named_as(|name| checkpoint.contains(name));
    let after = Decoder::load(&DenseSource::new(checkpoint, None), text)?;
    let bar = bar("comparing", questions.len());
    let mut difference = Difference::default();
    for transcript in questions {
        let rows = |decoder: &Decoder| through(run, decoder.config(), decoder.layers(), &transcript.input);
        difference.add(run, [before, &after], [&rows(before)?, &rows(&after)?], transcript, old)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let kl = difference.kl().ok_or(Error::Broken)?;
    let [ppl_before, ppl_after] = difference.perplexity();
    // In turn, so that a neighbour's load meets both.
    let mut speed = [Vec::new(), Vec::new()];
    for _ in 0..3 {
        speed[0].push(tokens_per_second(run, before)?);
        speed[1].push(tokens_per_second(run, &after)?);
    }
    let [faster, fastest] = speed.map(|mut speed| {
        speed.sort_by(f64::total_cmp);
        speed[speed.len() / 2]
    });
    Ok(json!({
        "ppl_before": ppl_before,
        "ppl_after": ppl_after,
        "kl": kl,
        "lines": questions.len(),
        "tokens_gone": difference.unheard(),
        "greedy_agreement": difference.agreement(),
        "decode_tok_s_before": faster,
        "decode_tok_s_after": fastest,
    }))
}

/// One token after the other behind a short prompt.
fn tokens_per_second(run: &Run<'_>, decoder: &Decoder) -> Result<f64> {
    let mut cache = decoder.dense_cache(2 * STEPS, KvFormat::F32);
    let step = |from: usize, count: usize| {
        let rows = decoder.embed_tokens().rows(&vec![TokenId(0); count])?;
        Ok::<_, Error>(DecoderInput::new(rows, Positions::text(from as u32, count)?, Want::Last)?)
    };
    decoder.forward(run, &step(0, STEPS)?, &mut cache)?;
    let start = Instant::now();
    for at in 0..STEPS - 1 {
        decoder.forward(run, &step(STEPS + at, 1)?, &mut cache)?;
    }
    Ok((STEPS - 1) as f64 / start.elapsed().as_secs_f64())
}
