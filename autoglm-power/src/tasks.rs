//! The threads of this process by their names, as the kernel lists them below `/proc`; none on systems that list none.

use crate::Tree;

const TASKS: &str = "proc/self/task";

/// Threads whose name is `prefix` and a number, in the order of these numbers: a pool names its workers so.
///
/// The kernel keeps 15 bytes of a name, and a thread that was started a moment ago may not have its own yet.
#[must_use]
pub fn named(tree: &Tree, prefix: &str) -> Vec<i32> {
    let number = |task: &String| {
        // A thread may end between being listed and being looked at.
        let name = tree.text(&format!("{TASKS}/{task}/comm")).ok()??;
        let number: usize = name.strip_prefix(prefix)?.parse().ok()?;
        Some((number, task.parse().ok()?))
    };
    let mut numbered: Vec<(usize, i32)> = tree.names(TASKS).unwrap_or_default().iter().filter_map(number).collect();
    numbered.sort_unstable();
    numbered.into_iter().map(|(_, tid)| tid).collect()
}

/// The calling thread.
#[must_use]
pub fn calling(tree: &Tree) -> Option<i32> {
    // The link leads to `<process>/task/<thread>`.
    std::fs::read_link(tree.path("proc/thread-self")).ok()?.file_name()?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_known_by_their_names_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["autoglm7-2", "autoglm7-10", "autoglm-idle", "autoglm7-", "main", "autoglm71-1", "autoglm7-1"];
        for (at, name) in names.iter().enumerate() {
            let task = folder.path().join(format!("{TASKS}/{}", 100 + at));
            std::fs::create_dir_all(&task).unwrap();
            std::fs::write(task.join("comm"), format!("{name}\n")).unwrap();
        }
        std::fs::create_dir_all(folder.path().join(format!("{TASKS}/200"))).unwrap();
        let tree = Tree::new(folder.path());
        assert_eq!(named(&tree, "autoglm7-"), [106, 100, 101]);
        assert_eq!(named(&tree, "autoglm8-"), []);
        assert_eq!(calling(&tree), None);
        assert_eq!(named(&Tree::new(folder.path().join("nowhere")), "autoglm7-"), []);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_calling_thread_is_the_one_that_asks() {
        use crate::levers::{Kernel, Threads as _};

        let asks = || assert_eq!(calling(&Tree::default()), Some(Kernel.own()));
        std::thread::spawn(asks).join().unwrap();
        asks();
    }
}
