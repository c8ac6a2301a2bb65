//! What must not be in a dependency tree, read from `cargo tree`.

use std::collections::BTreeSet;

use super::{Features, command};
use crate::error::{Error, Result};
use crate::process;

/// Crates that decode or resize pictures, and ours that uses them.
const PICTURE_CRATES: &[&str] =
    &["autoglm-vision", "fast_image_resize", "image", "image-webp", "jpeg-decoder", "png", "zune-jpeg"];

/// Crates that decode, resample or transform sounds, and ours that uses them.
const SOUND_CRATES: &[&str] = &["autoglm-audio", "realfft", "rubato", "rustfft", "symphonia", "symphonia-core"];

/// Crates by which build scripts compile C or C++, or bind to it.
const C_BUILDERS: &[&str] = &["bindgen", "cc", "cmake", "cxx-build"];

/// Build scripts that contain a C compiler's driver and do not call it, and the feature that makes
/// it so.
const C_FREE: &[(&str, &str)] = &[("blake3", "pure")];

/// Without the feature `vision` the facade cannot look at a picture, and without `audio` it cannot hear, and so it
/// must not carry what decodes one: whatever else it can do.
///
/// # Errors
/// - `cargo tree` fails.
/// - A crate of [`PICTURE_CRATES`] or of [`SOUND_CRATES`] is in a tree.
pub(crate) fn no_crate_of_a_modality_that_is_off(facade: &str, features: &Features) -> Result<()> {
    for (off, unwanted) in [("vision", PICTURE_CRATES), ("audio", SOUND_CRATES)] {
        let others: Vec<&str> = features.all.iter().map(String::as_str).filter(|feature| *feature != off).collect();
        let tree = format!("tree -p {facade} --no-default-features --features {} -e normal", others.join(","));
        let crates = read(&tree)?.into_iter().map(|one| one.name);
        forbid(&tree, crates.filter(|name| unwanted.contains(&name.as_str())).collect())?;
    }
    Ok(())
}

/// Rust alone must be enough to build the program for any processor. Only `hub`, which speaks TLS,
/// may need a C compiler; whoever has none builds without it.
///
/// # Errors
/// - `cargo tree` fails.
/// - A build script in the tree may compile C.
pub(crate) fn no_c_outside_hub(program: &str, features: &Features) -> Result<()> {
    let kept: Vec<&str> = features.default.iter().map(String::as_str).filter(|feature| *feature != "hub").collect();
    let tree = format!("tree -p {program} --no-default-features --features {} -e normal,build", kept.join(","));
    forbid(&tree, compile_c(&read(&tree)?))
}

fn forbid(tree: &str, unwanted: BTreeSet<String>) -> Result<()> {
    if unwanted.is_empty() {
        return Ok(());
    }
    Err(Error::Unwanted { tree: format!("cargo {tree}"), unwanted: unwanted.into_iter().collect() })
}

/// The crates that depend on a C builder, except those of [`C_FREE`].
fn compile_c(tree: &[Crate]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (idx, one) in tree.iter().enumerate() {
        if !C_BUILDERS.contains(&one.name.as_str()) {
            continue;
        }
        // Its parent is the nearest line above that is less deep.
        let parent = tree[..idx].iter().rfind(|above| above.depth < one.depth);
        let is_free = |parent: &Crate| {
            C_FREE
                .iter()
                .any(|(name, feature)| parent.name == *name && parent.features.iter().any(|one| one == feature))
        };
        match parent {
            Some(parent) if is_free(parent) => {}
            Some(parent) => drop(found.insert(format!("{} (by {})", one.name, parent.name))),
            None => drop(found.insert(one.name.clone())),
        }
    }
    found
}

/// One line of `cargo tree`.
#[derive(Debug, PartialEq)]
struct Crate {
    depth: usize,
    name: String,
    features: Vec<String>,
}

fn read(tree: &str) -> Result<Vec<Crate>> {
    let mut command = command(tree);
    command.args(["--prefix", "depth", "--format", " {p}|{f}"]);
    let printed = process::output(&mut command)?;
    Ok(String::from_utf8_lossy(&printed).lines().filter_map(parse).collect())
}

/// Reads `12 png v0.18.0 (proc-macro)|default,std`, where 12 is the depth.
fn parse(line: &str) -> Option<Crate> {
    let (depth, rest) = line.split_once(' ')?;
    let (package, features) = rest.split_once('|')?;
    // A crate whose dependencies were printed before ends in ` (*)`.
    let features = features.trim_end_matches(" (*)").split(',').filter(|feature| !feature.is_empty());
    Some(Crate {
        depth: depth.parse().ok()?,
        name: package.split(' ').next()?.to_owned(),
        features: features.map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(lines: &[&str]) -> Vec<Crate> {
        lines.iter().map(|line| parse(line).unwrap()).collect()
    }

    #[test]
    fn a_line_of_cargo_tree_is_read_whole() {
        let line = parse("12 png v0.18.0 (proc-macro)|default,std (*)").unwrap();
        assert_eq!(
            line,
            Crate { depth: 12, name: "png".to_owned(), features: vec!["default".to_owned(), "std".to_owned()] }
        );
        assert_eq!(parse("0 a v1.0.0 (path)|").unwrap().features, [""; 0]);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_build_script_that_may_compile_c_is_found_with_its_name() {
        let found = compile_c(&tree(&[
            "0 program v1|",
            "1 ring v1|",
            "2 cc v1|",
            "3 shlex v1|",
            "1 onig_sys v1|",
            "2 bindgen v1|",
        ]));
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["bindgen (by onig_sys)", "cc (by ring)"]);
    }

    #[test]
    fn blake3_is_free_of_c_only_where_it_is_pure() {
        assert_eq!(compile_c(&tree(&["0 program v1|", "1 blake3 v1|pure,std", "2 cc v1|"])).len(), 0);
        assert_eq!(compile_c(&tree(&["0 program v1|", "1 blake3 v1|std", "2 cc v1|"])).len(), 1);
    }

    #[test]
    fn what_is_unwanted_is_an_error_that_names_it() {
        assert!(forbid("tree", BTreeSet::new()).is_ok());
        let error = forbid("tree -p a", BTreeSet::from(["png".to_owned()])).unwrap_err();
        assert_eq!(error.to_string(), "cargo tree -p a must not contain png");
    }

    #[test]
    fn cargo_tree_is_understood() {
        let crates = read("tree -p xtask --no-default-features -e normal").unwrap();
        assert_eq!((crates[0].depth, crates[0].name.as_str()), (0, "xtask"));
        assert!(
            crates.iter().any(|one| one.name == "clap"
                && one.depth == 1
                && one.features.iter().any(|feature| feature == "derive"))
        );
    }
}
