//! What can go wrong between a sound's bytes and its embedding rows, as facts.

/// Shorthand for a result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong in decoding, resampling and encoding sounds.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no byte at all.
    #[error("the file is empty")]
    Empty,
    /// The first bytes are those of none of the formats that are read.
    #[error("not a WAV, FLAC or MP3 file")]
    UnknownFormat,
    /// A sound beyond one of the [`Limits`](crate::Limits).
    #[error("the sound has {got} {what}, at most {limit} are read")]
    TooLarge {
        /// What there is too much of: bytes, channels, seconds.
        what: &'static str,
        /// How much the file announces, or had when reading stopped.
        got: u64,
        /// The limit.
        limit: u64,
    },
    /// A number of samples per second that no recorder has.
    #[error("{got} samples per second; {least} to {most} can be read")]
    SampleRate {
        /// What the file says.
        got: u32,
        /// The least that is read.
        least: u32,
        /// The most that is read.
        most: u32,
    },
    /// The file ends before the sound does.
    #[error("the file is truncated: {got} of {announced} samples per channel are there")]
    Truncated {
        /// Samples per channel that were there.
        got: u64,
        /// Samples per channel that the file announces.
        announced: u64,
    },
    /// The sound does not end where the file says.
    #[error("the sound goes on behind the {announced} samples per channel that the file announces")]
    GoesOn {
        /// Samples per channel that the file announces.
        announced: u64,
    },
    /// Something in the middle of the sound is not what the encoder wrote.
    #[error("the file is damaged")]
    Damaged {
        /// How that is seen.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file contradicts its format, or uses a part of it that is not read.
    #[error("cannot decode the sound")]
    Undecodable {
        /// The decoder's reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A sample that is infinite or not a number.
    #[error("sample {index} is {value}")]
    NotANumber {
        /// Which one, from 0, counted per channel.
        index: usize,
        /// What it is.
        value: f32,
    },
    /// A sample that is finite, and so far beyond full scale that sums over many of them would not be.
    #[error("sample {index} is {value:e}, at most ±{limit} is read")]
    TooLoud {
        /// Which one, from 0, counted per channel.
        index: usize,
        /// What it is.
        value: f64,
        /// The limit.
        limit: f64,
    },
    /// A recording of which a window could not be encoded: what follows would take the place of what is missing.
    #[error("a window of the recording could not be encoded, so the recording is of no use")]
    BrokenRecording,
    /// The resampler refused.
    #[error("cannot bring {from} samples per second to {to}")]
    Resampling {
        /// Samples per second that were given.
        from: u32,
        /// Samples per second that were wanted.
        to: u32,
        /// The resampler's reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A sound that was sampled at another rate than an encoder reads.
    #[error("the encoder reads {expected} samples per second, not {got}")]
    Rate {
        /// What the encoder reads.
        expected: u32,
        /// What the sound has.
        got: u32,
    },
    /// Configurations, checkpoints and shapes.
    #[error(transparent)]
    Core(#[from] autoglm_core::Error),
    /// The tensor library refused an operation.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Boxes a library's reason.
pub(crate) fn undecodable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Undecodable { source: source.into() }
}

/// Boxes how damage is seen.
pub(crate) fn damaged(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Damaged { source: source.into() }
}
