//! How to open a model, and how to generate.

use autoglm_core::Keep;
use autoglm_text::Sampling;

#[cfg(feature = "quant")]
use crate::Progress;
use crate::{Precision, Tier};

/// How to open a checkpoint.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct OpenOptions {
    /// How weights are stored; the checkpoint's own type when none is given. Activations and sums are
    /// f32 in any case.
    pub precision: Option<Precision>,
    /// Worker threads; the machine's parallelism when none is given.
    pub threads: Option<usize>,
    /// Threads for a step of one row, at most [`OpenOptions::threads`]; as many where none is given. One
    /// token reads every weight once, and fewer cores than multiply a prompt may already use all of the
    /// memory's bandwidth.
    pub decode_threads: Option<usize>,
    /// Limit of a picture's size after resizing, in the unit of `size.longest_edge`: frames · height ·
    /// width, a picture having two frames unless they were folded into one. The checkpoint's own limit when none is given.
    pub max_pixels: Option<u64>,
    /// Which rows of a picture go into a prompt: all of them, or a share of them at the places that they have in the whole
    /// picture. Fewer rows are computed and kept, and answers change; [`Session::keep`](crate::Session::keep) says it for one
    /// conversation. Lower [`OpenOptions::max_pixels`] first: that saves the picture's encoder work as well.
    pub keep: Keep,
    /// Accept a checkpoint with tensors that nothing reads; they are reported as warnings.
    pub allow_extra: bool,
    /// How keys and values are held; as the precision has it when none is given. In
    /// [`KvFormat::Int8`](autoglm_core::KvFormat::Int8) they take half of the memory of bf16, and answers
    /// change a little.
    #[cfg(feature = "kvcache")]
    pub kv_format: Option<autoglm_core::KvFormat>,
    /// Bytes of keys and values that all sessions may take together; those of one whole context when none
    /// is given. Beginnings of prompts that are not in use are given up, the least recently used one first,
    /// before this is an error.
    #[cfg(feature = "kvcache")]
    pub kv_budget: Option<u64>,
    /// Where pins lie while the model sleeps, sealed; the system's folder for such files when none is given, which apps may not
    /// have.
    #[cfg(all(feature = "power", feature = "kvcache"))]
    pub sleep_folder: Option<std::path::PathBuf>,
    /// Hears how far quantising is, which takes a while for a large checkpoint.
    #[cfg(feature = "quant")]
    pub progress: Option<Progress>,
}

impl OpenOptions {
    /// Sets [`OpenOptions::precision`].
    #[must_use]
    pub fn precision(mut self, precision: impl Into<Option<Precision>>) -> Self {
        self.precision = precision.into();
        self
    }

    /// Sets [`OpenOptions::threads`].
    #[must_use]
    pub fn threads(mut self, threads: impl Into<Option<usize>>) -> Self {
        self.threads = threads.into();
        self
    }

    /// Sets [`OpenOptions::decode_threads`].
    #[must_use]
    pub fn decode_threads(mut self, threads: impl Into<Option<usize>>) -> Self {
        self.decode_threads = threads.into();
        self
    }

    /// Sets [`OpenOptions::max_pixels`].
    #[must_use]
    pub fn max_pixels(mut self, max_pixels: impl Into<Option<u64>>) -> Self {
        self.max_pixels = max_pixels.into();
        self
    }

    /// Sets [`OpenOptions::keep`].
    #[must_use]
    pub fn keep(mut self, keep: Keep) -> Self {
        self.keep = keep;
        self
    }

    /// Sets [`OpenOptions::allow_extra`].
    #[must_use]
    pub fn allow_extra(mut self, allow_extra: bool) -> Self {
        self.allow_extra = allow_extra;
        self
    }

    /// Sets [`OpenOptions::kv_format`].
    #[cfg(feature = "kvcache")]
    #[must_use]
    pub fn kv_format(mut self, format: impl Into<Option<autoglm_core::KvFormat>>) -> Self {
        self.kv_format = format.into();
        self
    }

    /// Sets [`OpenOptions::kv_budget`].
    #[cfg(feature = "kvcache")]
    #[must_use]
    pub fn kv_budget(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.kv_budget = bytes.into();
        self
    }

    /// Sets [`OpenOptions::sleep_folder`].
    #[cfg(all(feature = "power", feature = "kvcache"))]
    #[must_use]
    pub fn sleep_folder(mut self, folder: impl Into<Option<std::path::PathBuf>>) -> Self {
        self.sleep_folder = folder.into();
        self
    }

    /// Sets [`OpenOptions::progress`].
    #[cfg(feature = "quant")]
    #[must_use]
    pub fn progress(mut self, progress: impl Into<Option<Progress>>) -> Self {
        self.progress = progress.into();
        self
    }
}

/// Whether the model thinks before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Thinking {
    /// Nothing is forced: the model thinks, as it was trained to.
    #[default]
    Free,
    /// The reply is made to begin with `<think></think>` and a line break and `<answer>`, so that the
    /// model answers at once. The forced tokens are not part of the pieces.
    Skipped,
}

/// How to generate a reply.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Generate {
    /// How the next token is picked; greedily by default.
    pub sampling: Sampling,
    /// Whether the model thinks first.
    pub thinking: Thinking,
    /// How much of the model this reply gets; as the session's [`tier`](crate::Session::tier) has it when none is given.
    /// Pictures were encoded when they were pushed, as the session had it then.
    pub tier: Option<Tier>,
    /// Tokens that the model may think; as many as it wants when none is given. A thought that has taken them and goes on is
    /// closed with `</think>`, a line break and `<answer>`, and the model answers. What closes it is part of the pieces, of
    /// [`Reply::tokens`](crate::Reply::tokens), of the sampler's penalties and of [`Generate::max_new_tokens`], as if the model
    /// had written it; a character that is cut in two is shown as U+FFFD, as at the end of a reply. With 0 the thought is
    /// skipped.
    pub thinking_budget: Option<usize>,
    /// Tokens after which the reply ends in any case; 3 000 by default, as in the agent's own client.
    pub max_new_tokens: usize,
    /// Strings that end the reply; they are not part of it.
    pub stop: Vec<String>,
}

impl Default for Generate {
    fn default() -> Self {
        Self {
            sampling: Sampling::greedy(),
            thinking: Thinking::Free,
            tier: None,
            thinking_budget: None,
            max_new_tokens: 3_000,
            stop: Vec::new(),
        }
    }
}

impl From<Sampling> for Generate {
    fn from(sampling: Sampling) -> Self {
        Self { sampling, ..Self::default() }
    }
}

impl Generate {
    /// Sets [`Generate::thinking`].
    #[must_use]
    pub fn thinking(mut self, thinking: Thinking) -> Self {
        self.thinking = thinking;
        self
    }

    /// Sets [`Generate::tier`].
    #[must_use]
    pub fn tier(mut self, tier: impl Into<Option<Tier>>) -> Self {
        self.tier = tier.into();
        self
    }

    /// Sets [`Generate::thinking_budget`].
    #[must_use]
    pub fn thinking_budget(mut self, tokens: impl Into<Option<usize>>) -> Self {
        self.thinking_budget = tokens.into();
        self
    }

    /// Sets [`Generate::max_new_tokens`].
    #[must_use]
    pub fn max_new_tokens(mut self, max_new_tokens: usize) -> Self {
        self.max_new_tokens = max_new_tokens;
        self
    }

    /// Sets [`Generate::stop`].
    #[must_use]
    pub fn stop(mut self, stop: Vec<String>) -> Self {
        self.stop = stop;
        self
    }
}
