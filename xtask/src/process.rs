//! Start programs and say plainly how they ended. No shell is ever involved.

use std::env;
use std::ffi::OsString;
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::workspace;

/// The cargo that runs us, in the workspace's root.
pub(crate) fn cargo() -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.current_dir(workspace::root());
    command
}

/// Runs `command` with our own standard streams.
///
/// # Errors
/// - The program cannot be started.
/// - It ends with anything but success.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|source| Error::Start { program: shown(command), source })?;
    if status.success() { Ok(()) } else { Err(Error::Ended { program: shown(command), status }) }
}

/// Runs `command` and returns what it printed; its standard error stays ours.
///
/// # Errors
/// As [`run`].
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output =
        command.stderr(Stdio::inherit()).output().map_err(|source| Error::Start { program: shown(command), source })?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(Error::Ended { program: shown(command), status: output.status })
    }
}

/// The command as one would type it: the program's bare name and its arguments.
fn shown(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    let words = std::iter::once(name).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::one_line;

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run(Command::new("no/such/program-of-ours").arg("--flag")).unwrap_err();
        assert!(one_line(&error).starts_with("cannot start `program-of-ours --flag`: "), "{error}");
    }

    #[test]
    fn a_program_that_fails_is_an_error() {
        let mut command = cargo();
        command.arg("no-such-subcommand").stderr(Stdio::null());
        assert!(matches!(run(&mut command), Err(Error::Ended { .. })));
    }
}
