//! The bar that says how far quantising is.

use std::io::IsTerminal;
use std::sync::OnceLock;

use autoglm::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// A bar on standard error, where somebody looks at it; it appears with the first weights, and goes
/// when all are quantised.
pub(crate) fn bar() -> Option<Progress> {
    if !std::io::stderr().is_terminal() {
        return None;
    }
    let bar: OnceLock<ProgressBar> = OnceLock::new();
    Some(Progress::new(move |more, total| {
        let bar = bar.get_or_init(|| {
            let style = ProgressStyle::with_template("quantising {bar:30} {percent}% {eta}");
            ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        bar.inc(more);
        if bar.position() >= total {
            bar.finish_and_clear();
        }
    }))
}
