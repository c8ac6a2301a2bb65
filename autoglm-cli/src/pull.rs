//! `autoglm pull`: fetch a checkpoint from the Hugging Face hub.

use std::io::Write;

use autoglm::hub::{Event, Pull};
use indicatif::{ProgressBar, ProgressStyle};

use crate::error::Error;

/// Fetch a checkpoint from the Hugging Face hub and print its directory
///
/// Files go to the hub's usual cache, where other programs find them too. A download that was cut off
/// goes on where it ended. Pass the printed directory to `--model`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The repository, owner/name
    #[arg(value_name = "REPO")]
    repo: String,
    /// A branch, a tag or a commit
    #[arg(long, value_name = "NAME", default_value = "main")]
    revision: String,
}

/// Runs the command.
pub(crate) fn pull(args: &Args) -> Result<(), Error> {
    let mut pull = Pull::new(&args.repo);
    pull.revision.clone_from(&args.revision);
    let style = ProgressStyle::with_template("{msg:32!} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let mut bar: Option<ProgressBar> = None;
    let directory = pull.fetch(|event| match event {
        Event::File { name, bytes } => {
            // A retry announces the same file again; its bar starts over.
            let fresh = ProgressBar::new(bytes).with_style(style.clone()).with_message(name.to_owned());
            if let Some(old) = bar.replace(fresh) {
                old.finish_and_clear();
            }
        }
        Event::Bytes(more) => bar.iter().for_each(|b| b.inc(more)),
        _ => bar.iter().for_each(ProgressBar::finish),
    })?;
    writeln!(std::io::stdout(), "{}", directory.display()).map_err(Error::Output)
}
