//! The options that say which model to open and how.

use std::path::PathBuf;

use autoglm::{FloatType, Model, OpenOptions};
use clap::{Args, ValueEnum};

use crate::error::Error;

/// How weights are stored.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Precision {
    /// 32-bit floats.
    F32,
    /// The upper half of 32-bit floats.
    Bf16,
    /// 16-bit floats.
    F16,
}

impl From<Precision> for FloatType {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
            Precision::F16 => Self::F16,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How weights are stored [default: as the checkpoint has them]. Sums are 32-bit in any case
    #[arg(long)]
    precision: Option<Precision>,
    /// Limit of a picture's size after resizing, 2 · height · width [default: the checkpoint's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_pixels: Option<u64>,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Accept tensors that nothing reads, with a warning
    #[arg(long)]
    allow_extra: bool,
}

impl Options {
    /// Opens the checkpoint in `dir`, or the tiny one that is built in, and says what was odd.
    pub(crate) fn open(&self, dir: Option<&PathBuf>) -> Result<Model, Error> {
        let options = OpenOptions::default()
            .precision(self.precision.map(FloatType::from))
            .max_pixels(self.max_pixels)
            .threads(self.threads.map(usize::from))
            .allow_extra(self.allow_extra);
        let model = match dir {
            Some(dir) => Model::open_with(dir, &options)?,
            None => Model::open_embedded(autoglm_tiny::FILES, &options)?,
        };
        if let Some(warning) = model.warning() {
            crate::tell(&format!("warning: {warning}"));
        }
        Ok(model)
    }
}
