//! A digest of the files of a checkpoint, which says in another process whether the weights are the same.
//!
//! Tens of gigabytes take many seconds, so the digest of each file is remembered with its path, size, time
//! of change and inode, and only computed again when one of them differs.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::snapshot::file::replace;
use crate::{Error, Result};

/// Files that are remembered: a few checkpoints of a few shards.
const REMEMBERED: usize = 256;

/// What is remembered takes less.
const REMEMBERED_BYTES: u64 = 1 << 20;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Known {
    file: FileState,
    digest: [u8; 32],
}

/// What changes when a file is written to or another takes its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    path: PathBuf,
    size: u64,
    /// Nanoseconds since 1970, where the system keeps them.
    modified: Option<u128>,
    inode: u64,
}

impl FileState {
    /// Of the file at `path`, now.
    ///
    /// # Errors
    /// [`Error::Digest`] naming the file that the system will not tell of.
    pub fn of(path: &Path) -> Result<Self> {
        let of = |path: &Path| {
            let path = path.canonicalize()?;
            let state = path.metadata()?;
            Ok(Self { size: state.len(), modified: modified(&state), inode: inode(&state), path })
        };
        of(path).map_err(|source| Error::Digest { path: path.to_owned(), source })
    }
}

/// The digest of some files, in this order, by name and contents. What is computed for it is remembered
/// in the file `remembered`, where one is given. A file of that name that says something else is left alone.
///
/// # Errors
/// - [`Error::Digest`] naming the file that cannot be read.
/// - [`Error::Changed`] naming the file that is not what it was.
pub fn of_files(files: &[FileState], remembered: Option<&Path>) -> Result<[u8; 32]> {
    let mut known = remembered.map_or_else(|| Some(Vec::new()), recall);
    let before = known.clone();
    let mut all = Hasher::new();
    for file in files {
        if FileState::of(&file.path)? != *file {
            return Err(Error::Changed { path: file.path.clone() });
        }
        let digest = of_file(file, known.get_or_insert_default());
        let digest = digest.map_err(|source| Error::Digest { path: file.path.clone(), source })?;
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        all.part(&name, &digest);
    }
    if let (Some(path), Some(mut known), true) = (remembered, known.clone(), before.is_some() && known != before) {
        let surplus = known.len().saturating_sub(REMEMBERED);
        known.drain(..surplus);
        // Not to remember costs time the next time, and nothing else.
        let _ = replace(path, |file| Ok(serde_json::to_writer(file, &known).map_err(std::io::Error::from)?));
    }
    Ok(all.finish())
}

/// A digest as people and files write it.
#[must_use]
pub fn hex(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A digest of named contents.
#[derive(Debug, Default)]
pub struct Hasher {
    inner: blake3::Hasher,
}

impl Hasher {
    /// Of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds contents under a name.
    pub fn update(&mut self, name: &str, contents: &[u8]) {
        self.part(name, blake3::hash(contents).as_bytes());
    }

    fn part(&mut self, name: &str, digest: &[u8; 32]) {
        // The length keeps a name's end from being taken for a digest's beginning.
        self.inner.update(&(name.len() as u64).to_le_bytes());
        self.inner.update(name.as_bytes());
        self.inner.update(digest);
    }

    /// The digest.
    #[must_use]
    pub fn finish(&self) -> [u8; 32] {
        *self.inner.finalize().as_bytes()
    }
}

fn of_file(file: &FileState, known: &mut Vec<Known>) -> std::io::Result<[u8; 32]> {
    let same = |known: &&Known| file.modified.is_some() && known.file == *file;
    if let Some(found) = known.iter().find(same) {
        return Ok(found.digest);
    }
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut File::open(&file.path)?, &mut hasher)?;
    let digest = *hasher.finalize().as_bytes();
    known.retain(|known| known.file.path != file.path);
    known.push(Known { file: file.clone(), digest });
    Ok(digest)
}

/// What is remembered; none where the file is there and says something else.
fn recall(remembered: &Path) -> Option<Vec<Known>> {
    let file = match File::open(remembered) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Some(Vec::new()),
        opened => opened.ok()?,
    };
    let mut text = Vec::new();
    file.take(REMEMBERED_BYTES).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

fn modified(state: &Metadata) -> Option<u128> {
    Some(state.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos())
}

#[cfg(unix)]
fn inode(state: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(state)
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_follows_names_and_contents_and_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b, memory] = ["a", "b", "digests.json"].map(|name| folder.path().join(name));
        std::fs::write(&a, "weights").unwrap();
        std::fs::write(&b, "weights").unwrap();
        let of = |files: &[&PathBuf]| {
            let states: Vec<FileState> = files.iter().map(|file| FileState::of(file).unwrap()).collect();
            of_files(&states, Some(&memory))
        };
        let first = of(&[&a, &b]).unwrap();
        assert_ne!(first, of(&[&b, &a]).unwrap());
        assert_ne!(of(&[&a]).unwrap(), of(&[&b]).unwrap());
        // What is remembered is used: the digest that was planted here is what comes out.
        let mut known = recall(&memory).unwrap();
        assert_eq!(known.len(), 2);
        known.iter_mut().for_each(|known| known.digest = [7; 32]);
        std::fs::write(&memory, serde_json::to_vec(&known).unwrap()).unwrap();
        assert_ne!(of(&[&a, &b]).unwrap(), first);
        // A file that changed is read again, and one that changed since it was looked at is refused.
        let state = FileState::of(&b).unwrap();
        std::fs::write(&b, "other weights").unwrap();
        let changed = of(&[&b]).unwrap();
        assert!(matches!(of_files(&[state], Some(&memory)), Err(Error::Changed { path }) if path.ends_with("b")));
        // What is not ours is neither believed nor replaced.
        std::fs::write(&memory, "a shopping list").unwrap();
        assert_eq!(of(&[&b]).unwrap(), changed);
        assert_eq!(std::fs::read_to_string(&memory).unwrap(), "a shopping list");
        assert!(matches!(FileState::of(&folder.path().join("none")), Err(Error::Digest { .. })));
    }
}
