//! Bytes of one tensor, which keep whatever holds them alive.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use memmap2::Mmap;

/// A cheap handle to a tensor's bytes: in a mapped file, in the program itself, or in memory.
///
/// Nothing is copied and nothing is promised about alignment.
#[derive(Clone)]
pub struct TensorBytes {
    backing: Backing,
    range: Range<usize>,
}

/// What holds a file's bytes.
#[derive(Clone)]
pub(crate) enum Backing {
    /// A file mapped read-only.
    Mapped(Arc<Mmap>),
    /// Bytes compiled into the program.
    Embedded(&'static [u8]),
    /// Bytes made at run time.
    Owned(Arc<Vec<u8>>),
}

impl Backing {
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Embedded(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl TensorBytes {
    /// Bytes `range` of `backing`, which has that many: ranges come from a checked header.
    pub(crate) fn new(backing: Backing, range: Range<usize>) -> Self {
        Self { backing, range }
    }
}

impl TensorBytes {
    /// What holds the bytes, and perhaps others around them.
    pub(crate) fn into_backing(self) -> Backing {
        self.backing
    }
}

impl Deref for TensorBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.backing.as_slice()[self.range.clone()]
    }
}

impl From<Vec<u8>> for TensorBytes {
    fn from(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self { backing: Backing::Owned(Arc::new(bytes)), range }
    }
}

impl fmt::Debug for TensorBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = match self.backing {
            Backing::Mapped(_) => "mapped",
            Backing::Embedded(_) => "embedded",
            Backing::Owned(_) => "owned",
        };
        write!(f, "{} {held} bytes", self.range.len())
    }
}
