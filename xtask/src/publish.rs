//! Directories that appear when they are complete, and not before.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
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

/// Whether `out` may come into being: it has a name of its own and a parent that is there. → the two.
///
/// # Errors
/// It may not.
pub(crate) fn may_publish(out: &Path) -> Result<(&Path, &OsStr)> {
    let name = out.file_name().ok_or_else(|| Error::NoName { path: out.to_owned() })?;
    if out.symlink_metadata().is_ok() {
        return Err(Error::Exists { path: out.to_owned() });
    }
    let parent = out.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        return Err(Error::NoParent { path: parent.to_owned() });
    }
    Ok((parent, name))
}

/// Lets `write` fill a hidden directory beside `out` and gives it that name when all of it is on
/// the disk. If `write` fails, nothing is left; what a killed run left, the next one for the same name removes.
pub(crate) fn publish(out: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let (parent, name) = may_publish(out)?;
    let directory =
        hidden_directory(parent, &name.to_string_lossy()).map_err(Error::file("create a directory in", parent))?;
    let _lock = mark(directory.path(), name).map_err(Error::file("mark", directory.path()))?;
    remove_abandoned(parent, name);
    write(directory.path())?;
    sync_directory(directory.path())?;
    fs::rename(directory.path(), out).map_err(Error::file("create", out))?;
    // The temporary name is gone, so there is nothing left to clean up under it.
    let _ = directory.keep();
    // Only now: were it removed first, a run that is killed in between would leave what nobody cleans up.
    match fs::remove_file(out.join(INCOMPLETE)) {
        Err(failure) if failure.kind() != ErrorKind::NotFound => return Err(Error::file("finish", out)(failure)),
        _ => {}
    }
    sync_directory(parent)
}

/// Marks a directory as one that is being filled and will be called `name`. The mark is locked before it can be seen;
/// where files cannot be locked there is none, and nothing is ever cleaned up.
fn mark(directory: &Path, name: &OsStr) -> std::io::Result<Option<File>> {
    let unseen = directory.join(".mark");
    let mut mark = File::create_new(&unseen)?;
    mark.write_all(name.as_encoded_bytes())?;
    if mark.lock().is_err() {
        fs::remove_file(&unseen)?;
        return Ok(None);
    }
    fs::rename(&unseen, directory.join(INCOMPLETE))?;
    Ok(Some(mark))
}

/// Removes what killed runs left. What cannot be removed is nobody's harm, so failures are not told.
fn remove_abandoned(parent: &Path, name: &OsStr) {
    let prefix = format!(".{}-", name.to_string_lossy());
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(&prefix) {
            continue;
        }
        // Only what is marked as ours, and whose owner no longer holds the mark.
        let path = entry.path().join(INCOMPLETE);
        let ours = fs::read(&path).is_ok_and(|of| of == name.as_encoded_bytes());
        if ours && File::open(path).is_ok_and(|mark| mark.try_lock().is_ok()) {
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
            marked.then(|| {
                let mut mark = File::create(path.join(INCOMPLETE)).unwrap();
                mark.write_all(&name.as_bytes()[1..2]).unwrap();
                mark
            })
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
        assert!(failure.to_string().contains("/b "), "{failure}");
    }
}
