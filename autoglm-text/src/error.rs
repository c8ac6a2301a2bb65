//! What can go wrong between token ids and text, as facts.

/// Shorthand for a result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// A reason that a library gave.
pub(crate) type Reason = Box<dyn std::error::Error + Send + Sync>;

/// What can go wrong in the decoder, the tokenizer, the chat template and the sampler.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The checkpoint's `model_type` is none this crate decodes.
    #[error("model_type `{got}` is not supported; this build runs glm4v and glm4")]
    ModelType {
        /// The file's value.
        got: String,
    },
    /// A file is larger than any of its kind.
    #[error("{what} has {bytes} bytes, more than the {limit} that are read")]
    TooLarge {
        /// The file or the text.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The largest size.
        limit: usize,
    },
    /// `tokenizer.json` is no JSON, is cut off, or holds a value of the wrong type.
    #[error("tokenizer.json cannot be read")]
    TokenizerJson(#[source] serde_json::Error),
    /// A component of `tokenizer.json` that this crate does not run.
    #[error("the {part} of tokenizer.json has `{got}`: {why}")]
    Component {
        /// Which part of the file.
        part: &'static str,
        /// The kind of component or the field.
        got: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A pattern of `tokenizer.json` that does not compile.
    #[error("tokenizer.json has a pattern that does not compile")]
    Pattern(#[source] Reason),
    /// A vocabulary entry that contradicts the rest of `tokenizer.json`.
    #[error("token `{token}` of tokenizer.json {why}")]
    Vocabulary {
        /// The entry, shortened.
        token: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A merge rule that contradicts the vocabulary.
    #[error("merge rule {rank} of tokenizer.json {why}")]
    Merge {
        /// Its place in the list, from zero.
        rank: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An added token that cannot be honoured.
    #[error("added token `{content}` of tokenizer.json {why}")]
    AddedToken {
        /// Its content, shortened.
        content: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The tokenizer's patterns could not be matched to the end of a text.
    ///
    /// The matcher gives up after a million steps in one match. With the patterns of this family
    /// that takes a run of a million white-space characters.
    #[error("the text cannot be split into words: a single run of characters is too long to match")]
    Split(#[source] Reason),
    /// The tokenizer library refused a text or an id.
    #[error("the tokenizer library failed")]
    Tokenize(#[source] Reason),
    /// A chat template that does not parse, or an operation in it that failed.
    #[error("the chat template failed")]
    Template(#[source] minijinja::Error),
    /// The chat template called `raise_exception`.
    #[error("the chat template refuses the conversation: {message}")]
    TemplateRefusal {
        /// Its words.
        message: String,
    },
    /// The chat template ran for longer than any real one.
    #[error("the chat template used up its {fuel} steps")]
    TemplateFuel {
        /// Steps it was given.
        fuel: u64,
    },
    /// The chat template could build values too large for any machine to compare or print.
    #[error("line {line} of the chat template {construct}")]
    TemplateGrowth {
        /// The line, from one.
        line: usize,
        /// What it does there.
        construct: &'static str,
    },
    /// The chat template wrote more than any real one.
    #[error("the chat template wrote more than {limit} bytes of its own")]
    TemplateOutput {
        /// The largest output.
        limit: usize,
    },
    /// The system gave no thread to run the chat template on.
    #[error("cannot start a thread for the chat template")]
    TemplateThread(#[source] std::io::Error),
    /// `tokenizer_config.json` has no chat template where one was expected.
    #[error("field `{field}` of tokenizer_config.json: {why}")]
    TemplateField {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The chat template lost or repeated a part of a message.
    #[error("the chat template prints part {part} of message {message} {times} times instead of once")]
    TemplateCount {
        /// The message, from zero.
        message: usize,
        /// The part of its content, from zero.
        part: usize,
        /// How often it stands in the output.
        times: usize,
    },
    /// The chat template looks into the words of a message, or changes them.
    ///
    /// Words never reach the template, so that they cannot become markers; a template that trims or
    /// searches them would silently be given something else.
    #[error("the chat template reads or changes the words of the messages, which is not supported")]
    TemplateReadsText,
    /// A conversation with more parts than the template can be given.
    #[error("a conversation of {parts} parts is longer than the {limit} that are laid out")]
    TooManyParts {
        /// Text and id parts of all messages.
        parts: usize,
        /// The largest number.
        limit: usize,
    },
    /// A sampling option outside its range.
    #[error("sampling option `{option}` is {got}: {why}")]
    Sampling {
        /// The option.
        option: &'static str,
        /// Its value.
        got: f64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A logit is not a number, or infinite.
    #[error("the logit of token {id} is {got}")]
    Logit {
        /// The token.
        id: u32,
        /// The logit.
        got: f32,
    },
    /// No token has a finite logit.
    #[error("none of {logits} tokens has a finite logit")]
    NoCandidate {
        /// Width of the logits.
        logits: usize,
    },
    /// Stop strings outside their limits.
    #[error("stop string {index}: {why}")]
    StopString {
        /// Its place in the list, from zero.
        index: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An `eos_token_id` that is no token id.
    #[error("eos_token_id of {file} is {got}, which is no token id and no list of them")]
    StopId {
        /// The file.
        file: &'static str,
        /// The value, shortened.
        got: String,
    },
    /// Checkpoints, shapes, caches.
    #[error(transparent)]
    Core(#[from] autoglm_core::Error),
    /// The tensor library refused an operation.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// The head of a string from a file, fit for a message: hostile files hold megabytes in one field,
/// and escape sequences that a terminal would obey.
pub(crate) fn shorten(text: &str) -> String {
    const SHOWN: usize = 80;
    let mut shown = String::new();
    for (n, c) in text.chars().enumerate() {
        match c {
            _ if n == SHOWN => {
                shown.push('…');
                break;
            }
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}
