//! What was computed of a conversation, kept on disk and fetched again in another process.

use std::path::{Path, PathBuf};

use autoglm_core::{Files, Unit};
use autoglm_kvcache::{Identity, Seal, digest};

use crate::{Error, Result, Session};

/// Where the weights of a model came from.
#[derive(Debug)]
pub(crate) enum Origin {
    /// A directory.
    Directory(PathBuf),
    /// What is compiled into the program.
    Embedded(&'static [(&'static str, &'static [u8])]),
    /// Random numbers, which no other process has.
    Random,
}

/// What remembers the digests of checkpoints, in the folder of the snapshots.
const DIGESTS: &str = "digests.json";

impl Origin {
    pub(crate) fn of(files: &Files) -> Self {
        files.contents().map_or_else(|| Self::Directory(files.path("")), Self::Embedded)
    }

    /// A digest of the weights; what it takes to compute it is remembered in `folder`.
    fn digest(&self, folder: &Path) -> Result<[u8; 32]> {
        match self {
            Self::Directory(dir) => {
                let read = |source| autoglm_core::Error::Read { path: dir.clone(), source };
                let entries = std::fs::read_dir(dir).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
                let paths = entries.map_err(read)?.into_iter().map(|entry| entry.path());
                let is_weights = |path: &PathBuf| path.extension().is_some_and(|e| e == "safetensors");
                let mut files: Vec<PathBuf> = paths.filter(is_weights).collect();
                files.sort();
                Ok(digest::of_files(&files, &folder.join(DIGESTS))?)
            }
            Self::Embedded(files) => {
                let mut hasher = digest::Hasher::new();
                files.iter().for_each(|(name, bytes)| hasher.update(name, bytes));
                Ok(hasher.finish())
            }
            Self::Random => Err(Error::Unsaveable),
        }
    }
}

impl Session {
    /// Saves the keys and values of everything that was computed of this conversation, so that a later
    /// process need not compute them: typically after [`Session::anticipate`], with a system prompt that
    /// every conversation begins with. The file is replaced as a whole or not at all. It is as private as the
    /// conversation, so it may be sealed with a key. → rows that were saved.
    ///
    /// The first time, the checkpoint's files are read once for a digest, which is remembered beside the
    /// snapshot.
    ///
    /// # Errors
    /// - [`Error::Pool`] when nothing was computed yet, or the file cannot be written.
    /// - [`Error::Unsaveable`] for random weights.
    pub fn save(&mut self, path: impl AsRef<Path>, seal: Option<&Seal>) -> Result<usize> {
        let path = path.as_ref();
        let identity = self.identity(path)?;
        let units: Vec<Unit> = self.computed.assembly.units().collect();
        let empty = || autoglm_kvcache::Error::Units { units: 0, rows: 0, held: 0 };
        let cache = self.computed.cache.as_ref().ok_or_else(empty)?;
        let mut rows = 0;
        let computed = units.iter().take_while(|unit| {
            rows += unit.rows();
            rows <= cache.rows()
        });
        let units = &units[..computed.count()];
        cache.pool().save(cache, units, &identity, path, seal)?;
        Ok(units.iter().map(Unit::rows).sum())
    }

    /// Loads what [`Session::save`] wrote and pins it under a name: this and other sessions of the same
    /// tenant find it. → rows that were loaded. An error leaves everything as it was; what is not loaded is
    /// computed.
    ///
    /// # Errors
    /// - [`Error::Pool`] for a file that cannot be read, is damaged, is of other weights, precision, format,
    ///   tenant or version, or for which the budget has no room.
    /// - [`Error::Unsaveable`] for random weights.
    pub fn load(&mut self, name: &str, path: impl AsRef<Path>, seal: Option<&Seal>) -> Result<usize> {
        let path = path.as_ref();
        let identity = self.identity(path)?;
        let past = self.model.past();
        let root = past.root(self.salt);
        let (cache, _) = past.pool().load(&identity, root, self.model.context(), path, seal)?;
        Ok(past.pool().pin(name, &cache)?)
    }

    fn identity(&self, path: &Path) -> Result<Identity> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let weights = self.model.origin().digest(folder)?;
        Ok(Identity { salt: self.salt, weights, ..self.model.past().identity().clone() })
    }
}
