//! Directories that appear when they are complete, and not before.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use crate::error::{Error, Result};

/// Writes a small file and waits until it is on the disk.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write_file(path: &Path, content: &[u8]) -> Result<()> {
    let write = || {
        let mut file = File::create_new(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(Error::file("write", path))
}

/// Lets `write` fill a hidden directory beside `out` and gives it that name when all of it is on
/// the disk. If `write` fails, nothing is left.
pub(crate) fn publish(out: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let name = out.file_name().ok_or_else(|| Error::NoName { path: out.to_owned() })?;
    if out.symlink_metadata().is_ok() {
        return Err(Error::Exists { path: out.to_owned() });
    }
    let parent = out.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    let directory =
        hidden_directory(parent, &name.to_string_lossy()).map_err(Error::file("create a directory in", parent))?;
    write(directory.path())?;
    sync_directory(directory.path())?;
    fs::rename(directory.path(), out).map_err(Error::file("create", out))?;
    // The temporary name is gone, so there is nothing left to clean up under it.
    let _ = directory.keep();
    sync_directory(parent)
}

fn hidden_directory(parent: &Path, name: &str) -> std::io::Result<tempfile::TempDir> {
    let prefix = format!(".{name}-");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix);
    #[cfg(unix)]
    {
        // A temporary directory is its owner's alone; this one becomes an ordinary one.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o777));
    }
    builder.tempdir_in(parent)
}

/// Puts a directory's entries on the disk. Only Unix can open a directory for that.
fn sync_directory(path: &Path) -> Result<()> {
    if cfg!(unix) {
        let sync = || fs::File::open(path)?.sync_all();
        sync().map_err(Error::file("sync", path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn entries(directory: &Path) -> usize {
        fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn a_finished_checkpoint_has_its_name_and_nothing_beside_it() {
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("a");
        publish(&out, |directory| write_file(&directory.join("config.json"), b"{}")).unwrap();
        assert_eq!(fs::read(out.join("config.json")).unwrap(), b"{}");
        assert_eq!(entries(parent.path()), 1);
    }

    #[test]
    fn a_failed_run_leaves_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("a");
        let failure = publish(&out, |directory| {
            write_file(&directory.join("config.json"), b"{}")?;
            assert!(!out.exists(), "the name must not stand for something incomplete");
            Err(Error::NoName { path: PathBuf::new() })
        });
        assert!(failure.is_err());
        assert_eq!(entries(parent.path()), 0);
    }

    #[test]
    fn an_existing_directory_is_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        let failure = publish(parent.path(), |_| panic!("nothing may be written"));
        assert!(matches!(failure, Err(Error::Exists { .. })));
    }

    #[test]
    fn a_missing_parent_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let missing = parent.path().join("b/a");
        let failure = publish(&missing, |_| panic!("nothing may be written")).unwrap_err();
        assert!(failure.to_string().ends_with("/b"), "{failure}");
    }
}
