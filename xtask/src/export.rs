//! Checkpoints in other formats: quantised once and opened at once, or other floats.
//!
//! Weights are read, quantised and written matrix by matrix, so memory holds one packed matrix and a
//! row per thread; the directory takes its final name only when it is complete.

mod calibrated;
mod compressed_tensors;
mod gguf;
mod hf;
mod packed;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use autoglm::Inventory;
use autoglm_core::{Files, FloatType, Run, Workers};
use autoglm_kernels::Isa;
use autoglm_kernels::layout::Layout;
use autoglm_quant::{Manifest, Scheme};
use autoglm_text::TextConfig;

use crate::error::{Error, Result};
use crate::prune::heads;
use crate::publish::{may_publish, publish, write_file};
use calibrated::Calibrated;

/// Files beside the weights that go along as they are.
const COMPANIONS: &[&str] = &[
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
    "vocab.json",
    "vocab_map.json",
];

/// A tokenizer of 150 000 merges takes 20 MB.
const COMPANION_BYTES: usize = 128 << 20;

/// Write a copy of a checkpoint of floats in another format.
///
/// `hf` is a checkpoint like the one it came from, with other floats.
///
/// `packed` is this project's own: the file holds what the kernels of one family of processors read,
/// in their order, and is used where it lies in the mapped file. `autoglm run --model` opens it by
/// itself.
///
/// `compressed-tensors` is the convention of the Hugging Face package of that name, for other programs:
/// weights that are not rotated, so they lose more where some inputs are much larger than others.
///
/// `gguf` is for llama.cpp: `model-….gguf` and, where the checkpoint has eyes, `mmproj-….gguf`, with the tokenizer and
/// the chat template inside (docs/gguf.md).
///
/// Use `cargo run --release -p xtask -- export …` for large checkpoints: it is many times as fast.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// The checkpoint of floats
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The directory to write, which must not exist yet
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Who is to read it
    #[arg(long, value_enum)]
    format: Format,
    /// What the weights become: bf16, f16 or f32 with `hf`; these, q8_0 or q4_0 with `gguf`; mixed, int8 or int4 with the
    /// other formats
    #[arg(long, value_enum)]
    precision: Precision,
    /// For `packed`: the processors it is for [default: this machine's]
    #[arg(long, value_name = "LAYOUT", value_parser = layout_named)]
    layout: Option<Layout>,
    /// For int8 and int4: lines like those of `prune --calib`, which the model answers; what flows through its decoder
    /// meanwhile tells how the rounding of one weight is made up for by the next (GPTQ). It takes far longer than without
    #[arg(long, value_name = "FILE.jsonl")]
    calib: Option<PathBuf>,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Everyone: Hugging Face's own layout, in files of five gigabytes
    Hf,
    /// This project: the kernels' own order, opened at once
    Packed,
    /// vLLM and transformers, with the package of this name: `int8` as W8A8 with one step per output,
    /// `int4` as W4A16 in groups of 64; output layer, pictures and sounds stay floats
    CompressedTensors,
    /// llama.cpp
    Gguf,
}

/// What the weights become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Precision {
    /// 16-bit floats and an 8-bit output layer
    Mixed,
    /// 8-bit integers
    Int8,
    /// 4-bit integers; 8 bits for the output layer, pictures and sounds
    Int4,
    /// The upper half of an f32
    Bf16,
    /// Half-precision floats
    F16,
    /// 32-bit floats
    F32,
    /// llama.cpp's 8 bits, with a step per 32 weights
    #[value(name = "q8_0")]
    Q8_0,
    /// llama.cpp's 4 bits, with a step per 32 weights; 8 bits for the output layer and pictures
    #[value(name = "q4_0")]
    Q4_0,
}

impl Precision {
    fn name(self) -> &'static str {
        match self {
            Self::Mixed => "mixed",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::F32 => "f32",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }

    fn scheme(self) -> Result<Scheme> {
        match self {
            Self::Mixed => Ok(Scheme::mixed()),
            Self::Int8 => Ok(Scheme::int8()),
            Self::Int4 => Ok(Scheme::int4()),
            _ => Err(self.unknown_to("packed", "mixed, int8 and int4")),
        }
    }

    fn float(self) -> Result<FloatType> {
        match self {
            Self::Bf16 => Ok(FloatType::Bf16),
            Self::F16 => Ok(FloatType::F16),
            Self::F32 => Ok(FloatType::F32),
            _ => Err(self.unknown_to("hf", "bf16, f16 and f32")),
        }
    }

    fn unknown_to(self, format: &'static str, known: &'static str) -> Error {
        Error::Precision { format, precision: self.name(), known }
    }
}

impl Arguments {
    /// # Errors
    /// There is nothing that calibration could do.
    fn check_calibration(&self) -> Result<()> {
        let integers = matches!(self.precision, Precision::Int8 | Precision::Int4);
        if integers && matches!(self.format, Format::Packed | Format::CompressedTensors) {
            return Ok(());
        }
        Err(Error::Usage("--calib: for int8 and int4, packed or compressed-tensors".to_owned()))
    }
}

/// # Errors
/// The programs that the format is for would not read the checkpoint whatever its format.
fn check_standard(inventory: &Inventory) -> Result<()> {
    let text = TextConfig::from_json(&inventory.config)?;
    match heads::standard(&text, text.num_attention_heads, false) {
        true => Ok(()),
        false => Err(Error::Usage(
            "a glm4v with fewer heads is ours alone: other programs read it after `prune --drop vision`".to_owned(),
        )),
    }
}

fn layout_named(name: &str) -> std::result::Result<Layout, String> {
    Layout::named(name).ok_or_else(|| "the layouts are x86, dotprod and i8mm".to_owned())
}

/// # Errors
/// - The checkpoint is damaged, quantised already, or none of those that the format is for.
/// - `--out` exists already or its parent does not.
/// - A file cannot be written, for example because the disk is full.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let start = Instant::now();
    let files = Files::directory(&arguments.model)?;
    let inventory = Inventory::of(&files)?;
    let workers = Workers::new(threads(arguments.threads))?;
    let run = Run::new(&workers);
    let (mut written, mut notes) = (0, Vec::new());
    may_publish(&arguments.out)?;
    let packed = arguments.format == Format::Packed;
    match arguments.format {
        Format::CompressedTensors => {
            compressed_tensors::Kind::of(arguments.precision)?;
            check_standard(&inventory)?;
        }
        // Whoever opens it has to be ours.
        Format::Hf if check_standard(&inventory).is_err() => {
            eprintln!("transformers will not read the result: a glm4v with fewer heads is ours alone");
        }
        Format::Hf | Format::Packed | Format::Gguf => {}
    }
    let mut calibrated = match &arguments.calib {
        Some(path) => {
            arguments.check_calibration()?;
            let rotated = packed && arguments.precision.scheme()?.rotated();
            let threads = threads(arguments.threads);
            Some(Calibrated::new(&run, &arguments.model, &inventory, path, rotated, threads)?)
        }
        None => None,
    };
    let calibrated = &mut calibrated;
    publish(&arguments.out, |directory| {
        let config = match arguments.format {
            Format::Packed => {
                let layout = arguments.layout.unwrap_or_else(|| Layout::of(Isa::best()));
                let (precision, scheme) = (arguments.precision.name().to_owned(), arguments.precision.scheme()?);
                let manifest = Manifest { precision, scheme, layout };
                written = packed::write(&inventory, &manifest, &run, calibrated, &directory.join("model.safetensors"))?;
                manifest.written_into(inventory.config.clone())
            }
            Format::Hf => {
                let (config, bytes) = hf::write(&inventory, arguments.precision.float()?, directory)?;
                written = bytes;
                config
            }
            Format::Gguf => {
                let gguf = gguf::write(&inventory, &files, arguments.precision, directory)?;
                (written, notes) = (gguf.bytes, gguf.notes);
                // All that stands beside the weights is in the files.
                return Ok(());
            }
            Format::CompressedTensors => {
                let kind = compressed_tensors::Kind::of(arguments.precision)?;
                let (config, bytes) = compressed_tensors::write(
                    &inventory,
                    kind,
                    &run,
                    calibrated,
                    &directory.join("model.safetensors"),
                )?;
                written = bytes;
                config
            }
        };
        write_file(&directory.join("config.json"), format!("{config:#}\n").as_bytes())?;
        copy_companions(&files, directory, |_| true)
    })?;
    for note in notes {
        eprintln!("note: {note}");
    }
    println!(
        "{}: {:.2} GB of weights, {:.1} s",
        arguments.out.display(),
        written as f64 / 1e9,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Copies what stands beside the weights, where `wanted` says so.
///
/// # Errors
/// A file cannot be read or written.
pub(crate) fn copy_companions(files: &Files, directory: &Path, wanted: impl Fn(&str) -> bool) -> Result<()> {
    for name in COMPANIONS.iter().filter(|name| wanted(name)) {
        if let Some(content) = files.read(name, COMPANION_BYTES)? {
            write_file(&directory.join(name), &content)?;
        }
    }
    Ok(())
}

/// Worker threads: those that were asked for, or one per core.
pub(crate) fn threads(asked: Option<u16>) -> usize {
    asked.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
}

/// A line on standard error that says how far a long job is, where somebody looks at it.
#[derive(Debug)]
pub(crate) struct Progress {
    total: u64,
    done: u64,
    shown: bool,
}

impl Progress {
    /// Of a job of `total` steps of any size.
    pub(crate) fn new(total: u64) -> Self {
        Self { total, done: 0, shown: std::io::stderr().is_terminal() }
    }

    /// Says that `more` steps are done, and what comes next.
    pub(crate) fn step(&mut self, more: u64, next: &str) {
        self.done += more;
        if self.shown {
            // Whoever closed standard error does not want to know.
            let percent = 100.0 * self.done as f64 / self.total.max(1) as f64;
            let _ = write!(std::io::stderr(), "\r\x1b[K{percent:5.1} %  {next}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests;
