//! Rules about `Cargo.toml` files and the lock file: what is common is said once, in the root.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::Tree;
use crate::workspace;

/// Package fields that every member takes from `[workspace.package]`.
const COMMON_FIELDS: &[&str] = &["version", "edition", "rust-version", "license", "authors"];

const PUBLIC_REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(crate) fn dependencies_come_from_the_root_manifest(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in members(tree) {
        for (name, inherited) in dependencies(text) {
            if !inherited {
                problems.push(format!("{path}: `{name}` is not `workspace = true`"));
            }
        }
    }
    problems
}

pub(crate) fn no_root_dependency_is_idle(tree: &Tree) -> Vec<String> {
    let used: BTreeSet<String> = members(tree).flat_map(|(_, text)| dependencies(text).into_keys()).collect();
    let root = tree.text("Cargo.toml").unwrap_or_default();
    let offered = entries(root).into_iter().filter(|entry| entry.section == "workspace.dependencies");
    let idle = offered.filter(|entry| !used.contains(entry.key));
    idle.map(|entry| format!("Cargo.toml:{}: no member depends on `{}`", entry.line, entry.key)).collect()
}

pub(crate) fn packages_inherit_what_is_common(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in members(tree) {
        let entries = entries(text);
        let has = |section: &str, key: &str| {
            entries.iter().any(|entry| entry.section == section && entry.key == key && entry.value == "true")
        };
        for field in COMMON_FIELDS {
            if !has("package", &format!("{field}.workspace")) {
                problems.push(format!("{path}: lacks `{field}.workspace = true`"));
            }
        }
        if !has("lints", "workspace") {
            problems.push(format!("{path}: lacks `[lints] workspace = true`, so no lint of the workspace applies"));
        }
    }
    problems
}

/// A mirror or a fork in the lock file would follow everyone who clones.
pub(crate) fn locked_packages_come_from_the_public_registry(tree: &Tree) -> Vec<String> {
    let lock = entries(tree.text("Cargo.lock").unwrap_or_default());
    let elsewhere =
        lock.iter().filter(|entry| entry.key == "source" && entry.value.trim_matches('"') != PUBLIC_REGISTRY);
    elsewhere.map(|entry| format!("Cargo.lock:{}: a package from {}", entry.line, entry.value)).collect()
}

/// `cargo doc` writes a page per target name, and of two with one name only the last survives.
pub(crate) fn documented_names_are_unique(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    let mut seen = BTreeMap::new();
    for package in &tree.packages {
        for target in package.targets.iter().filter(|target| target.doc) {
            if let Some(other) = seen.insert(target.name.replace('-', "_"), &package.name) {
                problems.push(format!("`{}` has its documentation where {other} has; say `doc = false`", package.name));
            }
        }
    }
    problems
}

/// Path and text of each member's manifest.
fn members(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    let is_member = |path: &str| {
        let full = workspace::root().join(path);
        tree.packages.iter().any(|package| package.manifest_path == full)
    };
    tree.texts("Cargo.toml").filter(move |(path, _)| is_member(path))
}

/// The dependencies of a manifest, of every kind and for every target, and whether each says
/// `workspace = true`.
fn dependencies(manifest: &str) -> BTreeMap<String, bool> {
    let mut found = BTreeMap::new();
    for entry in entries(manifest) {
        let Some((before, table)) = entry.section.rsplit_once("dependencies") else { continue };
        if before == "workspace." {
            continue;
        }
        // `[dependencies] name.key = …`, `[dependencies] name = { … }` or `[dependencies.name] key = …`.
        let path = format!("{table}.{}", entry.key);
        let mut parts = path.trim_start_matches('.').split('.');
        let Some(name) = parts.next() else { continue };
        let inherited = match parts.next() {
            Some(key) => key == "workspace" && entry.value == "true",
            None => entry.value.replace(' ', "").contains("workspace=true"),
        };
        *found.entry(name.to_owned()).or_insert(false) |= inherited;
    }
    found
}

/// One `key = value` of a TOML file; `line` counts from 1.
#[derive(Debug, PartialEq)]
struct Entry<'a> {
    section: &'a str,
    key: &'a str,
    value: &'a str,
    line: usize,
}

/// The entries of a manifest in the plain style that cargo's own tools write: one entry to a line,
/// where only lists run over several, of which the first line stands for the entry.
fn entries(toml: &str) -> Vec<Entry<'_>> {
    let mut entries = Vec::new();
    let (mut section, mut open) = ("", 0usize);
    for (idx, line) in toml.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('#') {
            continue;
        }
        let inside = open > 0;
        if !inside && let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim_matches(['[', ']', ' ']);
            continue;
        }
        open = (open + line.matches('[').count()).saturating_sub(line.matches(']').count());
        if !inside && let Some((key, value)) = line.split_once('=') {
            entries.push(Entry { section, key: key.trim(), value: value.trim(), line: idx + 1 });
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Package, Target};

    /// A workspace of one member, `a`.
    fn tree(root: &str, member: &str) -> Tree {
        let package = Package {
            name: "a".to_owned(),
            manifest_path: workspace::root().join("a/Cargo.toml"),
            dependencies: Vec::new(),
            features: BTreeMap::new(),
            targets: Vec::new(),
        };
        let files =
            Tree::of(&[("Cargo.toml", root), ("a/Cargo.toml", member), ("b/Cargo.toml", "[dependencies]\nx = \"1\"")])
                .files;
        Tree { files, packages: vec![package] }
    }

    #[test]
    fn a_dependency_with_a_version_of_its_own_is_a_problem() {
        for own in [
            "[dependencies]\nserde = \"1\"",
            "[dev-dependencies]\nserde = { version = \"1\" }",
            "[target.'cfg(unix)'.dependencies]\nserde.version = \"1\"",
            "[build-dependencies.serde]\nversion = \"1\"\nfeatures = []",
        ] {
            let problems = dependencies_come_from_the_root_manifest(&tree("", own));
            assert_eq!(problems, ["a/Cargo.toml: `serde` is not `workspace = true`"], "{own}");
        }
    }

    #[test]
    fn every_way_to_inherit_a_dependency_is_known() {
        for inherited in [
            "[dependencies]\nserde.workspace = true",
            "[dependencies]\nserde = { workspace = true, features = [\"derive\"] }",
            "[dependencies]\nserde.workspace = true\nserde.features = [\"derive\"]",
            "[dependencies.serde]\nfeatures = [\n  \"x = 1\",\n]\nworkspace = true",
        ] {
            let tree = tree("[workspace.dependencies]\nserde = \"1\"", inherited);
            assert_eq!(dependencies_come_from_the_root_manifest(&tree), [""; 0], "{inherited}");
            assert_eq!(no_root_dependency_is_idle(&tree), [""; 0], "{inherited}");
        }
    }

    #[test]
    fn a_root_dependency_that_nobody_uses_is_a_problem() {
        let problems =
            no_root_dependency_is_idle(&tree("[workspace.dependencies]\n# why\nserde = \"1\"\n", "[dependencies]\n"));
        assert_eq!(problems, ["Cargo.toml:3: no member depends on `serde`"]);
    }

    #[test]
    fn a_package_that_inherits_nothing_has_a_problem_per_field() {
        let bare = packages_inherit_what_is_common(&tree("", "[package]\nname = \"a\"\nversion = \"1\"\n"));
        assert_eq!(bare.len(), COMMON_FIELDS.len() + 1);
        let common: String = COMMON_FIELDS.iter().map(|field| format!("{field}.workspace = true\n")).collect();
        let full = format!("[package]\n{common}[lints]\nworkspace = true\n");
        assert_eq!(packages_inherit_what_is_common(&tree("", &full)), [""; 0]);
    }

    #[test]
    fn two_pages_of_one_name_are_a_problem() {
        let target = |name: &str, doc| Target { name: name.to_owned(), doc };
        let mut tree = tree("", "");
        tree.packages[0].targets = vec![target("a-b", true), target("tests", false), target("tests", false)];
        assert_eq!(documented_names_are_unique(&tree), [""; 0]);
        tree.packages[0].targets.push(target("a_b", true));
        assert_eq!(documented_names_are_unique(&tree).len(), 1);
    }

    #[test]
    fn a_locked_package_from_elsewhere_is_a_problem() {
        let lock = format!("[[package]]\nname = \"a\"\nsource = \"{PUBLIC_REGISTRY}\"\n");
        let problems = |text: &str| locked_packages_come_from_the_public_registry(&Tree::of(&[("Cargo.lock", text)]));
        assert_eq!(problems(&lock), [""; 0]);
        assert_eq!(problems(&format!("{lock}[[package]]\nsource = \"git+https://example.com/a\"\n")).len(), 1);
    }
}
