//! `cargo xtask`: the workspace's own chores, in plain Rust so that they run wherever the code does.
//!
//! [`check`] is what a change must pass, [`tidy`] the part of it that no compiler looks after,
//! [`synth`] writes checkpoints of real shapes with random weights, [`export`] writes quantised ones, [`prune`] smaller
//! ones,
//! [`quant_report`] says what that costs, [`goldens`] asks Hugging Face
//! transformers for the right answers, and [`campaign`] runs the long forms of tests.
#![allow(clippy::print_stdout, reason = "this is a command-line program, its reports belong on standard output")]

mod calibration;
mod campaign;
mod check;
mod error;
mod export;
mod goldens;
mod process;
mod prune;
mod publish;
mod quant_report;
mod shards;
mod synth;
mod tensor_file;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Chores of the autoglm workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Arguments),
    Tidy(tidy::Arguments),
    Synth(synth::Arguments),
    Export(export::Arguments),
    Prune(prune::Arguments),
    QuantReport(quant_report::Arguments),
    Goldens(goldens::Arguments),
    Campaign(campaign::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Check(arguments) => check::run(&arguments),
        Command::Tidy(arguments) => tidy::run(&arguments),
        Command::Synth(arguments) => synth::run(&arguments),
        Command::Export(arguments) => export::run(&arguments),
        Command::Prune(arguments) => prune::run(&arguments),
        Command::QuantReport(arguments) => quant_report::run(&arguments),
        Command::Goldens(arguments) => goldens::run(&arguments),
        Command::Campaign(arguments) => campaign::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error::one_line(&error));
            ExitCode::from(error.status())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_a_user_types_wrong_is_a_usage_error() {
        for line in ["xtask", "xtask synth --shape huge --out x", "xtask synth --shape tiny", "xtask check --fast"] {
            let error = Arguments::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
