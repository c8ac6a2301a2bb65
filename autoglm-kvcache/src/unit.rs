//! Units as bytes, for digests and files.

use autoglm_core::{Keep, MediaDigest, Modality, TokenId, Unit};

/// Bytes of a medium, at most; a token takes [`TOKEN_BYTES`].
pub(crate) const MEDIA_BYTES: usize = 57;

const TOKEN_BYTES: usize = 5;

/// A token's first byte; a medium begins with [`Modality::number`], which is never 0.
const TOKEN: u8 = 0;

/// Beside the modality in a medium's first byte: some of its rows alone, and which ones follows. A whole medium is written as
/// it was before there were others, so its keys and snapshots stay valid.
const THINNED: u8 = 0x80;

/// Appends a unit.
pub(crate) fn write(unit: &Unit, to: &mut Vec<u8>) {
    match unit {
        Unit::Token(id) => {
            to.push(TOKEN);
            to.extend_from_slice(&id.0.to_le_bytes());
        }
        Unit::Media { digest, modality, tokens, extent, keep } => {
            let thinned = *keep != Keep::ALL;
            to.push(modality.number() | if thinned { THINNED } else { 0 });
            to.extend_from_slice(&(*tokens as u64).to_le_bytes());
            extent.iter().for_each(|side| to.extend_from_slice(&side.to_le_bytes()));
            to.extend_from_slice(&digest.0);
            if thinned {
                to.extend_from_slice(&keep.code().to_le_bytes());
            }
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
            let modality = Modality::numbered(kind & !THINNED)?;
            let (tokens, rest) = rest.split_first_chunk()?;
            let tokens = usize::try_from(u64::from_le_bytes(*tokens)).ok()?;
            let (sides, rest) = rest.split_first_chunk::<12>()?;
            let mut extent = [0; 3];
            for (side, bytes) in extent.iter_mut().zip(sides.as_chunks::<4>().0) {
                *side = u32::from_le_bytes(*bytes);
            }
            let (digest, mut after) = rest.split_first_chunk()?;
            let mut keep = Keep::ALL;
            if kind & THINNED != 0 {
                let (code, rest) = after.split_first_chunk()?;
                // The whole is written in one way alone.
                keep = Keep::coded(u32::from_le_bytes(*code)).filter(|keep| *keep != Keep::ALL)?;
                after = rest;
            }
            (Unit::Media { digest: MediaDigest(*digest), modality, tokens, extent, keep }, after)
        };
        units.push(unit);
        bytes = after;
    }
    Some(units)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of a medium of which no row was left out.
    const WHOLE_BYTES: usize = 53;

    fn picture(keep: Keep) -> Unit {
        let (digest, modality, extent) = (MediaDigest([7; 32]), Modality::Image, [1, 6, 12]);
        Unit::Media { digest, modality, tokens: keep.rows(72), extent, keep }
    }

    #[test]
    fn units_come_back_and_cut_ones_do_not() {
        let [thinned, whole] = [Keep::share(0.5).unwrap(), Keep::ALL].map(picture);
        let units = [Unit::Token(TokenId(151_363)), thinned, whole, Unit::Token(TokenId(0))];
        let mut bytes = Vec::new();
        units.iter().for_each(|unit| write(unit, &mut bytes));
        assert_eq!(bytes.len(), 2 * TOKEN_BYTES + MEDIA_BYTES + WHOLE_BYTES);
        assert_eq!(read_all(&bytes).unwrap(), units);
        let thinned = TOKEN_BYTES + MEDIA_BYTES;
        let whole = [0, TOKEN_BYTES, thinned, thinned + WHOLE_BYTES, bytes.len()];
        for len in 0..=bytes.len() {
            assert_eq!(read_all(&bytes[..len]).is_some(), whole.contains(&len), "{len}");
        }
        for kind in [200, THINNED, TOKEN | 1 << 6] {
            bytes[0] = kind;
            assert_eq!(read_all(&bytes), None, "{kind}");
        }
    }

    #[test]
    fn a_whole_picture_is_written_as_it_was_before_there_were_thinned_ones() {
        let mut bytes = Vec::new();
        write(&picture(Keep::ALL), &mut bytes);
        let mut before = vec![1, 72, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 6, 0, 0, 0, 12, 0, 0, 0];
        before.extend_from_slice(&[7; 32]);
        assert_eq!(bytes, before);
        // All rows said to be some of them, and more than all, are no other way to write it.
        for code in [Keep::ALL.code(), 0, Keep::ALL.code() + 1] {
            let mut other = before.clone();
            other[0] |= THINNED;
            other.extend_from_slice(&code.to_le_bytes());
            assert_eq!(read_all(&other), None, "{code}");
        }
    }
}
