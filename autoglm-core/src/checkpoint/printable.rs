//! Text that came out of a file, made fit for one line of an error message.

use std::fmt::{self, Write};

/// Names listed before the rest is only counted.
const LISTED: usize = 20;

/// Characters printed of one name or message.
const PRINTED: usize = 200;

/// `text` with control and other unprintable characters spelled out, cut after some 200 characters:
/// a file may name a tensor with a megabyte of terminal commands.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::new();
    let mut printed = 0;
    for c in text.chars() {
        if printed >= PRINTED {
            out.push('…');
            break;
        }
        if matches!(c, '"' | '\'' | '\\') {
            out.push(c);
            printed += 1;
        } else {
            printed += c.escape_debug().len();
            out.extend(c.escape_debug());
        }
    }
    out
}

/// Writes up to twenty of `items`, separated by commas, and how many there are besides.
pub(crate) fn list<T>(f: &mut fmt::Formatter<'_>, items: &[T], mut show: impl FnMut(&T, &mut String)) -> fmt::Result {
    let mut line = String::new();
    for (i, item) in items.iter().take(LISTED).enumerate() {
        line.push_str(if i == 0 { "" } else { ", " });
        show(item, &mut line);
    }
    if items.len() > LISTED {
        write!(line, " and {} more", items.len() - LISTED)?;
    }
    f.write_str(&line)
}

/// A list of names for an error message.
pub(crate) struct Names<'a>(pub(crate) &'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, self.0, |name, line| {
            line.push('`');
            line.push_str(&printable(name));
            line.push('`');
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_spelled_out_and_length_is_bounded() {
        assert_eq!(printable("a\n\u{1b}[31m\"温\u{202e}"), "a\\n\\u{1b}[31m\"温\\u{202e}");
        assert_eq!(printable(&"x".repeat(1 << 20)).chars().count(), PRINTED + 1);
        assert!(printable(&"\u{1b}".repeat(1 << 20)).chars().count() < PRINTED + 10);
    }

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let names: Vec<String> = (0..23).map(|i| format!("t{i}")).collect();
        let line = Names(&names).to_string();
        assert!(line.starts_with("`t0`, `t1`") && line.ends_with("`t19` and 3 more"), "{line}");
        assert_eq!(Names(&names[..2]).to_string(), "`t0`, `t1`");
    }
}
