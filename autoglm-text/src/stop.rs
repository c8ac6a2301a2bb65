//! Where a reply ends: the checkpoint's stop ids, and strings that a caller asked for.

use autoglm_core::TokenId;
use serde_json::Value;

use crate::error::shorten;
use crate::{Error, Result};

/// The ids that end a reply, in the files' order.
///
/// As in transformers, `eos_token_id` of `generation_config.json` wins over the one of `config.json`,
/// where a nested `text_config` wins over the top level. Each is an id or a list of them. The list is
/// empty when no file names one; such a reply ends only at its length limit.
///
/// # Errors
/// [`Error::StopId`] for a value that is no token id and no list of them.
pub fn stop_ids(generation_config: Option<&Value>, config: &Value) -> Result<Vec<TokenId>> {
    let text_config = config.get("text_config");
    let places =
        [("generation_config.json", generation_config), ("config.json", text_config), ("config.json", Some(config))];
    let named = places.into_iter().find_map(|(file, fields)| {
        let value = fields?.get("eos_token_id").filter(|v| !v.is_null())?;
        Some((file, value))
    });
    let Some((file, value)) = named else { return Ok(Vec::new()) };
    let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let mut ids = Vec::new();
    for id in values {
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok()).map(TokenId);
        let id = id.ok_or_else(|| Error::StopId { file, got: shorten(&value.to_string()) })?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// Ends a stream of text at the first of several strings, which is itself not printed.
///
/// Text that may be the beginning of a stop string is held back until it is known. The first string to
/// be complete ends the text; if several are complete at once, the one that began first. How the text
/// was cut into pieces makes no difference.
///
/// ```
/// # fn main() -> autoglm_text::Result<()> {
/// let mut stop = autoglm_text::StopStrings::new(vec!["</answer>".into()])?;
/// assert_eq!(stop.push("Tap</an"), "Tap");
/// assert_eq!(stop.push("swer> and more"), "");
/// assert!(stop.is_stopped());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct StopStrings {
    strings: Vec<String>,
    held: String,
    stopped: bool,
}

impl StopStrings {
    /// Most strings of one request; the OpenAI interface allows four.
    pub const MAX_STRINGS: usize = 16;

    /// Longest string, in bytes.
    pub const MAX_BYTES: usize = 256;

    /// # Errors
    /// [`Error::StopString`] for more than [`StopStrings::MAX_STRINGS`], an empty one, or one longer than
    /// [`StopStrings::MAX_BYTES`].
    pub fn new(strings: Vec<String>) -> Result<Self> {
        for (index, string) in strings.iter().enumerate() {
            let why = match string.len() {
                _ if index == Self::MAX_STRINGS => "there are more than 16",
                0 => "is empty",
                bytes if bytes > Self::MAX_BYTES => "is longer than 256 bytes",
                _ => continue,
            };
            return Err(Error::StopString { index, why });
        }
        Ok(Self { strings, held: String::new(), stopped: false })
    }

    /// Takes the next piece; returns the text that is safe to print.
    pub fn push(&mut self, piece: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(piece);
        let found = self.strings.iter().filter_map(|s| self.held.find(s).map(|start| (start + s.len(), start)));
        let safe = match found.min() {
            Some((_, start)) => {
                self.stopped = true;
                start
            }
            None => self.undecided(),
        };
        let rest = self.held.split_off(safe);
        let safe = std::mem::replace(&mut self.held, rest);
        if self.stopped {
            self.held.clear();
        }
        safe
    }

    /// Whether a stop string came; nothing is printed after it.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Ends the text; returns what was held back.
    #[must_use]
    pub fn finish(self) -> String {
        self.held
    }

    /// Start of the longest tail that may grow into a stop string.
    fn undecided(&self) -> usize {
        let longest = self.strings.iter().map(String::len).max().unwrap_or(0);
        let from = self.held.floor_char_boundary(self.held.len().saturating_sub(longest));
        let tails = self.held[from..].char_indices().map(|(at, _)| from + at);
        let mut open = tails.filter(|at| self.strings.iter().any(|s| s.starts_with(&self.held[*at..])));
        open.next().unwrap_or(self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn ids(list: &[u32]) -> Vec<TokenId> {
        list.iter().copied().map(TokenId).collect()
    }

    #[test]
    fn the_generation_config_wins_and_the_text_config_comes_next() {
        let config = json!({"eos_token_id": 1, "text_config": {"eos_token_id": [2, 3, 2]}});
        let generation = json!({"eos_token_id": [4, 5]});
        assert_eq!(stop_ids(Some(&generation), &config).unwrap(), ids(&[4, 5]));
        assert_eq!(stop_ids(None, &config).unwrap(), ids(&[2, 3]));
        assert_eq!(stop_ids(Some(&json!({"eos_token_id": null})), &json!({"eos_token_id": 0})).unwrap(), ids(&[0]));
        assert_eq!(stop_ids(None, &json!({})).unwrap(), ids(&[]));
    }

    #[test]
    fn what_is_no_token_id_is_refused_with_its_file() {
        for value in [json!(-1), json!(1.5), json!("7"), json!(true), json!([1, null]), json!(1_u64 << 32), json!({})] {
            let error = stop_ids(None, &json!({"text_config": {"eos_token_id": value}})).unwrap_err();
            assert!(matches!(&error, Error::StopId { file: "config.json", .. }), "{value}: {error}");
        }
        let long = json!({"eos_token_id": "x".repeat(1 << 20)});
        assert!(stop_ids(Some(&long), &json!({})).unwrap_err().to_string().len() < 400);
    }

    #[test]
    fn stop_strings_outside_their_limits_are_refused_by_place() {
        assert!(StopStrings::new(vec!["x".repeat(256); 16]).is_ok());
        for (strings, at) in
            [(vec!["a".into(); 17], 16), (vec!["a".into(), String::new()], 1), (vec!["x".repeat(257)], 0)]
        {
            assert!(matches!(StopStrings::new(strings), Err(Error::StopString { index, .. }) if index == at));
        }
    }

    #[test]
    fn a_beginning_that_comes_to_nothing_is_printed() {
        let mut stop = StopStrings::new(vec!["abac".into()]).unwrap();
        assert_eq!((stop.push("xab"), stop.push("ab"), stop.push("d")), ("x".into(), "ab".into(), "abd".into()));
        assert_eq!(stop.push("ab") + &stop.finish(), "ab");
    }

    #[test]
    fn the_string_that_is_complete_first_ends_the_text() {
        let mut stop = StopStrings::new(vec!["abcd".into(), "bc".into(), "c".into()]).unwrap();
        assert_eq!(stop.push("abcd"), "a");
        assert_eq!((stop.push("more"), stop.is_stopped(), stop.finish()), (String::new(), true, String::new()));
    }

    /// Grows the text character by character and looks for a stop string at its end.
    fn reference(text: &str, strings: &[String]) -> (String, bool) {
        for (at, c) in text.char_indices() {
            let grown = &text[..at + c.len_utf8()];
            if let Some(longest) = strings.iter().filter(|s| grown.ends_with(*s)).map(String::len).max() {
                return (grown[..grown.len() - longest].to_owned(), true);
            }
        }
        (text.to_owned(), false)
    }

    proptest! {
        #[test]
        fn cutting_the_text_into_pieces_makes_no_difference(
            pieces in prop::collection::vec("[ab好]{0,4}", 0..8),
            strings in prop::collection::vec("[ab好]{1,4}", 0..4),
        ) {
            let expected = reference(&pieces.concat(), &strings);
            let mut stop = StopStrings::new(strings).unwrap();
            let mut text: String = pieces.iter().map(|piece| stop.push(piece)).collect();
            let stopped = stop.is_stopped();
            text += &stop.finish();
            prop_assert_eq!((text, stopped), expected);
        }
    }
}
