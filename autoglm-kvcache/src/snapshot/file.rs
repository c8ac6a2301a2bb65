//! Files that are either there as a whole or not there.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::Path;

use tempfile::NamedTempFile;

use super::{Outcome, SnapshotError};

/// What names of unfinished files end with.
const UNFINISHED: &str = ".unfinished";

/// Writes a file beside `path`, brings it to the disk, and only then gives it its name.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&mut File) -> Outcome<()>) -> Outcome<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or_else(|| std::io::Error::other("it has no name"))?.to_string_lossy();
    let prefix = format!(".{name}.");
    sweep(folder, &prefix)?;
    let mut unfinished = begin(folder, &prefix)?;
    write(unfinished.as_file_mut())?;
    unfinished.as_file().sync_all()?;
    unfinished.persist(path).map_err(|error| SnapshotError::Write(error.error))?;
    // A name is on the disk when its folder is.
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// How often a file is begun again when somebody swept it away before it was locked.
const BEGINNINGS: usize = 8;

/// A file that is locked, by which whoever sweeps sees that it is being written.
fn begin(folder: &Path, prefix: &str) -> std::io::Result<NamedTempFile> {
    for _ in 0..BEGINNINGS {
        let unfinished = tempfile::Builder::new().prefix(prefix).suffix(UNFINISHED).tempfile_in(folder)?;
        match unfinished.as_file().lock() {
            Err(error) if error.kind() != ErrorKind::Unsupported => return Err(error),
            _ if unfinished.path().exists() => return Ok(unfinished),
            _ => {}
        }
    }
    Err(std::io::Error::other("others keep removing it while it is written"))
}

/// Removes what writers that were killed have left.
fn sweep(folder: &Path, prefix: &str) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(prefix)
            && name.ends_with(UNFINISHED)
            && let Some(locked) = abandoned(&entry.path())
        {
            // Somebody else may have swept it in between. Who has just made it waits for the lock, and then
            // sees that it is gone.
            let _ = std::fs::remove_file(entry.path());
            drop(locked);
        }
    }
    Ok(())
}

/// A file that nobody writes, locked. Where files cannot be locked, as on Android, nobody can tell.
fn abandoned(path: &Path) -> Option<File> {
    let file = OpenOptions::new().write(true).open(path).ok()?;
    file.try_lock().is_ok().then_some(file)
}
