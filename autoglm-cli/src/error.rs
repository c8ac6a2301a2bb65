//! What can go wrong in a command, as facts.

use std::path::PathBuf;

/// What can go wrong in a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file named on the command line, or by a request, cannot be read.
    #[error("cannot read {}", .path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// A picture or a sound cannot be used.
    #[error("cannot use {}", .path.display())]
    Medium { path: PathBuf, source: Box<autoglm::Error> },
    /// The transcript is empty.
    #[cfg(feature = "audio")]
    #[error("nothing was understood in {}", .path.display())]
    NothingHeard { path: PathBuf },
    /// Something holds the weights that should be asleep.
    #[cfg(all(feature = "quant", feature = "power"))]
    #[error("the model does not go to sleep: something needs it")]
    Awake,
    /// The answer's name belongs to something that is no file.
    #[error("{} exists and is no regular file", .path.display())]
    Target { path: PathBuf },
    /// The request file is no request.
    #[error("{} is no logits request", .path.display())]
    Request { path: PathBuf, source: serde_json::Error },
    /// The request has nothing to compute.
    #[error("{} asks for nothing: {why}", .path.display())]
    EmptyRequest { path: PathBuf, why: &'static str },
    /// The request is larger than any context.
    #[error("{} is {bytes} bytes long, a request has at most {limit}", .path.display())]
    LargeRequest { path: PathBuf, bytes: u64, limit: u64 },
    /// More tokens are asked for than the context holds.
    #[error("{} asks for {greedy} greedy tokens after {rows} rows, the context holds {context}", .path.display())]
    LongAnswer { path: PathBuf, greedy: usize, rows: usize, context: usize },
    /// The answer cannot be written.
    #[error("cannot write {}", .path.display())]
    Write { path: PathBuf, source: std::io::Error },
    /// There is no place for kept prompts.
    #[cfg(feature = "kvcache")]
    #[error("this user has no cache folder; name one with --pin-dir")]
    NoCacheFolder,
    /// A folder cannot be made.
    #[cfg(feature = "kvcache")]
    #[error("cannot make the folder {}", .path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    /// A device profile or a trace is none.
    #[cfg(feature = "power-model")]
    #[error(transparent)]
    Simulation(Box<autoglm::power::Error>),
    /// A name on the command line stands for nothing.
    #[cfg(feature = "power-model")]
    #[error("there is no {what} {name:?}, there is {known}")]
    Unknown { what: &'static str, name: String, known: String },
    /// Air of a temperature that no phone is used at.
    #[cfg(feature = "power-model")]
    #[error("an ambient temperature of {got} °C is outside of {lowest} to {highest}")]
    Ambient { got: f64, lowest: f64, highest: f64 },
    /// The name of a picture to be written does not say of which kind.
    #[cfg(feature = "power-model")]
    #[error("{} ends neither in .svg nor in .png", .path.display())]
    PictureName { path: PathBuf },
    /// A picture cannot be drawn.
    #[cfg(feature = "power-model")]
    #[error("cannot draw {}: {why}", .path.display())]
    Drawing { path: PathBuf, why: String },
    /// Standard output is closed or full.
    #[error("cannot write to standard output")]
    Output(#[source] std::io::Error),
    /// The hub.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Pull(Box<autoglm::hub::PullError>),
    /// The model.
    #[error(transparent)]
    Model(Box<autoglm::Error>),
}

impl From<autoglm::Error> for Error {
    fn from(error: autoglm::Error) -> Self {
        Self::Model(Box::new(error))
    }
}

#[cfg(feature = "hub")]
impl From<autoglm::hub::PullError> for Error {
    fn from(error: autoglm::hub::PullError) -> Self {
        Self::Pull(Box::new(error))
    }
}

#[cfg(feature = "power-model")]
impl From<autoglm::power::Error> for Error {
    fn from(error: autoglm::power::Error) -> Self {
        Self::Simulation(Box::new(error))
    }
}

impl Error {
    /// Whether the command line itself is to blame: an option whose value makes no sense.
    pub(crate) fn is_usage(&self) -> bool {
        use autoglm::Error as Model;

        match self {
            Self::Model(error) => {
                matches!(**error, Model::Option { .. } | Model::Text(autoglm::TextError::Sampling { .. }))
            }
            #[cfg(feature = "hub")]
            Self::Pull(error) => {
                use autoglm::hub::PullError;
                matches!(**error, PullError::Name { .. } | PullError::Revision { .. })
            }
            #[cfg(feature = "power-model")]
            Self::Unknown { .. } | Self::Ambient { .. } | Self::PictureName { .. } => true,
            _ => false,
        }
    }
}
