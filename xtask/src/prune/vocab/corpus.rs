//! Texts that a vocabulary has to be good for: a file, lines for the model, or a directory of both.

use std::fs::File;
use std::io::{BufRead, BufReader, Error as IoError, Read as _};
use std::path::{Path, PathBuf};

use autoglm_text::tokenizer::MAX_TEXT_BYTES;

use crate::calibration::{self, Set};
use crate::error::{Error, Result};

/// Bytes that are encoded at once: the library takes 350 bytes of memory for each. A longer line is a piece by itself.
const PIECE_BYTES: usize = 64 << 10;

/// What there is to read. Nothing but lines for the model is read yet.
#[derive(Debug)]
pub(in crate::prune) struct Corpus {
    /// As it was named, for messages.
    pub(super) path: PathBuf,
    pub(super) texts: Vec<PathBuf>,
    pub(super) lines: Vec<Set>,
}

impl Corpus {
    /// Looks at what is there, and reads the lines for the model.
    ///
    /// # Errors
    /// It cannot be read, a line is none, or there is nothing to read.
    pub(in crate::prune) fn find(path: &Path) -> Result<Self> {
        let mut corpus = Self { path: path.to_owned(), texts: Vec::new(), lines: Vec::new() };
        let look = || {
            if !std::fs::metadata(path)?.is_dir() {
                return Ok(vec![path.to_owned()]);
            }
            let mut files = Vec::new();
            for entry in std::fs::read_dir(path)? {
                let file = entry?.path();
                if !file.is_dir() && (ends(&file, "txt") || ends(&file, "jsonl")) {
                    files.push(file);
                }
            }
            files.sort();
            Ok(files)
        };
        for file in look().map_err(unreadable(path))? {
            if ends(&file, "jsonl") {
                corpus.lines.push(calibration::read(Some(&file))?);
            } else {
                // Before it is opened: to open a pipe is to wait for somebody at its other end.
                let regular = std::fs::metadata(&file).map_err(unreadable(&file))?.is_file();
                if !regular {
                    return Err(unreadable(&file)(IoError::other("it is no regular file")));
                }
                File::open(&file).map_err(unreadable(&file))?;
                corpus.texts.push(file);
            }
        }
        match corpus.texts.is_empty() && corpus.lines.is_empty() {
            true => Err(Error::Usage(format!("{} has no file that ends in .txt or .jsonl", path.display()))),
            false => Ok(corpus),
        }
    }
}

fn ends(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case(extension))
}

fn unreadable(path: &Path) -> impl Fn(IoError) -> Error {
    let path = path.to_owned();
    move |source| Error::Calibration { path: path.clone(), source }
}

/// Shows `see` a file of text in pieces of whole lines, each with the number of its first line. → whether there was any.
///
/// # Errors
/// The file cannot be read, a line is too long or no UTF-8, or `see` fails.
pub(super) fn pieces(path: &Path, mut see: impl FnMut(&str, usize) -> Result<()>) -> Result<bool> {
    let mut file = BufReader::new(File::open(path).map_err(unreadable(path))?);
    let (mut piece, mut first) = (String::new(), 1);
    for number in 1.. {
        let mut line = Vec::new();
        let limit = MAX_TEXT_BYTES as u64;
        file.by_ref().take(limit + 1).read_until(b'\n', &mut line).map_err(unreadable(path))?;
        let refuse = |why: String| unreadable(path)(IoError::other(format!("line {number} {why}")));
        if line.len() > MAX_TEXT_BYTES {
            return Err(refuse(format!("has more than {MAX_TEXT_BYTES} bytes")));
        }
        let text = std::str::from_utf8(&line).map_err(|source| refuse(format!("is no UTF-8: {source}")))?;
        if !piece.is_empty() && (line.is_empty() || piece.len() + line.len() > PIECE_BYTES) {
            see(&piece, first)?;
            piece.clear();
            first = number;
        }
        if line.is_empty() {
            return Ok(number > 1);
        }
        piece.push_str(text);
    }
    Ok(true)
}
