//! A phone agent's conversation replayed for its times: what the benchmark command runs.

use std::sync::Arc;
use std::time::Duration;

use autoglm_core::{KvCache, TokenId, Unit};
use autoglm_fusion::{Assembly, Placeholders};

use crate::awake::Lease;
use crate::past::{Cache, Past};
use crate::trial::{compute, token};
use crate::{Model, Part, Result};

/// Rows of the agent's system prompt: the Chinese one of AutoGLM has about as many.
const SYSTEM: usize = 1_800;

/// Rows of a turn, half the user's and half the answer's.
const TURN: usize = 200;

/// The salt of a tenant of whom nothing is known: what a prompt takes without a pool.
const NOBODY: [u8; 32] = [0xff; 32];

/// A conversation of made-up tokens that grows by a turn at each step, and of which the newest screenshot
/// alone is kept.
#[derive(Debug)]
pub struct AgentLoop {
    model: Model,
    /// From the first step on: the model stays awake between two.
    awake: Option<Arc<Lease>>,
    /// Tokens of the system prompt and of all turns so far.
    history: Vec<TokenId>,
    /// What the last step computed, and how many of its rows come again.
    last: Option<(Cache, usize)>,
    steps: usize,
}

/// What a step of the loop took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AgentStep {
    /// From 1.
    pub step: usize,
    /// Rows of the prompt.
    pub prompt_tokens: usize,
    /// Those that were computed before.
    pub reused_tokens: usize,
    /// From the encoded picture to the first token's logits.
    pub ttft_warm: Duration,
    /// The same where nothing was computed before.
    pub ttft_cold: Duration,
    /// The picture.
    pub vision: Duration,
    /// Bytes of keys and values after the step.
    pub kv_bytes: u64,
}

impl AgentLoop {
    pub(crate) fn new(model: &Model) -> Self {
        let history = (0..SYSTEM).map(token).collect();
        Self { model: model.clone(), awake: None, history, last: None, steps: 0 }
    }

    /// Takes a step: shows `picture`, and asks.
    ///
    /// # Errors
    /// - [`crate::Error::ModalityOff`] for a picture that this build or model cannot see.
    /// - [`crate::Error::Fusion`] when the conversation exceeds the context.
    /// - What the decoder reports, a full budget among it.
    pub fn step(&mut self, picture: Option<&Part>) -> Result<AgentStep> {
        self.steps += 1;
        let awake = match &self.awake {
            Some(awake) => awake.clone(),
            None => self.awake.insert(Arc::new(self.model.lease()?)).clone(),
        };
        let past = &awake.past;
        // The screenshot of the step before is taken out, and what followed it with it.
        if let Some((mut cache, keep)) = self.last.take() {
            Past::forget(&mut cache, keep)?;
        }
        let seen = picture.map(|picture| awake.see([0; 32], picture, self.model.keep(), self.history.len()));
        let seen = seen.transpose()?;
        let vision = seen.as_ref().map_or(Duration::ZERO, |(_, took)| *took);
        let mut assembly = Assembly::new(self.model.context());
        assembly.append(&self.history, &[], Placeholders::default())?;
        let keep = assembly.len();
        if let Some((embeds, _)) = seen {
            assembly.append(
                &self.model.placeholders().image.into_iter().collect::<Vec<_>>(),
                &[embeds],
                self.model.placeholders(),
            )?;
        }
        let start = self.history.len();
        self.history.extend((start..start + TURN).map(token));
        assembly.append(&self.history[start..start + TURN / 2], &[], Placeholders::default())?;

        let units: Vec<Unit> = assembly.units().collect();
        let rows = assembly.len();
        // What is known is held while the other prompt needs room.
        let (mut warm, reused) = past.open([0; 32], &units, rows - 1);
        let (mut cold, _) = past.open(NOBODY, &units, 0);
        let ttft_cold = compute(&awake, &assembly, 0..rows, &mut cold)?;
        drop(cold);
        let ttft_warm = compute(&awake, &assembly, reused..rows, &mut warm)?;
        past.commit(&mut warm, &units);
        let kv_bytes = warm.bytes();
        self.last = Some((warm, keep));
        let step = self.steps;
        Ok(AgentStep { step, prompt_tokens: rows, reused_tokens: reused, ttft_warm, ttft_cold, vision, kv_bytes })
    }
}
