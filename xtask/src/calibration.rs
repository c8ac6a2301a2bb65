//! What a model is shown so that it tells which of its parts matter, and what is summed up of it.
//!
//! A line of a calibration file is `{"text": …, "image": optional path}`: a turn of the user's, to which the model's own
//! answer is added, so that what it computes while it answers counts as well. Paths are relative to the file.

use std::path::{Path, PathBuf};

use std::fs::File;
use std::io::Read as _;
use std::sync::{Mutex, PoisonError};

use autoglm::{Generate, Model, Part, Transcript};
use autoglm_core::rows::with_rows;
use autoglm_core::{DecoderInput, Want};
use candle_core::Tensor;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;

use crate::error::{Error, Result};

/// The set that is taken where none is named: phone commands on the screens of the tiny checkpoint, and without.
const DEFAULT: &str = "xtask/calibration/default.jsonl";

/// Bytes of a file of lines at most, and of a picture.
const FILE_BYTES: u64 = 64 << 20;

/// Tokens of an answer at most.
const ANSWER: usize = 48;

/// One line.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    text: String,
    image: Option<PathBuf>,
    /// Where it stands in its file, from 1.
    #[serde(skip)]
    number: usize,
}

/// Lines and where their paths start.
#[derive(Debug, Default)]
pub(crate) struct Set {
    pub(crate) path: PathBuf,
    pub(crate) lines: Vec<Line>,
}

impl Set {
    /// The same without lines that have a picture. → how many these were.
    fn forget_pictures(&mut self) -> usize {
        let before = self.lines.len();
        self.lines.retain(|line| line.image.is_none());
        before - self.lines.len()
    }

    /// The lines that a model takes, with eyes or without: it is said how many it cannot see.
    ///
    /// # Errors
    /// None is left.
    pub(crate) fn seen_by(&mut self, sees: bool) -> Result<()> {
        if sees {
            return Ok(());
        }
        match self.forget_pictures() {
            0 => {}
            unseen => eprintln!("{unseen} lines have a picture, which there will be no eyes for"),
        }
        match self.lines.is_empty() {
            true => Err(Error::Usage("every line has a picture, which there will be no eyes for".to_owned())),
            false => Ok(()),
        }
    }

    /// All lines without their pictures. → how many had one.
    pub(crate) fn close_eyes(&mut self) -> usize {
        self.lines.iter_mut().filter_map(|line| line.image.take()).count()
    }

    /// What is said in each line, and where that stands.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines.iter().map(|line| (line.number, line.text.as_str()))
    }

    /// The same lines in another order, and perhaps not all of them.
    pub(crate) fn shuffle(&mut self, seed: u64, lines: Option<u32>) {
        fastrand::Rng::with_seed(seed).shuffle(&mut self.lines);
        self.lines.truncate(lines.map_or(usize::MAX, |lines| lines as usize));
    }

    fn picture(&self, line: &Line) -> Option<PathBuf> {
        line.image.as_ref().map(|image| self.path.parent().unwrap_or(Path::new("")).join(image))
    }
}

/// All of a regular file of a bounded size.
fn contents(path: &Path) -> std::io::Result<Vec<u8>> {
    // Before it is opened: to open a pipe is to wait for somebody at its other end.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(std::io::Error::other(format!("it has more than {FILE_BYTES} bytes")));
    }
    Ok(bytes)
}

/// Reads the file, or the set that ships. Pictures are looked for, not read.
///
/// # Errors
/// It cannot be read, a line is none, or a picture is missing.
pub(crate) fn read(path: Option<&Path>) -> Result<Set> {
    let path = path.map_or_else(|| crate::workspace::root().join(DEFAULT), Path::to_owned);
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Calibration { path, source }
    };
    let bytes = contents(&path).map_err(unreadable(&path))?;
    let text = String::from_utf8(bytes).map_err(|source| unreadable(&path)(std::io::Error::other(source)))?;
    let line = |(number, line): (usize, &str)| {
        let read = serde_json::from_str(line).map(|line| Line { number: number + 1, ..line });
        read.map_err(|source| Error::Line { path: path.clone(), number: number + 1, source })
    };
    let lines: Vec<Line> =
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(line).collect::<Result<_>>()?;
    if lines.is_empty() {
        return Err(Error::Usage(format!("{} has no line", path.display())));
    }
    let set = Set { path, lines };
    for picture in set.lines.iter().filter_map(|line| set.picture(line)) {
        std::fs::metadata(&picture).map_err(unreadable(&picture))?;
    }
    Ok(set)
}

/// What `model` reads and answers, line by line.
///
/// # Errors
/// A picture cannot be read, or the model cannot take a line: both say which.
pub(crate) fn transcripts(model: &Model, set: &Set, mut done: impl FnMut()) -> Result<Vec<Transcript>> {
    let mut all = Vec::with_capacity(set.lines.len());
    answers(model, set, |transcript| {
        all.push(transcript);
        done();
    })?;
    Ok(all)
}

/// The same, one after the other: rows of many lines are more than memory holds.
///
/// # Errors
/// As for [`transcripts`].
pub(crate) fn answers(model: &Model, set: &Set, mut take: impl FnMut(Transcript)) -> Result<()> {
    for line in &set.lines {
        let picture = match set.picture(line) {
            Some(path) => {
                let bytes = contents(&path);
                Some(bytes.map_err(|source| Error::Calibration { path, source })?)
            }
            None => None,
        };
        let shown = transcript(model, &line.text, picture);
        take(shown.map_err(|source| Error::Untaken {
            path: set.path.clone(),
            number: line.number,
            source: Box::new(source),
        })?);
    }
    Ok(())
}

fn transcript(model: &Model, text: &str, picture: Option<Vec<u8>>) -> autoglm::Result<Transcript> {
    let mut session = model.session();
    if let Some(picture) = picture {
        session.push(Part::image(picture))?;
    }
    session.push(Part::text(text))?;
    for piece in session.reply(Generate::default().max_new_tokens(ANSWER))? {
        piece?;
    }
    session.transcript()
}

/// Rows of a sequence between two layers.
///
/// # Errors
/// They are not as many as `like` has positions.
pub(crate) fn input(rows: &Tensor, like: &DecoderInput) -> Result<DecoderInput> {
    Ok(DecoderInput::new(rows.clone(), like.positions().clone(), Want::Nothing)?)
}

/// What an error of each row `y` (n, c) weighs behind the norm that follows: 1 / (mean(y²) + eps).
///
/// # Errors
/// The rows are no matrix of floats.
pub(crate) fn behind_norm(y: &Tensor, eps: f32) -> autoglm_core::Result<Vec<f32>> {
    let c = y.dim(1)?;
    with_rows(y, |y| {
        let mean = |row: &[f32]| row.iter().map(|y| y * y).sum::<f32>() / c as f32;
        y.chunks_exact(c).map(|row| 1.0 / (mean(row) + eps)).collect()
    })
}

/// What sums could not take of what they were shown: a forward pass can only hand on its words.
#[derive(Debug, Default)]
pub(crate) struct Untold(Mutex<Option<autoglm_prune::Error>>);

impl Untold {
    /// Keeps what went wrong. → its words.
    pub(crate) fn keep(&self, failure: autoglm_prune::Error) -> autoglm_core::Error {
        let words = failure.to_string();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
        candle_core::Error::Msg(words).into()
    }

    /// What made a forward pass fail: what was kept, or else what it says itself.
    pub(crate) fn behind(&self, failure: autoglm_text::Error) -> Error {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        kept.map_or(Error::from(failure), Error::from)
    }
}

/// A bar on standard error, where somebody looks at it.
pub(crate) fn bar(what: &'static str, total: usize) -> ProgressBar {
    let template = if total > 0 { "{msg} {wide_bar} {pos}/{len}, {eta} left" } else { "{msg} {spinner} {pos} tried" };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total as u64).with_style(style).with_message(what)
}
