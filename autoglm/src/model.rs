//! A handle on an opened checkpoint.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use autoglm_core::{Checkpoint, Embeds, Files, Keep, KvFormat, Modality, Run, TokenId, Workers};
use autoglm_fusion::Placeholders;
use autoglm_text::{ChatTemplate, Decoder, Family, TextConfig, Tokenizer};
use serde_json::Value;

use crate::ears::{Ears, EarsConfig};
use crate::eyes::{Eyes, EyesConfig};
#[cfg(feature = "kvcache")]
use crate::keep::Origin;
use crate::past::Past;
use crate::precision::Weights;
use crate::stored::Stored;
use crate::{Error, OpenOptions, Part, Precision, Prompt, Result, Session};

/// An opened checkpoint, ready to run. Cloning copies a handle; the weights, which stay in the mapped
/// file, and the worker threads are shared.
#[derive(Debug, Clone)]
pub struct Model {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    workers: Workers,
    decode_threads: usize,
    attention: KvFormat,
    /// Whether activations may be rounded to the halves of the weights.
    rounds: bool,
    weights_bytes: u64,
    isa: &'static str,
    decoder: Decoder,
    past: Past,
    #[cfg(feature = "kvcache")]
    origin: Origin,
    eyes: Eyes,
    /// Which rows of pictures sessions begin with.
    keep: Keep,
    ears: Ears,
    /// Where the tokenizer would be if there is none.
    chat: std::result::Result<Chat, PathBuf>,
    placeholders: Placeholders,
    stop_ids: Vec<TokenId>,
    transcription_prompt: Option<String>,
    warning: Option<String>,
}

/// What turns conversations into ids and ids into text.
#[derive(Debug)]
pub(crate) struct Chat {
    pub(crate) tokenizer: Tokenizer,
    pub(crate) template: ChatTemplate,
}

impl Model {
    /// Opens a checkpoint directory in the Hugging Face layout.
    ///
    /// # Errors
    /// Names the file, the field or the tensors that are wrong; nothing of a bad checkpoint is used.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(dir, &OpenOptions::default())
    }

    /// Opens a checkpoint directory with options.
    ///
    /// # Errors
    /// As for [`Model::open`].
    pub fn open_with(dir: impl AsRef<Path>, options: &OpenOptions) -> Result<Self> {
        Self::from_files(&Files::directory(dir.as_ref())?, options)
    }

    /// Opens a checkpoint that is compiled into the program: its files by name.
    ///
    /// # Errors
    /// As for [`Model::open`].
    ///
    /// ```
    /// use autoglm::{Generate, Model, OpenOptions, Part, Thinking};
    ///
    /// let model = Model::open_embedded(autoglm_tiny::FILES, &OpenOptions::default())?;
    /// let mut session = model.session();
    /// session.push(Part::text("go back"))?;
    /// let reply = session.reply(Generate::default().thinking(Thinking::Skipped))?;
    /// let text: String = reply.map(|piece| piece.map(|p| p.text)).collect::<Result<_, _>>()?;
    /// assert_eq!(text, "do(action=\"Back\")");
    /// # Ok::<(), autoglm::Error>(())
    /// ```
    pub fn open_embedded(files: &'static [(&'static str, &'static [u8])], options: &OpenOptions) -> Result<Self> {
        Self::from_files(&Files::embedded(files), options)
    }

    fn from_files(files: &Files, options: &OpenOptions) -> Result<Self> {
        let config: Option<Value> = files.json("config.json")?;
        let config =
            config.ok_or_else(|| Error::MissingFile { path: files.path("config.json"), purpose: "opening a model" })?;
        let stored = Stored::read(&config, options)?;
        let text = TextConfig::from_json(&config)?;
        let (family, placeholders) = (text.family, placeholders(&config, text.vocab_size)?);
        // Looked at before they are opened: whoever replaces them in between is noticed later.
        #[cfg(feature = "kvcache")]
        let origin = Origin::of(files);
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
        let (weights_bytes, isa, warnings) =
            (weights.bytes(), weights.isa(), [weights.warning(), verified.extra_names()]);
        drop(weights);
        let attention = precision.map(Precision::attention).unwrap_or_default();
        let inner = Inner {
            decode_threads: options.decode_threads.unwrap_or(workers.threads()),
            workers,
            attention,
            rounds: precision.is_some_and(Precision::rounds),
            weights_bytes,
            isa,
            past: Past::new(decoder.config(), (attention, numbers(precision, isa)), &[config.to_string()], options)?,
            #[cfg(feature = "kvcache")]
            origin,
            decoder,
            eyes,
            keep: options.keep,
            ears,
            chat: Chat::read(files, family)?,
            placeholders,
            stop_ids: stop_ids(family, generation.as_ref(), &config)?,
            transcription_prompt: (family == Family::GlmAsr).then(|| crate::transcribe::prompt(processor.as_ref())),
            warning: warnings.into_iter().flatten().reduce(|all, one| format!("{all}; {one}")),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A model of random weights, made in memory in the precision asked for (bf16 where none is), for
    /// measuring how fast and how large one of this shape is. It has no tokenizer.
    ///
    /// # Errors
    /// - [`Error::Core`] when there is no room for the weights.
    /// - What the shape's own configuration reports, where its numbers do not fit each other.
    #[cfg(feature = "quant")]
    pub fn synthetic(shape: &crate::Shape, options: &OpenOptions) -> Result<Self> {
        let config = shape.config("bfloat16");
        let text = TextConfig::from_json(&config)?;
        let placeholders = placeholders(&config, text.vocab_size)?;
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
        let (weights_bytes, isa) = (weights.bytes(), weights.isa());
        drop(weights);
        let attention = options.precision.map(Precision::attention).unwrap_or_default();
        let inner = Inner {
            decode_threads: options.decode_threads.unwrap_or(workers.threads()),
            workers,
            attention,
            rounds: options.precision.is_some_and(Precision::rounds),
            weights_bytes,
            isa,
            past: Past::new(decoder.config(), (attention, numbers(options.precision, isa)), &[], options)?,
            #[cfg(feature = "kvcache")]
            origin: Origin::Unknown,
            decoder,
            eyes,
            keep: options.keep,
            ears,
            chat: Err(PathBuf::from("(random weights)").join(TOKENIZER)),
            // Nothing looks the placeholders up, so a smaller vocabulary need not have them.
            placeholders,
            stop_ids: Vec::new(),
            transcription_prompt: None,
            warning: None,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A prompt of `rows` rows of which pictures and sounds take as many as they have, for measuring.
    ///
    /// # Errors
    /// - [`Error::ModalityOff`] for a medium that this build or model cannot take.
    /// - [`Error::Rows`] when media alone have as many rows as the prompt, or more.
    /// - [`Error::Fusion`] when the rows do not fit the context.
    #[cfg(feature = "quant")]
    pub fn trial(&self, rows: usize, media: &[crate::Part]) -> Result<crate::Trial> {
        crate::Trial::new(self, rows, media)
    }

    /// A phone agent's conversation of made-up tokens, for measuring.
    #[cfg(all(feature = "quant", feature = "kvcache"))]
    #[must_use]
    pub fn agent_loop(&self) -> crate::AgentLoop {
        crate::AgentLoop::new(self)
    }

    /// A new conversation.
    #[must_use]
    pub fn session(&self) -> Session {
        Session::new(self.clone())
    }

    /// Lays out a prompt that is given as token ids, the placeholder of each picture and of each sound once, and
    /// encoded pictures and sounds, which are read and encoded one at a time: for comparing numbers with another
    /// implementation.
    ///
    /// # Errors
    /// - [`autoglm_fusion::Error`] when placeholders and media differ in number; none is read then.
    /// - [`Error::Picture`] and [`Error::Sound`] for one that is damaged, that this build or checkpoint cannot
    ///   take, or that does not fit the context beside what stands before it.
    /// - What `images` and `sounds` report.
    pub fn prompt<E: From<Error>>(
        &self,
        ids: &[TokenId],
        mut images: impl ExactSizeIterator<Item = std::result::Result<Vec<u8>, E>>,
        mut sounds: impl ExactSizeIterator<Item = std::result::Result<Vec<u8>, E>>,
    ) -> std::result::Result<Prompt, E> {
        let count = |modality| if modality == Modality::Image { images.len() } else { sounds.len() };
        let order = self.placeholders().expect(ids, count).map_err(Error::from)?;
        let mut taken = ids.len() - order.len();
        let mut embeds: Vec<Embeds> = Vec::new();
        for modality in order {
            let number = 1 + embeds.iter().filter(|made| made.modality() == modality).count();
            let made = if modality == Modality::Image {
                let Some(bytes) = images.next() else { break };
                let seen = self.see([0; 32], &Part::Image(bytes?), self.keep(), taken);
                seen.map_err(|e| Error::Picture { number, source: Box::new(e) })
            } else {
                let Some(bytes) = sounds.next() else { break };
                let heard = self.hear([0; 32], &Part::Audio(bytes?), taken);
                heard.map_err(|e| Error::Sound { number, source: Box::new(e) })
            };
            let (made, _) = made?;
            taken += made.len();
            embeds.push(made);
        }
        Ok(Prompt::new(self.clone(), ids, &embeds)?)
    }

    /// Positions the checkpoint was trained for: the largest context of a session.
    #[must_use]
    pub fn context(&self) -> usize {
        self.inner.decoder.config().max_position_embeddings
    }

    /// Width of the logits.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.decoder.config().vocab_size
    }

    /// Bytes of the tensors that this model uses: as they lie in the checkpoint, or as they were
    /// converted to the wanted precision.
    #[must_use]
    pub fn weights_bytes(&self) -> u64 {
        self.inner.weights_bytes
    }

    /// Bytes of weights that generating one token reads: the decoder's layers and its head.
    #[must_use]
    pub fn bytes_per_token(&self) -> u64 {
        self.inner.decoder.bytes_per_step()
    }

    /// What was odd about the checkpoint but is no error, on one line: with `allow_extra`, the tensors
    /// that nothing reads; weights that were packed for another processor.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.inner.warning.as_deref()
    }

    /// The instruction set that products with the weights run on.
    #[must_use]
    pub fn isa(&self) -> &'static str {
        self.inner.isa
    }

    /// Worker threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.inner.workers.threads()
    }

    /// The rows of a picture that stay, for the tenant of this salt, beside `taken` others, and how long they took.
    pub(crate) fn see(&self, salt: [u8; 32], picture: &Part, keep: Keep, taken: usize) -> Result<(Embeds, Duration)> {
        let start = Instant::now();
        let embeds = self.inner.eyes.see(&self.run(), salt, picture, keep, taken, self.context())?;
        Ok((embeds, start.elapsed()))
    }

    /// The rows of a sound, for the tenant of this salt, beside `taken` others, and how long they took.
    pub(crate) fn hear(&self, salt: [u8; 32], sound: &Part, taken: usize) -> Result<(Embeds, Duration)> {
        let start = Instant::now();
        let embeds = self.inner.ears.hear(&self.run(), salt, sound, taken, self.context())?;
        Ok((embeds, start.elapsed()))
    }

    /// The sound encoder.
    #[cfg(feature = "audio")]
    pub(crate) fn ears(&self) -> &Ears {
        &self.inner.ears
    }

    /// Whether it takes sounds itself.
    #[must_use]
    pub fn hears(&self) -> bool {
        self.inner.ears.hears()
    }

    /// Which rows of pictures a conversation begins with.
    pub(crate) fn keep(&self) -> Keep {
        self.inner.keep
    }

    pub(crate) fn run(&self) -> Run<'_> {
        Run::new(&self.inner.workers).with_attention(self.inner.attention).with_rounding(self.inner.rounds)
    }

    /// What a step of `rows` rows runs on.
    pub(crate) fn run_for(&self, rows: usize) -> Run<'_> {
        if rows == 1 { self.run().with_threads(self.inner.decode_threads) } else { self.run() }
    }

    /// What the model's sessions computed.
    pub(crate) fn past(&self) -> &Past {
        &self.inner.past
    }

    /// What the pool of keys and values holds, and how much of its prompts was known.
    #[cfg(feature = "kvcache")]
    #[must_use]
    pub fn pool_stats(&self) -> autoglm_kvcache::PoolStats {
        self.inner.past.pool().stats()
    }

    /// Pictures that went through the vision tower so far; one that is shown again need not.
    #[cfg(all(feature = "kvcache", feature = "vision"))]
    #[must_use]
    pub fn pictures_encoded(&self) -> u64 {
        self.inner.eyes.encoded()
    }

    /// Whole sounds that went through the audio tower so far; one that is played again need not. Recordings that are
    /// encoded while they grow do not count.
    #[cfg(all(feature = "kvcache", feature = "audio"))]
    #[must_use]
    pub fn sounds_encoded(&self) -> u64 {
        self.inner.ears.encoded()
    }

    /// Where the weights came from.
    #[cfg(feature = "kvcache")]
    pub(crate) fn origin(&self) -> &Origin {
        &self.inner.origin
    }

    pub(crate) fn decoder(&self) -> &Decoder {
        &self.inner.decoder
    }

    pub(crate) fn placeholders(&self) -> Placeholders {
        self.inner.placeholders
    }

    /// What to ask a model that writes down what it hears; nothing for one that does other things.
    #[must_use]
    pub fn transcription_prompt(&self) -> Option<&str> {
        self.inner.transcription_prompt.as_deref()
    }

    /// Whether two handles are on the same opened checkpoint.
    #[cfg(feature = "audio")]
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(crate) fn stop_ids(&self) -> &[TokenId] {
        &self.inner.stop_ids
    }

    pub(crate) fn chat(&self) -> Result<&Chat> {
        let missing = |path: &PathBuf| Error::MissingFile { path: path.clone(), purpose: "a conversation" };
        self.inner.chat.as_ref().map_err(missing)
    }
}

/// What changes the bits of keys and values besides the configuration. Instruction sets agree but for sums
/// in bf16 that vanish, and where activations are rounded.
fn numbers(precision: Option<Precision>, isa: &str) -> String {
    format!("{} on {isa}", precision.map_or("as stored", Precision::name))
}

/// As many workers as asked for, or as the machine has cores.
pub(crate) fn start_workers(threads: Option<usize>) -> Result<Workers> {
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    Ok(Workers::new(threads)?)
}

impl Chat {
    /// What the files say, or where the tokenizer would be.
    fn read(files: &Files, family: Family) -> Result<std::result::Result<Self, PathBuf>> {
        let Some(tokenizer) = files.read(TOKENIZER, TOKENIZER_BYTES)? else {
            return Ok(Err(files.path(TOKENIZER)));
        };
        let config: Option<Value> = files.json("tokenizer_config.json")?;
        let file = files.read(TEMPLATE, TEMPLATE_BYTES)?;
        let jinja = file.as_deref().map(std::str::from_utf8).transpose();
        let jinja = jinja.map_err(|source| Error::NotText { file: TEMPLATE, source })?;
        let tokenizer = Tokenizer::from_json(&tokenizer)?;
        Ok(Ok(Self { tokenizer, template: ChatTemplate::from_files(jinja, config.as_ref(), family)? }))
    }
}

const TOKENIZER: &str = "tokenizer.json";
const TEMPLATE: &str = "chat_template.jinja";

/// A tokenizer of 150 000 merges takes 20 MB.
const TOKENIZER_BYTES: usize = 128 << 20;

/// Chat templates take a few kilobytes.
const TEMPLATE_BYTES: usize = 1 << 20;

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
