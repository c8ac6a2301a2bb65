//! What a snapshot was computed from.

use serde::{Deserialize, Serialize};

use super::{Outcome, SnapshotError, UNITS_BYTES};
use crate::digest::hex;
use crate::shape::BLOCK_TOKENS;
use crate::{Identity, NUMERICS, Shape};

/// The header, as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    numerics: u32,
    weights: String,
    precision: String,
    config: String,
    layers: usize,
    kv_heads: usize,
    head_dim: usize,
    format: String,
    /// Depends on the salt, which it does not give away.
    root: String,
    rows: usize,
    units_bytes: u64,
    /// Sixteen bytes where the rest is sealed.
    nonce: Option<[u8; 16]>,
}

impl Header {
    pub(super) fn new(
        identity: &Identity,
        shape: &Shape,
        rows: usize,
        units_bytes: usize,
        nonce: Option<[u8; 16]>,
    ) -> Self {
        Self {
            numerics: NUMERICS,
            weights: hex(&identity.weights),
            precision: identity.precision.clone(),
            config: identity.config.clone(),
            layers: shape.layers(),
            kv_heads: shape.kv_heads(),
            head_dim: shape.head().dim,
            format: format!("{:?}", shape.head().format),
            root: hex(&identity.root(shape).0.0),
            rows,
            units_bytes: units_bytes as u64,
            nonce,
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_else(|_| unreachable!("numbers and strings are JSON"))
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Outcome<Self> {
        serde_json::from_slice(bytes).map_err(|_| SnapshotError::Damaged)
    }

    /// Whether everything is what it must be.
    pub(super) fn check(&self, identity: &Identity, shape: &Shape, limit: usize) -> Outcome<()> {
        let want = Self::new(identity, shape, self.rows, 0, None);
        let text = |n: &dyn ToString| n.to_string();
        // The root would tell whoever sees the message more than that it is another one.
        let (own, its) = if self.root == want.root { ("", "") } else { ("this one", "another one") };
        let fields: [(&'static str, String, String); 9] = [
            ("version of the kernels", text(&self.numerics), text(&want.numerics)),
            ("checkpoint", self.weights.clone(), want.weights),
            ("precision", self.precision.clone(), want.precision),
            ("configuration", self.config.clone(), want.config),
            ("number of layers", text(&self.layers), text(&want.layers)),
            ("number of key heads", text(&self.kv_heads), text(&want.kv_heads)),
            ("width of heads", text(&self.head_dim), text(&want.head_dim)),
            ("format of keys and values", self.format.clone(), want.format),
            ("tenant", its.to_owned(), own.to_owned()),
        ];
        if let Some((what, got, expected)) = fields.into_iter().find(|(_, got, expected)| got != expected) {
            return Err(SnapshotError::Mismatch { what, got, expected });
        }
        if self.rows == 0 || self.rows > limit || self.units_bytes > UNITS_BYTES {
            return Err(SnapshotError::Damaged);
        }
        Ok(())
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn nonce(&self) -> Option<&[u8; 16]> {
        self.nonce.as_ref()
    }

    pub(super) fn units_bytes(&self) -> u64 {
        self.units_bytes
    }

    pub(super) fn blocks(&self) -> usize {
        self.rows.div_ceil(BLOCK_TOKENS)
    }

    /// Rows of block `index`.
    pub(super) fn rows_of(&self, index: usize) -> usize {
        (self.rows - index * BLOCK_TOKENS).min(BLOCK_TOKENS)
    }

    /// Bytes between the header and the digest, where each chunk has a tag of `tag` bytes.
    pub(super) fn payload(&self, shape: &Shape, tag: u64) -> Option<u64> {
        let tags = tag.checked_mul(self.blocks() as u64 + 1)?;
        // Saturates where no file could be as large.
        self.units_bytes.checked_add(shape.bytes(self.rows))?.checked_add(tags)
    }
}
