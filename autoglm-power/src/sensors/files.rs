//! The kernel's files for readers that go on without them.

use std::collections::BTreeSet;

use crate::{Error, Tree};

/// A [`Tree`] that answers with silence where it cannot answer, and remembers why: a reader is asked every few seconds, so
/// each file is complained of once and then no more.
#[derive(Debug)]
pub(super) struct Files {
    tree: Tree,
    told: BTreeSet<String>,
    untold: Vec<Error>,
}

/// Files that are complained of at most; a device with more broken files than this is known to be broken.
const COMPLAINTS: usize = 256;

impl Files {
    /// The files of a tree, none of which was complained of yet.
    pub(super) fn new(tree: Tree) -> Self {
        Self { tree, told: BTreeSet::new(), untold: Vec::new() }
    }

    /// What a file says; none where there is none, or none that can be read.
    pub(super) fn text(&mut self, path: &str) -> Option<String> {
        self.tree.text(path).unwrap_or_else(|error| self.tell(path, error))
    }

    /// The whole number that a file holds; none where there is none, or none that can be read.
    pub(super) fn number(&mut self, path: &str) -> Option<i64> {
        self.tree.number(path).unwrap_or_else(|error| self.tell(path, error))
    }

    /// Names in a directory that begin with `prefix`, at most `most`; none where it cannot be read.
    pub(super) fn names(&mut self, path: &str, prefix: &str, most: usize) -> Vec<String> {
        let names = match self.tree.names(path) {
            Ok(names) => names,
            Err(error) => self.tell(path, error).unwrap_or_default(),
        };
        names.into_iter().filter(|name| name.starts_with(prefix)).take(most).collect()
    }

    /// Whether there is such a file or directory, readable or not.
    pub(super) fn exists(&self, path: &str) -> bool {
        self.tree.path(path).exists()
    }

    /// Whether there is such a directory, and it can be listed.
    pub(super) fn lists(&self, path: &str) -> bool {
        self.tree.path(path).is_dir() && self.tree.names(path).is_ok()
    }

    /// Complains of what a file says.
    pub(super) fn complain(&mut self, path: &str, got: &dyn std::fmt::Display, why: &'static str) {
        let error = Error::Content { path: self.tree.path(path), got: got.to_string(), why };
        self.tell::<()>(path, error);
    }

    /// The complaints since the last call.
    pub(super) fn take_complaints(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.untold)
    }

    fn tell<T>(&mut self, path: &str, error: Error) -> Option<T> {
        if self.told.len() < COMPLAINTS && self.told.insert(path.to_owned()) {
            self.untold.push(error);
        }
        None
    }
}
