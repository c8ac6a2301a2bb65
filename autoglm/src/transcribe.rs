//! Speech into text, for models that were trained to write down what they hear.

use crate::{Generate, Model, Part, Result};

/// What GLM-ASR is asked where nobody asks anything (`GlmAsrProcessor.default_transcription_prompt`).
const PROMPT: &str = "Please transcribe this audio into text";

/// Tokens after which a transcript ends in any case: more than the 655 seconds that a sound may have can hold.
const LONGEST: usize = 6_000;

impl Model {
    /// What to ask a model that writes down what it hears; nothing for one that does other things.
    #[must_use]
    pub fn transcription_prompt(&self) -> Option<&'static str> {
        let transcribes = self.decoder().config().family == autoglm_text::Family::GlmAsr;
        transcribes.then_some(PROMPT)
    }

    /// What is said in a sound, greedily decoded, without blanks around it.
    ///
    /// # Errors
    /// - [`crate::Error::ModalityOff`] when this build or this checkpoint cannot hear.
    /// - `Error::Audio` for a sound that is damaged or too long.
    /// - [`crate::Error::MissingFile`] when the checkpoint has no tokenizer.
    pub fn transcribe(&self, sound: Part) -> Result<String> {
        let mut session = self.session();
        session.push(sound)?;
        session.push(Part::text(PROMPT))?;
        let reply = session.reply(Generate::default().max_new_tokens(LONGEST))?;
        let pieces = reply.map(|piece| piece.map(|piece| piece.text));
        Ok(pieces.collect::<Result<String>>()?.trim().to_owned())
    }
}
