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

/// What stands in a directory that is being filled. Whoever fills it holds a lock on it, which ends with the process,
/// however that ends.
const INCOMPLETE: &str = ".incomplete";

/// Lets `write` fill a hidden directory beside `out` and gives it that name when all of it is on
/// the disk. If `write` fails, nothing is left; what a killed run left, the next one for the same name removes.
pub(crate) fn publish(out: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let name = out.file_name().ok_or_else(|| Error::NoName { path: out.to_owned() })?;
    if out.symlink_metadata().is_ok() {
        return Err(Error::Exists { path: out.to_owned() });
    }
    let parent = out.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    let directory =
        hidden_directory(parent, &name.to_string_lossy()).map_err(Error::file("create a directory in", parent))?;
    let mark = directory.path().join(INCOMPLETE);
    let lock = File::create_new(&mark).and_then(|lock| lock.lock().map(|()| lock));
    let lock = lock.map_err(Error::file("create", &mark))?;
    remove_abandoned(parent, &name.to_string_lossy());
    write(directory.path())?;
    fs::remove_file(&mark).map_err(Error::file("remove", &mark))?;
    drop(lock);
    sync_directory(directory.path())?;
    fs::rename(directory.path(), out).map_err(Error::file("create", out))?;
    // The temporary name is gone, so there is nothing left to clean up under it.
    let _ = directory.keep();
    sync_directory(parent)
}

/// Removes what killed runs left. What cannot be removed is nobody's harm, so failures are not told.
fn remove_abandoned(parent: &Path, name: &str) {
    let prefix = format!(".{name}-");
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(&prefix) {
            continue;
        }
        // Only what is marked as ours, and whose owner no longer holds the mark.
        let mark = File::open(entry.path().join(INCOMPLETE));
        if mark.is_ok_and(|mark| mark.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
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
    fn what_a_killed_run_left_goes_with_the_next_and_nothing_else_does() {
        let parent = tempfile::tempdir().unwrap();
        let make = |name: &str, marked: bool| {
            let path = parent.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("half"), b"half").unwrap();
            marked.then(|| File::create(path.join(INCOMPLETE)).unwrap())
        };
        drop(make(".a-killed", true));
        let running = make(".a-running", true).unwrap();
        running.lock().unwrap();
        make(".a-of-somebody-else", false);
        drop(make(".b-killed", true));
        publish(&parent.path().join("a"), |_| Ok(())).unwrap();
        let mut left: Vec<String> =
            fs::read_dir(parent.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, [".a-of-somebody-else", ".a-running", ".b-killed", "a"]);
        assert_eq!(entries(&parent.path().join("a")), 0, "the mark is gone");
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
