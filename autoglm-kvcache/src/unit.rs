//! Units as bytes, for digests and files.

use autoglm_core::{MediaDigest, Modality, TokenId, Unit};

/// Bytes of a medium; a token takes [`TOKEN_BYTES`].
pub(crate) const MEDIA_BYTES: usize = 53;

const TOKEN_BYTES: usize = 5;

/// A token's first byte; a medium begins with [`Modality::number`], which is never 0.
const TOKEN: u8 = 0;

/// Appends a unit.
pub(crate) fn write(unit: &Unit, to: &mut Vec<u8>) {
    match unit {
        Unit::Token(id) => {
            to.push(TOKEN);
            to.extend_from_slice(&id.0.to_le_bytes());
        }
        Unit::Media { digest, modality, tokens, extent } => {
            to.push(modality.number());
            to.extend_from_slice(&(*tokens as u64).to_le_bytes());
            extent.iter().for_each(|side| to.extend_from_slice(&side.to_le_bytes()));
            to.extend_from_slice(&digest.0);
        }
    }
}

/// All units of `bytes`; none where they are anything else.
pub(crate) fn read_all(mut bytes: &[u8]) -> Option<Vec<Unit>> {
    let mut units = Vec::with_capacity(bytes.len() / TOKEN_BYTES);
    while let Some((&kind, rest)) = bytes.split_first() {
        let (unit, after) = if kind == TOKEN {
            let (id, after) = rest.split_first_chunk()?;
            (Unit::Token(TokenId(u32::from_le_bytes(*id))), after)
        } else {
            let modality = Modality::numbered(kind)?;
            let (tokens, rest) = rest.split_first_chunk()?;
            let tokens = usize::try_from(u64::from_le_bytes(*tokens)).ok()?;
            let (sides, rest) = rest.split_first_chunk::<12>()?;
            let mut extent = [0; 3];
            for (side, bytes) in extent.iter_mut().zip(sides.as_chunks::<4>().0) {
                *side = u32::from_le_bytes(*bytes);
            }
            let (digest, after) = rest.split_first_chunk()?;
            (Unit::Media { digest: MediaDigest(*digest), modality, tokens, extent }, after)
        };
        units.push(unit);
        bytes = after;
    }
    Some(units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_come_back_and_cut_ones_do_not() {
        let media =
            Unit::Media { digest: MediaDigest([7; 32]), modality: Modality::Image, tokens: 72, extent: [1, 6, 12] };
        let units = [Unit::Token(TokenId(151_363)), media, Unit::Token(TokenId(0))];
        let mut bytes = Vec::new();
        units.iter().for_each(|unit| write(unit, &mut bytes));
        assert_eq!(bytes.len(), 2 * TOKEN_BYTES + MEDIA_BYTES);
        assert_eq!(read_all(&bytes).unwrap(), units);
        let whole = [0, TOKEN_BYTES, TOKEN_BYTES + MEDIA_BYTES, bytes.len()];
        for len in 0..=bytes.len() {
            assert_eq!(read_all(&bytes[..len]).is_some(), whole.contains(&len), "{len}");
        }
        bytes[0] = 200;
        assert_eq!(read_all(&bytes), None);
    }
}
