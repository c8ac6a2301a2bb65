//! What turns conversations into ids and ids into text.

use std::path::PathBuf;

use autoglm_core::Files;
use autoglm_text::{ChatTemplate, Family, Tokenizer};
use serde_json::Value;

use crate::{Error, Result};

/// What turns conversations into ids and ids into text. It stays while the weights are asleep: reading it takes longer than
/// mapping them, and it is small beside them.
#[derive(Debug)]
pub(crate) struct Chat {
    pub(crate) tokenizer: Tokenizer,
    pub(crate) template: ChatTemplate,
}

impl Chat {
    /// What the files say, or where the tokenizer would be.
    pub(crate) fn read(files: &Files, family: Family) -> Result<std::result::Result<Self, PathBuf>> {
        let Some(tokenizer) = files.read(TOKENIZER, TOKENIZER_BYTES)? else {
            return Ok(Err(files.path(TOKENIZER)));
        };
        let config: Option<Value> = files.json("tokenizer_config.json")?;
        let file = files.read(TEMPLATE, TEMPLATE_BYTES)?;
        let jinja = file.as_deref().map(std::str::from_utf8).transpose();
        let jinja = jinja.map_err(|source| Error::NotText { file: TEMPLATE, source })?;
        let tokenizer = Tokenizer::from_json(&tokenizer)?;
        Ok(Ok(Self { tokenizer, template: ChatTemplate::from_files(jinja, config.as_ref(), family)? }))
    }
}

pub(crate) const TOKENIZER: &str = "tokenizer.json";
const TEMPLATE: &str = "chat_template.jinja";

/// A tokenizer of 150 000 merges takes 20 MB.
const TOKENIZER_BYTES: usize = 128 << 20;

/// Chat templates take a few kilobytes.
const TEMPLATE_BYTES: usize = 1 << 20;
