//! Rust source without its comments and literals, so that a rule about code does not trip over prose.

/// `source` with every comment, string and character literal blanked out. Lines stay where they are.
pub(crate) fn code_of(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let skip = comment(&chars[at..]).or_else(|| literal(&chars, at)).unwrap_or(0);
        if skip == 0 {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..at + skip].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at += skip;
        }
    }
    out
}

/// The lines (from 1) of `code` on which `word` stands as a whole identifier.
pub(crate) fn lines_with_word(code: &str, word: &str) -> Vec<usize> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let numbered = code.lines().enumerate();
    let with_word = numbered.filter(|(_, line)| line.split(|c| !is_part(c)).any(|part| part == word));
    with_word.map(|(idx, _)| idx + 1).collect()
}

/// The length of the comment that `rest` starts with.
fn comment(rest: &[char]) -> Option<usize> {
    match rest {
        ['/', '/', ..] => Some(rest.iter().position(|c| *c == '\n').unwrap_or(rest.len())),
        ['/', '*', ..] => {
            let (mut depth, mut at) = (0, 0);
            while at < rest.len() {
                match rest[at..] {
                    ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
                    ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
                    _ => at += 1,
                }
                if depth == 0 {
                    return Some(at);
                }
            }
            Some(rest.len())
        }
        _ => None,
    }
}

/// The length of the string or character literal that starts at `at`.
fn literal(chars: &[char], at: usize) -> Option<usize> {
    let rest = &chars[at..];
    match rest[0] {
        '"' => Some(quoted(rest, '"')),
        '\'' => match rest {
            ['\'', '\\', ..] => Some(quoted(rest, '\'')),
            ['\'', _, '\'', ..] => Some(3),
            // A lifetime or a label.
            _ => None,
        },
        'r' => {
            // `r` may follow the `b` or `c` of a byte or C string, but no other part of a word.
            let before = &chars[..at];
            let before = before.strip_suffix(&['b']).or(before.strip_suffix(&['c'])).unwrap_or(before);
            let starts_word = !before.last().is_some_and(|c| c.is_alphanumeric() || *c == '_');
            let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
            if !starts_word || rest.get(1 + hashes) != Some(&'"') {
                return None;
            }
            let open = hashes + 2;
            let closes = |window: &[char]| window[0] == '"' && window[1..].iter().all(|c| *c == '#');
            let body = rest[open..].windows(hashes + 1).position(closes);
            Some(body.map_or(rest.len(), |len| open + len + hashes + 1))
        }
        _ => None,
    }
}

/// The length of a literal in `quote`s with backslash escapes.
fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_code_is_kept() {
        for (source, code) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("x \" y", 'z')"#, "f(        ,    )"),
            ("r#\"a\" b\"# c", "          c"),
            ("br\"\\\" c", "b     c"),
            ("fn f<'a>(x: &'a str) -> char { '\\'' }", "fn f<'a>(x: &'a str) -> char {      }"),
            ("for r in bar {}", "for r in bar {}"),
            ("\"open", "     "),
        ] {
            assert_eq!(code_of(source), code, "{source}");
        }
    }

    #[test]
    fn a_word_is_found_only_whole() {
        assert_eq!(lines_with_word("a\nunsafe {\nunsafe_code\nx(unsafe)", "unsafe"), [2, 4]);
    }
}
