//! Which layers go.

use autoglm::Transcript;
use autoglm_core::Run;
use autoglm_core::rows::with_rows;
use autoglm_prune::Influence;
use autoglm_text::{Decoder, DecoderLayer};
use candle_core::Tensor;

use super::forward::{Difference, through};
use crate::calibration::input;
use crate::error::{Error, Result};

/// The layers that stay, `keep` of them, in order.
///
/// Block influence makes the shortlist, one and a half times as many as are to go and two more; of these the one
/// without which the model's answers change least goes, and so on. The first and last `protect` stay.
pub(super) fn keep(
    run: &Run<'_>,
    decoder: &Decoder,
    transcripts: &[Transcript],
    keep: usize,
    protect: [usize; 2],
    mut tried: impl FnMut(),
) -> Result<Vec<usize>> {
    let layers = decoder.layers();
    let mut stays: Vec<usize> = (0..layers.len()).collect();
    let (influence, whole) = influence(run, decoder, transcripts)?;
    let mut shortlist: Vec<usize> = (protect[0]..layers.len() - protect[1]).collect();
    shortlist.sort_by(|a, b| influence[*a].total_cmp(&influence[*b]));
    let gone = layers.len() - keep;
    shortlist.truncate(gone + gone.div_ceil(2) + 2);
    while stays.len() > keep {
        let mut best: Option<(f64, usize)> = None;
        for candidate in shortlist.iter().filter(|layer| stays.contains(layer)) {
            let without = stays.iter().filter(|layer| *layer != candidate).map(|layer| &layers[*layer]);
            let without: Vec<&DecoderLayer> = without.collect();
            let mut difference = Difference::default();
            for (transcript, whole) in transcripts.iter().zip(&whole) {
                let rows = through(run, decoder.config(), without.iter().copied(), &transcript.input)?;
                difference.add(run, [decoder; 2], [whole, &rows], transcript, None)?;
            }
            tried();
            let kl = difference.kl().ok_or(Error::Diverged { layer: *candidate })?;
            if best.is_none_or(|(least, _)| kl < least) {
                best = Some((kl, *candidate));
            }
        }
        // The shortlist is longer than what is to go, so there always is one.
        let Some((_, layer)) = best else { break };
        stays.retain(|other| *other != layer);
    }
    Ok(stays)
}

/// The influence of each layer, and the rows that leave the last one.
fn influence(run: &Run<'_>, decoder: &Decoder, transcripts: &[Transcript]) -> Result<(Vec<f64>, Vec<Tensor>)> {
    let config = decoder.config();
    let mut influence = vec![Influence::default(); decoder.layers().len()];
    let mut whole = Vec::with_capacity(transcripts.len());
    for transcript in transcripts {
        let mut rows = transcript.input.rows().clone();
        for (layer, influence) in decoder.layers().iter().zip(&mut influence) {
            let after = layer.whole(run, config, &input(&rows, &transcript.input)?)?;
            with_rows(&rows, |before| with_rows(&after, |after| influence.add(before, after, config.hidden_size)))???;
            rows = after;
        }
        whole.push(rows);
    }
    Ok((influence.iter().map(|influence| influence.value().unwrap_or(f64::MAX)).collect(), whole))
}
