//! A digest of the files of a checkpoint, which says in another process whether the weights are the same.
//!
//! Tens of gigabytes take many seconds, so the digest of each file is remembered with its path, size, time
//! of change and inode, and only computed again when one of them differs.

use std::fs::{File, Metadata};
use std::io::Read;
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
    path: PathBuf,
    size: u64,
    /// Nanoseconds since 1970, where the system keeps them.
    modified: Option<u128>,
    inode: u64,
    digest: [u8; 32],
}

/// The digest of some files, in this order, by name and contents. What is computed for it is remembered
/// in the file `remembered`; a damaged one is computed anew.
///
/// # Errors
/// [`Error::Digest`] naming the file that cannot be read.
pub fn of_files(files: &[PathBuf], remembered: &Path) -> Result<[u8; 32]> {
    let mut known = recall(remembered);
    let before = known.clone();
    let mut all = Hasher::new();
    for path in files {
        let digest = of_file(path, &mut known).map_err(|source| Error::Digest { path: path.clone(), source })?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        all.part(&name, &digest);
    }
    if known != before {
        let surplus = known.len().saturating_sub(REMEMBERED);
        known.drain(..surplus);
        // Not to remember costs time the next time, and nothing else.
        let _ = replace(remembered, |file| Ok(serde_json::to_writer(file, &known).map_err(std::io::Error::from)?));
    }
    Ok(all.finish())
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

fn of_file(path: &Path, known: &mut Vec<Known>) -> std::io::Result<[u8; 32]> {
    let path = path.canonicalize()?;
    let mut file = File::open(&path)?;
    let state = file.metadata()?;
    let mut entry =
        Known { path, size: state.len(), modified: modified(&state), inode: inode(&state), digest: [0; 32] };
    let same = |known: &Known| Known { digest: [0; 32], ..known.clone() } == entry;
    if let Some(found) = known.iter().find(|known| entry.modified.is_some() && same(known)) {
        return Ok(found.digest);
    }
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hasher.update(&buffer[..read]),
        };
    }
    entry.digest = *hasher.finalize().as_bytes();
    known.retain(|known| known.path != entry.path);
    known.push(entry.clone());
    Ok(entry.digest)
}

fn recall(remembered: &Path) -> Vec<Known> {
    let read = || {
        let mut text = Vec::new();
        File::open(remembered).ok()?.take(REMEMBERED_BYTES).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    };
    read().unwrap_or_default()
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
        let of = |files: &[&PathBuf]| of_files(&files.iter().map(|f| (*f).clone()).collect::<Vec<_>>(), &memory);
        let first = of(&[&a, &b]).unwrap();
        assert_ne!(first, of(&[&b, &a]).unwrap());
        assert_ne!(of(&[&a]).unwrap(), of(&[&b]).unwrap());
        // What is remembered is used: the digest that was planted here is what comes out.
        let mut known = recall(&memory);
        assert_eq!(known.len(), 2);
        known.iter_mut().for_each(|known| known.digest = [7; 32]);
        std::fs::write(&memory, serde_json::to_vec(&known).unwrap()).unwrap();
        assert_ne!(of(&[&a, &b]).unwrap(), first);
        // A file that changed is read again, and damage means computing anew.
        std::fs::write(&b, "other weights").unwrap();
        let changed = of(&[&b]).unwrap();
        std::fs::write(&memory, "[{").unwrap();
        assert_eq!(of(&[&a, &b]).unwrap().len(), 32);
        assert_eq!(of(&[&b]).unwrap(), changed);
        assert!(matches!(of(&[&folder.path().join("none")]), Err(Error::Digest { .. })));
    }
}
