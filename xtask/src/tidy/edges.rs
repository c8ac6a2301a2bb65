//! Who may import whom. Arrows point down only, and crates of one tier never import each other.

use super::tree::Tree;

/// A package of the workspace and what it may import of ours.
struct Room {
    name: &'static str,
    /// Crates import only lower tiers. `None` stands outside the tiers: nothing in them imports it,
    /// except [`DATA`] and, in tests, [`FOR_TESTS`].
    tier: Option<u8>,
    may_use: &'static [&'static str],
}

const fn room(name: &'static str, tier: Option<u8>, may_use: &'static [&'static str]) -> Room {
    Room { name, tier, may_use }
}

const FACADE_TIER: u8 = 3;

/// The table of ARCHITECTURE.md.
const ROOMS: &[Room] = &[
    room("autoglm-kernels", Some(0), &[]),
    room("autoglm-core", Some(1), &["autoglm-kernels"]),
    room("autoglm-audio", Some(2), &["autoglm-core"]),
    room("autoglm-fusion", Some(2), &["autoglm-core"]),
    room("autoglm-kvcache", Some(2), &["autoglm-core", "autoglm-kernels"]),
    room("autoglm-power", Some(2), &[]),
    room("autoglm-prune", Some(2), &[]),
    room("autoglm-quant", Some(2), &["autoglm-core", "autoglm-kernels"]),
    room("autoglm-text", Some(2), &["autoglm-core"]),
    room("autoglm-vision", Some(2), &["autoglm-core"]),
    room(
        "autoglm",
        Some(FACADE_TIER),
        &[
            "autoglm-audio",
            "autoglm-core",
            "autoglm-fusion",
            "autoglm-kernels",
            "autoglm-kvcache",
            "autoglm-power",
            "autoglm-quant",
            "autoglm-text",
            "autoglm-vision",
        ],
    ),
    room("autoglm-cli", Some(4), &["autoglm", "autoglm-tiny"]),
    room("autoglm-testing", None, &[]),
    room("autoglm-tiny", None, &[]),
    room(
        "benches",
        None,
        &[
            "autoglm",
            "autoglm-audio",
            "autoglm-core",
            "autoglm-fusion",
            "autoglm-kernels",
            "autoglm-kvcache",
            "autoglm-power",
            "autoglm-prune",
            "autoglm-quant",
            "autoglm-text",
            "autoglm-tiny",
            "autoglm-vision",
        ],
    ),
    room(
        "xtask",
        None,
        &[
            "autoglm",
            "autoglm-core",
            "autoglm-kernels",
            "autoglm-power",
            "autoglm-prune",
            "autoglm-quant",
            "autoglm-text",
            "autoglm-vision",
        ],
    ),
];

/// Imports nothing and contains no code, so it may stand below anyone who names it.
const DATA: &str = "autoglm-tiny";

/// What any crate may import for its tests.
const FOR_TESTS: &[&str] = &["autoglm-testing", DATA];

/// Whether a package is a component: of a tier below the facade's.
pub(crate) fn below_the_facade(name: &str) -> bool {
    ROOMS.iter().any(|room| room.name == name && room.tier.is_some_and(|tier| tier < FACADE_TIER))
}

pub(crate) fn crates_import_what_the_table_says(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for package in &tree.packages {
        let from = package.name.as_str();
        let Some(room) = ROOMS.iter().find(|room| room.name == from) else {
            problems.push(format!("{from}: missing from the table in xtask/src/tidy/edges.rs"));
            continue;
        };
        let ours = || package.dependencies.iter().filter(|dependency| dependency.path.is_some());
        for dependency in ours() {
            let to = dependency.name.as_str();
            let for_tests = dependency.kind.as_deref() == Some("dev") && FOR_TESTS.contains(&to);
            if !for_tests && !room.may_use.contains(&to) {
                problems.push(format!("{from}: must not import {to} (see the table in ARCHITECTURE.md)"));
            }
        }
        // What stands outside the tiers may use any of its list; the tiers are exact.
        for allowed in room.may_use.iter().filter(|_| room.tier.is_some()) {
            if !ours().any(|dependency| dependency.name == *allowed && dependency.kind.as_deref() != Some("dev")) {
                problems.push(format!("{from}: does not import {allowed}, which xtask/src/tidy/edges.rs expects"));
            }
        }
    }
    problems
}

pub(crate) fn the_architecture_page_lists_every_crate(tree: &Tree) -> Vec<String> {
    const PAGE: &str = "ARCHITECTURE.md";
    let Some(page) = tree.text(PAGE) else { return vec![format!("{PAGE}: missing")] };
    let rows = rows(page);
    let mut problems = Vec::new();
    for room in ROOMS {
        match rows.iter().find(|(_, name)| *name == room.name) {
            None => problems.push(format!("{PAGE}: its table of crates has no row for `{}`", room.name)),
            Some((tier, name)) if *tier != room.tier => {
                problems.push(format!(
                    "{PAGE}: `{name}` is of tier {tier:?} there and {:?} in xtask/src/tidy/edges.rs",
                    room.tier
                ));
            }
            Some(_) => {}
        }
    }
    for package in &tree.packages {
        if !ROOMS.iter().any(|room| room.name == package.name) {
            problems.push(format!(
                "{PAGE}: no row is held against `{}`, which is not in xtask/src/tidy/edges.rs",
                package.name
            ));
        }
    }
    let gone = rows.iter().filter(|(tier, name)| tier.is_some() && !ROOMS.iter().any(|room| room.name == *name));
    problems.extend(gone.map(|(_, name)| format!("{PAGE}: its table of crates names `{name}`, which does not exist")));
    problems
}

/// Tier and package name of each table row `| tier | `package` | …`. A package given by its
/// directory counts under its last part.
fn rows(page: &str) -> Vec<(Option<u8>, &str)> {
    page.lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix('|')?.split('|');
            let tier = cells.next()?.trim().parse().ok();
            let name = cells.next()?.split('`').nth(1)?;
            Some((tier, name.rsplit('/').next().unwrap_or(name)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;
    use crate::workspace::{Dependency, Package};

    fn tree(from: &str, to: &str, kind: Option<&str>) -> Tree {
        let dependency =
            Dependency { name: to.to_owned(), kind: kind.map(str::to_owned), path: Some(PathBuf::from(to)) };
        let package = Package {
            name: from.to_owned(),
            manifest_path: PathBuf::new(),
            dependencies: vec![dependency],
            features: BTreeMap::new(),
            targets: Vec::new(),
        };
        Tree { packages: vec![package], ..Tree::of(&[]) }
    }

    fn page(leave_out: &str) -> String {
        let kept = ROOMS.iter().filter(|room| room.name != leave_out);
        let row = |room: &Room| {
            format!("| {} | `{}` | … |\n", room.tier.map_or("–".to_owned(), |tier| tier.to_string()), room.name)
        };
        kept.map(row).collect()
    }

    #[test]
    fn the_table_itself_points_down_only() {
        let tier_of = |name: &str| ROOMS.iter().find(|room| room.name == name).unwrap().tier;
        for room in ROOMS {
            for used in room.may_use.iter().filter(|used| **used != DATA) {
                // What stands outside the tiers is above them all.
                let (above, below) = (room.tier.unwrap_or(u8::MAX), tier_of(used).unwrap_or(u8::MAX));
                assert!(above > below, "{} -> {used}", room.name);
            }
        }
    }

    #[test]
    fn an_arrow_sideways_or_upwards_is_a_problem() {
        for (from, to, kind) in [
            ("autoglm-text", "autoglm-vision", None),
            ("autoglm-text", "autoglm-fusion", Some("dev")),
            ("autoglm-core", "autoglm-text", None),
            ("autoglm-fusion", "autoglm-testing", None),
            ("autoglm-core", "autoglm-core", Some("build")),
        ] {
            let problems = crates_import_what_the_table_says(&tree(from, to, kind));
            assert!(
                problems.contains(&format!("{from}: must not import {to} (see the table in ARCHITECTURE.md)")),
                "{problems:?}"
            );
        }
    }

    #[test]
    fn an_arrow_of_the_table_is_fine_and_one_for_tests_is_too() {
        for (from, to, kind) in
            [("autoglm-text", "autoglm-core", None), ("autoglm-testing", "autoglm-tiny", Some("dev"))]
        {
            assert_eq!(crates_import_what_the_table_says(&tree(from, to, kind)), [""; 0], "{from} -> {to}");
        }
    }

    #[test]
    fn an_arrow_that_only_the_table_has_is_a_problem() {
        let problems = crates_import_what_the_table_says(&tree("autoglm-text", "autoglm-core", Some("dev")));
        assert_eq!(problems, ["autoglm-text: does not import autoglm-core, which xtask/src/tidy/edges.rs expects"]);
    }

    #[test]
    fn an_unknown_crate_is_a_problem_for_both_rules() {
        let mut tree = tree("autoglm-new", "autoglm-core", None);
        assert_eq!(crates_import_what_the_table_says(&tree).len(), 1);
        tree.files = Tree::of(&[("ARCHITECTURE.md", &page(""))]).files;
        assert_eq!(the_architecture_page_lists_every_crate(&tree).len(), 1);
    }

    #[test]
    fn the_page_must_list_every_crate_in_its_tier_and_no_other() {
        let complete = page("");
        let problems = |text: &str| the_architecture_page_lists_every_crate(&Tree::of(&[("ARCHITECTURE.md", text)]));
        assert_eq!(problems(&complete), [""; 0]);
        assert_eq!(problems(&page("autoglm-text")).len(), 1);
        assert_eq!(problems(&complete.replace("| 2 | `autoglm-text`", "| 3 | `autoglm-text`")).len(), 1);
        assert_eq!(problems(&format!("{complete}| 2 | `autoglm-dream` | |\n")).len(), 1);
        assert_eq!(the_architecture_page_lists_every_crate(&Tree::of(&[])), ["ARCHITECTURE.md: missing"]);
    }

    #[test]
    fn a_row_may_name_the_directory() {
        assert_eq!(rows("| – | `models/autoglm-tiny` | data |\ntext\n|---|---|\n"), [(None, "autoglm-tiny")]);
    }
}
