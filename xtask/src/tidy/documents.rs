//! Documents name files that exist.
//!
//! A name is a relative link, a path in backticks that has a slash and a known ending, or a word
//! of a code block that starts in one of the workspace's directories.

use super::tree::Tree;

/// Endings that make a word with a slash the name of a file.
const ENDINGS: &[&str] =
    &[".json", ".jinja", ".md", ".png", ".py", ".rs", ".safetensors", ".sh", ".toml", ".txt", ".yml"];

pub(crate) fn named_files_exist(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for (document, text) in tree.texts(".md") {
        let directory = document.rsplit_once('/').map_or("", |(directory, _)| directory);
        let exists = |name: &str| {
            let beside = resolve(directory, name).is_some_and(|path| tree.has(&path));
            beside || resolve("", name).is_some_and(|path| tree.has(&path))
        };
        for (line, name) in names(text, tree) {
            if !exists(&name) {
                problems.push(format!("{document}:{line}: names `{name}`, which does not exist"));
            }
        }
    }
    problems
}

/// The file names of a document with the line (from 1) each stands on.
fn names(text: &str, tree: &Tree) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_block = false;
    for (idx, line) in text.lines().enumerate() {
        let mut add = |name: &str| found.push((idx + 1, name.to_owned()));
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            let words = line.split([' ', '"', '\'', '=', '(', ')', ',', ';']).filter(|word| is_path(word));
            let in_tree = |word: &&str| word.split_once('/').is_some_and(|(first, _)| tree.has(first));
            words.filter(in_tree).for_each(&mut add);
        } else {
            // The odd pieces between backticks are code.
            line.split('`').skip(1).step_by(2).filter(|span| is_path(span)).for_each(&mut add);
            line.split("](").skip(1).filter_map(link).for_each(&mut add);
        }
    }
    found
}

/// The file a link leads to, if it leads to one: `rest` follows the link's `](`.
fn link(rest: &str) -> Option<&str> {
    let target = rest.split(')').next()?;
    let file = target.split('#').next()?;
    (!file.is_empty() && !file.contains("://") && !file.starts_with("mailto:")).then_some(file)
}

/// Whether a span of code is a path inside the workspace. Patterns, absolute paths and paths below
/// a placeholder such as `DIR` are not.
fn is_path(span: &str) -> bool {
    let Some((first, _)) = span.split_once('/') else { return false };
    let is_placeholder = first.chars().all(|c| c.is_ascii_uppercase() || c == '_' || c == '$');
    !is_placeholder
        && !span.contains(['*', '<', '{', ' ', ':', '…', '~'])
        && ENDINGS.iter().any(|ending| span.ends_with(ending))
}

/// `name` seen from `directory`, or `None` if it leads out of the workspace.
fn resolve(directory: &str, name: &str) -> Option<String> {
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in name.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(document: &str, text: &str) -> Vec<String> {
        named_files_exist(&Tree::of(&[(document, text), ("a/src/lib.rs", ""), ("docs/one.md", ""), ("LICENSE", "")]))
    }

    #[test]
    fn a_name_of_nothing_is_a_problem() {
        for text in [
            "see `a/src/gone.rs`",
            "[gone](docs/gone.md)",
            "[gone](gone.md#part)",
            "```\ncargo run a/src/gone.rs\n```",
            "[a](LICENSE) and [b](b.md)",
            "[out](../other/README.md)",
        ] {
            assert_eq!(problems("README.md", text).len(), 1, "{text}");
        }
        assert_eq!(
            problems("docs/two.md", "\n`../a/src/gone.rs`"),
            ["docs/two.md:2: names `../a/src/gone.rs`, which does not exist"]
        );
    }

    #[test]
    fn names_that_exist_and_things_that_are_no_names_are_fine() {
        for text in [
            "`a/src/lib.rs`, [one](docs/one.md#top), [LICENSE](LICENSE), [crate](a)",
            "`DIR/config.json`, `src/*.rs`, `/sys/x.txt`, `gone.rs`, `zai-org/GLM-4.1V-9B`, `https://example.com/a.md`",
            "[web](https://example.com/gone.md) [part](#part)",
            "```\nautoglm logits --out out/logits.safetensors\n```",
        ] {
            assert_eq!(problems("README.md", text), [""; 0], "{text}");
        }
        assert_eq!(problems("docs/two.md", "`../a/src/lib.rs` `a/src/lib.rs` [one](one.md)"), [""; 0]);
    }
}
