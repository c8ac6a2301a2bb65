//! What was computed of a conversation, kept on disk and fetched again in another process.

use std::path::{Path, PathBuf};

use autoglm_core::{Files, Unit};
use autoglm_kvcache::digest::{self, FileState};
use autoglm_kvcache::{Identity, Seal};

use crate::awake::Awake;
use crate::{Error, Session};

/// Where the weights of a model came from.
#[derive(Debug)]
pub(crate) enum Origin {
    /// Files of a directory, as they were when it was opened.
    Files(Vec<FileState>),
    /// What is compiled into the program.
    Embedded(&'static [(&'static str, &'static [u8])]),
    /// Random numbers, which no other process has, or files that cannot be looked at.
    Unknown,
}

/// What remembers the digests of checkpoints, in the folder of the snapshots.
const DIGESTS: &str = "autoglm-digests.json";

impl Origin {
    /// What `files` are now: a file that changes later says so.
    pub(crate) fn of(files: &Files) -> Self {
        if let Some(contents) = files.contents() {
            return Self::Embedded(contents);
        }
        let is_weights = |path: &PathBuf| path.extension().is_some_and(|e| e == "safetensors");
        let look = || {
            let entries: Vec<_> = std::fs::read_dir(files.path("")).ok()?.collect::<Result<_, _>>().ok()?;
            let mut paths: Vec<PathBuf> = entries.iter().map(std::fs::DirEntry::path).filter(is_weights).collect();
            paths.sort();
            paths.iter().map(|path| FileState::of(path).ok()).collect::<Option<Vec<_>>>()
        };
        // What cannot be looked at cannot be told from another, either.
        look().filter(|files| !files.is_empty()).map_or(Self::Unknown, Self::Files)
    }

    /// A digest of the weights; what it takes to compute it is remembered in `folder`, where one is given.
    fn digest(&self, folder: Option<&Path>) -> crate::Result<[u8; 32]> {
        match self {
            Self::Files(files) => Ok(digest::of_files(files, folder.map(|folder| folder.join(DIGESTS)).as_deref())?),
            Self::Embedded(files) => {
                let mut hasher = digest::Hasher::new();
                files.iter().for_each(|(name, bytes)| hasher.update(name, bytes));
                Ok(hasher.finish())
            }
            Self::Unknown => Err(Error::Unsaveable),
        }
    }
}

impl Session {
    /// Saves the keys and values of everything that was computed of this conversation, so that a later
    /// process need not compute them: typically after [`Session::anticipate`], with a system prompt that
    /// every conversation begins with. The file is replaced as a whole or not at all. It is as private as the
    /// conversation, so it may be sealed with a key. → rows that were saved.
    ///
    /// The checkpoint's files are read for a digest, which is remembered beside a snapshot that is not sealed.
    ///
    /// # Errors
    /// - [`Error::Pool`] when nothing was computed since the model woke, the file cannot be written, or the checkpoint has
    ///   changed since it was opened.
    /// - [`Error::Unsaveable`] for random weights, and for a directory that may not be listed.
    pub fn save(&self, path: impl AsRef<Path>, seal: Option<&Seal>) -> crate::Result<usize> {
        let path = path.as_ref();
        let awake = self.model.inner.gate.held().ok_or(autoglm_kvcache::Error::Nothing)?;
        let seat = self.computed.cache.lock();
        let cache = seat.as_ref().ok_or(autoglm_kvcache::Error::Nothing)?;
        let identity = self.identity(&awake, path, seal)?;
        let units: Vec<Unit> = self.computed.assembly.units().collect();
        let units = cache.held(&units);
        cache.save(units, &identity, path, seal)?;
        Ok(units.iter().map(Unit::rows).sum())
    }

    /// Loads what [`Session::save`] wrote and pins it under a name: this and other sessions of the same
    /// tenant find it. → rows that were loaded. After an error nothing of the file is there; what is not loaded is
    /// computed.
    ///
    /// # Errors
    /// - [`Error::Pool`] for a file that cannot be read, is damaged, is of other weights, precision, format,
    ///   tenant or version, or for which the budget has no room.
    /// - [`Error::Unsaveable`] for random weights, and for a directory that may not be listed.
    pub fn load(&mut self, name: &str, path: impl AsRef<Path>, seal: Option<&Seal>) -> crate::Result<usize> {
        let path = path.as_ref();
        let awake = self.model.lease()?;
        let identity = self.identity(&awake, path, seal)?;
        let past = &awake.past;
        let root = past.root(self.salt);
        let (cache, _) = past.pool().load(&identity, root, self.model.context(), path, seal)?;
        Ok(cache.pin(name)?)
    }

    fn identity(&self, awake: &Awake, path: &Path, seal: Option<&Seal>) -> crate::Result<Identity> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // A sealed snapshot is not believed because of a file that anybody could have written.
        let weights = self.model.origin().digest(seal.is_none().then_some(folder))?;
        Ok(Identity { salt: self.salt, weights, ..awake.past.identity().clone() })
    }
}
