//! `autoglm power plot`: battery and heat under policies, as a picture.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::curves::{self, Picture};
use super::scenario::Scenario;
use crate::error::Error;
use crate::unfinished::{publish, target, temporary, unwritable};

/// Draw how a modelled battery empties and how warm the body gets, under each policy
///
/// Charge in % above, the body's temperature in °C below, both over hours, until the battery is empty. Everything drawn is
/// modelled, not measured on a phone. The trace repeats as long as the battery lasts. Only the named policies are drawn.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    scenario: Scenario,
    /// Where the picture goes; its ending says of which kind it is
    #[arg(long, value_name = "FILE.svg|FILE.png")]
    out: PathBuf,
}

/// Kinds of pictures.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Svg,
    Png,
}

impl Kind {
    fn of(out: &Path) -> Result<Self, Error> {
        let ending = out.extension().map(|ending| ending.to_ascii_lowercase());
        match ending.as_deref().and_then(std::ffi::OsStr::to_str) {
            Some("svg") => Ok(Self::Svg),
            Some("png") => Ok(Self::Png),
            _ => Err(Error::PictureName { path: out.to_owned() }),
        }
    }
}

/// Runs the command.
pub(super) fn plot(args: &Args) -> Result<(), Error> {
    let kind = Kind::of(&args.out)?;
    let loaded = args.scenario.load()?;
    let target = target(&args.out)?;
    let mut file = temporary(&target, ".autoglm-plot-")?;
    let picture = Picture::of(&loaded, &loaded.outcomes(&loaded.policies, true));
    let drawn = match kind {
        Kind::Svg => curves::svg(&picture).map(String::into_bytes),
        Kind::Png => curves::png(&picture),
    };
    let bytes = drawn.map_err(|why| Error::Drawing { path: args.out.clone(), why })?;
    file.write_all(&bytes).map_err(|source| unwritable(&target, &source))?;
    publish(file, &target)
}
