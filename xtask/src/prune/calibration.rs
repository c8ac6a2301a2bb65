//! What a model is shown so that it tells which of its parts matter.
//!
//! A line of a calibration file is `{"text": …, "image": optional path}`: a turn of the user's, to which the model's own
//! answer is added, so that what it computes while it answers counts as well. Paths are relative to the file.

use std::path::{Path, PathBuf};

use autoglm::{Error as ModelError, Generate, Model, Part, Transcript};
use serde::Deserialize;

use crate::error::{Error, Result};

/// The set that is taken where none is named: phone commands on the screens of the tiny checkpoint, and without.
const DEFAULT: &str = "xtask/calibration/default.jsonl";

/// Bytes of a file at most, and of a picture.
const FILE_BYTES: u64 = 64 << 20;

/// Tokens of an answer at most.
const ANSWER: usize = 48;

/// One line.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    text: String,
    image: Option<PathBuf>,
}

/// Lines and where their paths start.
#[derive(Debug)]
pub(super) struct Set {
    folder: PathBuf,
    pub(super) lines: Vec<Line>,
}

impl Set {
    /// The same lines in another order, and perhaps not all of them.
    pub(super) fn shuffled(mut self, seed: u64, lines: Option<u32>) -> Self {
        fastrand::Rng::with_seed(seed).shuffle(&mut self.lines);
        self.lines.truncate(lines.map_or(usize::MAX, |lines| lines as usize));
        self
    }
}

/// Reads the file, or the set that ships.
///
/// # Errors
/// It cannot be read, or a line is none.
pub(super) fn read(path: Option<&Path>) -> Result<Set> {
    let path = path.map_or_else(|| crate::workspace::root().join(DEFAULT), Path::to_owned);
    let size = std::fs::metadata(&path).map_err(|source| Error::Calibration { path: path.clone(), source })?.len();
    if size > FILE_BYTES {
        return Err(Error::Usage(format!("{} has {size} bytes; {FILE_BYTES} are the most", path.display())));
    }
    let text = std::fs::read_to_string(&path).map_err(|source| Error::Calibration { path: path.clone(), source })?;
    let line = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|source| Error::Line { path: path.clone(), number: number + 1, source })
    };
    let lines: Vec<Line> =
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(line).collect::<Result<_>>()?;
    if lines.is_empty() {
        return Err(Error::Usage(format!("{} has no line", path.display())));
    }
    Ok(Set { folder: path.parent().unwrap_or(Path::new("")).to_owned(), lines })
}

/// What `model` reads and answers, line by line. A model that cannot see is not shown lines with a picture; they are
/// counted.
///
/// # Errors
/// A picture cannot be read, or no line is left.
pub(super) fn transcripts(model: &Model, set: &Set, mut done: impl FnMut()) -> Result<(Vec<Transcript>, usize)> {
    let (mut all, mut unseen) = (Vec::new(), 0);
    for line in &set.lines {
        let mut session = model.session();
        if let Some(image) = &line.image {
            let path = set.folder.join(image);
            let bytes = std::fs::read(&path).map_err(Error::file("read", &path))?;
            match session.push(Part::image(bytes)) {
                Err(ModelError::ModalityOff { .. }) => {
                    unseen += 1;
                    continue;
                }
                pushed => pushed?,
            }
        }
        session.push(Part::text(&line.text))?;
        for piece in session.reply(Generate::default().max_new_tokens(ANSWER))? {
            piece?;
        }
        all.push(session.transcript()?);
        done();
    }
    if all.is_empty() {
        return Err(Error::Usage("the model cannot see, and every line has a picture".to_owned()));
    }
    Ok((all, unseen))
}
