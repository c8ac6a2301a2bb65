//! Checkpoint files written by hand, so that they can be wrong.

// The allowance in clippy.toml covers test functions, not what they share.
#![allow(clippy::unwrap_used)]

use std::error::Error as _;
use std::fs;
use std::path::Path;

use autoglm_core::{Checkpoint, Error, Files};

/// A safetensors file of this header and that many bytes of numbers, 0, 1, 2, ….
pub(crate) fn file(header: impl AsRef<[u8]>, data: usize) -> Vec<u8> {
    let header = header.as_ref();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend((0..data).map(|i| i as u8));
    bytes
}

/// A header entry.
pub(crate) fn entry(name: &str, dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
}

/// A file of byte tensors of these sizes, in order.
pub(crate) fn bytes_named(tensors: &[(&str, usize)]) -> Vec<u8> {
    let mut at = 0;
    let entries: Vec<String> = tensors
        .iter()
        .map(|(name, size)| {
            at += size;
            entry(name, "U8", &format!("[{size}]"), &format!("[{},{at}]", at - size))
        })
        .collect();
    file(format!("{{{}}}", entries.join(",")), at)
}

/// A directory of these files.
pub(crate) fn directory(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, contents) in files {
        fs::write(directory.path().join(name), contents).unwrap();
    }
    directory
}

/// Opens the checkpoint in a directory.
pub(crate) fn open(directory: &Path) -> Result<Checkpoint, Error> {
    Checkpoint::open(&Files::directory(directory)?)
}

/// An error and its causes in one line, as the command line prints them.
pub(crate) fn chain(error: &Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line += &format!(": {error}");
        cause = error.source();
    }
    line
}
