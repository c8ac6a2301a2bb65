//! Encryption of snapshots.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};

use super::{Outcome, SnapshotError};

/// Bytes that a sealed chunk is longer.
pub(super) const TAG_BYTES: usize = 16;

/// A key that snapshots are sealed with: on a phone one from the system's key store.
#[derive(Clone)]
pub struct Seal {
    cipher: XChaCha20Poly1305,
}

impl std::fmt::Debug for Seal {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// Seals with this key.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self { cipher: XChaCha20Poly1305::new(key.into()) }
    }

    /// Seals with a random key that nobody else knows: for files that this process alone is to read.
    ///
    /// # Errors
    /// [`SnapshotError::Random`] when the system gives no random bytes.
    pub fn random() -> Result<Self, SnapshotError> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| SnapshotError::Random(error.to_string()))?;
        Ok(Self::new(&key))
    }

    /// Random bytes, new for each file.
    pub(super) fn nonce(&self) -> Outcome<[u8; 16]> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|error| SnapshotError::Random(error.to_string()))?;
        Ok(nonce)
    }

    /// Encrypts a chunk and appends its tag.
    pub(super) fn close(&self, nonce: &[u8; 16], index: u64, header: &[u8], bytes: &mut Vec<u8>) -> Outcome<()> {
        let tag = self.cipher.encrypt_inout_detached(&of_chunk(nonce, index), header, bytes.as_mut_slice().into());
        bytes.extend_from_slice(&tag.map_err(|_| SnapshotError::Damaged)?);
        Ok(())
    }

    /// Decrypts a chunk and takes its tag off.
    pub(super) fn open(&self, nonce: &[u8; 16], index: u64, header: &[u8], bytes: &mut Vec<u8>) -> Outcome<()> {
        let Some((text, tag)) = bytes.split_last_chunk_mut::<TAG_BYTES>() else {
            return Err(SnapshotError::Damaged);
        };
        let tag = Tag::from(*tag);
        let opened = self.cipher.decrypt_inout_detached(&of_chunk(nonce, index), header, text.into(), &tag);
        opened.map_err(|_| SnapshotError::Damaged)?;
        bytes.truncate(bytes.len() - TAG_BYTES);
        Ok(())
    }
}

/// Twenty-four bytes: no two chunks of any files share them.
fn of_chunk(nonce: &[u8; 16], index: u64) -> XNonce {
    let mut all = [0; 24];
    all[..16].copy_from_slice(nonce);
    all[16..].copy_from_slice(&index.to_le_bytes());
    all.into()
}
