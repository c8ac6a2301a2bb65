//! `tojson` as transformers gives it to templates: Python's `json.dumps` with its separators, without
//! the escapes for HTML that Jinja's own filter makes, and bounded in size and depth.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

/// Bytes of one value; a template may write no more in all.
const MAX_BYTES: usize = super::MAX_OUTPUT_BYTES;

/// Lists and maps inside of each other.
const MAX_DEPTH: usize = 64;

/// Spaces per level; Python programs use two or four.
const MAX_INDENT: usize = 16;

type Result<T> = std::result::Result<T, Error>;

#[expect(clippy::needless_pass_by_value, reason = "the engine hands a filter its options by value")]
pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<String> {
    let indent: Option<usize> = options.get("indent")?;
    let ensure_ascii: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    if ensure_ascii == Some(true) {
        return Err(refuse("tojson with ensure_ascii is not supported"));
    }
    if indent.is_some_and(|n| n > MAX_INDENT) {
        return Err(refuse("tojson indents by more than 16"));
    }
    let mut writer = Writer { out: String::new(), indent, depth: 0 };
    writer.value(value)?;
    Ok(writer.out)
}

struct Writer {
    out: String,
    indent: Option<usize>,
    depth: usize,
}

impl Writer {
    fn value(&mut self, value: &Value) -> Result<()> {
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool | ValueKind::Number => self.out.push_str(&value.to_string().to_lowercase()),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?;
                self.nest('[', ']', items, |writer, item| writer.value(&item))?;
            }
            ValueKind::Map => {
                let keys = value.try_iter()?;
                self.nest('{', '}', keys, |writer, key| {
                    let name = key.as_str().ok_or_else(|| refuse("tojson of a map whose keys are no strings"))?;
                    writer.string(name);
                    writer.out.push_str(": ");
                    writer.value(&value.get_item(&key)?)
                })?;
            }
            kind => return Err(refuse(&format!("tojson of a value of kind {kind}"))),
        }
        match self.out.len() > MAX_BYTES {
            true => Err(refuse("tojson writes too much")),
            false => Ok(()),
        }
    }

    fn nest(
        &mut self,
        open: char,
        close: char,
        items: impl Iterator<Item = Value>,
        mut write: impl FnMut(&mut Self, Value) -> Result<()>,
    ) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(refuse("tojson of lists nested too deeply"));
        }
        self.out.push(open);
        let mut empty = true;
        for item in items {
            match (empty, self.indent) {
                (true, None) => {}
                (false, None) => self.out.push_str(", "),
                (first, Some(_)) => {
                    self.out.push_str(if first { "" } else { "," });
                    self.new_line(self.depth);
                }
            }
            empty = false;
            write(self, item)?;
        }
        self.depth -= 1;
        if !empty {
            self.new_line(self.depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn string(&mut self, string: &str) {
        // serde_json escapes what Python escapes: quotes, backslashes and control characters.
        self.out.push_str(&serde_json::Value::from(string).to_string());
    }
}

fn refuse(why: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, why.to_owned())
}
