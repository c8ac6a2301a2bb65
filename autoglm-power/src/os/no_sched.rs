//! Systems whose scheduler takes no wishes of this kind: every call says so.

use std::io::{Error, ErrorKind, Result};

const NOT_HERE: ErrorKind = ErrorKind::Unsupported;

pub(crate) fn own() -> i32 {
    0
}

pub(crate) fn affinity(_: i32) -> Result<Vec<usize>> {
    Err(Error::from(NOT_HERE))
}

pub(crate) fn pin(_: i32, _: &[usize]) -> Result<()> {
    Err(Error::from(NOT_HERE))
}

pub(crate) fn can_clamp() -> Result<()> {
    Err(Error::from(NOT_HERE))
}

pub(crate) fn clamp(_: i32) -> Result<u32> {
    Err(Error::from(NOT_HERE))
}

pub(crate) fn set_clamp(_: i32, _: Option<u32>) -> Result<()> {
    Err(Error::from(NOT_HERE))
}
