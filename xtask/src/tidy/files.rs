//! Rules about any file: goldens, sizes, and what must not be written down anywhere.

use super::tree::{File, Tree};

/// The largest file outside of [`MODELS`], in bytes: what a reviewer and a clone put up with.
const LARGEST: u64 = 2_000_000;

const MODELS: &str = "models/";

/// First parts of absolute paths that exist on somebody's machine only.
const MACHINE_DIRECTORIES: &[&str] = &["home", "root", "work", "farm", "Users", "var/tmp", "mnt"];

/// Spelled in two parts so that this file does not break its own rule.
const NATIVE: &str = concat!("target-cpu=", "native");

/// A golden that no script writes cannot be regenerated, so nobody can tell whether it is right.
pub(crate) fn goldens_belong_to_a_script(tree: &Tree) -> Vec<String> {
    let scripts = tree.texts(".py").filter(|(path, _)| path.starts_with("goldens/"));
    // The odd pieces between quotes are strings.
    let strings: Vec<&str> = scripts.flat_map(|(_, text)| text.split('"').skip(1).step_by(2)).collect();
    let mut problems = Vec::new();
    for File { path, .. } in &tree.files {
        let Some(golden) = path.strip_prefix("goldens/") else { continue };
        if [".py", ".md", ".txt"].iter().any(|ending| golden.ends_with(ending)) {
            continue;
        }
        // All files of a case are made together and go by the case's name.
        let name = match golden.split('/').collect::<Vec<_>>()[..] {
            ["cases", case, _, ..] => case,
            [.., file] => file,
            [] => continue,
        };
        if !strings.iter().any(|string| may_read(string, name)) {
            problems.push(format!("{path}: no script in goldens/ names {name}"));
        }
    }
    problems
}

/// Whether a Python string can read `name` once its `{fields}` are filled in.
fn may_read(string: &str, name: &str) -> bool {
    match string.split_once('{') {
        None => string == name,
        // A string that is nothing but a field could read anything and so names nothing.
        Some(("", field)) if field.ends_with('}') => false,
        Some((before, rest)) => {
            let after = rest.split_once('}').map_or("", |(_, after)| after);
            let Some(filled) = name.strip_prefix(before) else { return false };
            (0..=filled.len()).any(|len| filled.is_char_boundary(len) && may_read(after, &filled[len..]))
        }
    }
}

pub(crate) fn large_files_are_models(tree: &Tree) -> Vec<String> {
    let large = tree.files.iter().filter(|file| file.bytes > LARGEST && !file.path.starts_with(MODELS));
    large.map(|File { path, bytes, .. }| format!("{path}: {bytes} bytes, above {LARGEST} outside {MODELS}")).collect()
}

/// The instruction set is chosen at run time; a build for the builder's own processor hides it
/// when that fails, and breaks on everyone else's.
pub(crate) fn no_processor_is_presumed(tree: &Tree) -> Vec<String> {
    lines_that(tree, |line| line.contains(NATIVE), "presumes the builder's own processor")
}

pub(crate) fn no_machine_paths(tree: &Tree) -> Vec<String> {
    lines_that(tree, names_a_machine, "a path that exists on one machine only")
}

fn names_a_machine(line: &str) -> bool {
    MACHINE_DIRECTORIES.iter().any(|directory| {
        let path = format!("/{directory}/");
        line.match_indices(&path).any(|(at, _)| {
            // After a letter it is the middle of a longer path or of a web address.
            !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-~)}>".contains(c))
        })
    })
}

fn lines_that(tree: &Tree, is_bad: impl Fn(&str) -> bool, problem: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in tree.texts("") {
        let bad = text.lines().enumerate().filter(|(_, line)| is_bad(line));
        problems.extend(bad.map(|(idx, _)| format!("{path}:{}: {problem}", idx + 1)));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_golden_that_no_script_names_is_a_problem() {
        let script =
            ("goldens/make.py", "CASES = [\"small\"]\nwrite(\"chat.json\", f\"{x}\", f\"resize_{x}.safetensors\")\n");
        let tree = Tree::of(&[
            script,
            ("goldens/README.md", ""),
            ("goldens/chat.json", ""),
            ("goldens/cases/small/config.json", ""),
            ("goldens/cases/lost/config.json", ""),
            ("goldens/stray.safetensors", ""),
            ("goldens/components/resize_up.safetensors", ""),
        ]);
        assert_eq!(
            goldens_belong_to_a_script(&tree),
            [
                "goldens/cases/lost/config.json: no script in goldens/ names lost",
                "goldens/stray.safetensors: no script in goldens/ names stray.safetensors",
            ]
        );
    }

    #[test]
    fn a_large_file_is_a_problem_outside_models() {
        let file = |path: &str, bytes| File { path: path.to_owned(), bytes, text: None };
        let files = vec![
            file("goldens/a.bin", LARGEST + 1),
            file("goldens/b.bin", LARGEST),
            file("models/a/c.bin", LARGEST * 2),
        ];
        let problems = large_files_are_models(&Tree { files, ..Tree::of(&[]) });
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with("goldens/a.bin: "));
    }

    #[test]
    fn a_build_for_the_builders_processor_is_a_problem() {
        let config = format!("[build]\nrustflags = [\"-C\", \"{NATIVE}\"]\n");
        assert_eq!(no_processor_is_presumed(&Tree::of(&[(".cargo/config.toml", &config)])).len(), 1);
        assert_eq!(no_processor_is_presumed(&Tree::of(&[(".cargo/config.toml", "[build]\n")])), [""; 0]);
    }

    #[test]
    fn an_absolute_path_into_someones_directories_is_a_problem() {
        for directory in MACHINE_DIRECTORIES {
            for line in [format!("see /{directory}/x"), format!("\"/{directory}/x\""), format!("file:///{directory}/x")]
            {
                assert_eq!(no_machine_paths(&Tree::of(&[("README.md", &line)])).len(), 1, "{line}");
            }
            let web = format!("https://example.com/{directory}/x and ../{directory}/x");
            assert_eq!(no_machine_paths(&Tree::of(&[("README.md", &web)])), [""; 0]);
        }
    }
}
