//! Where a model is opened from: the first time, and each time that it wakes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

use autoglm_core::{Checkpoint, Files, Run, TokenId, Workers};
use autoglm_fusion::Placeholders;
use autoglm_text::{Decoder, Family, TextConfig};
use serde_json::Value;

use crate::awake::{Awake, start_workers};
use crate::ears::{Ears, EarsConfig};
use crate::eyes::{Eyes, EyesConfig};
use crate::past::Past;
use crate::precision::Weights;
use crate::stored::Stored;
use crate::{Error, OpenOptions, Precision, Result};

/// Files and how to open them, or the shape of random weights.
#[derive(Debug)]
pub(crate) struct Place {
    from: From,
    options: OpenOptions,
    /// Which opening of this process it was: weights may be changed on disk between two, so each is one of a kind. Waking is
    /// not another one, because what changed is refused then.
    number: u64,
}

#[derive(Debug)]
enum From {
    Files(Files, Vec<State>),
    #[cfg(feature = "quant")]
    Random(Box<crate::Shape>),
}

/// What changes when a file is written to or another takes its place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    path: PathBuf,
    size: u64,
    modified: Option<SystemTime>,
}

/// What is known of a model whether or not its weights are in memory.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) family: Family,
    pub(crate) context: usize,
    pub(crate) vocab_size: usize,
    pub(crate) weights_bytes: u64,
    pub(crate) bytes_per_token: u64,
    pub(crate) isa: &'static str,
    /// Whether opening makes weights instead of using those of the files.
    #[cfg_attr(not(feature = "power"), allow(dead_code, reason = "nobody lets it sleep"))]
    pub(crate) converts: bool,
    pub(crate) threads: usize,
    pub(crate) hears: bool,
    pub(crate) placeholders: Placeholders,
    pub(crate) stop_ids: Vec<TokenId>,
    pub(crate) transcription_prompt: Option<String>,
    pub(crate) warning: Option<String>,
}

/// Files beside the weights that an opening reads, but for those of the tokenizer, which stays.
const READ: [&str; 5] = [
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "preprocessor_config.json",
    "processor_config.json",
];

impl Place {
    /// The files as they are now: a file that changes later says so.
    pub(crate) fn files(files: Files, options: OpenOptions) -> Self {
        let states = states(&files);
        Self { from: From::Files(files, states), options, number: number() }
    }

    /// Random weights of a shape.
    #[cfg(feature = "quant")]
    pub(crate) fn random(shape: &crate::Shape, options: OpenOptions) -> Self {
        Self { from: From::Random(Box::new(shape.clone())), options, number: number() }
    }

    pub(crate) fn options(&self) -> &OpenOptions {
        &self.options
    }

    /// Opens what was opened before.
    ///
    /// # Errors
    /// - [`Error::Changed`] names a file that is gone or another one than it was.
    /// - Those of the first opening.
    pub(crate) fn reopen(&self) -> Result<Awake> {
        match &self.from {
            From::Files(files, before) => same(before, &states(files))?,
            #[cfg(feature = "quant")]
            From::Random(_) => {}
        }
        Ok(self.open()?.1)
    }

    pub(crate) fn open(&self) -> Result<(Facts, Awake)> {
        match &self.from {
            From::Files(files, _) => self.open_files(files),
            #[cfg(feature = "quant")]
            From::Random(shape) => self.make(shape),
        }
    }

    fn open_files(&self, files: &Files) -> Result<(Facts, Awake)> {
        let options = &self.options;
        let config: Option<Value> = files.json("config.json")?;
        let config =
            config.ok_or_else(|| Error::MissingFile { path: files.path("config.json"), purpose: "opening a model" })?;
        let stored = Stored::read(&config, options)?;
        let text = TextConfig::from_json(&config)?;
        let (family, placeholders) = (text.family, placeholders(&config, text.vocab_size)?);
        let checkpoint = Arc::new(Checkpoint::open(files)?);
        let text = text.named_as(|name| has_weight(&checkpoint, name));
        // Names are built per layer, so a config may not claim more layers than the header has tensors.
        checkpoint.bound_layers("num_hidden_layers", text.num_hidden_layers)?;
        let eyes = EyesConfig::read(files, &config, &checkpoint, options)?;
        let ears = EarsConfig::read(files, &config, text.hidden_size, &checkpoint)?;
        if ears.hears() && placeholders.audio.is_none() {
            let why = "must name the token that stands for a sound";
            return Err(autoglm_core::fields::refuse("audio_token_id", "missing", why).into());
        }
        let mut expected = text.expected_tensors();
        expected.extend(eyes.expected_tensors());
        expected.extend(ears.expected_tensors());
        let unread = [eyes.unread_prefixes(), ears.unread_prefixes()].concat();
        let verified = stored.verify(&checkpoint, &expected, &unread, options.allow_extra)?;
        let generation: Option<Value> = files.json("generation_config.json")?;
        let processor: Option<Value> = files.json("processor_config.json")?;
        let workers = start_workers(options.threads)?;
        let precision = stored.precision().or(options.precision);
        let weights = Weights::new(checkpoint, stored, options, Run::new(&workers), &expected);
        let decoder = Decoder::load(weights.source(), text)?;
        let eyes = eyes.load(weights.source())?;
        let ears = ears.load(weights.source())?;
        let (made, isa, warnings) = (Made::of(&weights), weights.isa(), [weights.warning(), verified.extra_names()]);
        drop(weights);
        let awake = self.furnish((decoder, eyes, ears), workers, (precision, isa), &[config.to_string()])?;
        let facts = Facts {
            stop_ids: stop_ids(family, generation.as_ref(), &config)?,
            transcription_prompt: (family == Family::GlmAsr).then(|| crate::transcribe::prompt(processor.as_ref())),
            warning: warnings.into_iter().flatten().reduce(|all, one| format!("{all}; {one}")),
            ..Facts::of(&awake, (made, isa), family, placeholders)
        };
        Ok((facts, awake))
    }

    #[cfg(feature = "quant")]
    fn make(&self, shape: &crate::Shape) -> Result<(Facts, Awake)> {
        let options = &self.options;
        let config = shape.config("bfloat16");
        let text = TextConfig::from_json(&config)?;
        let (family, placeholders) = (text.family, placeholders(&config, text.vocab_size)?);
        let eyes = EyesConfig::new(&config, None, options)?;
        let ears = EarsConfig::new(&config, text.hidden_size)?;
        let mut expected = text.expected_tensors();
        expected.extend(eyes.expected_tensors());
        expected.extend(ears.expected_tensors());
        let workers = start_workers(options.threads)?;
        let weights = Weights::random(options, Run::new(&workers), &expected)?;
        let decoder = Decoder::load(weights.source(), text)?;
        let eyes = eyes.load(weights.source())?;
        let ears = ears.load(weights.source())?;
        let (made, isa) = (Made::of(&weights), weights.isa());
        drop(weights);
        // Nothing looks the placeholders up, so a smaller vocabulary need not have them.
        let awake = self.furnish((decoder, eyes, ears), workers, (options.precision, isa), &[])?;
        Ok((Facts::of(&awake, (made, isa), family, placeholders), awake))
    }

    /// Puts what was loaded beside threads and a pool. `files` are the texts of configuration files.
    fn furnish(
        &self,
        (decoder, eyes, ears): (Decoder, Eyes, Ears),
        workers: Workers,
        (precision, isa): (Option<Precision>, &str),
        files: &[String],
    ) -> Result<Awake> {
        let attention = precision.map(Precision::attention).unwrap_or_default();
        let past =
            Past::new(decoder.config(), (attention, numbers(precision, isa)), files, (&self.options, self.number))?;
        let decode_threads = self.options.decode_threads.unwrap_or(workers.threads());
        let rounds = precision.is_some_and(Precision::rounds);
        let allowed = AtomicUsize::new(0);
        Ok(Awake { workers, decode_threads, allowed, attention, rounds, decoder, past, eyes, ears })
    }
}

/// What became of the weights while they were loaded.
struct Made {
    bytes: u64,
    converts: bool,
}

impl Made {
    fn of(weights: &Weights<'_>) -> Self {
        Self { bytes: weights.bytes(), converts: weights.converts() }
    }
}

impl Facts {
    /// Of a model of which no file says more.
    fn of(awake: &Awake, (made, isa): (Made, &'static str), family: Family, placeholders: Placeholders) -> Self {
        Self {
            family,
            context: awake.decoder.config().max_position_embeddings,
            vocab_size: awake.decoder.config().vocab_size,
            weights_bytes: made.bytes,
            converts: made.converts,
            bytes_per_token: awake.decoder.bytes_per_step(),
            isa,
            threads: awake.workers.threads(),
            hears: awake.ears.hears(),
            placeholders,
            stop_ids: Vec::new(),
            transcription_prompt: None,
            warning: None,
        }
    }
}

/// # Errors
/// [`Error::Changed`] names a file that is gone, new or another one.
fn same(before: &[State], now: &[State]) -> Result<()> {
    let gone = before.iter().find(|state| !now.contains(state));
    match gone.or(now.iter().find(|state| !before.contains(state))) {
        Some(State { path, .. }) => Err(Error::Changed { path: path.clone() }),
        None => Ok(()),
    }
}

fn number() -> u64 {
    static OPENED: AtomicU64 = AtomicU64::new(0);
    OPENED.fetch_add(1, Ordering::Relaxed)
}

/// What a directory's files are now. What cannot be looked at cannot be told from another, either; what is compiled into the
/// program never changes.
fn states(files: &Files) -> Vec<State> {
    if files.contents().is_some() {
        return Vec::new();
    }
    let listed = std::fs::read_dir(files.path("")).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let weights = listed.filter(|path| path.extension().is_some_and(|end| end == "safetensors"));
    let mut paths: Vec<PathBuf> = READ.iter().map(|name| files.path(name)).chain(weights).collect();
    paths.sort();
    let of = |path: PathBuf| {
        let state = path.metadata().ok()?;
        Some(State { path, size: state.len(), modified: state.modified().ok() })
    };
    paths.into_iter().filter_map(of).collect()
}

/// What changes the bits of keys and values besides the configuration. Instruction sets agree but for sums
/// in bf16 that vanish, and where activations are rounded.
fn numbers(precision: Option<Precision>, isa: &str) -> String {
    format!("{} on {isa}", precision.map_or("as stored", Precision::name))
}

/// Whether a checkpoint has the weight of this name, as floats or packed.
pub(crate) fn has_weight(checkpoint: &Checkpoint, name: &str) -> bool {
    let packed = || name.strip_suffix(".weight").is_some_and(|map| checkpoint.info(&format!("{map}.codes")).is_ok());
    checkpoint.info(name).is_ok() || packed()
}
/// The tokens that stand for media. GLM-ASR's configurations leave theirs out where it is the usual one.
fn placeholders(config: &Value, vocab_size: usize) -> Result<Placeholders> {
    const OF_GLM_ASR: TokenId = TokenId(59_260);
    let usual = config.get("model_type").is_some_and(|kind| kind == "glmasr").then_some(OF_GLM_ASR);
    let placeholders = Placeholders {
        image: token_field(config, "image_token_id", vocab_size)?,
        audio: token_field(config, "audio_token_id", vocab_size)?.or(usual.filter(|id| (id.0 as usize) < vocab_size)),
    };
    match placeholders.audio {
        Some(id) if placeholders.image == Some(id) => {
            Err(autoglm_core::fields::refuse("audio_token_id", id.0, "stands for pictures already").into())
        }
        _ => Ok(placeholders),
    }
}

/// The ids that end a reply. GLM-ASR's configurations leave them out where they are the usual ones.
fn stop_ids(family: Family, generation: Option<&Value>, config: &Value) -> Result<Vec<TokenId>> {
    const OF_GLM_ASR: [u32; 3] = [59_246, 59_253, 59_255];
    let named = autoglm_text::stop_ids(generation, config)?;
    let usual = family == Family::GlmAsr && named.is_empty();
    Ok(if usual { OF_GLM_ASR.map(TokenId).into() } else { named })
}

/// A token id below `vocab_size` that `config.json` may name.
fn token_field(config: &Value, field: &'static str, vocab_size: usize) -> Result<Option<TokenId>> {
    let Some(value) = config.get(field).filter(|v| !v.is_null()) else {
        return Ok(None);
    };
    let refuse = |why| autoglm_core::Error::Config { field, got: value.to_string().chars().take(80).collect(), why };
    let id = value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| refuse("is no token id"))?;
    if id as usize >= vocab_size {
        return Err(refuse("is beyond vocab_size").into());
    }
    Ok(Some(TokenId(id)))
}
