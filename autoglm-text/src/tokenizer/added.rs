//! Added tokens: the markers beside the vocabulary, found in literal text and nowhere else.
//!
//! Hugging Face looks for them in the whole prompt. Here a prompt is literal stretches, written by a
//! template, and words, written by anybody; only a literal stretch is searched. What is cut out and
//! what remains is otherwise the same, so a prompt without typed markers has the same ids.

use std::collections::HashMap;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};
use autoglm_core::TokenId;

use super::file;
use crate::error::shorten;
use crate::{Error, Result};

/// Bytes of all contents together; the families with thousands of reserved tokens need 100 KB.
const MAX_CONTENT_BYTES: usize = 1 << 20;

/// The added tokens of one tokenizer.
#[derive(Debug)]
pub(super) struct AddedTokens {
    tokens: Vec<file::AddedToken>,
    by_content: HashMap<String, TokenId>,
    by_id: HashMap<TokenId, usize>,
    /// Hugging Face finds tokens without `normalized` first, the others in what they leave over.
    searches: [Search; 2],
}

/// A search for some of the tokens, leftmost first and longest first.
#[derive(Debug)]
struct Search {
    automaton: AhoCorasick,
    /// Token of each pattern.
    tokens: Vec<usize>,
}

/// A marker, or a range of the text between markers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stretch {
    Token(TokenId),
    Text(Range<usize>),
}

impl AddedTokens {
    /// # Errors
    /// [`Error::AddedToken`] for one whose flags or id cannot be honoured.
    pub(super) fn build(tokens: Vec<file::AddedToken>, vocab: &HashMap<String, u32>, normalizes: bool) -> Result<Self> {
        let bytes: usize = tokens.iter().map(|t| t.content.len()).sum();
        if bytes > MAX_CONTENT_BYTES {
            let what = "the list of added tokens";
            return Err(Error::TooLarge { what, bytes, limit: MAX_CONTENT_BYTES });
        }
        let mut by_content = HashMap::new();
        let mut by_id = HashMap::new();
        // Hugging Face numbers tokens itself: an entry of the vocabulary keeps its id, the rest count
        // on from the vocabulary's size, whatever the file says. A file that says otherwise was made
        // for embedding rows that transformers would not give it.
        let mut next = vocab.len() as u64..;
        for (n, token) in tokens.iter().enumerate() {
            let refuse = |why| Error::AddedToken { content: shorten(&token.content), why };
            let listed = vocab.get(&token.content).map(|id| u64::from(*id));
            let expected = listed.or_else(|| next.next());
            if token.content.is_empty() {
                return Err(refuse("is empty"));
            } else if Some(u64::from(token.id)) != expected {
                return Err(refuse("has another id than its place gives it"));
            } else if token.single_word {
                return Err(refuse("is recognised as a single word only, which is not supported"));
            } else if token.normalized && normalizes {
                return Err(refuse("is recognised after normalization, which is not supported"));
            } else if by_content.insert(token.content.clone(), TokenId(token.id)).is_some() {
                return Err(refuse("stands twice"));
            } else if by_id.insert(TokenId(token.id), n).is_some() {
                return Err(refuse("shares its id with another"));
            }
        }
        let searches = [Search::build(&tokens, false)?, Search::build(&tokens, true)?];
        Ok(Self { tokens, by_content, by_id, searches })
    }

    pub(super) fn tokens(&self) -> &[file::AddedToken] {
        &self.tokens
    }

    pub(super) fn id(&self, content: &str) -> Option<TokenId> {
        self.by_content.get(content).copied()
    }

    pub(super) fn content(&self, id: TokenId) -> Option<&str> {
        self.by_id.get(&id).map(|n| self.tokens[*n].content.as_str())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, TokenId)> {
        self.tokens.iter().map(|t| (t.content.as_str(), TokenId(t.id)))
    }

    /// Cuts `text` at the markers in its `literal` ranges, which are ascending and apart.
    pub(super) fn cut(&self, text: &str, literal: &[Range<usize>]) -> Vec<Stretch> {
        let whole = Stretch::Text(0..text.len());
        self.searches.iter().fold(vec![whole], |stretches, search| {
            let cut = |stretch| match stretch {
                Stretch::Text(range) => search.cut(text, range, literal, &self.tokens),
                token => vec![token],
            };
            stretches.into_iter().flat_map(cut).collect()
        })
    }
}

impl Search {
    fn build(tokens: &[file::AddedToken], normalized: bool) -> Result<Self> {
        let chosen: Vec<_> = (0..tokens.len()).filter(|n| tokens[*n].normalized == normalized).collect();
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(chosen.iter().map(|n| &tokens[*n].content))
            .map_err(|e| Error::Tokenize(e.into()))?;
        Ok(Self { automaton, tokens: chosen })
    }

    /// Cuts one range. White space that a token takes along (`lstrip`, `rstrip`) may be words'.
    fn cut(
        &self,
        text: &str,
        range: Range<usize>,
        literal: &[Range<usize>],
        tokens: &[file::AddedToken],
    ) -> Vec<Stretch> {
        let mut stretches = Vec::new();
        let mut end = range.start;
        let inside = literal.iter().map(|l| l.start.max(range.start)..l.end.min(range.end));
        for span in inside.filter(|span| span.start < span.end) {
            for found in self.automaton.find_iter(Input::new(text).span(span)) {
                let token = &tokens[self.tokens[found.pattern().as_usize()]];
                let (mut from, mut to) = (found.start(), found.end());
                if token.lstrip {
                    from = text[range.start..from].trim_end().len() + range.start;
                }
                if token.rstrip {
                    to = range.end - text[to..range.end].trim_start().len();
                }
                if end < from {
                    stretches.push(Stretch::Text(end..from));
                }
                stretches.push(Stretch::Token(TokenId(token.id)));
                end = end.max(to);
            }
        }
        if end < range.end {
            stretches.push(Stretch::Text(end..range.end));
        }
        stretches
    }
}
