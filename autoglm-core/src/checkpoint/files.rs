//! The files of a checkpoint: a directory that names cannot lead out of, or bytes in the program.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::bytes::Backing;
use super::json;
use super::map::map;
use super::printable::printable;
use crate::{Error, Result};

/// The longest JSON file that is read whole, in bytes: configurations have kilobytes, the index of
/// the largest published checkpoints about ten megabytes.
pub const CONFIG_LIMIT: usize = 16 << 20;

/// Why a file is not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The path of a checkpoint is not a directory.
    #[error("not a directory")]
    NotADirectory,
    /// A name with a separator, or one that means a directory.
    #[error("`{}` is not the plain name of a file", printable(.name))]
    Name {
        /// The name.
        name: String,
    },
    /// A directory, a pipe, a socket or a device.
    #[error("not a regular file")]
    NotRegular,
    /// A file without contents.
    #[error("the file is empty")]
    Empty,
    /// A link to a file that does not belong to the checkpoint.
    #[error("the link leads out of the checkpoint, to {}", .target.display())]
    Outside {
        /// Where it leads.
        target: PathBuf,
    },
    /// A file larger than its kind is ever.
    #[error("the file has {len} bytes, at most {limit} are read")]
    TooLarge {
        /// Its size.
        len: u64,
        /// The largest that is read.
        limit: usize,
    },
}

/// Where the files of one checkpoint come from.
///
/// In a directory, only regular files with contents are opened, by plain names. A symbolic link is
/// followed if its target lies in the directory as well, or in the one place the Hugging Face cache
/// links to: for a directory `REPO/snapshots/REVISION`, the files directly in `REPO/blobs`.
///
/// A file is examined before it is opened, so that a pipe is refused and not waited for. Who can
/// change the directory in between can still make opening it wait; a checkpoint must not lie where
/// others may write.
#[derive(Debug, Clone)]
pub struct Files(Place);

#[derive(Debug, Clone)]
enum Place {
    Directory { root: PathBuf, blobs: Option<PathBuf> },
    Embedded(&'static [(&'static str, &'static [u8])]),
}

impl Files {
    /// The files of a directory.
    ///
    /// # Errors
    /// - [`Error::Read`] when the path does not resolve.
    /// - [`Error::File`] when it is not a directory.
    pub fn directory(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let root = fs::canonicalize(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        if !root.is_dir() {
            return Err(Error::File { path: path.to_owned(), source: FileError::NotADirectory });
        }
        let blobs =
            root.parent().filter(|up| up.ends_with("snapshots")).and_then(Path::parent).map(|repo| repo.join("blobs"));
        Ok(Self(Place::Directory { root, blobs }))
    }

    /// Files compiled into the program, as names and contents.
    #[must_use]
    pub const fn embedded(files: &'static [(&'static str, &'static [u8])]) -> Self {
        Self(Place::Embedded(files))
    }

    /// The contents of `name`, at most `limit` bytes of it; nothing when there is no such file.
    ///
    /// # Errors
    /// - [`Error::File`] when the name is not a plain one, or the file is empty, larger than
    ///   `limit`, not a regular file, or a link out of the checkpoint.
    /// - [`Error::Read`] when the system will not give its contents.
    pub fn read(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        let too_large =
            |path: &Path, len| Err(Error::File { path: path.to_owned(), source: FileError::TooLarge { len, limit } });
        match self.find(name)? {
            None => Ok(None),
            Some(Found::Embedded(bytes)) if bytes.len() > limit => too_large(Path::new(name), bytes.len() as u64),
            Some(Found::Embedded(bytes)) => Ok(Some(bytes.to_vec())),
            Some(Found::File { path, file, len }) => {
                if len > limit as u64 {
                    return too_large(&path, len);
                }
                // The file may grow while it is read: one byte more than allowed tells.
                let mut bytes = Vec::new();
                let read = file.take((limit as u64).saturating_add(1)).read_to_end(&mut bytes);
                read.map_err(|source| Error::Read { path: path.clone(), source })?;
                if bytes.len() > limit { too_large(&path, bytes.len() as u64) } else { Ok(Some(bytes)) }
            }
        }
    }

    /// What the JSON file `name` says, read as a `T`; nothing when there is no such file. Keys that
    /// occur twice in one object are refused, wherever they are.
    ///
    /// # Errors
    /// - [`Error::Json`] when the contents are not a `T`.
    /// - Those of [`Files::read`], with [`CONFIG_LIMIT`].
    pub fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some(document) = self.read(name, CONFIG_LIMIT)? else {
            return Ok(None);
        };
        json::parse(&document).map(Some).map_err(|source| Error::Json { path: self.path(name), source })
    }

    /// The file `name`, mapped, with its path for messages; nothing when there is no such file.
    pub(crate) fn backing(&self, name: &str) -> Result<Option<(PathBuf, Backing)>> {
        match self.find(name)? {
            None => Ok(None),
            Some(Found::Embedded(bytes)) => Ok(Some((PathBuf::from(name), Backing::Embedded(bytes)))),
            Some(Found::File { path, file, .. }) => match map(&file) {
                Ok(mapped) => Ok(Some((path, Backing::Mapped(Arc::new(mapped))))),
                Err(source) => Err(Error::Read { path, source }),
            },
        }
    }

    /// The directory, for messages.
    pub(crate) fn root(&self) -> PathBuf {
        self.path("")
    }

    /// Names and contents, where they are compiled into the program.
    #[must_use]
    pub fn contents(&self) -> Option<&'static [(&'static str, &'static [u8])]> {
        match self.0 {
            Place::Directory { .. } => None,
            Place::Embedded(files) => Some(files),
        }
    }

    /// Where the file `name` is or would be, for messages; the directory itself for an empty name. Files in
    /// the program have made-up paths.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        match &self.0 {
            Place::Directory { root, .. } if name.is_empty() => root.clone(),
            Place::Directory { root, .. } => root.join(name),
            Place::Embedded(_) => Path::new("(embedded)").join(name),
        }
    }

    fn find(&self, name: &str) -> Result<Option<Found>> {
        let refuse = |path: PathBuf, source| Err(Error::File { path, source });
        if !is_plain(name) {
            return refuse(self.root(), FileError::Name { name: name.to_owned() });
        }
        match &self.0 {
            Place::Embedded(files) => match files.iter().find(|(n, _)| *n == name) {
                Some((_, [])) => refuse(self.path(name), FileError::Empty),
                found => Ok(found.map(|(_, bytes)| Found::Embedded(bytes))),
            },
            Place::Directory { root, blobs } => {
                let path = root.join(name);
                match open(&path, root, blobs.as_deref()) {
                    Ok(Ok((file, len))) => Ok(Some(Found::File { path, file, len })),
                    Ok(Err(source)) => refuse(path, source),
                    // A link whose target is gone is not an absent file.
                    Err(e) if e.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(&path).is_err() => Ok(None),
                    Err(source) => Err(Error::Read { path, source }),
                }
            }
        }
    }
}

/// A file that was found and may be read.
enum Found {
    Embedded(&'static [u8]),
    File { path: PathBuf, file: File, len: u64 },
}

/// Whether `name` names a file in a directory and nothing else on any system: no separators, no
/// drive, no parent.
pub(crate) fn is_plain(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\\', ':']) && !name.contains(char::is_control)
}

/// Opens `path` if it is a regular file with contents under `root` or directly in `blobs`.
fn open(path: &Path, root: &Path, blobs: Option<&Path>) -> io::Result<std::result::Result<(File, u64), FileError>> {
    let target = fs::canonicalize(path)?;
    if !target.starts_with(root) && (blobs.is_none() || target.parent() != blobs) {
        return Ok(Err(FileError::Outside { target }));
    }
    if !fs::metadata(&target)?.is_file() {
        return Ok(Err(FileError::NotRegular));
    }
    let file = File::open(&target)?;
    let metadata = file.metadata()?;
    Ok(match metadata.len() {
        _ if !metadata.is_file() => Err(FileError::NotRegular),
        0 => Err(FileError::Empty),
        len => Ok((file, len)),
    })
}
