//! Prompts under a name, on disk while their model sleeps.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use autoglm_core::Unit;
use autoglm_kvcache::{Identity, Pinned, Root, Seal, Shape};

use crate::past::Past;
use crate::{Error, Result};

/// Snapshots of all pins of a pool. They are sealed with a key that this process alone knows and are gone with it: what a
/// killed process leaves behind is of no use to anybody.
#[derive(Debug)]
pub(crate) struct Pins {
    identity: Identity,
    shape: Shape,
    seal: Seal,
    pins: Vec<Pin>,
}

#[derive(Debug)]
struct Pin {
    root: Root,
    name: String,
    path: PathBuf,
}

impl Pins {
    /// Saves what is pinned to `folder`. → none where nothing is.
    ///
    /// # Errors
    /// [`Error::Pool`] when a file cannot be written; none is left then.
    pub(crate) fn save(past: &Past, folder: &Path) -> Result<Option<Self>> {
        static SAVED: AtomicU64 = AtomicU64::new(0);
        let pinned = past.pool().pinned(past.limit());
        if pinned.is_empty() {
            return Ok(None);
        }
        let refused = |source| autoglm_kvcache::Error::Snapshot { path: folder.to_owned(), source };
        let (identity, shape) = (past.identity().clone(), *past.pool().shape());
        let mut all = Self { identity, shape, seal: Seal::random().map_err(refused)?, pins: Vec::new() };
        for Pinned { name, cache, units } in pinned {
            let number = SAVED.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("autoglm-asleep-{}-{number}.kv", std::process::id()));
            // Part of the list before it is written, so that what is left of a file that fails goes, too.
            all.pins.push(Pin { root: cache.root(), name, path: path.clone() });
            cache.save(&units, &all.of(cache.root()), &path, Some(&all.seal))?;
        }
        Ok(Some(all))
    }

    /// Brings everything back into the pool of a model that woke. → how many could not be.
    pub(crate) fn load(&self, past: &Past) -> usize {
        let load = |Pin { root, name, path }: &Pin| {
            let (cache, _): (_, Vec<Unit>) =
                past.pool().load(&self.of(*root), *root, past.limit(), path, Some(&self.seal))?;
            Ok::<_, Error>(cache.pin(name)?)
        };
        self.pins.iter().filter(|pin| load(pin).is_err()).count()
    }

    /// Ends the pin of a tenant's. → whether there was one.
    pub(crate) fn unpin(&mut self, salt: [u8; 32], name: &str) -> bool {
        let root = Identity { salt, ..self.identity.clone() }.root(&self.shape);
        let before = self.pins.len();
        self.pins.retain(|pin| (pin.root, pin.name.as_str()) != (root, name));
        self.pins.len() < before
    }

    /// What a file is of. The root stands for the tenant, whose salt is not known here.
    fn of(&self, root: Root) -> Identity {
        Identity { salt: root.bytes(), ..self.identity.clone() }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // One that is there no more is what this is for.
        let _ = std::fs::remove_file(&self.path);
    }
}
