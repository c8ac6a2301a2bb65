//! Answers that get their name when they are whole: an interrupted run leaves nothing behind under it.

use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::Error;

/// Where an answer goes: a link is followed, and only a regular file is replaced.
pub(crate) fn target(out: &Path) -> Result<PathBuf, Error> {
    match std::fs::canonicalize(out) {
        Ok(path) if path.is_file() => Ok(path),
        Ok(path) => Err(Error::Target { path }),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(out.to_owned()),
        Err(source) => Err(Error::Write { path: out.to_owned(), source }),
    }
}

/// Gives a file that is whole its name, once it is on the disk.
pub(crate) fn publish(file: NamedTempFile, target: &Path) -> Result<(), Error> {
    file.as_file().sync_all().map_err(|source| unwritable(target, &source))?;
    file.persist(target).map_err(|e| unwritable(target, &e.error))?;
    Ok(())
}

/// The answer cannot be written. The library's reasons name the unfinished file, which is nobody's business.
pub(crate) fn unwritable(path: &Path, reason: &std::io::Error) -> Error {
    Error::Write { path: path.to_owned(), source: reason.kind().into() }
}

/// An unfinished answer beside its `target`, with a name that begins with `prefix`. It ends up as a file like any other,
/// which others may read if the user's mask lets them.
pub(crate) fn temporary(target: &Path, prefix: &str) -> Result<NamedTempFile, Error> {
    let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder).map_err(|source| unwritable(target, &source))
}
