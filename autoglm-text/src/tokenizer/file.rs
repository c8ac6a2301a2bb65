//! `tokenizer.json` as it lies on disk: the fields this crate understands, and nothing built yet.
//!
//! The file comes from strangers. Lists and maps are bounded while they are read, so that a file
//! within [`MAX_BYTES`] cannot blow up into gigabytes, and a repeated key is an error rather than a
//! silent choice between two values.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::{Error, Result};

/// The largest tokenizers of other families have some 35 MB, GLM's has 20.
pub(super) const MAX_BYTES: usize = 64 << 20;

/// Entries and merge rules; the largest published vocabularies have 262 144 and half a million.
const MAX_ENTRIES: usize = 1 << 20;

/// Components of one sequence; real files have up to five.
const MAX_COMPONENTS: usize = 64;

/// The whole file.
#[derive(Debug, Deserialize)]
pub(super) struct File {
    #[serde(default)]
    pub(super) added_tokens: Vec<AddedToken>,
    #[serde(default)]
    pub(super) normalizer: Option<Component>,
    #[serde(default)]
    pub(super) pre_tokenizer: Option<Component>,
    #[serde(default)]
    pub(super) decoder: Option<Component>,
    pub(super) model: Model,
}

impl File {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > MAX_BYTES {
            return Err(Error::TooLarge { what: "tokenizer.json", bytes: bytes.len(), limit: MAX_BYTES });
        }
        serde_json::from_slice(bytes).map_err(Error::TokenizerJson)
    }
}

/// A token beside the vocabulary, with the flags that say where it is recognised.
#[derive(Debug, Deserialize)]
pub(super) struct AddedToken {
    pub(super) id: u32,
    pub(super) content: String,
    pub(super) single_word: bool,
    pub(super) lstrip: bool,
    pub(super) rstrip: bool,
    pub(super) normalized: bool,
    pub(super) special: bool,
}

/// A normalizer, a pre-tokenizer or a decoder: its kind and the union of their fields.
///
/// `S` is the list of a sequence's components; inside of one it is [`Nested`].
#[derive(Debug, Deserialize)]
pub(super) struct Component<S: Default = Sequence> {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default, alias = "normalizers", alias = "pretokenizers", alias = "decoders")]
    pub(super) sequence: S,
    #[serde(default)]
    pub(super) pattern: Option<Pattern>,
    #[serde(default)]
    pub(super) behavior: Option<String>,
    #[serde(default)]
    pub(super) invert: bool,
    #[serde(default)]
    pub(super) individual_digits: bool,
    #[serde(default)]
    pub(super) add_prefix_space: Option<bool>,
    #[serde(default)]
    pub(super) use_regex: Option<bool>,
    #[serde(default)]
    pub(super) replacement: Option<char>,
    #[serde(default)]
    pub(super) prepend_scheme: Option<String>,
    #[serde(default)]
    pub(super) split: Option<bool>,
    #[serde(default)]
    pub(super) prepend: Option<String>,
    #[serde(default)]
    pub(super) content: Option<String>,
    #[serde(default)]
    pub(super) start: usize,
    #[serde(default)]
    pub(super) stop: usize,
}

/// A component that is no sequence.
pub(super) type Leaf = Component<Nested>;

/// The components of a sequence, at most [`MAX_COMPONENTS`].
#[derive(Debug, Default)]
pub(super) struct Sequence(pub(super) Vec<Leaf>);

impl<'de> Deserialize<'de> for Sequence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        bounded_list(deserializer, MAX_COMPONENTS).map(Self)
    }
}

/// The place of a sequence within a sequence. No real file has one; its contents are not kept.
#[derive(Debug, Default)]
pub(super) struct Nested;

impl<'de> Deserialize<'de> for Nested {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl Component {
    /// The components in the order they run: those of a sequence, or this one alone.
    pub(super) fn into_leaves(self) -> Vec<Leaf> {
        if self.kind == "Sequence" {
            return self.sequence.0;
        }
        let Self {
            sequence: _,
            kind,
            pattern,
            behavior,
            invert,
            individual_digits,
            add_prefix_space,
            use_regex,
            replacement,
            prepend_scheme,
            split,
            prepend,
            content,
            start,
            stop,
        } = self;
        vec![Leaf {
            sequence: Nested,
            kind,
            pattern,
            behavior,
            invert,
            individual_digits,
            add_prefix_space,
            use_regex,
            replacement,
            prepend_scheme,
            split,
            prepend,
            content,
            start,
            stop,
        }]
    }
}

/// What a split or a replacement looks for.
#[derive(Debug, Clone, Deserialize)]
pub(super) enum Pattern {
    String(String),
    Regex(String),
}

/// The byte-pair model.
#[derive(Debug, Deserialize)]
pub(super) struct Model {
    #[serde(rename = "type", default)]
    pub(super) kind: Option<String>,
    #[serde(default)]
    pub(super) dropout: Option<f32>,
    #[serde(default)]
    pub(super) unk_token: Option<String>,
    #[serde(default)]
    pub(super) continuing_subword_prefix: Option<String>,
    #[serde(default)]
    pub(super) end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub(super) fuse_unk: Option<bool>,
    #[serde(default)]
    pub(super) byte_fallback: Option<bool>,
    #[serde(default)]
    pub(super) ignore_merges: Option<bool>,
    #[serde(default)]
    pub(super) vocab: Vocabulary,
    #[serde(default)]
    pub(super) merges: Merges,
}

/// Pieces and their ids, each piece once, at most [`MAX_ENTRIES`].
///
/// Models of other kinds list their vocabulary differently; what is no map is passed over, so that
/// the model's kind can be refused by name instead.
#[derive(Debug, Default)]
pub(super) struct Vocabulary(pub(super) HashMap<String, u32>);

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = HashMap<String, u32>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from pieces to ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
                let mut entries = HashMap::new();
                while let Some((piece, id)) = map.next_entry::<String, u32>()? {
                    if entries.len() == MAX_ENTRIES {
                        return Err(de::Error::custom(format_args!("more than {MAX_ENTRIES} vocabulary entries")));
                    }
                    if let Some(first) = entries.insert(piece, id) {
                        return Err(de::Error::custom(format_args!(
                            "a vocabulary entry stands twice, with ids {first} and {id}"
                        )));
                    }
                }
                Ok(entries)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Self::Value, A::Error> {
                while seq.next_element::<de::IgnoredAny>()?.is_some() {}
                Ok(HashMap::new())
            }
        }
        deserializer.deserialize_any(Entries).map(Self)
    }
}

/// Pairs of pieces that are joined, the most urgent first.
#[derive(Debug, Default)]
pub(super) struct Merges(pub(super) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Merges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let rules: Vec<Rule> = bounded_list(deserializer, MAX_ENTRIES)?;
        Ok(Self(rules.into_iter().filter_map(|rule| rule.0).collect()))
    }
}

/// A pair, or both halves in one string with a space between them, as older files have it. None for
/// the `#version` line of a merges.txt that old converters carried over.
struct Rule(Option<(String, String)>);

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Pair;
        impl<'de> Visitor<'de> for Pair {
            type Value = Rule;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a pair of pieces, or both in one string with a space between them")
            }

            fn visit_str<E: de::Error>(self, line: &str) -> std::result::Result<Rule, E> {
                if line.starts_with("#version") {
                    return Ok(Rule(None));
                }
                match line.split_once(' ') {
                    Some((left, right)) if !right.contains(' ') => Ok(Rule(Some((left.to_owned(), right.to_owned())))),
                    _ => Err(E::invalid_value(de::Unexpected::Other("another string"), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Rule, A::Error> {
                let left = seq.next_element()?.ok_or_else(|| de::Error::invalid_length(0, &self))?;
                let right = seq.next_element()?.ok_or_else(|| de::Error::invalid_length(1, &self))?;
                match seq.next_element::<de::IgnoredAny>()? {
                    None => Ok(Rule(Some((left, right)))),
                    Some(_) => Err(de::Error::invalid_length(3, &self)),
                }
            }
        }
        deserializer.deserialize_any(Pair)
    }
}

fn bounded_list<'de, D, T>(deserializer: D, limit: usize) -> std::result::Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Items<T>(usize, std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {} items", self.0)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Self::Value, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = seq.next_element()? {
                if items.len() == self.0 {
                    return Err(de::Error::invalid_length(items.len() + 1, &self));
                }
                items.push(item);
            }
            Ok(items)
        }
    }
    deserializer.deserialize_seq(Items(limit, std::marker::PhantomData))
}
