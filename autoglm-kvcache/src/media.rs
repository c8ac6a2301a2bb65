//! Rows that an encoder made of media, for when the same screen is shown again.

use std::sync::atomic::{AtomicU64, Ordering};

use autoglm_core::{Embeds, MediaDigest};

use crate::sync::{Mutex, lock};

/// What was seen, and by which tenant: that a picture is known would tell that it was shown.
type Seen = ([u8; 32], MediaDigest);

/// The last few media that were encoded, by digest. It belongs to one set of weights: a digest says what
/// the encoder saw, not which encoder it was.
#[derive(Debug)]
pub struct EmbedsCache {
    capacity: usize,
    /// The last used one last.
    kept: Mutex<Vec<(Seen, Embeds)>>,
    encoded: AtomicU64,
}

impl EmbedsCache {
    /// Room for `capacity` media, none of which is kept yet.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity, kept: Mutex::new(Vec::new()), encoded: AtomicU64::new(0) }
    }

    /// The rows of what has this digest, for the tenant of this salt: kept ones, or those that `encode` makes. An encoder takes long,
    /// so others may look things up meanwhile.
    ///
    /// # Errors
    /// Those of `encode`.
    pub fn get_or_encode<E>(
        &self,
        salt: [u8; 32],
        digest: MediaDigest,
        encode: impl FnOnce() -> std::result::Result<Embeds, E>,
    ) -> std::result::Result<Embeds, E> {
        let seen = (salt, digest);
        if let Some(known) = self.get(seen) {
            return Ok(known);
        }
        let made = encode()?;
        self.encoded.fetch_add(1, Ordering::Relaxed);
        let mut kept = lock(&self.kept);
        kept.retain(|(other, _)| *other != seen);
        kept.push((seen, made.clone()));
        let surplus = kept.len().saturating_sub(self.capacity);
        kept.drain(..surplus);
        Ok(made)
    }

    /// Media that had to be encoded so far.
    #[must_use]
    pub fn encoded(&self) -> u64 {
        self.encoded.load(Ordering::Relaxed)
    }

    fn get(&self, seen: Seen) -> Option<Embeds> {
        let mut kept = lock(&self.kept);
        let at = kept.iter().position(|(other, _)| *other == seen)?;
        let known = kept.remove(at);
        let embeds = known.1.clone();
        kept.push(known);
        Some(embeds)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use autoglm_core::{Modality, rows::from_rows};

    use super::*;

    #[test]
    fn the_last_used_ones_are_not_encoded_again() {
        shuttle::check_random(
            || {
                let cache = EmbedsCache::new(2);
                let encoded = |n: u8| {
                    let mut encoded = false;
                    let made = cache.get_or_encode([n % 2; 32], MediaDigest([n; 32]), || {
                        encoded = true;
                        let rows = from_rows(vec![f32::from(n); 4], &[1, 4]).expect("a tensor");
                        let embeds = Embeds::new(rows, vec![[0; 3]], [1, 1, 1], Modality::Image, MediaDigest([n; 32]));
                        Ok::<_, Infallible>(embeds.expect("one row"))
                    });
                    let Ok(made) = made;
                    assert_eq!(made.rows().to_vec2::<f32>().expect("rows"), [[f32::from(n); 4]]);
                    encoded
                };
                assert_eq!([1, 2, 1, 3, 1, 2, 3].map(encoded), [true, true, false, true, false, true, true]);
                let other = cache.get_or_encode([7; 32], MediaDigest([3; 32]), || Err("another tenant's is not known"));
                assert!(other.is_err());
                let none = EmbedsCache::new(0);
                let failed = none.get_or_encode([0; 32], MediaDigest([9; 32]), || Err("no encoder"));
                assert!(matches!(failed, Err("no encoder")));
            },
            1,
        );
    }
}
