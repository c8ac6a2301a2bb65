//! A conversation as the decoder takes it, for tools that take a model apart.

use autoglm_core::{DecoderInput, TokenId, Unit, Want};

use crate::{Result, Session};

/// All rows of a conversation.
#[derive(Debug)]
pub struct Transcript {
    /// Rows (n, c) and their positions.
    pub input: DecoderInput,
    /// The token of each row; none for a row of a picture or a sound.
    pub tokens: Vec<Option<TokenId>>,
}

impl Session {
    /// What was said and answered so far, laid out as the model reads it.
    ///
    /// # Errors
    /// - [`crate::Error::NothingSaid`] when that is nothing.
    /// - [`crate::Error::MissingFile`] when the checkpoint has no tokenizer.
    pub fn transcript(&self) -> Result<Transcript> {
        let assembly = self.said()?;
        let awake = self.model.lease()?;
        let input = assembly.input(0..assembly.len(), awake.decoder.embed_tokens(), Want::All)?;
        let mut tokens = Vec::with_capacity(assembly.len());
        for unit in assembly.units() {
            match unit {
                Unit::Token(id) => tokens.push(Some(id)),
                Unit::Media { tokens: rows, .. } => tokens.resize(tokens.len() + rows, None),
            }
        }
        Ok(Transcript { input, tokens })
    }
}

#[cfg(test)]
mod tests {
    use crate::{Error, Generate, Model, Part, Thinking};

    #[test]
    fn a_transcript_has_every_row_of_the_prompt_and_of_the_answer() {
        let model = Model::open_embedded(autoglm_tiny::FILES, &Default::default()).unwrap();
        let mut session = model.session();
        assert!(matches!(session.transcript(), Err(Error::NothingSaid)));
        session.push(Part::text("打开相机")).unwrap();
        let before = session.transcript().unwrap();
        let how = Generate::default().thinking(Thinking::Skipped).max_new_tokens(5);
        let answered = session.reply(how).unwrap().map(Result::unwrap).count();
        let after = session.transcript().unwrap();
        assert!(answered > 0 && after.tokens.len() > before.tokens.len());
        assert_eq!(after.tokens[..before.tokens.len()], before.tokens);
        assert_eq!(after.input.len(), after.tokens.len());
        assert!(after.tokens.iter().all(Option::is_some));
    }
}
