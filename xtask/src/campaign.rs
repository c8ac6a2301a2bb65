//! The long forms of tests: the same code with many more cases, run by hand and not by `cargo test`.

mod listen;
mod parity;
mod power;
mod taps;
mod tiers;
mod widths;

use crate::error::Result;
use crate::{process, workspace};

/// Run the long form of a test and print what it measures.
///
/// `cargo test` runs the same code with at most a twentieth of the cases. Use
/// `cargo run --release -p xtask -- campaign …` where the time is part of the answer.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    campaign: Campaign,
}

#[derive(Debug, clap::Subcommand)]
enum Campaign {
    /// Two hundred kills of a process that saves keys and values: a whole snapshot is left each time
    Kills,
    /// Four hundred kills of a process that changes clocks and fans: all of them are put back by the next start
    Knobs,
    /// A million damaged checkpoint files: each is refused, or read as the safetensors crate reads it
    Mutations,
    Listen(listen::Arguments),
    /// A hundred thousand damaged sound files: each is refused, or read within the limits
    Sounds,
    /// Every golden case: how far the logits are from those of transformers; fails beyond the bounds of the tests
    Parity,
    Power(power::Arguments),
    Taps(taps::Arguments),
    Tiers(tiers::Arguments),
    Widths(widths::Arguments),
}

/// # Errors
/// The campaign cannot be run, or what it holds does not hold.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.campaign {
        Campaign::Kills => kills(),
        Campaign::Knobs => knobs(),
        Campaign::Listen(arguments) => listen::run(workspace::root(), arguments),
        Campaign::Mutations => mutations("autoglm-core", "mutate_checkpoints", 1_000_000),
        Campaign::Sounds => mutations("autoglm-audio", "mutate_sounds", 100_000),
        Campaign::Parity => parity::run(workspace::root()),
        Campaign::Power(arguments) => power::run(arguments),
        Campaign::Taps(arguments) => taps::run(workspace::root(), arguments),
        Campaign::Tiers(arguments) => tiers::run(workspace::root(), arguments),
        Campaign::Widths(arguments) => widths::run(workspace::root(), arguments),
    }
}

/// The crate's own test, which is killed more often.
fn kills() -> Result<()> {
    let words = "test --package autoglm-kvcache --test kills -- --nocapture";
    process::run(process::cargo().args(words.split(' ')).env("KILLS", "200"))
}

/// The crate's own test, which is killed more often.
fn knobs() -> Result<()> {
    let words = "test --package autoglm-power --test kills -- --nocapture";
    process::run(process::cargo().args(words.split(' ')).env("AUTOGLM_KILLS", "400"))
}

/// The crate's own example, because the damage is its tests' business. In the development profile,
/// which traps integers that overflow.
fn mutations(package: &str, example: &str, cases: usize) -> Result<()> {
    let words = format!("run --package {package} --example {example} -- {cases}");
    process::run(process::cargo().args(words.split(' ')))
}
