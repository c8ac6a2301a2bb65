//! Rules about Rust and Python source files.

use super::code::{code_of, lines_with_word};
use super::tree::Tree;

/// The files that may contain `unsafe`, each with a reason of its own at its top.
const UNSAFE_FILES: &[&str] = &[
    "autoglm-core/src/checkpoint/map.rs",
    "autoglm-core/src/workers.rs",
    "autoglm-power/src/os/android.rs",
    "autoglm-power/src/os/disposition.rs",
    "autoglm-power/src/os/lock.rs",
    "autoglm-power/src/os/sched.rs",
];

/// The crate that may contain `unsafe` anywhere: intrinsics are what it is for.
const UNSAFE_CRATE: &str = "autoglm-kernels/";

/// Names of files that tell a reader nothing about what is in them and so collect everything.
const DRAWERS: &[&str] = &["helper", "helpers", "util", "utils"];

pub(crate) fn every_file_says_what_it_is(tree: &Tree) -> Vec<String> {
    // The facade's description is the README.
    let speaks = |text: &str| text.starts_with("//!") || text.starts_with("#![doc = include_str!(");
    let silent = tree.texts(".rs").filter(|(_, text)| !speaks(text));
    silent.map(|(path, _)| format!("{path}:1: does not begin with a `//!` comment that says what it is")).collect()
}

pub(crate) fn unsafe_stays_where_it_is_expected(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in tree.texts(".rs") {
        let lines = lines_with_word(&code_of(text), "unsafe");
        if UNSAFE_FILES.contains(&path) {
            if lines.is_empty() {
                problems.push(format!("{path}: has no `unsafe` and need not be listed in xtask/src/tidy/sources.rs"));
            }
        } else if !path.starts_with(UNSAFE_CRATE) {
            problems.extend(lines.iter().map(|line| format!("{path}:{line}: `unsafe` is not expected here")));
        }
    }
    problems
}

/// A file that needs section banners wants to be several files.
pub(crate) fn no_banners(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for (ending, comment) in [(".rs", "//"), (".py", "#"), (".toml", "#")] {
        for (path, text) in tree.texts(ending) {
            for (idx, line) in text.lines().enumerate() {
                if line.trim_start().strip_prefix(comment).is_some_and(is_banner) {
                    problems.push(format!("{path}:{}: a section banner", idx + 1));
                }
            }
        }
    }
    problems
}

/// Whether a comment opens with a rule of at least four equal signs, dashes or the like.
fn is_banner(comment: &str) -> bool {
    let comment = comment.trim_start_matches(['/', '!', ' ']);
    let Some(first) = comment.chars().next() else { return false };
    "-=*#~_─━═".contains(first) && comment.chars().take_while(|c| *c == first).count() >= 4
}

pub(crate) fn no_drawers(tree: &Tree) -> Vec<String> {
    let sources =
        tree.files.iter().map(|file| file.path.as_str()).filter(|path| path.ends_with(".rs") || path.ends_with(".py"));
    let names = |path: &str| path.split('/').any(|part| DRAWERS.contains(&part.split('.').next().unwrap_or(part)));
    sources
        .filter(|path| names(path))
        .map(|path| format!("{path}: named for no idea; give it the name of what it holds"))
        .collect()
}

/// A test that does not run proves nothing and rots.
pub(crate) fn no_ignored_tests(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in tree.texts(".rs") {
        let code = code_of(text);
        let ignored = code.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("#[ignore"));
        problems.extend(ignored.map(|(idx, _)| format!("{path}:{}: an ignored test", idx + 1)));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(rule: fn(&Tree) -> Vec<String>, path: &str, text: &str) -> Vec<String> {
        rule(&Tree::of(&[(path, text)]))
    }

    #[test]
    fn a_file_without_a_description_is_a_problem() {
        assert_eq!(lines(every_file_says_what_it_is, "a/src/b.rs", "use std::fs;\n//! Late.\n").len(), 1);
        assert_eq!(lines(every_file_says_what_it_is, "a/src/b.rs", "").len(), 1);
        for fine in ["//! What it is.\n", "#![doc = include_str!(\"../../README.md\")]\n"] {
            assert_eq!(lines(every_file_says_what_it_is, "a/src/b.rs", fine), [""; 0]);
        }
    }

    #[test]
    fn unsafe_code_is_a_problem_outside_its_files_and_prose_about_it_is_not() {
        let block = "fn f() {\n    unsafe { g() }\n}\n";
        assert_eq!(lines(unsafe_stays_where_it_is_expected, "a.rs", block), ["a.rs:2: `unsafe` is not expected here"]);
        for fine in [UNSAFE_FILES[0], "autoglm-kernels/src/a.rs"] {
            assert_eq!(lines(unsafe_stays_where_it_is_expected, fine, block), [""; 0]);
        }
        assert_eq!(
            lines(unsafe_stays_where_it_is_expected, "a.rs", "// unsafe\n#![deny(unsafe_code)]\nlet s = \"unsafe {\";"),
            [""; 0]
        );
    }

    #[test]
    fn a_listed_file_without_unsafe_is_a_stale_entry() {
        assert_eq!(lines(unsafe_stays_where_it_is_expected, UNSAFE_FILES[0], "fn f() {}").len(), 1);
    }

    #[test]
    fn banners_are_problems_and_tables_and_lists_are_not() {
        for banner in ["// ----", "//======== Tests ========", "    /// ****", "//! ────────"] {
            assert_eq!(lines(no_banners, "a.rs", banner).len(), 1, "{banner}");
        }
        assert_eq!(lines(no_banners, "a.py", "# ---- loading").len(), 1);
        for fine in [
            "//! | a |---|",
            "// - an item",
            "/// --no-test leaves them out",
            "let x = 1; // ok",
            "let s = \"// ----\";",
        ] {
            assert_eq!(lines(no_banners, "a.rs", fine), [""; 0], "{fine}");
        }
    }

    #[test]
    fn a_drawer_is_a_problem_as_file_and_as_directory() {
        for path in ["a/src/utils.rs", "a/src/helpers/x.rs", "goldens/util.py"] {
            assert_eq!(lines(no_drawers, path, "").len(), 1, "{path}");
        }
        assert_eq!(lines(no_drawers, "a/src/utilisation.rs", ""), [""; 0]);
    }

    #[test]
    fn an_ignored_test_is_a_problem() {
        assert_eq!(
            lines(no_ignored_tests, "a.rs", "    #[test]\n    #[ignore = \"slow\"]\n"),
            ["a.rs:2: an ignored test"]
        );
        assert_eq!(lines(no_ignored_tests, "a.rs", "// #[ignore] is not used here\n"), [""; 0]);
    }
}
