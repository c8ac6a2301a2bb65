//! A Jinja template that runs within bounds.
//!
//! The engine counts steps and bytes, but not everything: deeply nested expressions and values are
//! walked recursively, so both compiling and rendering happen on a thread whose stack holds the deepest
//! nesting that the bounds on source and steps allow. The filters and methods that print whole values
//! or pad to any width are left out; `tojson` is bounded here. What one step does with one value is not
//! counted, so `growth` refuses templates that could build values of any size.

use std::collections::BTreeMap;
use std::io;
use std::thread;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, ErrorKind, Output, State, Value, context, escape_formatter};
use minijinja_contrib::pycompat::unknown_method_callback;

use crate::{Error, Result};

mod growth;
mod json;

/// Steps of one rendering at most. One step is an instruction or 64 bytes, so this also bounds what a
/// template can allocate, to some 25 MB.
const FUEL: u64 = 400_000;

/// Steps before the first message. Comparing two texts is one step of any length, so time grows with the
/// square of the steps; with these it is a second.
const BASE_FUEL: u64 = 40_000;

/// Steps for each message and each of its parts, of which the layout of GLM-4.1V needs some forty.
const FUEL_PER_PART: u64 = 200;

/// Numbers in one `range`. Searching a text for a range prints it in one step; templates count messages.
const MAX_RANGE: usize = 10_000;

/// Bytes a template may write beside the messages' words.
const MAX_OUTPUT_BYTES: usize = 1 << 20;

/// Loops, branches and macro calls inside of each other; a macro call counts as several.
const MAX_DEPTH: usize = 100;

/// 32 KiB of source nest some 16 000 expressions; a level takes a few hundred bytes of stack to run, and a few
/// kilobytes to walk before. Only what is touched becomes memory.
const STACK_BYTES: usize = 256 << 20;

/// Names under which `tokenizer_config.json` gives templates a token.
const TOKEN_NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

const NAME: &str = "chat_template";

/// A compiled template and the tokens it may name.
#[derive(Debug)]
pub(super) struct Template {
    environment: Environment<'static>,
    tokens: Value,
}

impl Template {
    /// # Errors
    /// - [`Error::Template`] for a syntax error.
    /// - [`Error::TemplateGrowth`] for a template that could build values without end.
    pub(super) fn compile(source: String, tokenizer_config: &serde_json::Value) -> Result<Self> {
        let tokens = TOKEN_NAMES.into_iter().filter_map(|name| {
            let field = tokenizer_config.get(name)?;
            let content = field.as_str().or_else(|| field.get("content")?.as_str())?;
            Some((name, content.to_owned()))
        });
        let tokens = Value::from(tokens.collect::<BTreeMap<_, _>>());
        let environment = on_deep_stack(|| {
            let mut environment = environment();
            growth::check(&source, syntax())?;
            environment.add_template_owned(NAME, source).map_err(Error::Template)?;
            Ok::<_, Error>(environment)
        })??;
        Ok(Self { environment, tokens })
    }

    /// Renders `messages`, which have `parts` in all and bring `word_bytes` of words along.
    ///
    /// # Errors
    /// - [`Error::TemplateRefusal`] when the template raises an exception.
    /// - [`Error::TemplateFuel`] and [`Error::TemplateOutput`] when it leaves its bounds.
    /// - [`Error::Template`] when an operation fails.
    pub(super) fn render(
        &self,
        messages: Value,
        add_generation_prompt: bool,
        parts: usize,
        word_bytes: usize,
    ) -> Result<String> {
        // Passing words on costs steps as well; a template that looks at each of them a few times is normal.
        let fuel = (BASE_FUEL + FUEL_PER_PART * parts as u64).min(FUEL) + word_bytes as u64 / 4;
        on_deep_stack(move || {
            let mut environment = self.environment.clone();
            environment.set_fuel(Some(fuel));
            let context = context! {
                // What transformers passes when a call has neither.
                tools => (),
                documents => (),
                messages,
                add_generation_prompt,
                ..self.tokens.clone()
            };
            let mut output =
                Bounded { bytes: Vec::new(), limit: MAX_OUTPUT_BYTES.saturating_add(word_bytes), full: false };
            let template = environment.get_template(NAME).map_err(Error::Template)?;
            match template.render_captured_to(context, &mut output) {
                Err(_) if output.full => Err(Error::TemplateOutput { limit: MAX_OUTPUT_BYTES }),
                Err(error) => Err(name(error, fuel)),
                Ok(_) => Ok(String::from_utf8(output.bytes).expect("a template writes whole strings")),
            }
        })?
    }
}

/// The settings of transformers' `_compile_jinja_template`.
fn syntax() -> SyntaxConfig {
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    syntax.expect("only the treatment of white space differs from the default")
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_syntax(syntax());
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(MAX_DEPTH);
    environment.set_formatter(print);
    environment.set_unknown_method_callback(|state, value, method, args| match method {
        "format" => Err(ErrorKind::UnknownMethod.into()),
        _ => unknown_method_callback(state, value, method, args),
    });
    for filter in ["pprint", "format", "urlencode", "zip", "batch", "slice", "groupby", "chain", "sum"] {
        environment.remove_filter(filter);
    }
    environment.remove_global("debug");
    environment.remove_global("dict");
    environment.add_filter("tojson", json::tojson);
    environment.add_function("range", |lower: isize, upper: Option<isize>, step: Option<isize>| {
        let range = minijinja::functions::range(lower, upper, step)?;
        match range.len().is_some_and(|len| len <= MAX_RANGE) {
            true => Ok(range),
            false => Err(minijinja::Error::new(ErrorKind::InvalidOperation, "range has too many elements")),
        }
    });
    environment.add_function("raise_exception", |message: String| -> std::result::Result<Value, _> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(Refusal(message)))
    });
    environment.add_function("strftime_now", |_: String| -> std::result::Result<Value, _> {
        let why = "strftime_now: a prompt that depends on the clock is not supported";
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, why))
    });
    environment
}

/// Prints as Python does, and refuses what Python would print in a notation of its own.
fn print(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> std::result::Result<(), minijinja::Error> {
    match value.kind() {
        ValueKind::None => out.write_str("None")?,
        ValueKind::Bool => out.write_str(if value.is_true() { "True" } else { "False" })?,
        ValueKind::Undefined | ValueKind::Number | ValueKind::String => escape_formatter(out, state, value)?,
        kind => {
            let why = format!("prints a {kind} where a message's words are meant");
            return Err(minijinja::Error::new(ErrorKind::InvalidOperation, why));
        }
    }
    Ok(())
}

/// The words of a template's `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

/// Finds what ended the rendering among the places it passed through.
fn name(error: minijinja::Error, fuel: u64) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(at) = cause {
        if let Some(Refusal(message)) = at.downcast_ref() {
            return Error::TemplateRefusal { message: crate::error::shorten(message) };
        }
        if at.downcast_ref().is_some_and(|e: &minijinja::Error| e.kind() == ErrorKind::OutOfFuel) {
            return Error::TemplateFuel { fuel };
        }
        cause = at.source();
    }
    Error::Template(error)
}

/// Collects up to a limit.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
    full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.limit - self.bytes.len() {
            self.full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs `work` where recursion over anything a template can nest fits.
fn on_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(NAME.into()).stack_size(STACK_BYTES).spawn_scoped(scope, work);
        let worked = thread.map_err(Error::TemplateThread)?.join();
        Ok(worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}
