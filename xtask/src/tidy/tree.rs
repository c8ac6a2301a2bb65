//! What the rules look at: the workspace's files and its members' manifests.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::workspace::{self, Package};

/// Text above this size is somebody's data and is not read.
const LARGEST_TEXT: u64 = 2_000_000;

/// Where the workspace's own files are when git cannot tell: beside the members' directories.
const OTHER_DIRECTORIES: &[&str] = &[".cargo", ".ci", "docs", "goldens", "models"];

/// Directories that hold what tools leave behind.
const LEFTOVERS: &[&str] = &["target", "__pycache__"];

/// The files of the workspace and its members.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) files: Vec<File>,
    pub(crate) packages: Vec<Package>,
}

#[derive(Debug)]
pub(crate) struct File {
    /// Relative to the root, with `/` between the parts.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    /// The content, unless the file is large or not UTF-8.
    pub(crate) text: Option<String>,
}

impl Tree {
    /// Reads the workspace at `root`: what git tracks or would track, or, outside a git checkout
    /// (an unpacked source archive), what lies in the workspace's own directories.
    ///
    /// # Errors
    /// - `cargo metadata` fails.
    /// - A file cannot be read.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let packages = workspace::packages()?;
        let mut paths = match listed_by_git(root) {
            Some(paths) => paths,
            None => walked(root, &packages)?,
        };
        paths.sort();
        let mut files = Vec::new();
        for path in paths {
            let full = root.join(&path);
            // A tracked file that is deleted in the working tree is on its way out.
            let Ok(metadata) = full.symlink_metadata() else { continue };
            if metadata.is_file() {
                let bytes = metadata.len();
                let read = || fs::read(&full).map_err(Error::file("read", &full));
                let text = if bytes <= LARGEST_TEXT { String::from_utf8(read()?).ok() } else { None };
                files.push(File { path, bytes, text });
            }
        }
        Ok(Self { files, packages })
    }

    /// The content of the text file at `path`, relative to the root.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path)?.text.as_deref()
    }

    /// Path and content of every text file whose path ends with `ending`.
    pub(crate) fn texts<'a>(&'a self, ending: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let named = self.files.iter().filter(move |file| file.path.ends_with(ending));
        named.filter_map(|file| Some((file.path.as_str(), file.text.as_deref()?)))
    }

    /// Whether `path` (relative to the root) is a file of the tree or a directory above one.
    pub(crate) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.files
            .iter()
            .any(|file| file.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }
}

fn listed_by_git(root: &Path) -> Option<Vec<String>> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"])
        .current_dir(root)
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let listed = String::from_utf8_lossy(&listed.stdout);
    let paths: Vec<String> = listed.split_terminator('\0').map(str::to_owned).collect();
    // A checkout of something else may surround an unpacked archive and track none of it.
    paths.iter().any(|path| path == "Cargo.toml").then_some(paths)
}

fn walked(root: &Path, packages: &[Package]) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    for (name, is_directory) in entries(root)? {
        if !is_directory {
            paths.push(name);
        }
    }
    let members =
        packages.iter().filter_map(|package| package.manifest_path.strip_prefix(root).ok()?.parent()?.to_str());
    let mut open: Vec<String> = members.chain(OTHER_DIRECTORIES.iter().copied()).map(str::to_owned).collect();
    while let Some(directory) = open.pop() {
        let full = root.join(&directory);
        if !full.is_dir() {
            continue;
        }
        for (name, is_directory) in entries(&full)? {
            if LEFTOVERS.contains(&name.as_str()) {
                continue;
            }
            let path = format!("{directory}/{name}");
            if is_directory { open.push(path) } else { paths.push(path) }
        }
    }
    paths.sort();
    // A member inside another of the directories is met twice.
    paths.dedup();
    Ok(paths)
}

/// The names in a directory and whether each is one itself. Names that are not UTF-8 are not ours.
fn entries(directory: &Path) -> Result<Vec<(String, bool)>> {
    let list = || -> std::io::Result<Vec<(String, bool)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                found.push((name, entry.file_type()?.is_dir()));
            }
        }
        Ok(found)
    };
    list().map_err(Error::file("list", directory))
}

#[cfg(test)]
impl Tree {
    /// A tree of the given texts and no members, for showing a rule what it must not accept.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let file = |(path, text): &(&str, &str)| File {
            path: (*path).to_owned(),
            bytes: text.len() as u64,
            text: Some((*text).to_owned()),
        };
        Self { files: files.iter().map(file).collect(), packages: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_and_a_plain_walk_see_this_file() {
        let root = workspace::root();
        let packages = workspace::packages().unwrap();
        let here = "xtask/src/tidy/tree.rs".to_owned();
        assert!(walked(root, &packages).unwrap().contains(&here));
        // Absent in an unpacked archive, where the walk is all there is.
        if let Some(listed) = listed_by_git(root) {
            assert!(listed.contains(&here));
        }
    }

    #[test]
    fn a_walk_enters_no_directory_of_leftovers_and_meets_nothing_twice() {
        let paths = walked(workspace::root(), &workspace::packages().unwrap()).unwrap();
        assert!(paths.iter().all(|path| !path.contains("__pycache__") && !path.starts_with("target/")));
        assert!(paths.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn a_tree_has_its_files_and_the_directories_above_them() {
        let tree = Tree::of(&[("docs/a.md", "")]);
        assert!(tree.has("docs/a.md") && tree.has("docs") && tree.has("docs/"));
        assert!(!tree.has("doc") && !tree.has("docs/a.md/b"));
    }
}
