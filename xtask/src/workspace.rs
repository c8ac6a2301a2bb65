//! Where the workspace is and what cargo says is in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::process;

/// The workspace's root directory: the parent of this package's own.
pub(crate) fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("a package directory has a parent")
}

/// A workspace member, as `cargo metadata` describes it.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) features: BTreeMap<String, Vec<String>>,
    pub(crate) targets: Vec<Target>,
}

/// Something cargo builds: a library, a program, a test.
#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// Whether `cargo doc` writes a page for it.
    pub(crate) doc: bool,
}

/// One entry of a member's dependency sections.
#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `None` for an ordinary dependency, else `dev` or `build`.
    pub(crate) kind: Option<String>,
    /// Set where the dependency is a directory, which for us means a member.
    pub(crate) path: Option<PathBuf>,
}

/// The members of the workspace.
///
/// # Errors
/// - `cargo metadata` cannot be run or fails.
/// - It prints something other than its documented format.
pub(crate) fn packages() -> Result<Vec<Package>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    let mut command = process::cargo();
    command.args(["metadata", "--format-version", "1", "--no-deps"]);
    let json = process::output(&mut command)?;
    let metadata: Metadata = serde_json::from_slice(&json)
        .map_err(|source| Error::Output { program: "cargo metadata".to_owned(), source })?;
    Ok(metadata.packages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_lists_this_package_with_its_dependencies() {
        let packages = packages().unwrap();
        let xtask = packages.iter().find(|package| package.name == "xtask").unwrap();
        assert_eq!(xtask.manifest_path, root().join("xtask/Cargo.toml"));
        assert!(xtask.dependencies.iter().any(|one| one.name == "clap" && one.kind.is_none()));
        assert!(xtask.dependencies.iter().any(|one| one.name == "tokenizers" && one.kind.as_deref() == Some("dev")));
    }
}
