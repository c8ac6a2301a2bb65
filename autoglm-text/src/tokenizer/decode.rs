//! Ids back into text: by bytes where the vocabulary is one of bytes, else by the library's decoders.

use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::strip::Strip;
use tokenizers::{Decoder as _, DecoderWrapper};

use super::file::Component;
use super::pipeline::{metaspace, refuse, replace};
use crate::{Error, Result};

/// How pieces become text.
#[derive(Debug)]
pub(super) enum Decoder {
    /// Each piece stands for bytes, whatever is around it.
    Bytes,
    /// The library's decoders, over a whole reply. All of them map piece by piece, apart from what
    /// happens at the reply's start and in runs of `<0x0A>` pieces; [`crate::stream`] relies on it.
    Chain(Vec<DecoderWrapper>),
}

impl Decoder {
    /// # Errors
    /// [`Error::Component`] for a decoder that is not run here.
    pub(super) fn build(decoder: Option<Component>) -> Result<Self> {
        let Some(decoder) = decoder else {
            return Err(refuse("decoder", "null", "words would be joined by spaces"));
        };
        let leaves = decoder.into_leaves();
        if let [leaf] = leaves.as_slice()
            && leaf.kind == "ByteLevel"
        {
            return Ok(Self::Bytes);
        }
        let mut chain: Vec<DecoderWrapper> = Vec::new();
        for leaf in leaves {
            let fused = chain.iter().any(|d| matches!(d, DecoderWrapper::Fuse(_)));
            chain.push(match leaf.kind.as_str() {
                // To a space only: another replacement could make a byte piece out of an ordinary one.
                "Replace" if !fused && leaf.content.as_deref() == Some(" ") => replace("decoder", &leaf)?.into(),
                "ByteFallback" if !fused => ByteFallback::new().into(),
                "Metaspace" if !fused => metaspace("decoder", &leaf)?.into(),
                "Fuse" => Fuse::new().into(),
                "Strip" if fused => match leaf.content.as_deref().map(|c| (c.chars().next(), c.chars().nth(1))) {
                    // One character at most: what is stripped must come from the reply's first piece.
                    Some((Some(content), None)) if leaf.start <= 1 && leaf.stop == 0 => {
                        Strip::new(content, leaf.start, 0).into()
                    }
                    _ => return Err(refuse("decoder", &leaf.kind, "strips more than one leading character")),
                },
                _ => return Err(refuse("decoder", &leaf.kind, "this kind is not supported here")),
            });
        }
        Ok(Self::Chain(chain))
    }
}

/// The text of `pieces` by the library's decoders.
///
/// # Errors
/// [`Error::Tokenize`] when the library fails.
pub(super) fn chain(decoders: &[DecoderWrapper], pieces: Vec<String>) -> Result<String> {
    let decoded = decoders.iter().try_fold(pieces, |pieces, decoder| decoder.decode_chain(pieces));
    decoded.map(|pieces| pieces.concat()).map_err(Error::Tokenize)
}
