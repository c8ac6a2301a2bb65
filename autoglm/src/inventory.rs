//! What a model is made of, for tools that bring its weights into another form.

use std::sync::Arc;

use autoglm_core::{Checkpoint, Files, Member, TensorSpec};
use autoglm_quant::Survey;
use autoglm_text::{Decoder, TextConfig};
use serde_json::Value;

use crate::ears::EarsConfig;
use crate::eyes::EyesConfig;
use crate::place::has_weight;
use crate::stored::Stored;
use crate::{Error, OpenOptions, Result};

/// A checkpoint of floats that was held against its model, and what the model will ask of it.
#[derive(Debug)]
pub struct Inventory {
    /// `config.json`.
    pub config: Value,
    /// The weights.
    pub checkpoint: Arc<Checkpoint>,
    /// Every tensor of the model.
    pub tensors: Vec<TensorSpec>,
    /// The linear maps, each as the members that share its input, in the order they are loaded.
    pub maps: Vec<Vec<Member>>,
}

impl Inventory {
    /// Takes stock of the model in `files`. No matrix is read.
    ///
    /// # Errors
    /// Those of [`crate::Model::open`], and [`Error::Quantised`] for weights that are no floats.
    pub fn of(files: &Files) -> Result<Self> {
        let options = OpenOptions::default();
        let config: Value = files
            .json("config.json")?
            .ok_or_else(|| Error::MissingFile { path: files.path("config.json"), purpose: "opening a model" })?;
        let Stored::Floats = Stored::read(&config, &options)? else {
            return Err(Error::Quantised);
        };
        let text = TextConfig::from_json(&config)?;
        let checkpoint = Arc::new(Checkpoint::open(files)?);
        checkpoint.bound_layers("num_hidden_layers", text.num_hidden_layers)?;
        let text = text.named_as(|name| has_weight(&checkpoint, name));
        let eyes = EyesConfig::read(files, &config, &checkpoint, &options)?;
        let ears = EarsConfig::read(files, &config, text.hidden_size, &checkpoint)?;
        let mut tensors = text.expected_tensors();
        tensors.extend(eyes.expected_tensors());
        tensors.extend(ears.expected_tensors());
        checkpoint.verify(&tensors, &[eyes.unread_prefixes(), ears.unread_prefixes()].concat(), false)?;
        let survey = Survey::new(Arc::clone(&checkpoint));
        Decoder::load(&survey, text)?;
        eyes.load(&survey)?;
        ears.load(&survey)?;
        Ok(Self { config, checkpoint, tensors, maps: survey.into_maps() })
    }
}
