//! Checkpoints of real shapes with random weights, in the Hugging Face layout.
//!
//! Speed, memory and loading depend on shapes and not on what the weights say, so these stand in
//! for checkpoints of many gigabytes that nobody wants to download. Weights are streamed to disk
//! block by block, and the directory takes its final name only when it is complete.

mod config;
mod noise;
mod plan;
mod shards;
pub(crate) mod tokenizer;

use std::path::PathBuf;
use std::time::Instant;

use autoglm::{Architecture, Shape};

use crate::error::Result;
use crate::publish::{publish, write_file};
use shards::StoredAs;

/// The largest weight file, in bytes: where Hugging Face's own tools have cut for years.
const SHARD_BYTES: u64 = 5_000_000_000;

/// Write a checkpoint of a real shape with random weights.
///
/// The directory has the layout of a Hugging Face download: config.json in the transformers 5
/// format, safetensors (in shards with an index above 5 GB), what says how pictures or sounds are
/// prepared, a tokenizer that spells text byte by byte and keeps the real ids of GLM's special
/// tokens, and the chat template. Both transformers and this project load it; what it says is noise.
///
/// The same shape, dtype and seed give the same bytes, on any machine and with any number of
/// threads. Fewer layers change nothing in the layers that remain.
///
/// Weights are written as they are made, so memory stays small, but the disk must hold
/// glm-4.1v-9b: 20.6 GB in bf16, 3.8 GB with `--layers 2 --vision-layers 2`. A run that is
/// interrupted may leave a hidden directory beside DIR, never a DIR that is incomplete.
///
/// Use `cargo run --release -p xtask -- synth …` for large shapes: it is twice as fast.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// Whose shape to take
    #[arg(long, value_parser = shape_named)]
    shape: Shape,
    /// Decoder layers instead of the shape's own number
    #[arg(long, value_name = "N", value_parser = layer_count())]
    layers: Option<u16>,
    /// Blocks of the vision tower instead of the shape's own number; at least one, because the
    /// architecture has no checkpoint without a tower. GLM-ASR has none at all
    #[arg(long, value_name = "N", value_parser = layer_count())]
    vision_layers: Option<u16>,
    /// Layers of the audio tower instead of the shape's own number
    #[arg(long, value_name = "N", value_parser = layer_count())]
    audio_layers: Option<u16>,
    /// How weights are stored
    #[arg(long, value_enum, default_value = "bf16")]
    dtype: StoredAs,
    /// Another seed, other weights
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// The directory to write, which must not exist yet
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

fn shape_named(name: &str) -> std::result::Result<Shape, String> {
    Shape::named(name).ok_or_else(|| format!("the shapes are {}", Shape::NAMES.join(", ")))
}

/// No relative of the model comes near the upper end; it keeps a slip of the finger from filling
/// the disk.
fn layer_count() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..=256)
}

/// # Errors
/// - `--out` exists already or its parent does not.
/// - A file cannot be written, for example because the disk is full.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let shape = arguments.shape.clone();
    let mut shape =
        shape.layers(arguments.layers.map(usize::from)).audio_layers(arguments.audio_layers.map(usize::from));
    if shape.architecture == Architecture::Glm4v {
        shape = shape.vision_layers(arguments.vision_layers.map(usize::from));
    }

    let start = Instant::now();
    let mut written = shards::Written::default();
    publish(&arguments.out, |directory| {
        for (name, content) in texts(&shape, arguments.dtype) {
            write_file(&directory.join(name), content.as_bytes())?;
        }
        written = shards::write(directory, &plan::tensors(&shape), arguments.dtype, arguments.seed, SHARD_BYTES)?;
        Ok(())
    })?;
    println!(
        "{}: {} parameters, {:.2} GB in {} file(s), {:.1} s",
        arguments.out.display(),
        written.parameters,
        written.bytes as f64 / 1e9,
        written.files,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Everything but the weights: file names and contents.
fn texts(shape: &Shape, dtype: StoredAs) -> Vec<(&'static str, String)> {
    let mut texts = vec![
        ("config.json", config::model(shape, dtype)),
        ("generation_config.json", config::generation(shape)),
        ("tokenizer_config.json", config::tokenizer(shape)),
        ("tokenizer.json", tokenizer::json(config::special(shape))),
    ];
    if shape.vision.depth > 0 {
        texts.push(("preprocessor_config.json", config::preprocessor()));
    }
    if shape.audio.depth > 0 {
        texts.push(("processor_config.json", config::processor()));
    }
    // GLM-ASR's own template is not known; without a file its turns are laid out as its processor does.
    if shape.architecture == Architecture::Glm4v {
        texts.push(("chat_template.jinja", config::CHAT_TEMPLATE.to_owned()));
    }
    texts
}
