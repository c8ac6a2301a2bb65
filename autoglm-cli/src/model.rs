//! The options that say which model to open and how.

use std::path::PathBuf;

use autoglm::{Keep, Model, OpenOptions, Precision};
use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};

use crate::error::Error;

/// A precision as an option's value: the names and their help.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named(pub(crate) Precision);

impl ValueEnum for Named {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: &[Named] = &{
            let mut all = [Named(Precision::F32); Precision::ALL.len()];
            let mut at = 0;
            while at < all.len() {
                all[at] = Named(Precision::ALL[at]);
                at += 1;
            }
            all
        };
        ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self.0 {
            Precision::F32 => "32-bit floats",
            Precision::Bf16 => "The upper half of 32-bit floats",
            Precision::F16 => "16-bit floats",
            #[cfg(feature = "quant")]
            Precision::Mixed => "16-bit floats and an 8-bit output layer",
            #[cfg(feature = "quant")]
            Precision::Int8 => "8-bit integers",
            #[cfg(feature = "quant")]
            Precision::Int4 => "4-bit integers; 8 bits for the output layer and for pictures",
            _ => return None,
        };
        Some(PossibleValue::new(self.0.name()).help(help))
    }
}

/// A format of keys and values as an option's value.
#[cfg(feature = "kvcache")]
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Kv {
    /// 32-bit floats
    F32,
    /// The upper half of 32-bit floats
    Bf16,
    /// 8-bit integers, but for the first 32 tokens
    Int8,
}

#[cfg(feature = "kvcache")]
impl Kv {
    pub(crate) fn format(self) -> autoglm::KvFormat {
        match self {
            Self::F32 => autoglm::KvFormat::F32,
            Self::Bf16 => autoglm::KvFormat::Bf16,
            Self::Int8 => autoglm::KvFormat::Int8,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How weights are stored [default: as the checkpoint has them]. Sums are 32-bit in any case
    #[arg(long)]
    precision: Option<Named>,
    /// Limit of a picture's size after resizing, frames (two, as published) · height · width [default: the checkpoint's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_pixels: Option<u64>,
    /// Share of a picture's rows that go into the prompt, above 0 and at most 1: a lattice and what differs from it [default:
    /// all]. Answers change
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    keep: Option<f64>,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Threads for generating, where fewer are enough [default: as --threads]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    decode_threads: Option<u16>,
    /// How keys and values are held [default: bf16 beside integer weights, f32 beside floats]
    #[cfg(feature = "kvcache")]
    #[arg(long, value_name = "FORMAT")]
    kv: Option<Kv>,
    /// Bytes that keys and values may take [default: those of one whole context]
    #[cfg(feature = "kvcache")]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    kv_budget: Option<u64>,
    /// Accept tensors that nothing reads, with a warning
    #[arg(long)]
    allow_extra: bool,
}

/// A share of a picture's rows as an option's value.
pub(crate) fn keep(share: Option<f64>) -> Result<Keep, autoglm::Error> {
    let refused = |source: autoglm::Error| autoglm::Error::Option { option: "keep", source: Box::new(source) };
    share.map_or(Ok(Keep::ALL), |share| Keep::share(share).map_err(|e| refused(e.into())))
}

impl Options {
    /// Opens the checkpoint in `dir`, or the tiny one that is built in, and says what was odd.
    pub(crate) fn open(&self, dir: Option<&PathBuf>) -> Result<Model, Error> {
        let options = OpenOptions::default()
            .precision(self.precision.map(|named| named.0))
            .max_pixels(self.max_pixels)
            .keep(keep(self.keep)?)
            .threads(self.threads.map(usize::from))
            .decode_threads(self.decode_threads.map(usize::from))
            .allow_extra(self.allow_extra);
        #[cfg(feature = "kvcache")]
        let options = options.kv_format(self.kv.map(Kv::format)).kv_budget(self.kv_budget);
        #[cfg(feature = "quant")]
        let options = options.progress(crate::quantising::bar());
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
