//! Prompts that are kept between runs: `autoglm run --pin NAME`.

use std::path::PathBuf;

use autoglm::{Session, Stats};

use crate::error::Error;

/// A prompt that is to be kept under a name.
#[derive(Debug, clap::Args)]
pub(crate) struct Pin {
    /// Keep what is computed of this prompt and its answer under a name, and use what an earlier run kept
    #[arg(long, value_name = "NAME", value_parser = plain)]
    pin: Option<String>,
    /// Where kept prompts lie; they are as private as the prompts [default: the user's cache folder]
    #[arg(long, value_name = "DIR", requires = "pin")]
    pin_dir: Option<PathBuf>,
}

/// A name that is a file's, whatever the system.
fn plain(name: &str) -> Result<String, String> {
    let good = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    match name.chars().all(good) && (1..=64).contains(&name.chars().count()) {
        true => Ok(name.to_owned()),
        false => Err("a name has up to 64 letters, digits, - and _".into()),
    }
}

impl Pin {
    fn path(&self) -> Result<Option<PathBuf>, Error> {
        let Some(name) = &self.pin else { return Ok(None) };
        let folder = match &self.pin_dir {
            Some(folder) => folder.clone(),
            None => dirs::cache_dir().ok_or(Error::NoCacheFolder)?.join("autoglm").join("pins"),
        };
        Ok(Some(folder.join(format!("{name}.kv"))))
    }

    /// Loads what an earlier run kept. What cannot be used is said and computed again.
    pub(crate) fn load(&self, session: &mut Session) -> Result<(), Error> {
        if let (Some(path), Some(name)) = (self.path()?, &self.pin)
            && path.exists()
        {
            match session.load(name, &path, None) {
                // The one prompt of this run holds what it uses; the rest may go when there is no room.
                Ok(_) => drop(session.unpin(name)),
                Err(error) => crate::tell(&format!("warning: computing anew: {}", crate::one_line(&error))),
            }
        }
        Ok(())
    }

    /// Keeps what was computed, unless all of it was known, and says how much was.
    pub(crate) fn save(&self, session: &Session, stats: &Stats) -> Result<(), Error> {
        let (Some(path), Some(name)) = (self.path()?, &self.pin) else { return Ok(()) };
        let (rows, known) = (stats.prompt_tokens, stats.reused_tokens);
        if known + 1 < rows && stats.decode_tokens > 0 {
            let folder = path.parent().unwrap_or(&path);
            let made = std::fs::create_dir_all(folder).map_err(|source| Error::Folder { path: folder.into(), source });
            // The answer is there already; that it was not kept is no reason to fail.
            if let Err(error) = made.and_then(|()| Ok(session.save(&path, None)?)) {
                crate::tell(&format!("warning: not kept: {}", crate::one_line(&error)));
            }
        }
        crate::tell(&format!("pin {name}: {known} of {rows} rows were known ({:.1} %)", share(known, rows)));
        Ok(())
    }
}

fn share(part: usize, of: usize) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 * 100.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_file_names() {
        assert_eq!(plain("open-camera_1"), Ok("open-camera_1".into()));
        for bad in ["", "../x", "a/b", ".", "a b", "c:\\x", &"x".repeat(65)] {
            assert!(plain(bad).is_err(), "{bad}");
        }
    }
}
