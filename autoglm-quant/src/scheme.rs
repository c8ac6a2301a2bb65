//! Which linear map becomes what, decided by the name of its module.

/// What a linear map does in a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A layer of the text decoder.
    Decoder,
    /// The output layer. An embedding that is asked for as a map is a tied one.
    Head,
    /// Everything else: the towers and adapters that turn media into rows.
    Encoder,
}

impl Role {
    /// The role of a module path of a checkpoint.
    ///
    /// The decoder's layers are `….model.layers.N`, or `model.language_model.layers.N` beside a
    /// vision tower; a tower's own `layers` hang from the tower's name.
    #[must_use]
    pub fn of(module: &str) -> Self {
        if module.ends_with("lm_head") || module.ends_with("embed_tokens") {
            return Self::Head;
        }
        let above = module.split_once(".layers.").map(|(above, _)| above.rsplit('.').next().unwrap_or(above));
        match above {
            Some("model" | "language_model") => Self::Decoder,
            _ => Self::Encoder,
        }
    }
}

/// How many consecutive inputs share a factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// 32 inputs: 0.5 bit per weight.
    G32,
    /// 64 inputs: 0.25 bit per weight.
    G64,
    /// 128 inputs: 0.125 bit per weight.
    G128,
}

impl Group {
    /// Inputs in a group.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::G32 => 32,
            Self::G64 => 64,
            Self::G128 => 128,
        }
    }
}

/// How weights are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Codes −127..=127, with one step per output or per group.
    Eight {
        /// The group, if there is one.
        group: Option<Group>,
    },
    /// Codes −8..=7, with one step per group.
    Four {
        /// The group.
        group: Group,
    },
}

impl Packing {
    /// Bits per code.
    #[must_use]
    pub const fn bits(self) -> autoglm_kernels::layout::Bits {
        match self {
            Self::Eight { .. } => autoglm_kernels::layout::Bits::Eight,
            Self::Four { .. } => autoglm_kernels::layout::Bits::Four,
        }
    }

    /// Inputs that share a step; nothing where a whole output does.
    #[must_use]
    pub const fn group(self) -> Option<usize> {
        match self {
            Self::Four { group } | Self::Eight { group: Some(group) } => Some(group.size()),
            Self::Eight { group: None } => None,
        }
    }
}

/// What becomes of a linear map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// It stays in the file's floats. Weights of 32 bits become f16, which has three bits more than
    /// bf16 and a range that weights of trained models do not leave.
    Dense,
    /// Integers.
    Packed(Packing),
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 8] = [
        Self::Dense,
        Self::Packed(Packing::Eight { group: None }),
        Self::Packed(Packing::Eight { group: Some(Group::G32) }),
        Self::Packed(Packing::Eight { group: Some(Group::G64) }),
        Self::Packed(Packing::Eight { group: Some(Group::G128) }),
        Self::Packed(Packing::Four { group: Group::G32 }),
        Self::Packed(Packing::Four { group: Group::G64 }),
        Self::Packed(Packing::Four { group: Group::G128 }),
    ];

    /// The name in packed files and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Packed(Packing::Eight { group: None }) => "int8",
            Self::Packed(Packing::Eight { group: Some(Group::G32) }) => "int8-g32",
            Self::Packed(Packing::Eight { group: Some(Group::G64) }) => "int8-g64",
            Self::Packed(Packing::Eight { group: Some(Group::G128) }) => "int8-g128",
            Self::Packed(Packing::Four { group: Group::G32 }) => "int4-g32",
            Self::Packed(Packing::Four { group: Group::G64 }) => "int4-g64",
            Self::Packed(Packing::Four { group: Group::G128 }) => "int4-g128",
        }
    }

    /// The format of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// Which linear map becomes what. Embedding tables, norms and position tables are never quantised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheme {
    decoder: Format,
    encoder: Format,
    head: Format,
    rotated: bool,
}

/// One step for a whole row of the head costs more perplexity than all of the decoder's together
/// (ik_llama.cpp, pull request 208); groups of 128 cost an eighth of a bit.
const HEAD: Format = Format::Packed(Packing::Eight { group: Some(Group::G128) });

const EIGHT: Format = Format::Packed(Packing::Eight { group: None });

impl Scheme {
    /// A format for the decoder's layers, one for what encodes media, and one for the head; rotated.
    #[must_use]
    pub const fn new(decoder: Format, encoder: Format, head: Format) -> Self {
        Self { decoder, encoder, head, rotated: true }
    }

    /// The formats of the decoder's layers, of what encodes media, and of the head.
    #[must_use]
    pub const fn formats(&self) -> (Format, Format, Format) {
        (self.decoder, self.encoder, self.head)
    }

    /// 8 bits everywhere: one step per output, the head in groups of 128.
    #[must_use]
    pub const fn int8() -> Self {
        Self { decoder: EIGHT, encoder: EIGHT, head: HEAD, rotated: true }
    }

    /// 4 bits in groups of 64 for the decoder's layers, 8 bits for the head and for what encodes
    /// media: a picture is encoded once and read by every layer, and its tower is small.
    #[must_use]
    pub const fn int4() -> Self {
        Self { decoder: Format::Packed(Packing::Four { group: Group::G64 }), ..Self::int8() }
    }

    /// Floats of 16 bits, and an 8-bit head in groups of 128.
    #[must_use]
    pub const fn mixed() -> Self {
        Self { decoder: Format::Dense, encoder: Format::Dense, head: HEAD, rotated: true }
    }

    /// The same scheme with steps per group: of the 4-bit maps where there are some, or else of the
    /// 8-bit ones. The head keeps its groups, and floats have none.
    #[must_use]
    pub const fn with_group(mut self, group: Group) -> Self {
        match self.decoder {
            Format::Packed(Packing::Four { .. }) => self.decoder = Format::Packed(Packing::Four { group }),
            Format::Packed(Packing::Eight { .. }) => {
                self.decoder = Format::Packed(Packing::Eight { group: Some(group) });
                self.encoder = self.decoder;
            }
            Format::Dense => {}
        }
        self
    }

    /// The same scheme with the block Hadamard rotation on, as it is by default, or off.
    #[must_use]
    pub const fn with_rotation(mut self, rotated: bool) -> Self {
        self.rotated = rotated;
        self
    }

    /// Whether packed weights are rotated.
    #[must_use]
    pub const fn rotated(&self) -> bool {
        self.rotated
    }

    /// What becomes of the linear map of this module path.
    #[must_use]
    pub fn format(&self, module: &str) -> Format {
        match Role::of(module) {
            Role::Decoder => self.decoder,
            Role::Encoder => self.encoder,
            Role::Head => self.head,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_decide_roles() {
        for (module, role) in [
            ("lm_head", Role::Head),
            ("model.embed_tokens", Role::Head),
            ("model.language_model.embed_tokens", Role::Head),
            ("model.layers.0.self_attn.q_proj", Role::Decoder),
            ("model.language_model.layers.39.mlp.gate_up_proj", Role::Decoder),
            ("language_model.model.layers.3.mlp.down_proj", Role::Decoder),
            ("model.visual.blocks.3.attn.qkv", Role::Encoder),
            ("model.visual.patch_embed.proj", Role::Encoder),
            ("model.visual.downsample", Role::Encoder),
            ("model.visual.merger.down_proj", Role::Encoder),
            ("audio_tower.layers.1.fc1", Role::Encoder),
        ] {
            assert_eq!(Role::of(module), role, "{module}");
        }
    }

    #[test]
    fn schemes_keep_encoders_and_heads_at_eight_bits_or_more() {
        let (layer, block) = ("model.language_model.layers.1.mlp.down_proj", "model.visual.blocks.0.attn.proj");
        let four = Format::Packed(Packing::Four { group: Group::G64 });
        assert_eq!(Scheme::int8().format(layer), EIGHT);
        assert_eq!(Scheme::int4().format(layer), four);
        assert_eq!(Scheme::mixed().format(layer), Format::Dense);
        assert_eq!(Scheme::int8().format(block), EIGHT);
        assert_eq!(Scheme::int4().format(block), EIGHT);
        assert_eq!(Scheme::mixed().format(block), Format::Dense);
        for scheme in [Scheme::int8(), Scheme::int4(), Scheme::mixed()] {
            assert_eq!(scheme.format("lm_head"), HEAD);
            assert!(scheme.rotated() && !scheme.with_rotation(false).rotated());
        }
    }

    #[test]
    fn every_format_has_a_name_of_its_own() {
        for format in Format::ALL {
            assert_eq!(Format::named(format.name()), Some(format));
        }
        assert_eq!(Format::named("int3"), None);
    }

    #[test]
    fn a_group_is_for_the_narrowest_maps() {
        let of = |scheme: Scheme| (scheme.decoder, scheme.encoder, scheme.head);
        let eight = Format::Packed(Packing::Eight { group: Some(Group::G32) });
        assert_eq!(of(Scheme::int8().with_group(Group::G32)), (eight, eight, HEAD));
        let four = Format::Packed(Packing::Four { group: Group::G128 });
        assert_eq!(of(Scheme::int4().with_group(Group::G128)), (four, EIGHT, HEAD));
        assert_eq!(of(Scheme::mixed().with_group(Group::G32)), of(Scheme::mixed()));
    }
}
