//! A decoder layer by layer: whole sequences, in f32.

use std::sync::{Arc, Mutex, PoisonError};

use autoglm::Transcript;
use autoglm_core::rows::with_rows;
use autoglm_core::{DecoderInput, Member, Run, Sink};
use autoglm_prune::Gram;
use autoglm_text::{Decoder, DecoderLayer, TextConfig};
use candle_core::Tensor;

use crate::calibration::{Untold, behind_norm, input};
use crate::error::{Error, Result};

/// The rows of a sequence as they leave the layers `order`, one after the other.
pub(super) fn through<'a>(
    run: &Run<'_>,
    config: &TextConfig,
    layers: impl IntoIterator<Item = &'a DecoderLayer>,
    transcript: &DecoderInput,
) -> Result<Tensor> {
    let mut rows = transcript.rows().clone();
    for layer in layers {
        rows = layer.whole(run, config, &input(&rows, transcript)?)?;
    }
    Ok(rows)
}

/// Sums up what one map of a layer takes.
#[derive(Debug)]
pub(super) struct Collect {
    /// How its name ends.
    map: &'static str,
    gram: Mutex<Gram>,
    pub(super) untold: Untold,
    /// Added to the mean square by the norm behind; nothing where there is none.
    eps: Option<f32>,
}

impl Collect {
    pub(super) fn new(map: &'static str, f: usize, eps: Option<f32>) -> Result<Arc<Self>> {
        Ok(Arc::new(Self { map, gram: Mutex::new(Gram::new(f)?), untold: Untold::default(), eps }))
    }

    pub(super) fn with<R>(&self, read: impl FnOnce(&Gram) -> R) -> R {
        read(&self.gram.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Sink for Collect {
    fn wants(&self, members: &[Member]) -> bool {
        members.iter().any(|member| member.name.ends_with(self.map))
    }

    fn see(&self, _: &[Member], x: &Tensor, y: &Tensor) -> autoglm_core::Result<()> {
        let weights = self.eps.map(|eps| behind_norm(y, eps)).transpose()?;
        let mut gram = self.gram.lock().unwrap_or_else(PoisonError::into_inner);
        with_rows(x, |x| gram.add(x, weights.as_deref()))?.map_err(|failure| self.untold.keep(failure))
    }
}

/// How a changed decoder differs from the one it was, over rows that a token follows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Difference {
    rows: u64,
    /// Tokens that the changed decoder has no word for.
    unheard: u64,
    surprise: [f64; 2],
    kl: f64,
    agree: u64,
}

/// Logits that are held at once, in numbers.
const LOGITS_AT_ONCE: usize = 8 << 20;

impl Difference {
    /// Adds a sequence that left the last layers as `rows`, of the original and of the changed decoder. `old` has, for each
    /// logit of the changed one, where the original has it, unless it is the same place.
    pub(super) fn add(
        &mut self,
        run: &Run<'_>,
        heads: [&Decoder; 2],
        rows: [&Tensor; 2],
        transcript: &Transcript,
        old: Option<&[u32]>,
    ) -> Result<()> {
        let n = transcript.tokens.len();
        let widths = heads.map(|head| head.config().vocab_size);
        let most = (LOGITS_AT_ONCE / widths[0].max(1)).max(1);
        // Tokens that the changed one has no word for cannot be compared.
        let common = old.map_or(widths[0].min(widths[1]), <[u32]>::len);
        let place = |id: usize| match old {
            None => Some(id).filter(|id| *id < common),
            Some(old) => old.iter().position(|old| *old as usize == id),
        };
        let mut gathered = Vec::new();
        for start in (0..n.saturating_sub(1)).step_by(most) {
            let m = most.min(n - 1 - start);
            let logits = |which: usize| Ok::<_, Error>(heads[which].head(run, &rows[which].narrow(0, start, m)?)?);
            let (before, after) = (logits(0)?, logits(1)?);
            with_rows(&before, |before| {
                with_rows(&after, |after| {
                    let rows = before.chunks_exact(widths[0]).zip(after.chunks_exact(widths[1]));
                    for (next, (before, after)) in transcript.tokens[start + 1..].iter().zip(rows) {
                        let Some(next) = next else { continue };
                        let Some(next) = place(next.0 as usize) else {
                            self.unheard += 1;
                            continue;
                        };
                        let before = match old {
                            None => &before[..common],
                            Some(old) => {
                                gathered.clear();
                                gathered.extend(old.iter().map(|id| before[*id as usize]));
                                &gathered[..]
                            }
                        };
                        self.row(before, &after[..common], next);
                    }
                })
            })??;
        }
        Ok(())
    }

    fn row(&mut self, before: &[f32], after: &[f32], next: usize) {
        let normaliser = |logits: &[f32]| {
            let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            f64::from(most) + logits.iter().map(|x| f64::from(x - most).exp()).sum::<f64>().ln()
        };
        let (z, y) = (normaliser(before), normaliser(after));
        let log = |x: f32, z: f64| f64::from(x) - z;
        let kl = |(p, q): (&f32, &f32)| log(*p, z).exp() * (log(*p, z) - log(*q, y));
        self.kl += before.iter().zip(after).map(kl).sum::<f64>();
        self.surprise[0] -= log(before[next], z);
        self.surprise[1] -= log(after[next], y);
        let best = |logits: &[f32]| (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]).then(b.cmp(a)));
        self.agree += u64::from(best(before) == best(after));
        self.rows += 1;
    }

    /// Tokens that the changed decoder cannot say. No row counts that such a token follows.
    pub(super) fn unheard(self) -> u64 {
        self.unheard
    }

    fn mean(self, sum: f64) -> f64 {
        sum / self.rows.max(1) as f64
    }

    /// Perplexity of the original and of the changed decoder.
    pub(super) fn perplexity(self) -> [f64; 2] {
        self.surprise.map(|sum| self.mean(sum).exp())
    }

    /// Mean KL(original ‖ changed), in nats; nothing where a logit is no number.
    pub(super) fn kl(self) -> Option<f64> {
        let mean = self.mean(self.kl);
        // Rounding may leave a little less than nothing.
        mean.is_finite().then_some(if mean < 0.0 { 0.0 } else { mean })
    }

    /// Share of rows whose most probable token is the same.
    pub(super) fn agreement(self) -> f64 {
        self.mean(self.agree as f64)
    }
}
