//! What the prompts of an agent's steps have in common.

use super::policy::Request;

/// What prompts have in common.
#[derive(Debug, Default)]
pub(super) struct Prompts {
    number: usize,
    step: usize,
    first_of_last_task: Option<f64>,
    first: f64,
    /// Words of the last two prompts of this task.
    before: [f64; 2],
}

impl Prompts {
    pub(super) fn request(&self, text_tokens: f64, visual_tokens: f64, idle_s: Option<f64>) -> Request {
        Request { text_tokens, visual_tokens, step: self.step, number: self.number, idle_s }
    }

    /// Words at the beginning of this prompt that are computed already: in a task those before the last turn, whose picture
    /// was taken out, and at the beginning of a task the instructions.
    pub(super) fn known(&mut self, text_tokens: f64, turn_tokens: f64) -> f64 {
        let instructions = |first: f64| (first - turn_tokens).max(0.0);
        let known = match self.step {
            0 => self.first_of_last_task.map_or(0.0, |first| instructions(first.min(text_tokens))),
            1 => instructions(self.before[1]),
            _ => self.before[0],
        };
        if self.step == 0 {
            self.first = text_tokens;
        }
        self.before = [self.before[1], text_tokens];
        self.step += 1;
        self.number += 1;
        known.min(text_tokens)
    }

    pub(super) fn end_task(&mut self) {
        if self.step > 0 {
            self.first_of_last_task = Some(self.first);
        }
        self.step = 0;
    }
}
