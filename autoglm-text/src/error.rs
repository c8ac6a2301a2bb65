//! What can go wrong between token ids and text, as facts.

/// Shorthand for a result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

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
    /// Checkpoints, shapes, caches.
    #[error(transparent)]
    Core(#[from] autoglm_core::Error),
    /// The tensor library refused an operation.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}
