//! The `autoglm` command: show a model a screenshot, compare its numbers, fetch a checkpoint.
//!
//! Standard output carries the result alone; everything else goes to standard error. Exit code 2
//! means the command was called wrongly, 1 that it failed.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[cfg(all(feature = "quant", feature = "kvcache"))]
mod agent_loop;
#[cfg(feature = "quant")]
mod bench;
mod error;
mod logits;
mod model;
#[cfg(feature = "kvcache")]
mod pin;
#[cfg(feature = "power")]
mod power;
#[cfg(feature = "hub")]
mod pull;
#[cfg(feature = "quant")]
mod quantising;
mod run;
#[cfg(all(feature = "quant", feature = "power"))]
mod sleep;
mod stats;
mod unfinished;

use error::Error;

/// Run AutoGLM-Phone and its family on this machine.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Logits(logits::Args),
    #[cfg(feature = "quant")]
    Bench(bench::Args),
    #[cfg(feature = "power")]
    Power(power::Args),
    #[cfg(feature = "hub")]
    Pull(pull::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Logits(args) => logits::logits(&args),
        #[cfg(feature = "quant")]
        Command::Bench(args) => bench::bench(&args),
        #[cfg(feature = "power")]
        Command::Power(args) => power::power(&args),
        #[cfg(feature = "hub")]
        Command::Pull(args) => pull::pull(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output went away; that is their right, as with `| head`.
        Err(Error::Output(source)) if source.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("error: {}", one_line(&error)));
            ExitCode::from(if error.is_usage() { 2 } else { 1 })
        }
    }
}

/// Writes a line to standard error. Where that is closed or full there is nobody left to tell.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The error and its causes on one line. Control characters, which a file name or a damaged file may
/// carry, are escaped.
fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        // A transparent error prints its cause's text; it is not said twice.
        if !text.ends_with(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}
