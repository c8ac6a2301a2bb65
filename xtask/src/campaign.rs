//! The long forms of tests: the same code with many more cases, run by hand and not by `cargo test`.

mod parity;
mod taps;

use crate::error::Result;
use crate::{process, workspace};

/// Run the long form of a test and print what it measures.
///
/// `cargo test` runs the same code with at most a twentieth of the cases. Use
/// `cargo run --release -p xtask -- campaign …` where the time is part of the answer.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which one
    #[arg(value_enum, value_name = "NAME")]
    name: Name,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Name {
    /// A million damaged checkpoint files: each is refused, or read as the safetensors crate reads it
    Mutations,
    /// Every golden case: how far the logits are from those of transformers
    Parity,
    /// 100 screens that the tiny checkpoint never saw: taps inside the named icon, with thinking and without
    Taps,
}

/// # Errors
/// The campaign cannot be run, or what it holds does not hold.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    match arguments.name {
        Name::Mutations => mutations(),
        Name::Parity => parity::run(workspace::root()),
        Name::Taps => taps::run(workspace::root()),
    }
}

/// The crate's own example, because the damage is its tests' business. In the development profile,
/// which traps integers that overflow.
fn mutations() -> Result<()> {
    let words = "run --package autoglm-core --example mutate_checkpoints -- 1000000";
    process::run(process::cargo().args(words.split(' ')))
}
