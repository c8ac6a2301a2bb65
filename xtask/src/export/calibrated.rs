//! What calibration tells quantisation: for each map of the decoder, what its inputs are to one another.
//!
//! The model answers the calibration lines, and their rows go through the decoder layer by layer, in floats. Memory holds
//! the rows and one layer's sums.

use std::collections::BTreeMap;
use std::mem;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use autoglm::{Inventory, Model, OpenOptions, Transcript};
use autoglm_core::rows::with_rows;
use autoglm_core::{DenseSource, Member, Observe, Run, Sink};
use autoglm_kernels::{Isa, hadamard};
use autoglm_prune::Gram;
use autoglm_quant::{Feedback, Role};
use autoglm_text::{DecoderLayer, Family, TextConfig};
use candle_core::Tensor;

use crate::calibration::{self, Untold, behind_norm, input};
use crate::error::{Error, Result};

/// The decoder, shown the calibration lines as far as one layer.
#[derive(Debug)]
pub(super) struct Calibrated<'a> {
    run: &'a Run<'a>,
    source: DenseSource,
    config: TextConfig,
    shown: Vec<Transcript>,
    /// Whether weights are rotated, and inputs with them.
    rotated: bool,
    /// Rows before layer `next`.
    states: Vec<Tensor>,
    next: usize,
    /// By the names of maps, of the layer before that.
    known: BTreeMap<String, Arc<Feedback>>,
}

impl<'a> Calibrated<'a> {
    /// Lets the model answer the lines of `path`.
    ///
    /// # Errors
    /// The lines cannot be read, the model cannot take one, or it knows sounds alone.
    pub(super) fn new(
        run: &'a Run<'a>,
        directory: &Path,
        inventory: &Inventory,
        path: &Path,
        rotated: bool,
        threads: usize,
    ) -> Result<Self> {
        let mut set = calibration::read(Some(path))?;
        let config = TextConfig::from_json(&inventory.config)?.named_as(|name| inventory.checkpoint.contains(name));
        if config.family == Family::GlmAsr {
            return Err(Error::Usage(
                "--calib: calibration has no sounds yet, and this model knows nothing else".to_owned(),
            ));
        }
        set.seen_by(inventory.config.get("vision_config").is_some())?;
        let source = DenseSource::new(inventory.checkpoint.clone(), None);
        let model = Model::open_with(directory, &OpenOptions::default().threads(threads))?;
        let bar = calibration::bar("the model answers", set.lines.len());
        let shown = calibration::transcripts(&model, &set, || bar.inc(1))?;
        bar.finish_and_clear();
        Ok(Self { run, source, config, shown, rotated, states: Vec::new(), next: 0, known: BTreeMap::new() })
    }

    /// What the inputs of this map are to one another, if it is one of the decoder's layers; members of one map share it.
    /// Layers are best asked for in their order.
    ///
    /// # Errors
    /// The layer computes what are no numbers, or there is no memory for its sums.
    pub(super) fn feedback(&mut self, member: &Member) -> Result<Option<Arc<Feedback>>> {
        let prefix = format!("{}.layers.", self.config.prefix());
        let number = member.name.strip_prefix(&prefix).and_then(|rest| rest.split('.').next());
        let Some(layer) = number.and_then(|number| number.parse::<usize>().ok()) else { return Ok(None) };
        while self.next != layer + 1 {
            if self.next == 0 || self.next > layer {
                self.states = self.shown.iter().map(|transcript| transcript.input.rows().clone()).collect();
                self.next = 0;
            }
            let (index, looks) = (self.next, self.next == layer);
            self.step(looks).map_err(|source| Error::Layer { index, source: Box::new(source) })?;
        }
        Ok(self.known.get(&member.name).cloned())
    }

    /// Takes the rows through layer `next`, looking at what goes into its maps if asked to.
    fn step(&mut self, looks: bool) -> Result<()> {
        self.known.clear();
        let sums = Arc::new(Sums {
            eps: self.config.rms_norm_eps,
            rotated: self.rotated,
            looks,
            grams: Mutex::default(),
            untold: Untold::default(),
        });
        let at = format!("{}.layers.{}", self.config.prefix(), self.next);
        let observed = Observe::new(&self.source, Arc::clone(&sums) as Arc<dyn Sink>);
        let layer = DecoderLayer::load(&observed, &self.config, &at)?;
        for (rows, transcript) in self.states.iter_mut().zip(&self.shown) {
            let passed = layer.whole(self.run, &self.config, &input(rows, &transcript.input)?);
            *rows = passed.map_err(|failure| sums.untold.behind(failure))?;
        }
        self.next += 1;
        for (members, gram) in sums.take() {
            let width = gram.width();
            let upper = gram.inverse_factor()?;
            drop(gram);
            let feedback = Arc::new(Feedback::new(upper, width)?);
            self.known.extend(members.into_iter().map(|name| (name, Arc::clone(&feedback))));
        }
        Ok(())
    }
}

/// Sums over the inputs of each map of a layer.
#[derive(Debug)]
struct Sums {
    /// Added to the mean square by the norms behind attention and the feed-forward network.
    eps: f32,
    rotated: bool,
    looks: bool,
    /// With the names of the maps that share them.
    grams: Mutex<Vec<(Vec<String>, Gram)>>,
    untold: Untold,
}

impl Sums {
    fn take(&self) -> Vec<(Vec<String>, Gram)> {
        mem::take(&mut self.grams.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, members: &[Member], x: &[f32], width: usize, weights: Option<&[f32]>) -> autoglm_prune::Result<()> {
        let names = || members.iter().map(|member| member.name.clone()).collect::<Vec<_>>();
        let mut grams = self.grams.lock().unwrap_or_else(PoisonError::into_inner);
        let known = grams.iter().position(|(of, _)| of.first() == members.first().map(|member| &member.name));
        let at = match known {
            Some(at) => at,
            None => {
                grams.push((names(), Gram::new(width)?));
                grams.len() - 1
            }
        };
        let block = if self.rotated { hadamard::block(width) } else { 1 };
        if block > 1 {
            let mut x = x.to_vec();
            x.chunks_exact_mut(width).for_each(|row| hadamard::rotate(Isa::best(), block, row));
            return grams[at].1.add(&x, weights);
        }
        grams[at].1.add(x, weights)
    }
}

impl Sink for Sums {
    fn wants(&self, members: &[Member]) -> bool {
        self.looks && members.iter().all(|member| Role::of(&member.name) == Role::Decoder)
    }

    fn see(&self, members: &[Member], x: &Tensor, y: &Tensor) -> autoglm_core::Result<()> {
        // What a norm divides by weighs an error behind it; other maps' errors go on as they are.
        let normed = |member: &Member| [".o_proj", ".down_proj"].iter().any(|end| member.name.ends_with(end));
        let weights = if members.iter().any(normed) { Some(behind_norm(y, self.eps)?) } else { None };
        let width = x.dim(1)?;
        with_rows(x, |x| self.add(members, x, width, weights.as_deref()))?.map_err(|failure| self.untold.keep(failure))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use autoglm::{Error as ModelError, Generate, Part, TokenId};
    use serde_json::{Value, json};

    use super::super::{Arguments, Format, Precision, run};
    use super::*;
    use crate::error::one_line;
    use crate::workspace;

    fn tiny() -> PathBuf {
        workspace::root().join("models/autoglm-tiny")
    }

    fn export(out: &Path, format: Format, precision: Precision, calib: Option<PathBuf>) -> Result<()> {
        let (model, out) = (tiny(), out.to_owned());
        run(&Arguments { model, out, format, precision, layout: None, calib, threads: Some(2) })
    }

    /// Screens and questions that no line has.
    const UNSEEN: [(&str, &str); 4] =
        [("03.png", "tap the camera"), ("09.png", "open music"), ("14.png", "打开设置"), ("19.png", "go back")];

    /// Logits of a question about a screen, as transcripts have it, and of the answer that is given here.
    fn logits(model: &Path, like: &[Vec<TokenId>]) -> Vec<f32> {
        let model = Model::open_with(model, &OpenOptions::default().threads(2)).unwrap();
        let mut all = Vec::new();
        for ((screen, _), ids) in UNSEEN.iter().zip(like) {
            let picture = Ok::<_, ModelError>(fs::read(tiny().join("screens").join(screen)).unwrap());
            let mut prompt = model.prompt(ids, [picture].into_iter(), std::iter::empty()).unwrap();
            prompt
                .logits(|logits| {
                    all.extend_from_slice(logits);
                    Ok::<_, ModelError>(())
                })
                .unwrap();
        }
        all
    }

    /// What the tiny checkpoint reads and answers, a placeholder for each picture.
    fn conversations() -> Vec<Vec<TokenId>> {
        let model = Model::open_with(tiny(), &OpenOptions::default().threads(2)).unwrap();
        let one = |(screen, question): &(&str, &str)| {
            let mut session = model.session();
            session.push(Part::image(fs::read(tiny().join("screens").join(screen)).unwrap())).unwrap();
            session.push(Part::text(*question)).unwrap();
            session.reply(Generate::default().max_new_tokens(48)).unwrap().for_each(|piece| drop(piece.unwrap()));
            let mut ids: Vec<TokenId> =
                session.transcript().unwrap().tokens.iter().map(|token| token.unwrap_or(TokenId(649))).collect();
            ids.dedup_by(|a, b| a == b && *a == TokenId(649));
            ids
        };
        UNSEEN.iter().map(one).collect()
    }

    #[test]
    fn what_was_seen_makes_four_bits_better_and_eight_no_worse() {
        let folder = tempfile::tempdir().unwrap();
        let lines = folder.path().join("lines.jsonl");
        let shipped = fs::read_to_string(workspace::root().join("xtask/calibration/default.jsonl")).unwrap();
        let mut taken = String::new();
        for line in shipped.lines().step_by(5) {
            let mut line: Value = serde_json::from_str(line).unwrap();
            if let Some(image) = line["image"].as_str() {
                let image = workspace::root().join("xtask/calibration").join(image);
                if UNSEEN.iter().any(|(screen, _)| image.ends_with(screen)) {
                    continue;
                }
                line["image"] = json!(image);
            }
            taken.push_str(&format!("{line}\n"));
        }
        fs::write(&lines, taken).unwrap();
        let like = conversations();
        let whole = logits(&tiny(), &like);
        for (precision, most) in [(Precision::Int4, 0.8), (Precision::Int8, 1.05)] {
            let error = |calib: Option<PathBuf>| {
                let out = folder.path().join(format!("{precision:?}-{}", calib.is_some()));
                export(&out, Format::Packed, precision, calib).unwrap();
                let lost = logits(&out, &like).iter().zip(&whole).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
                lost.sqrt()
            };
            let (nearest, calibrated) = (error(None), error(Some(lines.clone())));
            assert!(calibrated < most * nearest, "{precision:?}: {calibrated} with lines, {nearest} without");
        }
    }

    #[test]
    fn layers_are_known_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let lines = folder.path().join("lines.jsonl");
        fs::write(&lines, "{\"text\": \"open the camera\"}\n").unwrap();
        let workers = autoglm_core::Workers::new(2).unwrap();
        let run = Run::new(&workers);
        let inventory = Inventory::of(&autoglm_core::Files::directory(tiny()).unwrap()).unwrap();
        let mut calibrated = Calibrated::new(&run, &tiny(), &inventory, &lines, false, 2).unwrap();
        let maps: Vec<&Member> = inventory.maps.iter().flatten().collect();
        let down = |number: usize| {
            let name = format!("language_model.layers.{number}.mlp.down_proj");
            (*maps.iter().find(|member| member.name.ends_with(&name)).unwrap()).clone()
        };
        let first = calibrated.feedback(&down(1)).unwrap().unwrap();
        assert_eq!(first.width(), 384);
        assert!(calibrated.feedback(&down(3)).unwrap().is_some());
        let again = calibrated.feedback(&down(1)).unwrap().unwrap();
        assert!(format!("{first:?}") == format!("{again:?}"), "the same rows have the same sums");
        let head = maps.iter().find(|member| member.name == "lm_head").unwrap();
        assert!(calibrated.feedback(head).unwrap().is_none());
    }

    #[test]
    fn calibration_that_nothing_could_use_is_one_line_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let lines = Some(workspace::root().join("xtask/calibration/default.jsonl"));
        for (format, precision) in [(Format::Hf, Precision::Bf16), (Format::Packed, Precision::Mixed)] {
            let failure = export(&out, format, precision, lines.clone()).unwrap_err();
            assert!(failure.status() == 2 && one_line(&failure).contains("--calib"), "{failure}");
        }
        let missing = export(&out, Format::Packed, Precision::Int4, Some("/nowhere.jsonl".into())).unwrap_err();
        assert!(missing.status() == 2 && one_line(&missing).contains("/nowhere.jsonl"), "{missing}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
