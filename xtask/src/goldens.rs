//! Regenerating what Hugging Face transformers answered.

use std::path::PathBuf;
use std::process::Command;

use crate::error::Result;
use crate::{process, workspace};

/// Ask Hugging Face transformers for the golden answers again.
///
/// Runs goldens/make.py (tiny random checkpoints and what transformers makes of them, stage by
/// stage) and models/autoglm-tiny/evaluate.py (the greedy answers of the trained one). Both write
/// over the committed files; `git diff --stat` shows what moved. The Python needs what
/// goldens/requirements.txt lists.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The Python to run the scripts with
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: PathBuf,
    /// What to regenerate: a case of goldens/configs.py, `components`, `keep`, `chat`, or `tiny` for the
    /// trained checkpoint's answers; everything if nothing is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

/// The name that stands for the trained checkpoint's answers.
const TINY: &str = "tiny";

/// # Errors
/// Python cannot be started, or a script fails.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    for script in scripts(&arguments.names) {
        let mut python = Command::new(&arguments.python);
        process::run(python.current_dir(workspace::root()).args(script))?;
    }
    Ok(())
}

/// The scripts that make `names`, each with its arguments.
fn scripts(names: &[String]) -> Vec<Vec<&str>> {
    let cases: Vec<&str> = names.iter().map(String::as_str).filter(|name| *name != TINY).collect();
    let mut scripts = Vec::new();
    if names.is_empty() || !cases.is_empty() {
        scripts.push([vec!["goldens/make.py"], cases].concat());
    }
    if names.is_empty() || names.iter().any(|name| name == TINY) {
        scripts.push(vec!["models/autoglm-tiny/evaluate.py", "--write"]);
    }
    scripts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scripts_for(names: &str) -> String {
        let names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
        scripts(&names).iter().map(|script| script.join(" ")).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn a_name_runs_the_script_that_knows_it_and_no_name_runs_all() {
        let tiny = "models/autoglm-tiny/evaluate.py --write";
        assert_eq!(scripts_for(""), format!("goldens/make.py; {tiny}"));
        assert_eq!(scripts_for("tiny"), tiny);
        assert_eq!(scripts_for("one-image chat"), "goldens/make.py one-image chat");
        assert_eq!(scripts_for("chat tiny"), format!("goldens/make.py chat; {tiny}"));
    }

    #[test]
    fn the_scripts_exist() {
        for script in scripts(&[]) {
            assert!(workspace::root().join(script[0]).is_file(), "{}", script[0]);
        }
    }
}
