//! Pressure stall information: how long tasks waited for memory.

use super::files::Files;

const MEMORY: &str = "proc/pressure/memory";

/// The share of the last ten seconds in which some task waited for memory, as a fraction. None where the kernel was built
/// or booted without it.
pub(super) fn read(files: &mut Files) -> Option<f64> {
    let text = files.text(MEMORY)?;
    let some = text.lines().find_map(|line| line.strip_prefix("some "));
    let average = some.and_then(|rest| rest.split_whitespace().find_map(|word| word.strip_prefix("avg10=")));
    let percent = average.and_then(|number| number.parse::<f64>().ok()).filter(|p| (0.0..=100.0).contains(p));
    if percent.is_none() {
        let beginning: String = text.chars().take(40).collect();
        files.complain(MEMORY, &beginning, "has no percentage of time that some task waited");
    }
    percent.map(|percent| percent / 100.0)
}
