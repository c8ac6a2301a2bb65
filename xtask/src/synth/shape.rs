//! The shapes a synthetic checkpoint can have: all of them are GLM-4.1V, only the widths differ.

/// Rows of the embedding table and of the head. The real vocabulary at every size: the largest
/// matrices of the small shapes, as they are of any model that speaks GLM's vocabulary.
const VOCAB: usize = 151_552;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Name {
    /// AutoGLM-Phone-9B itself: 40 layers of 4096, a tower of 24 blocks of 1536
    #[value(name = "glm-4.1v-9b")]
    Glm9b,
    /// The same architecture narrowed: 16 layers of 1536, a tower of 12 blocks of 768
    #[value(name = "glm-4.1v-0.9b")]
    Glm0_9b,
    /// The widths of models/autoglm-tiny: 4 layers of 128, a tower of 3 blocks of 128
    Tiny,
}

/// The decoder's dimensions, and the tower's.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) vocab: usize,
    pub(crate) layers: usize,
    pub(crate) hidden: usize,
    pub(crate) intermediate: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    /// How many of a head's rotated pairs turn with time, height and width; the sum is a quarter
    /// of the head's width.
    pub(crate) mrope_section: [usize; 3],
    pub(crate) vision: Vision,
}

#[derive(Debug, Clone)]
pub(crate) struct Vision {
    pub(crate) depth: usize,
    pub(crate) hidden: usize,
    pub(crate) heads: usize,
    /// Width of the merger's inner layer. A block's inner layer is as wide as the decoder.
    pub(crate) intermediate: usize,
    /// Side of the square of pixels that the learned position table covers.
    pub(crate) image_size: usize,
}

/// What no member of the family varies.
pub(crate) const CHANNELS: usize = 3;
pub(crate) const PATCH: usize = 14;
pub(crate) const TEMPORAL_PATCH: usize = 2;
pub(crate) const MERGE: usize = 2;

impl Shape {
    pub(crate) fn named(name: Name) -> Self {
        match name {
            Name::Glm9b => Self {
                vocab: VOCAB,
                layers: 40,
                hidden: 4096,
                intermediate: 13_696,
                heads: 32,
                kv_heads: 2,
                mrope_section: [8, 12, 12],
                vision: Vision { depth: 24, hidden: 1536, heads: 12, intermediate: 13_696, image_size: 336 },
            },
            Name::Glm0_9b => Self {
                vocab: VOCAB,
                layers: 16,
                hidden: 1536,
                // Like 13 696 a multiple of 128 but not of 256, so that block formats meet the
                // same ragged rows.
                intermediate: 4992,
                heads: 12,
                kv_heads: 2,
                mrope_section: [8, 12, 12],
                vision: Vision { depth: 12, hidden: 768, heads: 6, intermediate: 4992, image_size: 336 },
            },
            Name::Tiny => Self {
                vocab: VOCAB,
                layers: 4,
                hidden: 128,
                intermediate: 384,
                heads: 4,
                kv_heads: 2,
                mrope_section: [2, 3, 3],
                vision: Vision { depth: 3, hidden: 128, heads: 4, intermediate: 256, image_size: 168 },
            },
        }
    }

    pub(crate) fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shape_divides_into_heads_and_sections() {
        for name in Name::value_variants() {
            let shape = Shape::named(*name);
            assert_eq!(shape.head_dim() * shape.heads, shape.hidden);
            assert_eq!(shape.heads % shape.kv_heads, 0);
            // Half of a head is rotated, in pairs.
            assert_eq!(shape.mrope_section.iter().sum::<usize>() * 4, shape.head_dim());
            assert_eq!(shape.vision.hidden % (4 * shape.vision.heads), 0);
            assert_eq!(shape.vision.image_size % PATCH, 0);
        }
    }
}
