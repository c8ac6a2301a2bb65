//! What happens to a text before the byte-pair model sees it: normalizers rewrite it, splitters cut
//! it into words.
//!
//! The components are those of the tokenizers library, but for the patterns: the library takes a
//! match that failed for the end of the text and hands on an uncut rest, so the patterns are run here
//! and a failure is an error. Components that depend on where a text lies in a longer one are
//! refused, because markers and words are encoded apart.

use fancy_regex::Regex;
use tokenizers::normalizers::{Lowercase, NFC, NFD, NFKC, NFKD, Prepend, Replace};
use tokenizers::pattern::{Invert, Pattern as Matcher};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::{
    Normalizer, NormalizerWrapper, Offsets, PreTokenizedString, PreTokenizer, PreTokenizerWrapper,
    SplitDelimiterBehavior,
};

use super::file::{Component, Leaf, Pattern};
use crate::error::{Reason, shorten};
use crate::{Error, Result};

/// The pattern a byte-level splitter has of its own, from GPT-2's `encoder.py`.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Normalizers and splitters, in the order they run.
#[derive(Debug)]
pub(super) struct Pipeline {
    normalizers: Vec<NormalizerWrapper>,
    splitters: Vec<Splitter>,
}

#[derive(Debug)]
enum Splitter {
    /// Puts a space before a text that has none.
    LeadingSpace,
    Regex {
        regex: Box<Regex>,
        behavior: SplitDelimiterBehavior,
        invert: bool,
    },
    Library(PreTokenizerWrapper),
}

impl Pipeline {
    /// # Errors
    /// - [`Error::Component`] for a component that is not run here.
    /// - [`Error::Pattern`] for a pattern that does not compile.
    pub(super) fn build(normalizer: Option<Component>, pre_tokenizer: Option<Component>) -> Result<Self> {
        let mut splitters = Vec::new();
        for leaf in pre_tokenizer.map(Component::into_leaves).unwrap_or_default() {
            splitter(&leaf, &mut splitters)?;
        }
        let leaves = normalizer.map(Component::into_leaves).unwrap_or_default();
        Ok(Self { normalizers: leaves.into_iter().map(self::normalizer).collect::<Result<_>>()?, splitters })
    }

    /// Whether texts are rewritten before they are split.
    pub(super) fn normalizes(&self) -> bool {
        !self.normalizers.is_empty()
    }

    /// Whether words reach the model in the byte alphabet.
    pub(super) fn is_byte_level(&self) -> bool {
        self.splitters.iter().any(|s| matches!(s, Splitter::Library(PreTokenizerWrapper::ByteLevel(_))))
    }

    /// Cuts a text into the words the model encodes one by one.
    ///
    /// # Errors
    /// [`Error::Split`] when a pattern cannot be matched to the end.
    pub(super) fn words(&self, text: &str) -> Result<PreTokenizedString> {
        let mut words = PreTokenizedString::from(text);
        for normalizer in &self.normalizers {
            words.normalize(|word| normalizer.normalize(word)).map_err(Error::Tokenize)?;
        }
        for splitter in &self.splitters {
            match splitter {
                Splitter::LeadingSpace => words.split(|_, mut word| {
                    if !word.get().starts_with(' ') {
                        word.prepend(" ");
                    }
                    Ok([word])
                }),
                Splitter::Regex { regex, behavior, invert } => words.split(|_, word| {
                    if *invert {
                        word.split(Invert(Matches(regex)), *behavior)
                    } else {
                        word.split(Matches(regex), *behavior)
                    }
                }),
                Splitter::Library(step) => step.pre_tokenize(&mut words),
            }
            .map_err(Error::Split)?;
        }
        Ok(words)
    }
}

fn normalizer(leaf: Leaf) -> Result<NormalizerWrapper> {
    Ok(match leaf.kind.as_str() {
        "NFC" => NFC.into(),
        "NFD" => NFD.into(),
        "NFKC" => NFKC.into(),
        "NFKD" => NFKD.into(),
        "Lowercase" => Lowercase.into(),
        "Prepend" => match leaf.prepend {
            Some(prepend) => Prepend::new(prepend).into(),
            None => return Err(refuse("normalizer", &leaf.kind, "has no `prepend`")),
        },
        "Replace" => replace("normalizer", &leaf)?.into(),
        _ => return Err(refuse("normalizer", &leaf.kind, "this kind is not supported")),
    })
}

/// A replacement of one string by another, in a normalizer or a decoder.
pub(super) fn replace(part: &'static str, leaf: &Leaf) -> Result<Replace> {
    match (&leaf.pattern, &leaf.content) {
        (Some(Pattern::String(from)), Some(to)) if !from.is_empty() => {
            Replace::new(from.as_str(), to.as_str()).map_err(Error::Pattern)
        }
        _ => Err(refuse(part, &leaf.kind, "replaces something else than one string by another")),
    }
}

fn splitter(leaf: &Leaf, splitters: &mut Vec<Splitter>) -> Result<()> {
    let invert = leaf.invert;
    match leaf.kind.as_str() {
        "Split" => {
            let regex = match &leaf.pattern {
                Some(Pattern::Regex(regex)) => compile(regex)?,
                Some(Pattern::String(string)) => compile(&fancy_regex::escape(string))?,
                None => return Err(refuse("pre_tokenizer", &leaf.kind, "has no pattern")),
            };
            let behavior = match leaf.behavior.as_deref() {
                Some("Removed") => SplitDelimiterBehavior::Removed,
                Some("Isolated") => SplitDelimiterBehavior::Isolated,
                Some("MergedWithPrevious") => SplitDelimiterBehavior::MergedWithPrevious,
                Some("MergedWithNext") => SplitDelimiterBehavior::MergedWithNext,
                Some("Contiguous") => SplitDelimiterBehavior::Contiguous,
                other => return Err(refuse("pre_tokenizer", other.unwrap_or("Split"), "this behavior is unknown")),
            };
            splitters.push(Splitter::Regex { regex, behavior, invert });
        }
        "ByteLevel" => {
            // The library's order: the space, its own pattern, the alphabet.
            if leaf.add_prefix_space.unwrap_or(true) {
                splitters.push(Splitter::LeadingSpace);
            }
            if leaf.use_regex.unwrap_or(true) {
                let behavior = SplitDelimiterBehavior::Isolated;
                splitters.push(Splitter::Regex { regex: compile(GPT2)?, behavior, invert: false });
            }
            splitters.push(Splitter::Library(ByteLevel::new(false, true, false).into()));
        }
        "Digits" => splitters.push(Splitter::Library(Digits::new(leaf.individual_digits).into())),
        "Metaspace" => splitters.push(Splitter::Library(metaspace("pre_tokenizer", leaf)?.into())),
        _ => return Err(refuse("pre_tokenizer", &leaf.kind, "this kind is not supported")),
    }
    Ok(())
}

/// Spaces as visible characters, in a pre-tokenizer or a decoder.
pub(super) fn metaspace(part: &'static str, leaf: &Leaf) -> Result<Metaspace> {
    let scheme = match (leaf.prepend_scheme.as_deref(), leaf.add_prefix_space) {
        (Some("never"), _) | (None, Some(false)) => PrependScheme::Never,
        (None | Some("always"), None | Some(true)) => PrependScheme::Always,
        (Some("first"), _) => {
            return Err(refuse(part, "first", "a space before the first word only is not supported"));
        }
        _ => return Err(refuse(part, &leaf.kind, "its prepend_scheme and add_prefix_space contradict each other")),
    };
    let replacement = leaf.replacement.ok_or_else(|| refuse(part, &leaf.kind, "has no replacement"))?;
    Ok(Metaspace::new(replacement, scheme, leaf.split.unwrap_or(true)))
}

fn compile(pattern: &str) -> Result<Box<Regex>> {
    Regex::new(pattern).map(Box::new).map_err(|e| Error::Pattern(e.into()))
}

pub(super) fn refuse(part: &'static str, got: &str, why: &'static str) -> Error {
    Error::Component { part, got: shorten(got), why }
}

/// Matches and the stretches between them, as the library wants them; unlike the library's own, an
/// error of the matcher comes through.
struct Matches<'a>(&'a Regex);

impl Matcher for Matches<'_> {
    fn find_matches(&self, inside: &str) -> std::result::Result<Vec<(Offsets, bool)>, Reason> {
        let mut stretches = Vec::new();
        let mut end = 0;
        for found in self.0.find_iter(inside) {
            let found = found?;
            if end != found.start() {
                stretches.push(((end, found.start()), false));
            }
            stretches.push(((found.start(), found.end()), true));
            end = found.end();
        }
        // An empty text is one empty stretch.
        if end != inside.len() || inside.is_empty() {
            stretches.push(((end, inside.len()), false));
        }
        Ok(stretches)
    }
}
