//! Files of the kernel below a root that need not be `/`.

use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The kernel's files: `/sys`, `/proc` and `/dev` below a root, so that a directory can stand for a device in a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    root: PathBuf,
}

/// What the kernel says in one file fits a page; nothing longer is read.
const PAGE: u64 = 4096;

impl Default for Tree {
    fn default() -> Self {
        Self::new("/")
    }
}

impl Tree {
    /// The files below `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where a file lies. `path` has no leading slash: `sys/class/thermal`.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// What a file says, without the space around it; none where there is no such file.
    ///
    /// # Errors
    /// [`Error::Read`] for one that is there and cannot be read, as drivers do that have nothing to say,
    /// and [`Error::Content`] for one that is no text or longer than a page.
    pub fn text(&self, path: &str) -> Result<Option<String>> {
        let path = self.path(path);
        let mut bytes = Vec::new();
        // A pipe would make the reader wait for somebody to write.
        let regular = std::fs::metadata(&path)
            .and_then(|found| if found.is_file() { Ok(()) } else { Err(std::io::Error::other("no regular file")) });
        let read = regular.and_then(|()| std::fs::File::open(&path)?.take(PAGE + 1).read_to_end(&mut bytes));
        match read {
            Ok(_) => {}
            // A device that was unplugged, or a processor that went offline, takes its files along.
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(e) if e.raw_os_error() == Some(NO_SUCH_DEVICE) => return Ok(None),
            Err(source) => return Err(Error::Read { path, source }),
        }
        let got = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
        if bytes.len() as u64 > PAGE {
            return Err(Error::Content { got: got(&bytes), path, why: "goes on beyond a page" });
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(_) => Err(Error::Content { got: got(&bytes), path, why: "is no text" }),
        }
    }

    /// The whole number that a file holds; none where there is no such file.
    ///
    /// # Errors
    /// As for [`Tree::text`], and [`Error::Content`] for anything but a number.
    pub fn number(&self, path: &str) -> Result<Option<i64>> {
        let Some(text) = self.text(path)? else { return Ok(None) };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => {
                let got = text.chars().take(40).collect();
                Err(Error::Content { path: self.path(path), got, why: "is no whole number" })
            }
        }
    }

    /// Names in a directory, in order, numbers within them by their value; none where there is no such directory.
    ///
    /// # Errors
    /// [`Error::Read`] for a directory that cannot be read.
    pub fn names(&self, path: &str) -> Result<Vec<String>> {
        let path = self.path(path);
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
            Err(source) => return Err(Error::Read { path, source }),
        };
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
        let mut names: Vec<String> =
            names.collect::<std::io::Result<_>>().map_err(|source| Error::Read { path, source })?;
        names.sort_by_cached_key(|name| {
            let digits = name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
            (name[..digits].to_owned(), name[digits..].parse::<u64>().unwrap_or(0))
        });
        Ok(names)
    }

    /// Writes a file that is there; none is made.
    ///
    /// # Errors
    /// [`Error::Write`], for a want of permission as for a file that is not there.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.path(path);
        let file = std::fs::OpenOptions::new().write(true).truncate(!self.is_system()).open(&path);
        let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
        written.map_err(|source| Error::Write { path, source })
    }

    /// Whether these are the kernel's own files, which take a text whole and need no truncating.
    fn is_system(&self) -> bool {
        self.root == Path::new("/")
    }
}

/// `ENODEV`: the file is still there, the device behind it is not.
const NO_SUCH_DEVICE: i32 = 19;
