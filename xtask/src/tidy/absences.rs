//! What the architecture promises to leave out.

use super::code::{code_of, lines_with_word};
use super::edges::below_the_facade;
use super::tree::Tree;

/// Names through which code learns what is outside of its arguments: time, network, environment,
/// and how large the machine is.
const OUTSIDE: &[&str] =
    &["Instant", "SystemTime", "TcpListener", "TcpStream", "UdpSocket", "available_parallelism", "env"];

/// A component that reads the clock or the environment cannot be tested without it, and a budget
/// cannot steer it.
pub(crate) fn nothing_below_the_facade_looks_outside(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in tree.texts(".rs") {
        let mut parts = path.split('/');
        let is_component = parts.next().is_some_and(below_the_facade) && parts.next() == Some("src");
        if !is_component || path.ends_with("/tests.rs") || path.contains("/tests/") {
            continue;
        }
        let code = code_of(text);
        // Tests come last in a file.
        let code = code.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for word in OUTSIDE {
            let lines = lines_with_word(code, word);
            problems.extend(lines.iter().map(|line| format!("{path}:{line}: `{word}` below the facade")));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> Vec<String> {
        nothing_below_the_facade_looks_outside(&Tree::of(&[(path, text)]))
    }

    #[test]
    fn a_component_that_reads_the_clock_or_the_environment_is_a_problem() {
        let clock = "let start = std::time::Instant::now();";
        assert_eq!(problems("autoglm-text/src/a.rs", clock), ["autoglm-text/src/a.rs:1: `Instant` below the facade"]);
        assert_eq!(problems("autoglm-core/src/a.rs", "std::env::var(\"X\")").len(), 1);
        assert_eq!(problems("autoglm-core/src/a.rs", "#[cfg(test)]\nuse x;\nlet t = SystemTime::now();").len(), 1);
    }

    #[test]
    fn tests_and_the_crates_above_may() {
        let clock = "let start = std::time::Instant::now();";
        for path in ["autoglm/src/a.rs", "xtask/src/a.rs", "autoglm-text/src/a/tests.rs", "autoglm-text/tests/a.rs"] {
            assert_eq!(problems(path, clock), [""; 0], "{path}");
        }
        let in_tests = format!("// Instant, env\nfn f() {{}}\n#[cfg(test)]\nmod tests {{ {clock} }}\n");
        assert_eq!(problems("autoglm-text/src/a.rs", &in_tests), [""; 0]);
    }
}
