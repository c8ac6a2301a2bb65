//! How long the model may think in one reply, and the tokens that end it.

use std::collections::VecDeque;

use autoglm_core::TokenId;
use autoglm_text::Tokenizer;

use crate::{Error, Result};

/// The markers around a thought and the one that opens the answer.
#[derive(Debug, Clone)]
pub(crate) struct Markers {
    open: TokenId,
    close: TokenId,
    /// A line break and `<answer>`.
    answer: Vec<TokenId>,
}

impl Markers {
    /// Those of a tokenizer, for a `purpose` that errors name.
    ///
    /// # Errors
    /// [`Error::MissingToken`] where it has none.
    pub(crate) fn of(tokenizer: &Tokenizer, purpose: &'static str) -> Result<Self> {
        let id = |token: &'static str| tokenizer.token_id(token).ok_or(Error::MissingToken { token, purpose });
        let (open, close) = (id("<think>")?, id("</think>")?);
        let mut answer = tokenizer.encode_text("\n")?;
        answer.push(id("<answer>")?);
        Ok(Self { open, close, answer })
    }

    /// A thought of nothing, and the beginning of the answer.
    pub(crate) fn empty_thought(&self) -> Vec<TokenId> {
        [self.open].into_iter().chain(self.end()).collect()
    }

    /// The end of a thought, and the beginning of the answer.
    fn end(&self) -> impl Iterator<Item = TokenId> + '_ {
        [self.close].into_iter().chain(self.answer.iter().copied())
    }
}

/// The thoughts of one reply, held against a limit.
#[derive(Debug)]
pub(crate) struct Thought {
    markers: Markers,
    /// Tokens that thoughts may have together.
    limit: usize,
    taken: usize,
    open: bool,
    /// What comes next instead of what the model would say.
    forced: VecDeque<TokenId>,
}

impl Thought {
    /// Thoughts of at most `limit` tokens in a reply to `prompt`, which may have opened one.
    pub(crate) fn new(markers: Markers, limit: usize, prompt: &[TokenId]) -> Self {
        let open = prompt.last() == Some(&markers.open);
        Self { markers, limit, taken: 0, open, forced: VecDeque::new() }
    }

    /// The token that comes next whatever the model would say, where there is one.
    pub(crate) fn forced(&mut self) -> Option<TokenId> {
        if self.open && self.taken >= self.limit && self.forced.is_empty() {
            self.forced.extend(self.markers.end());
        }
        self.forced.pop_front()
    }

    /// Takes notice of a token of the reply.
    pub(crate) fn push(&mut self, id: TokenId) {
        if id == self.markers.open {
            self.open = true;
        } else if id == self.markers.close {
            self.open = false;
        } else if self.open {
            self.taken += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: TokenId = TokenId(1);
    const CLOSE: TokenId = TokenId(2);

    fn thought(limit: usize, prompt: &[TokenId]) -> Thought {
        Thought::new(Markers { open: OPEN, close: CLOSE, answer: vec![TokenId(3), TokenId(4)] }, limit, prompt)
    }

    /// The first `count` tokens of a reply of a model that would say `said`, the tokens that were not its own negative.
    fn reply(mut thought: Thought, said: &[u32], count: usize) -> Vec<i64> {
        let mut said = said.iter();
        let mut all = Vec::new();
        while all.len() < count {
            let (id, sign) = match thought.forced() {
                Some(id) => (id, -1),
                None => (TokenId(*said.next().unwrap()), 1),
            };
            thought.push(id);
            all.push(sign * i64::from(id.0));
        }
        all
    }

    #[test]
    fn a_thought_that_goes_on_is_closed_behind_its_last_token() {
        assert_eq!(reply(thought(2, &[]), &[1, 10, 11, 12, 13], 8), [1, 10, 11, -2, -3, -4, 12, 13]);
    }

    #[test]
    fn a_thought_that_ends_in_time_is_left_alone() {
        assert_eq!(reply(thought(2, &[]), &[1, 10, 2, 3, 4, 12, 13], 7), [1, 10, 2, 3, 4, 12, 13]);
    }

    #[test]
    fn a_model_that_answers_at_once_is_not_interrupted() {
        assert_eq!(reply(thought(1, &[]), &[4, 12, 13, 14], 4), [4, 12, 13, 14]);
    }

    #[test]
    fn a_thought_that_the_prompt_opened_counts_from_the_first_token() {
        assert_eq!(reply(thought(1, &[TokenId(9), OPEN]), &[10, 12], 5), [10, -2, -3, -4, 12]);
    }

    #[test]
    fn a_second_thought_has_what_the_first_one_left() {
        assert_eq!(reply(thought(2, &[]), &[1, 10, 2, 1, 11, 12], 9), [1, 10, 2, 1, 11, -2, -3, -4, 12]);
        assert_eq!(reply(thought(1, &[]), &[1, 10, 1, 12], 9), [1, 10, -2, -3, -4, 1, -2, -3, -4]);
    }
}
