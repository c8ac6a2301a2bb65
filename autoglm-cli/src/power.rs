//! `autoglm power`: what a device says of itself, and a modelled one that policies are compared on.

#[cfg(feature = "power-model")]
mod curves;
#[cfg(feature = "power-model")]
mod plot;
#[cfg(feature = "power-model")]
mod scenario;
#[cfg(feature = "power-model")]
mod simulate;
mod status;

use clap::Subcommand;

use crate::error::Error;

/// Say what this device tells about its power and heat, or play policies against a modelled one
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Status(status::Args),
    #[cfg(feature = "power-model")]
    Simulate(simulate::Args),
    #[cfg(feature = "power-model")]
    Plot(plot::Args),
}

/// Runs the command.
pub(crate) fn power(args: &Args) -> Result<(), Error> {
    match &args.command {
        Command::Status(args) => status::status(args),
        #[cfg(feature = "power-model")]
        Command::Simulate(args) => simulate::simulate(args),
        #[cfg(feature = "power-model")]
        Command::Plot(args) => plot::plot(args),
    }
}
