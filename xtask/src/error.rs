//! What can go wrong in a chore.

use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

pub(crate) type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// A program could not be started at all.
    #[error("cannot start `{program}`")]
    Start { program: String, source: io::Error },
    /// A program ran and said no.
    #[error("`{program}` ended with {status}")]
    Ended { program: String, status: ExitStatus },
    /// A program's output is not the JSON it promises.
    #[error("cannot understand what `{program}` printed")]
    Output { program: String, source: serde_json::Error },
    #[error("cannot {action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    /// A package that a check is about is not in the workspace.
    #[error("the workspace has no package `{name}`")]
    NoPackage { name: &'static str },
    /// Crates are in a dependency tree that must not have them.
    #[error("{tree} must not contain {}", unwanted.join(", "))]
    Unwanted { tree: String, unwanted: Vec<String> },
    /// The problems themselves were printed where they were found.
    #[error("{count} tidy problem(s)")]
    Untidy { count: usize },
    #[error("{} already exists; name a directory that does not", path.display())]
    Exists { path: PathBuf },
    #[error("there is no directory {} to write into", path.display())]
    NoParent { path: PathBuf },
    #[error("{} names no new directory", path.display())]
    NoName { path: PathBuf },
    #[error("{} is not the JSON it should be", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("{} is not the golden it should be; make it again with `cargo xtask goldens`", path.display())]
    Golden { path: PathBuf },
    /// The figures themselves were printed as they were measured.
    #[error("beyond the bound, or with other tokens than transformers: {}", cases.join(", "))]
    Parity { cases: Vec<String> },
    /// Boxed, because it is several times as large as the others.
    #[error(transparent)]
    Model(Box<autoglm::Error>),
    /// A precision that another program's format has no words for.
    #[error("`{format}` has no {precision}; it takes {known}")]
    Precision { format: &'static str, precision: &'static str, known: &'static str },
    #[error(transparent)]
    Core(Box<autoglm_core::Error>),
    #[error(transparent)]
    Quant(Box<autoglm_quant::Error>),
    #[error(transparent)]
    Text(#[from] autoglm_text::Error),
    #[error(transparent)]
    Vision(#[from] autoglm_vision::Error),
    /// A tensor that another program has no name for.
    #[error("`{tensor}` has no name in a GGUF file")]
    Unnamed { tensor: String },
    #[error(transparent)]
    Power(#[from] autoglm_power::Error),
    #[error(transparent)]
    Prune(#[from] autoglm_prune::Error),
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A file of calibration lines; nothing was done yet.
    #[error("cannot read {}", path.display())]
    Calibration { path: PathBuf, source: io::Error },
    /// A line that the model cannot take.
    #[error("the model cannot take line {number} of {}", path.display())]
    Untaken { path: PathBuf, number: usize, source: Box<autoglm::Error> },
    /// What went wrong in one layer.
    #[error("layer {index}")]
    Layer { index: usize, source: Box<Error> },
    /// Logits that are no numbers.
    #[error("without layer {layer} the model computes what are no numbers")]
    Diverged { layer: usize },
    #[error("the smaller model computes what are no numbers")]
    Broken,
    /// A line of a calibration file.
    #[error("line {number} of {} is no calibration line", path.display())]
    Line { path: PathBuf, number: usize, source: serde_json::Error },
    /// A text that the tokenizer cannot cut into words; nothing was done yet.
    #[error("cannot encode the text from line {number} of {}", path.display())]
    Corpus { path: PathBuf, number: usize, source: autoglm_text::Error },
    /// A weight that a narrower format does not hold.
    #[error("a weight of `{tensor}` is {value}, which {format} does not hold")]
    Range { tensor: String, value: f32, format: &'static str },
    #[error("weights in memory are no checkpoint")]
    Safetensors { source: safetensors::SafeTensorError },
    /// What was asked for makes no sense; nothing was done.
    #[error("{0}")]
    Usage(String),
    #[error("check failed at `{step}`")]
    Step { step: String, source: Box<Error> },
}

impl Error {
    /// The exit status: 2 for what was asked wrongly, as for a command line that is none, and 1 for what went wrong.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Usage(_)
            | Self::Calibration { .. }
            | Self::Line { .. }
            | Self::Corpus { .. }
            | Self::Exists { .. }
            | Self::NoName { .. }
            | Self::NoParent { .. }
            | Self::Precision { .. } => 2,
            _ => 1,
        }
    }

    /// For `map_err` on file operations: `Error::file("write", path)`.
    pub(crate) fn file(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action, path: path.as_ref().to_owned(), source }
    }
}

impl From<autoglm::Error> for Error {
    fn from(error: autoglm::Error) -> Self {
        Self::Model(Box::new(error))
    }
}

impl From<autoglm_core::Error> for Error {
    fn from(error: autoglm_core::Error) -> Self {
        Self::Core(Box::new(error))
    }
}

impl From<autoglm_quant::Error> for Error {
    fn from(error: autoglm_quant::Error) -> Self {
        Self::Quant(Box::new(error))
    }
}

/// The error and its causes, outermost first.
pub(crate) fn one_line(error: &Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        line = format!("{line}: {inner}");
        cause = inner.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_that_ends_in_its_root_cause() {
        let missing = Error::file("read", "a/b.json")(io::Error::from(io::ErrorKind::NotFound));
        let step = Error::Step { step: "tidy".to_owned(), source: Box::new(missing) };
        assert_eq!(one_line(&step), "check failed at `tidy`: cannot read a/b.json: entity not found");
    }
}
