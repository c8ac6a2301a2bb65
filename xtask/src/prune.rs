//! Smaller checkpoints of the same architecture, which every program loads that loads the original, but for `--heads` beside
//! eyes.
//!
//! ```text
//! --drop      tensors of a modality and what config.json says of it
//! --vocab     rows of the embedding table and of the output layer that no token has, or no token that a corpus needs
//! --fold      the frames of a patch: a still picture is the same in each
//! --layers    whole layers: a shortlist by block influence, then the one whose loss changes answers least, and so on
//! --heads     query heads of every layer's attention; o_proj is re-fitted to make up for them
//! --ffn       neurons of every layer's feed-forward network; down_proj is re-fitted to make up for them
//! ```
//!
//! Layers are narrowed from the first to the last, each by what flows through it behind those that are narrow already.
//! Weights are written tensor by tensor; memory holds the calibration's rows and one layer's sums.

mod config;
mod depth;
mod evaluate;
mod fold;
mod forward;
pub(crate) mod heads;
mod output;
mod over;
pub(crate) mod vocab;
mod width;

use std::path::PathBuf;

use autoglm::{Inventory, Model, OpenOptions};
use autoglm_core::{DenseSource, Files, Run, Workers};
use autoglm_prune::Criterion;
use autoglm_text::{Decoder, Family, TextConfig};
use clap::builder::TypedValueParser as _;
use serde_json::{Value, json};

use crate::calibration::{self, bar};
use crate::error::{Error, Result};
use crate::export::{copy_companions, threads};
use crate::publish::{may_publish, publish, write_file};
use fold::Fold;
use output::{Output, Renamed};

/// Make a checkpoint smaller: fewer neurons, heads, layers, unused rows, or a modality less.
///
/// What comes out is a checkpoint like any other: safetensors, config.json and the files beside them, for this
/// project, transformers, vLLM and whoever loads the original. `prune.json` beside the weights says what was done, and
/// as `standard` whether that holds: it does but for --heads without --drop vision.
///
/// The directory appears when it is complete; the source is only read. Examples:
///
///   cargo xtask prune --model AutoGLM-Phone-9B --drop vision --out text
///   cargo xtask prune --model AutoGLM-Phone-9B --ffn 12288 --calib screens.jsonl --eval held-out.jsonl --out narrow
///   cargo xtask prune --model AutoGLM-Phone-9B --drop vision --heads 24 --calib phrases.jsonl --out fewer
///   cargo xtask prune --model AutoGLM-Phone-9B --layers 36 --plan
///   cargo xtask prune --model AutoGLM-Phone-9B --vocab commands/ --out few-words
///
/// A line of a calibration file is {"text": "打开相机", "image": "screens/01.png"}, the picture being optional. The model
/// answers each line, and what it computes meanwhile tells which of its parts matter: take lines that look like what it
/// will be used for. Nothing is trained, so see with --eval what it cost.
///
/// Use `cargo run --release -p xtask -- prune …` for large checkpoints: it is many times as fast.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment, group = clap::ArgGroup::new("narrowed").multiple(true))]
pub(crate) struct Arguments {
    /// The checkpoint of floats
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The directory to write, which must not exist yet
    #[arg(long, value_name = "DIR", required_unless_present = "plan")]
    out: Option<PathBuf>,
    /// Leave a modality out: without `vision` only the decoder is left, as Glm4ForCausalLM, ears included in what goes
    #[arg(long, value_enum, value_name = "MODALITY")]
    drop: Option<Dropped>,
    /// Neurons that stay in every feed-forward network
    #[arg(long, value_name = "WIDTH", group = "narrowed")]
    ffn: Option<usize>,
    /// What WIDTH must be a multiple of, so that kernels have no odd rests
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    ffn_multiple: u32,
    /// Query heads that stay in every layer, equally many for each head of keys and values. transformers reads the result
    /// with `--drop vision` only: it looks for the width of a head in a Glm4ForCausalLM's configuration, not in a glm4v's
    #[arg(long, value_name = "H", group = "narrowed")]
    heads: Option<usize>,
    /// Layers that stay
    #[arg(long, value_name = "KEEP")]
    layers: Option<usize>,
    /// First and last layers that stay in any case [default: a tenth and a twentieth, rounded up]
    #[arg(long, value_name = "FIRST,LAST", value_parser = pair, requires = "layers")]
    protect: Option<[usize; 2]>,
    /// Tokens that stay: `padding` drops the rows behind the last one; a CORPUS keeps what its texts need
    ///
    /// CORPUS is a file of text, a .jsonl of calibration lines, which the model answers, or a directory of such files
    /// (.txt and .jsonl). Tokens of texts and answers stay, with added tokens, those of the chat template and the agent's
    /// calls, numbers of up to three digits, and ids that the checkpoint's files name; and a piece for every byte, so that
    /// any other text can still be written, in more tokens than before. The corpus has the same tokens as before, by other
    /// ids: vocab_map.json has the old id of each. A corpus called `padding` is given as ./padding.
    #[arg(long, value_name = "padding|CORPUS", value_parser = clap::builder::PathBufValueParser::new().map(vocab::Choice::from))]
    vocab: Option<vocab::Choice>,
    /// Sum up what the patch embedding does to the frames of a patch, which are the same for a still picture: half the
    /// products there, and no videos any more
    #[arg(long)]
    fold: bool,
    /// What neurons and heads are chosen by: obs, random, magnitude, wanda or minitron; all but obs are there to be compared
    /// with [default: obs]
    #[arg(long, value_name = "NAME", value_parser = criterion, requires = "narrowed")]
    criterion: Option<Criterion>,
    /// Whether down_proj and o_proj are re-fitted [default: with obs, as the others were published without]
    #[arg(long, value_name = "BOOL", requires = "narrowed")]
    refit: Option<bool>,
    /// Lines that the model is calibrated with [default: a small set of phone commands]
    #[arg(long, value_name = "FILE.jsonl")]
    calib: Option<PathBuf>,
    /// Lines by which the original and the result are compared: perplexity, KL divergence, agreement, speed
    #[arg(long, value_name = "FILE.jsonl")]
    eval: Option<PathBuf>,
    /// For the order of calibration lines and for `--criterion random`
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Lines of the calibration file to take, chosen by the seed [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    lines: Option<u32>,
    /// Print what would be done, as JSON, and write nothing
    #[arg(long, conflicts_with_all = ["out", "eval"])]
    plan: bool,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Dropped {
    /// Eyes and ears
    Vision,
    /// Ears
    Audio,
}

fn pair(text: &str) -> std::result::Result<[usize; 2], String> {
    let numbers: Option<Vec<usize>> = text.split(',').map(|number| number.parse().ok()).collect();
    numbers.and_then(|numbers| numbers.try_into().ok()).ok_or_else(|| "two numbers with a comma between".to_owned())
}

fn criterion(name: &str) -> std::result::Result<Criterion, String> {
    let names = || Criterion::ALL.map(Criterion::name).join(", ");
    Criterion::named(name).ok_or_else(|| format!("it is one of {}", names()))
}

/// What was asked for, held against the model.
#[derive(Debug)]
struct Job {
    ffn: Option<usize>,
    heads: Option<usize>,
    layers: Option<usize>,
    protect: [usize; 2],
    /// How many rows are left.
    vocab: Option<usize>,
    /// Which, if these are not the first ones.
    reduced: Option<vocab::Reduced>,
    fold: Option<Fold>,
    drop: Option<Dropped>,
    /// Whether transformers will read the result.
    standard: bool,
}

/// A step that was taken, for `prune.json`.
fn step(op: &str, layer: Option<usize>, kept: &Value) -> Value {
    json!({ "op": op, "layer": layer, "kept": kept })
}

impl Arguments {
    /// For a checkpoint whose networks have `ffn` neurons, a multiple of eight.
    pub(crate) fn narrower(
        model: PathBuf,
        out: PathBuf,
        ffn: usize,
        criterion: Criterion,
        (seed, lines): (u64, u32),
        eval: PathBuf,
    ) -> Self {
        Self {
            model,
            out: Some(out),
            drop: None,
            ffn: Some(ffn),
            heads: None,
            ffn_multiple: 8,
            layers: None,
            protect: None,
            vocab: None,
            fold: false,
            criterion: Some(criterion),
            // Of all, so that only the choice differs.
            refit: Some(true),
            calib: None,
            eval: Some(eval),
            seed,
            lines: Some(lines),
            plan: false,
            threads: None,
        }
    }
}

/// Makes a smaller checkpoint and prints what was done.
///
/// # Errors
/// As for [`make`].
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    println!("{:#}", make(arguments)?);
    Ok(())
}

/// Makes a smaller checkpoint. → `prune.json`.
///
/// # Errors
/// - What was asked for makes no sense for this checkpoint, or `--out` exists: exit status 2, nothing is written.
/// - The checkpoint is damaged, or quantised already.
/// - A file cannot be read or written, for example because the disk is full: nothing is left behind.
pub(crate) fn make(arguments: &Arguments) -> Result<Value> {
    // The set that ships is looked for where it is of use; one that was named, in any case.
    let reads = arguments.ffn.is_some() || arguments.heads.is_some() || arguments.layers.is_some();
    let mut set = match &arguments.calib {
        None if !reads => calibration::Set::default(),
        path => calibration::read(path.as_deref())?,
    };
    let mut held_out = arguments.eval.as_deref().map(|path| calibration::read(Some(path))).transpose()?;
    let corpus = match &arguments.vocab {
        Some(vocab::Choice::Corpus(path)) => Some(vocab::Corpus::find(path)?),
        Some(vocab::Choice::Padding) | None => None,
    };
    if let Some(out) = &arguments.out {
        may_publish(out)?;
    }
    let files = Files::directory(&arguments.model)?;
    let inventory = Inventory::of(&files)?;
    let has = |name: &str| inventory.checkpoint.contains(name);
    let text = TextConfig::from_json(&inventory.config)?.named_as(has);
    let mut job = Job::of(arguments, &files, &inventory, &text)?;
    let mut needs = corpus.map(|corpus| vocab::Needs::of(corpus, &files, &inventory, &text)).transpose()?;
    if !job.standard {
        eprintln!(
            "transformers will not read the result, as it has hidden_size / num_attention_heads for the width of a \
             glm4v's heads; with --drop vision it will"
        );
    }
    let workers = Workers::new(threads(arguments.threads))?;
    let run = Run::new(&workers);
    let source = DenseSource::new(inventory.checkpoint.clone(), None);
    let decoder = Decoder::load(&source, text.clone())?;

    // A plan names neurons and heads by number alone, which takes no calibration.
    let calibrates = ((job.ffn.is_some() || job.heads.is_some()) && !arguments.plan) || job.layers.is_some();
    let has_eyes = inventory.config.get("vision_config").is_some();
    let sees = has_eyes && !job.alone();
    for set in calibrates.then_some(&mut set).into_iter().chain(held_out.as_mut()) {
        // The decoder alone has one axis of positions, and a picture's rows stand on three.
        set.seen_by(sees)?;
    }
    set.shuffle(arguments.seed, arguments.lines);
    let (mut shown, mut questions) = (Vec::new(), Vec::new());
    let asks = needs.as_ref().is_some_and(vocab::Needs::asks);
    if calibrates || held_out.is_some() || asks {
        let threads = threads(arguments.threads);
        let model = Model::open_with(&arguments.model, &OpenOptions::default().threads(threads))?;
        for (set, into) in [(calibrates.then_some(&set), &mut shown), (held_out.as_ref(), &mut questions)] {
            let Some(set) = set else { continue };
            let bar = bar("the model answers", set.lines.len());
            *into = calibration::transcripts(&model, set, || bar.inc(1))?;
            bar.finish_and_clear();
        }
        if let Some(needs) = &mut needs {
            needs.answers(&model, has_eyes)?;
        }
    }
    if let Some(needs) = needs {
        let reduced = needs.reduced()?;
        (job.vocab, job.reduced) = (Some(reduced.old.len()), Some(reduced));
    }
    let kept = match job.layers {
        Some(keep) => {
            let bar = bar("layers", 0);
            let judged = &shown[..shown.len().min(DEPTH_LINES)];
            let kept = depth::keep(&run, &decoder, judged, keep, job.protect, || bar.inc(1))?;
            bar.finish_and_clear();
            kept
        }
        None => (0..text.num_hidden_layers).collect(),
    };
    let names = Renamed::of(&text, job.alone());
    let output = Output::plan(&inventory, &text, names, &job, &kept)?;
    let mut report = job.report(&inventory, &output, &kept);
    let criterion = arguments.criterion.unwrap_or(Criterion::Obs);
    let target = |to| autoglm_prune::Target {
        to,
        criterion,
        refit: arguments.refit.unwrap_or(criterion == Criterion::Obs),
        seed: arguments.seed,
    };
    let narrow = width::Narrow {
        run: &run,
        decoder: &decoder,
        checkpoint: &inventory.checkpoint,
        heads: job.heads.map(target),
        ffn: job.ffn.map(target),
    };
    let Some(out) = arguments.out.as_ref().filter(|_| !arguments.plan) else {
        return Ok(report);
    };
    publish(out, |directory| {
        let steps = output.write(directory, &inventory, job.fold.as_ref(), &narrow, &shown, &kept)?;
        if let Some(all) = report["steps"].as_array_mut() {
            all.extend(steps);
        }
        write_file(&directory.join("config.json"), format!("{:#}\n", output.config).as_bytes())?;
        let replaced = |name: &str| job.reduced.as_ref().is_some_and(|reduced| reduced.replaces(name));
        copy_companions(&files, directory, |name| {
            let folds = job.fold.is_some() && !fold::leaves_alone(name);
            (!job.alone() || !name.contains("processor")) && !replaced(name) && !folds
        })?;
        if let Some(fold) = &job.fold {
            fold.write(directory)?;
        }
        if let Some(reduced) = &job.reduced {
            reduced.write(&files, directory)?;
        }
        if !questions.is_empty() {
            let old = job.reduced.as_ref().map(|reduced| &reduced.old[..]);
            report["eval"] = evaluate::compare(&run, &decoder, directory, &questions, old)?;
        }
        // What does not open would be a bug of ours, and is not given a name.
        Inventory::of(&Files::directory(directory)?)?;
        write_file(&directory.join("prune.json"), format!("{report:#}\n").as_bytes())
    })?;
    Ok(report)
}

/// Lines that layers are judged by: every candidate runs the whole model over them.
const DEPTH_LINES: usize = 16;

impl Job {
    /// Whether only the decoder is left.
    fn alone(&self) -> bool {
        self.drop == Some(Dropped::Vision)
    }

    fn of(arguments: &Arguments, files: &Files, inventory: &Inventory, text: &TextConfig) -> Result<Self> {
        let usage = |why: String| Err(Error::Usage(why));
        let (f, n) = (text.intermediate_size, text.num_hidden_layers);
        if arguments.drop.is_none()
            && arguments.ffn.is_none()
            && arguments.heads.is_none()
            && arguments.layers.is_none()
            && arguments.vocab.is_none()
            && !arguments.fold
        {
            return usage("name something to go: --drop, --ffn, --heads, --layers, --vocab or --fold".to_owned());
        }
        let calibrated = arguments.ffn.is_some() || arguments.heads.is_some() || arguments.layers.is_some();
        if !calibrated && (arguments.calib.is_some() || arguments.lines.is_some()) {
            return usage("--calib and --lines are for --ffn, --heads and --layers".to_owned());
        }
        if calibrated && text.family == Family::GlmAsr {
            return usage(
                "--ffn, --heads and --layers: calibration has no sounds yet, and this model knows nothing else"
                    .to_owned(),
            );
        }
        if arguments.eval.is_some() && text.family == Family::GlmAsr {
            return usage("--eval: lines have no sounds yet, and this model knows nothing else".to_owned());
        }
        if let Some(to) = arguments.ffn {
            let multiple = arguments.ffn_multiple as usize;
            if to == 0 || to > f || !to.is_multiple_of(multiple) {
                return usage(format!("--ffn {to}: a multiple of {multiple} up to the {f} neurons that there are"));
            }
        }
        if let Some(to) = arguments.heads {
            heads::check(to, text)?;
        }
        let protect = arguments.protect.unwrap_or([n.div_ceil(10), n.div_ceil(20)]);
        if let Some(keep) = arguments.layers {
            let least = protect[0].saturating_add(protect[1]).max(1);
            if keep < least || keep > n {
                return usage(format!(
                    "--layers {keep}: from the {least} that are protected to the {n} that there are"
                ));
            }
        }
        match arguments.drop {
            Some(Dropped::Vision) if text.family != Family::Glm4v => {
                return usage("--drop vision: this checkpoint has no eyes".to_owned());
            }
            Some(Dropped::Audio) if text.family != Family::Glm4v || inventory.config.get("audio_config").is_none() => {
                return usage("--drop audio: no ears that the rest could do without".to_owned());
            }
            Some(Dropped::Vision) if arguments.fold => {
                return usage("--fold: nothing is left to fold after --drop vision".to_owned());
            }
            _ => {}
        }
        let fold = if arguments.fold { Some(Fold::of(files, inventory)?) } else { None };
        let vocab = match arguments.vocab {
            Some(vocab::Choice::Padding) => Some(output::tokens(files, &inventory.config)?.min(text.vocab_size)),
            // Known when the corpus is read.
            Some(vocab::Choice::Corpus(_)) | None => None,
        };
        let (ffn, heads, layers, drop) = (arguments.ffn, arguments.heads, arguments.layers, arguments.drop);
        let alone = drop == Some(Dropped::Vision);
        let standard = heads::standard(text, heads.unwrap_or(text.num_attention_heads), alone);
        Ok(Self { ffn, heads, layers, protect, vocab, reduced: None, fold, drop, standard })
    }

    /// `prune.json` without what only writing tells.
    fn report(&self, inventory: &Inventory, output: &Output, kept: &[usize]) -> Value {
        let mut steps = Vec::new();
        if let Some(dropped) = self.drop {
            let kept = if dropped == Dropped::Vision { json!(["text"]) } else { json!(["text", "vision"]) };
            steps.push(step("drop", None, &kept));
        }
        if let Some(vocab) = self.vocab {
            steps.push(step("vocab", None, &json!(vocab)));
        }
        if let Some(fold) = &self.fold {
            let mut folded = step("fold", None, &json!(1));
            folded["frames"] = json!(fold.frames);
            steps.push(folded);
        }
        if self.layers.is_some() {
            steps.push(step("layers", None, &json!(kept)));
        }
        if let Some(to) = self.heads {
            steps.push(step("heads", None, &json!(to)));
        }
        if let Some(to) = self.ffn {
            steps.push(step("ffn", None, &json!(to)));
        }
        let before = output::sizes(inventory);
        let after = output.sizes();
        json!({
            "params_before": before[0],
            "params_after": after[0],
            "bytes_before": before[1],
            "bytes_after": after[1],
            "standard": self.standard,
            "steps": steps,
            "eval": null,
        })
    }
}

#[cfg(test)]
mod tests;
