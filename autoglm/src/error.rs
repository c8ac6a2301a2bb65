//! What can go wrong when a model is opened and talked to, as facts.

use std::path::PathBuf;

/// Shorthand for a result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong when a model is opened and talked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The checkpoint lacks a file that the call needs.
    #[error("there is no {}, which {purpose} needs", .path.display())]
    MissingFile {
        /// Where the file would be.
        path: PathBuf,
        /// What needs it.
        purpose: &'static str,
    },
    /// A file of the checkpoint is gone, or another one than it was when the model was opened: what was computed before could
    /// not be gone on with.
    #[error("{} is not what it was when the model was opened", .path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The system starts no thread that would watch for idleness.
    #[cfg(feature = "power")]
    #[error("no thread to watch for idleness")]
    Timer {
        /// The system's reason.
        source: std::io::Error,
    },
    /// A text file of the checkpoint is not UTF-8.
    #[error("{file} is not UTF-8")]
    NotText {
        /// The file's name.
        file: &'static str,
        /// Where it stops being text.
        source: std::str::Utf8Error,
    },
    /// This build or this checkpoint has no encoder for the modality.
    #[error("this model takes no {modality}: {why}")]
    ModalityOff {
        /// The modality.
        modality: &'static str,
        /// Whether the build or the checkpoint lacks it.
        why: &'static str,
    },
    /// One of several pictures could not be used.
    #[error("picture {number}")]
    Picture {
        /// Which one, from 1.
        number: usize,
        /// Why.
        source: Box<Error>,
    },
    /// One of several sounds could not be used.
    #[error("sound {number}")]
    Sound {
        /// Which one, from 1.
        number: usize,
        /// Why.
        source: Box<Error>,
    },
    /// An option of [`crate::OpenOptions`] has a value this checkpoint cannot be run with.
    #[error("option `{option}` makes no sense here")]
    Option {
        /// The option.
        option: &'static str,
        /// Why.
        source: Box<Error>,
    },
    /// Packed weights stay what they are.
    #[cfg(feature = "quant")]
    #[error("the checkpoint is packed as {stored} and cannot be opened as {asked}")]
    Packed {
        /// Its own precision.
        stored: &'static str,
        /// What was asked for.
        asked: &'static str,
    },
    /// A tool that makes weights of floats was given others.
    #[cfg(feature = "quant")]
    #[error("the checkpoint is packed already; this needs the one of floats that it was made of")]
    Quantised,
    /// The model computed something that is not a number: its weights are damaged, or too large for
    /// the chosen precision.
    #[error("the logit of token {token} in row {row} is {value}")]
    NotANumber {
        /// Row of the prompt, from 0.
        row: usize,
        /// Token, from 0.
        token: usize,
        /// What was computed.
        value: f32,
    },
    /// A measured prompt has no room for its pictures and sounds.
    #[cfg(feature = "quant")]
    #[error("pictures and sounds have {media} rows, and a prompt of {rows} has no room for them and a word")]
    Rows {
        /// Rows of the prompt.
        rows: usize,
        /// Rows of pictures and sounds.
        media: usize,
    },
    /// There is no room for a measurement.
    #[cfg(feature = "quant")]
    #[error("no room for {bytes} bytes to read")]
    Memory {
        /// Bytes asked for.
        bytes: usize,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The model answers, and does not write down what it hears.
    #[error("this model writes no transcripts; a GLM-ASR checkpoint does")]
    NoTranscripts,
    /// The context, or the memory for it, was full before the transcript ended.
    #[error("the transcript does not end within {tokens} tokens: the sound is too long, or the model repeats itself")]
    TranscriptCut {
        /// Tokens that there were.
        tokens: usize,
    },
    /// A recording was begun with another model.
    #[error("the recording belongs to another model")]
    OtherModel,
    /// The user said nothing since the last reply.
    #[error("there is nothing to reply to: push a part first")]
    NothingSaid,
    /// The tokenizer lacks a token that the call needs.
    #[error("the tokenizer has no token `{token}`, which {purpose} needs")]
    MissingToken {
        /// The token's text.
        token: &'static str,
        /// What needs it.
        purpose: &'static str,
    },
    /// Files, tensors, shapes, caches.
    #[error(transparent)]
    Core(#[from] autoglm_core::Error),
    /// The decoder, the tokenizer, the template, the sampler.
    #[error(transparent)]
    Text(#[from] autoglm_text::Error),
    /// Random weights are gone with the process, and what was computed with them; files that may not be
    /// listed cannot be told from others.
    #[cfg(feature = "kvcache")]
    #[error("the weights are random, or their directory may not be listed: no other process could know them")]
    Unsaveable,
    /// The pool of keys and values.
    #[cfg(feature = "kvcache")]
    #[error(transparent)]
    Pool(#[from] autoglm_kvcache::Error),
    /// Placeholders and media.
    #[error(transparent)]
    Fusion(#[from] autoglm_fusion::Error),
    /// Pictures and the vision tower.
    #[cfg(feature = "vision")]
    #[error(transparent)]
    Vision(#[from] autoglm_vision::Error),
    /// Sounds and the audio tower.
    #[cfg(feature = "audio")]
    #[error(transparent)]
    Audio(#[from] autoglm_audio::Error),
    /// The tensor library refused an operation.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}
