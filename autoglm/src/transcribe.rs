//! Speech into text, for models that were trained to write down what they hear.

use serde_json::Value;

use crate::{Error, Finish, Generate, Model, Part, Result};

/// What GLM-ASR is asked where nobody asks anything, and its files say nothing else.
const PROMPT: &str = "Please transcribe this audio into text";

/// Tokens after which a transcript counts as one that does not end: GLM-ASR's whole context.
const LONGEST: usize = 8_192;

/// What `processor_config.json` has the model asked.
pub(crate) fn prompt(processor: Option<&Value>) -> String {
    let named = processor.and_then(|file| file.get("default_transcription_prompt")).and_then(Value::as_str);
    named.unwrap_or(PROMPT).to_owned()
}

impl Model {
    /// What is said in a sound, greedily decoded, without blanks around it; nothing for a sound of up to 60
    /// milliseconds, of which the decoder would see no row. What the model writes for silence is the model's affair.
    ///
    /// # Errors
    /// - [`Error::NoTranscripts`] for a model that does other things.
    /// - [`Error::ModalityOff`] for words and pictures.
    /// - [`Error::ModalityOff`] when this build or this checkpoint cannot hear.
    /// - `Error::Audio` for a sound that is damaged or too long.
    /// - [`Error::TranscriptCut`] when the context, or 8192 tokens, end before the transcript: ten minutes of sound
    ///   leave no room for what is said in them.
    /// - [`Error::MissingFile`] when the checkpoint has no tokenizer.
    pub fn transcribe(&self, sound: Part) -> Result<String> {
        let prompt = self.transcription_prompt().ok_or(Error::NoTranscripts)?;
        if !matches!(sound, Part::Audio(_) | Part::Samples { .. }) {
            return Err(Error::ModalityOff { modality: "words and pictures as sounds", why: "they cannot be heard" });
        }
        let mut session = self.session();
        session.push(sound)?;
        if session.media_rows() == 0 {
            return Ok(String::new());
        }
        session.push(Part::text(prompt))?;
        let mut reply = session.reply(Generate::default().max_new_tokens(LONGEST))?;
        let text = reply.by_ref().map(|piece| piece.map(|piece| piece.text)).collect::<Result<String>>()?;
        match reply.finish() {
            Some(Finish::EndToken) => Ok(text.trim().to_owned()),
            _ => Err(Error::TranscriptCut { tokens: reply.tokens().len() }),
        }
    }
}
