//! What can be wrong with a snapshot.

/// What can be wrong with a snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The system would not give it.
    #[error("cannot be read")]
    Read(#[source] std::io::Error),
    /// The system would not take it.
    #[error("cannot be written")]
    Write(#[from] std::io::Error),
    /// It is something else.
    #[error("is no snapshot of keys and values")]
    Magic,
    /// It was written by another version.
    #[error("is of version {got}; this program knows version {known}")]
    Version {
        /// Its version.
        got: u32,
        /// The one there is code for.
        known: u32,
    },
    /// It is shorter or longer than it says.
    #[error("has {got} bytes and should have {expected}")]
    Size {
        /// What its header says.
        expected: u64,
        /// What it has.
        got: u64,
    },
    /// Its digest or its seal says that it was changed.
    #[error("is damaged")]
    Damaged,
    /// It was computed from something else.
    #[error("was computed with another {what}: {got} instead of {expected}")]
    Mismatch {
        /// What differs.
        what: &'static str,
        /// What it was computed with.
        got: String,
        /// What it should have been computed with.
        expected: String,
    },
    /// It needs a key.
    #[error("is sealed, and no key was given")]
    Sealed,
    /// A key was given for what anybody could have written.
    #[error("is not sealed, although a key was given")]
    NotSealed,
    /// The pool has no room for it.
    #[error("does not fit into the pool")]
    Room(#[source] autoglm_core::Error),
    /// The system has no random numbers for a nonce.
    #[error("cannot be sealed: the system gives no random numbers ({0})")]
    Random(String),
}
