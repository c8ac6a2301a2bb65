//! Everything a change must pass, in one command, on any machine with a Rust toolchain.
//!
//! Cheap steps come first. All builds share the workspace's target directory, and what is built is
//! selected so that candle and the tokenizer are compiled once: cargo gives a dependency the union
//! of the features that the selected packages ask for, and another union is another build.

mod trees;

use std::process::Command;
use std::time::Instant;

use crate::error::{Error, Result};
use crate::process::{self, cargo};
use crate::tidy;
use crate::workspace::{self, Package};

/// Run everything a change must pass.
///
/// Formatting, the rules of the house, what may be in the dependency trees, clippy, tests and
/// documentation with warnings denied, and the facade without and with each of its features.
/// Prints each step with its time and stops at the first that fails, with exit code 1.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Leave out `cargo test --workspace`, for scripts that have just run it
    #[arg(long)]
    no_test: bool,
}

const FACADE: &str = "autoglm";
const PROGRAM: &str = "autoglm-cli";

/// The facade and the program without features. The towers are selected beside them because, with their
/// picture and sound crates, all dependencies have the features they have in `cargo test --workspace`; alone,
/// the facade would have candle compiled anew, which takes minutes. Testing the towers once more
/// takes seconds.
const WITHOUT_FEATURES: &str = "-p autoglm -p autoglm-cli -p autoglm-audio -p autoglm-vision --no-default-features";

/// # Errors
/// The first step that fails.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let packages = workspace::packages()?;
    let facade = features(&packages, FACADE)?;
    let program = features(&packages, PROGRAM)?;

    let start = Instant::now();
    step("fmt", || cargo_runs("fmt --all --check"))?;
    step("tidy", || tidy::run(&tidy::Arguments {}))?;
    step("no crate of a modality that is off", || trees::no_crate_of_a_modality_that_is_off(FACADE, &facade))?;
    step("no C outside of `hub`", || trees::no_c_outside_hub(PROGRAM, &program))?;
    step("clippy", || cargo_runs("clippy --workspace --all-targets -- -D warnings"))?;
    if !arguments.no_test {
        step("test", || cargo_runs("test --workspace"))?;
    }
    step("doc", || process::run(command("doc --workspace --no-deps").env("RUSTDOCFLAGS", "-D warnings")))?;
    step("clippy without features", || cargo_runs(&format!("clippy {WITHOUT_FEATURES} --all-targets -- -D warnings")))?;
    step("test without features", || cargo_runs(&format!("test {WITHOUT_FEATURES}")))?;
    for feature in &facade.all {
        step(&format!("only feature {feature}"), || {
            cargo_runs(&format!("check -p {FACADE} --no-default-features --features {feature}"))
        })?;
    }
    println!("check: all passed in {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// The features of a package, `default` left out of `all` and spelled out in `default`.
#[derive(Debug)]
pub(crate) struct Features {
    all: Vec<String>,
    default: Vec<String>,
}

fn features(packages: &[Package], name: &'static str) -> Result<Features> {
    let package = packages.iter().find(|package| package.name == name).ok_or(Error::NoPackage { name })?;
    let all = package.features.keys().filter(|feature| *feature != "default").cloned().collect();
    Ok(Features { all, default: package.features.get("default").cloned().unwrap_or_default() })
}

fn step(name: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("check: {name} …");
    let start = Instant::now();
    run().map_err(|source| Error::Step { step: name.to_owned(), source: Box::new(source) })?;
    println!("check: {name} passed in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn cargo_runs(words: &str) -> Result<()> {
    process::run(&mut command(words))
}

/// cargo with `words` as its arguments, none of which contains a blank.
fn command(words: &str) -> Command {
    let mut command = cargo();
    command.args(words.split(' '));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_come_from_the_manifests() {
        let packages = workspace::packages().unwrap();
        let facade = features(&packages, FACADE).unwrap();
        assert!(facade.all.iter().any(|feature| feature == "vision"));
        assert!(facade.all.iter().all(|feature| feature != "default"));
        assert!(facade.default.iter().all(|feature| facade.all.contains(feature)));
        assert!(matches!(features(&packages, "autoglm-nothing"), Err(Error::NoPackage { name: "autoglm-nothing" })));
    }

    #[test]
    fn a_failing_step_is_named() {
        let failure = step("tidy", || Err(Error::Untidy { count: 3 })).unwrap_err();
        assert_eq!(crate::error::one_line(&failure), "check failed at `tidy`: 3 tidy problem(s)");
    }
}
