//! Keyword arguments with Python literals: text, numbers and flat lists of numbers.

use super::ActionError;

/// A literal.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// 'text' or "text".
    Text(String),
    /// A number.
    Number(f64),
    /// [numbers].
    List(Vec<f64>),
}

/// Reads `key=value, …)` up to the closing bracket. What follows the bracket is ignored, as models
/// like to add a remark.
pub(super) fn arguments(text: &str) -> Result<Vec<(String, Value)>, ActionError> {
    let mut rest = text.trim_start();
    let mut found = Vec::new();
    loop {
        if rest.starts_with(')') {
            return Ok(found);
        }
        let at = rest;
        let (key, after) = rest.split_once('=').filter(|(key, _)| is_name(key.trim())).ok_or_else(|| unreadable(at))?;
        let (value, after) = value(after.trim_start())?;
        found.push((key.trim().to_owned(), value));
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(next) => rest = next.trim_start(),
            None if rest.starts_with(')') => {}
            None => return Err(unreadable(rest)),
        }
    }
}

fn is_name(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn unreadable(at: &str) -> ActionError {
    ActionError::Syntax { at: at.chars().take(40).collect() }
}

fn value(text: &str) -> Result<(Value, &str), ActionError> {
    match text.chars().next() {
        Some(quote @ ('"' | '\'')) => string(&text[1..], quote).ok_or_else(|| unreadable(text)),
        Some('[') => {
            let (inside, rest) = text[1..].split_once(']').ok_or_else(|| unreadable(text))?;
            let numbers = inside.split(',').map(|n| number(n.trim())).collect::<Option<Vec<_>>>();
            Ok((Value::List(numbers.ok_or_else(|| unreadable(text))?), rest))
        }
        _ => {
            let end = text.find([',', ')']).ok_or_else(|| unreadable(text))?;
            let read = number(text[..end].trim()).ok_or_else(|| unreadable(text))?;
            Ok((Value::Number(read), &text[end..]))
        }
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|n| n.is_finite())
}

/// The text up to the closing quote, with Python's common escapes, and what follows.
fn string(text: &str, quote: char) -> Option<(Value, &str)> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => match chars.next()?.1 {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                escaped @ ('\\' | '\'' | '"') => out.push(escaped),
                other => out.extend(['\\', other]),
            },
            c if c == quote => return Some((Value::Text(out), &text[i + c.len_utf8()..])),
            c => out.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_of_every_kind_are_read() {
        let read = arguments(r#" a='it\'s', b_2 = "x\ny" ,c=[1, -2.5],d=3 ) and more"#).unwrap();
        let expected = [
            ("a", Value::Text("it's".into())),
            ("b_2", Value::Text("x\ny".into())),
            ("c", Value::List(vec![1.0, -2.5])),
            ("d", Value::Number(3.0)),
        ];
        assert_eq!(read, expected.map(|(k, v)| (k.to_owned(), v)));
        assert_eq!(arguments(")").unwrap(), []);
    }

    #[test]
    fn unfinished_or_foreign_text_is_an_error() {
        for text in
            ["", "a", "a=", "a=\"x", "a=[1", "a=[x])", "a=[])", "a=1 b=2)", "a=nan)", "=1)", "a b=1)", "a=1,", "a=\"\\"]
        {
            assert!(matches!(arguments(text), Err(ActionError::Syntax { .. })), "{text}");
        }
    }
}
