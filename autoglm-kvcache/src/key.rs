//! What a computed prefix is valid for: the root of a chain of hashes over its units.
//!
//! ```text
//! k₀ = BLAKE3(key: salt)(numerics, weights, precision, configuration, shape of the keys and values)
//! kᵢ = BLAKE3(key: kᵢ₋₁)(unit i)
//! ```
//!
//! The salt separates tenants: without it, nobody can build a prefix that another one's lookup finds,
//! and a lookup under another salt begins at another root, so that not even its time tells what others
//! have asked. A key is 256 bits, and units are compared as well wherever keys are.

use autoglm_core::{KvFormat, Unit};

use crate::{Shape, unit};

/// Changed whenever the kernels begin to give other bits, so that no stored keys and values of before
/// are mixed with new ones.
pub const NUMERICS: u32 = 1;

/// A link of the chain.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key(pub(crate) [u8; 32]);

impl std::fmt::Debug for Key {
    /// The beginning, which tells keys apart and gives none away.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:02x}{:02x}{:02x}{:02x}…)", self.0[0], self.0[1], self.0[2], self.0[3])
    }
}

/// Everything besides the units that computed keys and values depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Keeps tenants apart.
    pub salt: [u8; 32],
    /// Which weights: a digest of them, or an id of the one time they were opened.
    pub weights: [u8; 32],
    /// The format of weights and activations, where it changes results.
    pub precision: String,
    /// The decoder's configuration, the rotary embedding's parameters among it.
    pub config: String,
}

/// Where the prefixes of one identity begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Root(pub(crate) Key);

impl Root {
    /// What stands for it in files: it tells nothing of what it was made of.
    #[must_use]
    pub fn bytes(&self) -> [u8; 32] {
        self.0.0
    }
}

impl Identity {
    /// The root for keys and values of a shape.
    #[must_use]
    pub fn root(&self, shape: &Shape) -> Root {
        let mut hasher = blake3::Hasher::new_keyed(&self.salt);
        hasher.update(&NUMERICS.to_le_bytes());
        hasher.update(&self.weights);
        for text in [&self.precision, &self.config] {
            // The length keeps the end of one text from becoming the beginning of the next.
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        for size in [shape.layers(), shape.kv_heads(), shape.head().dim] {
            hasher.update(&(size as u64).to_le_bytes());
        }
        hasher.update(&[match shape.head().format {
            KvFormat::F32 => 0,
            KvFormat::Bf16 => 1,
            KvFormat::Int8 => 2,
        }]);
        Root(Key(*hasher.finalize().as_bytes()))
    }
}

impl Key {
    /// The link after `unit`.
    pub(crate) fn then(&self, unit: &Unit) -> Self {
        let mut bytes = Vec::with_capacity(unit::MEDIA_BYTES);
        unit::write(unit, &mut bytes);
        Self(*blake3::keyed_hash(&self.0, &bytes).as_bytes())
    }

    /// The links after each of `units`.
    pub(crate) fn chain(self, units: &[Unit]) -> Vec<Self> {
        let mut key = self;
        units
            .iter()
            .map(|unit| {
                key = key.then(unit);
                key
            })
            .collect()
    }
}
