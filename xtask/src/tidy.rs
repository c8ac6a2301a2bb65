//! The rules of the house that no compiler knows, checked by `cargo xtask tidy` and by `cargo test`.
//!
//! Each rule reads a [`Tree`] (the workspace's files and manifests) and returns the problems it
//! sees, one line each. A rule is one small function beside a test that shows it a tree it must
//! not accept.

mod absences;
mod code;
mod documents;
mod edges;
mod files;
mod manifests;
mod sources;
mod tree;

use crate::error::{Error, Result};
use crate::workspace;
use tree::Tree;

/// Check the rules of the house that no compiler knows.
///
/// Crates import each other only as the table in ARCHITECTURE.md allows; every source file says
/// what it is; `unsafe` stays where it is expected; documents name files that exist; dependencies
/// come from the root manifest. Prints one line per problem and exits with 1 if there is any.
///
/// `cargo test` runs the same rules.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

type Rule = fn(&Tree) -> Vec<String>;

const RULES: &[Rule] = &[
    edges::crates_import_what_the_table_says,
    edges::the_architecture_page_lists_every_crate,
    absences::nothing_below_the_facade_looks_outside,
    sources::every_file_says_what_it_is,
    sources::unsafe_stays_where_it_is_expected,
    sources::no_banners,
    sources::no_drawers,
    sources::no_ignored_tests,
    manifests::dependencies_come_from_the_root_manifest,
    manifests::no_root_dependency_is_idle,
    manifests::packages_inherit_what_is_common,
    manifests::documented_names_are_unique,
    manifests::locked_packages_come_from_the_public_registry,
    files::goldens_belong_to_a_script,
    files::large_files_are_models,
    files::no_processor_is_presumed,
    files::no_machine_paths,
    documents::named_files_exist,
];

/// # Errors
/// - The tree cannot be read.
/// - Any rule is broken.
pub(crate) fn run(_: &Arguments) -> Result<()> {
    let problems = problems(&Tree::read(workspace::root())?);
    for problem in &problems {
        println!("{problem}");
    }
    if problems.is_empty() { Ok(()) } else { Err(Error::Untidy { count: problems.len() }) }
}

fn problems(tree: &Tree) -> Vec<String> {
    RULES.iter().flat_map(|rule| rule(tree)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let problems = problems(&Tree::read(workspace::root()).unwrap());
        assert!(problems.is_empty(), "{} problem(s):\n{}", problems.len(), problems.join("\n"));
    }
}
