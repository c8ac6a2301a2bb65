//! A conversation laid out as token ids, by the checkpoint's own chat template.
//!
//! Hugging Face renders the whole conversation into one string and looks for markers in it, so a
//! message that says `<|assistant|>` speaks for the assistant. Here the template is rendered with one
//! private-use character in place of each text; the output is cut there, the template's own words are
//! encoded with markers and the messages' words without. A template that drops or repeats a text is
//! an error, and so is one that trims it or searches in it: such a template is noticed by rendering
//! once more with the real words, whose result is compared and thrown away.
//!
//! Templates come from strangers. They run with bounded steps, memory, depth and output, and reach
//! neither files nor the clock.

use std::borrow::Cow;

use autoglm_core::TokenId;
use minijinja::{Value as Dynamic, context};
use serde_json::Value;

use crate::tokenizer::Segment;
use crate::{Error, Family, Result, Tokenizer};

mod template;
#[cfg(test)]
mod tests;

use template::Template;

/// The layout of GLM-4.1V, for checkpoints without a template of their own: a role marker and a line
/// break before each message, nothing after it; a system message is words only.
const BUILT_IN: &str = r#"[gMASK]<sop>
{%- for message in messages -%}
    <|{{ message.role }}|>{{ "\n" }}
    {%- if message.content is string -%}
        {{ message.content }}
    {%- else -%}
        {%- for part in message.content -%}
            {%- if part.type == "image" -%}
                <|begin_of_image|><|image|><|end_of_image|>
            {%- elif part.type == "audio" -%}
                <|begin_of_audio|><|audio|><|end_of_audio|>
            {%- else -%}
                {{ part.text }}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    <|assistant|>{{ "\n" }}
{%- endif -%}
"#;

/// The layout of GLM-ASR, likewise: what is asked about a sound is a turn of its own
/// (`GlmAsrProcessor.apply_transcription_request`).
const BUILT_IN_ASR: &str = r#"{%- for message in messages -%}
    <|{{ message.role }}|>{{ "\n" }}
    {%- if message.content is string -%}
        {{ message.content }}
    {%- else -%}
        {%- for part in message.content -%}
            {%- if part.type == "audio" -%}
                <|begin_of_audio|><|pad|><|end_of_audio|>
                {%- if not loop.last -%}
                    <|user|>{{ "\n" }}
                {%- endif -%}
            {%- else -%}
                {{ part.text }}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    <|assistant|>{{ "\n" }}
{%- endif -%}
"#;

/// The largest template that is compiled; real ones have up to 20 KB. The engine takes seconds to compile the
/// worst of this size.
const MAX_TEMPLATE_BYTES: usize = 1 << 15;

/// First of the characters that stand for parts: the start of a private-use plane, which no template
/// prints on its own.
const FIRST_STAND_IN: u32 = 0xF_0000;

/// Characters of that plane.
const MAX_PARTS: usize = 0xFFFE;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Instructions before the conversation.
    System,
    /// The person, or the agent program that speaks for them.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The name that templates know.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// Words. Markers in them are words too.
    Text(String),
    /// A picture: one placeholder, which fusion expands.
    Image,
    /// A sound: one placeholder, which fusion expands.
    Audio,
    /// Ids as they are, such as an earlier reply of the model. They are not split anew together with
    /// their neighbours.
    Tokens(Vec<TokenId>),
    /// Words of the program itself, in which `<think>` and other markers are markers. Never put anything
    /// here that a person, a screen or a model wrote.
    Markup(String),
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said and shown, in order.
    pub content: Vec<Content>,
}

impl Message {
    /// A turn of words only.
    #[must_use]
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self { role, content: vec![Content::Text(text.into())] }
    }
}

/// A checkpoint's chat template, compiled.
///
/// ```
/// use autoglm_text::{ChatTemplate, Message, Role};
///
/// # fn main() -> autoglm_text::Result<()> {
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/autoglm-tiny/tokenizer.json");
/// # let json = std::fs::read(path).expect("the tiny checkpoint is part of the repository");
/// # let tokenizer = autoglm_text::Tokenizer::from_json(&json)?;
/// let template = ChatTemplate::built_in(autoglm_text::Family::Glm4v)?;
/// let ids = template.apply(&tokenizer, &[Message::text(Role::User, "打开相机")], true)?;
/// assert_eq!(tokenizer.decode(&ids)?, "[gMASK]<sop><|user|>\n打开相机<|assistant|>\n");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ChatTemplate(Template);

impl ChatTemplate {
    /// The layout of a member of the family: GLM-4.1V's, but for GLM-ASR.
    ///
    /// # Errors
    /// [`Error::TemplateThread`] when the system gives no thread to compile on.
    pub fn built_in(family: Family) -> Result<Self> {
        let source = match family {
            Family::Glm4v | Family::Glm4 => BUILT_IN,
            Family::GlmAsr => BUILT_IN_ASR,
        };
        Ok(Self(Template::compile(source.into(), &Value::Null)?))
    }

    /// The template of a checkpoint directory, from the contents of its `chat_template.jinja` and
    /// `tokenizer_config.json` as far as they exist.
    ///
    /// As in transformers the first wins; the second may hold one template or a list of named ones, of
    /// which `default` is taken. Without any it is the one that is [`built_in`](ChatTemplate::built_in) for `family`.
    ///
    /// # Errors
    /// - [`Error::TooLarge`] and [`Error::Template`] for a template that does not compile.
    /// - [`Error::TemplateGrowth`] for one that could build values without end.
    /// - [`Error::TemplateField`] for a `chat_template` that is neither a string nor such a list.
    /// - [`Error::TemplateThread`] when the system gives no thread to compile on.
    pub fn from_files(jinja: Option<&str>, tokenizer_config: Option<&Value>, family: Family) -> Result<Self> {
        let config = tokenizer_config.unwrap_or(&Value::Null);
        let Some(source) = Self::source(jinja, tokenizer_config)? else { return Self::built_in(family) };
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(Error::TooLarge { what: "the chat template", bytes: source.len(), limit: MAX_TEMPLATE_BYTES });
        }
        Ok(Self(Template::compile(source.to_owned(), config)?))
    }

    /// The template that [`ChatTemplate::from_files`] takes, if the files have any.
    ///
    /// # Errors
    /// [`Error::TemplateField`] as there.
    pub fn source<'a>(jinja: Option<&'a str>, tokenizer_config: Option<&'a Value>) -> Result<Option<&'a str>> {
        let field = || tokenizer_config?.get("chat_template").filter(|field| !field.is_null());
        match jinja {
            Some(source) => Ok(Some(source)),
            None => field().map(default_template).transpose(),
        }
    }

    /// Lays out a conversation, with the opening of the model's turn if `add_generation_prompt`.
    ///
    /// A message that is one text goes to the template as a string, as most clients send it; others as
    /// a list of parts.
    ///
    /// # Errors
    /// - [`Error::TooManyParts`] for a conversation beyond what can be marked.
    /// - [`Error::Template`], [`Error::TemplateRefusal`], [`Error::TemplateFuel`],
    ///   [`Error::TemplateOutput`] and [`Error::TemplateThread`] when the template fails.
    /// - [`Error::TemplateCount`] and [`Error::TemplateReadsText`] when it does not print every text once, as it is.
    /// - Those of [`Tokenizer::encode_segments`].
    pub fn apply(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<Vec<TokenId>> {
        let parts = Parts::of(tokenizer, messages)?;
        let mut stand_ins = (0..parts.0.len()).map(stand_in);
        let with_stand_ins = conversation(messages, || stand_ins.next().map(String::from));
        let all = messages.iter().map(|message| 1 + message.content.len()).sum();
        let rendered = self.0.render(with_stand_ins, add_generation_prompt, all, 0)?;
        parts.check_each_stands_once(&rendered)?;

        let mut words = parts.0.iter().map(|part| part.words.clone().into_owned());
        let with_words = conversation(messages, || words.next());
        let bytes = parts.0.iter().map(|part| part.words.len()).sum();
        if self.0.render(with_words, add_generation_prompt, all, bytes)? != parts.fill(&rendered) {
            return Err(Error::TemplateReadsText);
        }
        tokenizer.encode_segments(&parts.cut(&rendered))
    }
}

/// The parts of a conversation that have words, in order. The n-th is printed as `stand_in(n)`.
struct Parts<'a>(Vec<Part<'a>>);

struct Part<'a> {
    message: usize,
    index: usize,
    content: &'a Content,
    /// What Hugging Face would give the template in this place.
    words: Cow<'a, str>,
}

impl<'a> Parts<'a> {
    fn of(tokenizer: &Tokenizer, messages: &'a [Message]) -> Result<Self> {
        let mut parts = Vec::new();
        for (message, Message { content, .. }) in messages.iter().enumerate() {
            for (index, content) in content.iter().enumerate().filter(|(_, content)| has_words(content)) {
                let words = match content {
                    Content::Text(text) | Content::Markup(text) => Cow::Borrowed(text.as_str()),
                    Content::Tokens(ids) => Cow::Owned(tokenizer.decode(ids)?),
                    Content::Image | Content::Audio => continue,
                };
                parts.push(Part { message, index, content, words });
            }
        }
        if parts.len() > MAX_PARTS {
            return Err(Error::TooManyParts { parts: parts.len(), limit: MAX_PARTS });
        }
        Ok(Self(parts))
    }

    fn stands_in(&self, c: char) -> Option<usize> {
        let n = u32::from(c).checked_sub(FIRST_STAND_IN)? as usize;
        (n < self.0.len()).then_some(n)
    }

    fn check_each_stands_once(&self, rendered: &str) -> Result<()> {
        let mut times = vec![0; self.0.len()];
        for n in rendered.chars().filter_map(|c| self.stands_in(c)) {
            times[n] += 1;
        }
        match self.0.iter().zip(times).find(|(_, times)| *times != 1) {
            Some((part, times)) => Err(Error::TemplateCount { message: part.message, part: part.index, times }),
            None => Ok(()),
        }
    }

    /// The rendered string with the words in their places.
    fn fill(&self, rendered: &str) -> String {
        let mut filled = String::with_capacity(rendered.len());
        for c in rendered.chars() {
            match self.stands_in(c) {
                Some(n) => filled.push_str(&self.0[n].words),
                None => filled.push(c),
            }
        }
        filled
    }

    /// The rendered string by who wrote what.
    fn cut<'s>(&'s self, rendered: &'s str) -> Vec<Segment<'s>> {
        let mut segments = Vec::new();
        let mut end = 0;
        for (at, c) in rendered.char_indices() {
            let Some(n) = self.stands_in(c) else { continue };
            segments.push(Segment::Literal(&rendered[end..at]));
            segments.push(match self.0[n].content {
                Content::Tokens(ids) => Segment::Ids(ids),
                Content::Markup(text) => Segment::Literal(text),
                Content::Text(text) => Segment::Text(text),
                Content::Image | Content::Audio => Segment::Literal(""),
            });
            end = at + c.len_utf8();
        }
        segments.push(Segment::Literal(&rendered[end..]));
        segments
    }
}

/// Whether a part is printed by the template as words. An empty one has nothing to lose, and templates
/// ask whether there is any content.
fn has_words(content: &Content) -> bool {
    match content {
        Content::Text(text) | Content::Markup(text) => !text.is_empty(),
        Content::Tokens(ids) => !ids.is_empty(),
        Content::Image | Content::Audio => false,
    }
}

fn stand_in(n: usize) -> char {
    let code = u32::try_from(n).ok().and_then(|n| FIRST_STAND_IN.checked_add(n));
    code.and_then(char::from_u32).expect("the number of parts was checked against the plane")
}

/// The messages as transformers shows them to a template; `words` gives the words of each part that
/// has any, in order.
fn conversation(messages: &[Message], mut words: impl FnMut() -> Option<String>) -> Dynamic {
    let mut printed = |content: &Content| has_words(content).then(&mut words).flatten().unwrap_or_default();
    let messages = messages.iter().map(|Message { role, content }| {
        let content = match content.as_slice() {
            [content @ (Content::Text(_) | Content::Tokens(_) | Content::Markup(_))] => Dynamic::from(printed(content)),
            parts => parts
                .iter()
                .map(|part| match part {
                    Content::Image => context! { type => "image" },
                    Content::Audio => context! { type => "audio" },
                    words => context! { type => "text", text => printed(words) },
                })
                .collect(),
        };
        context! { role => role.as_str(), content }
    });
    messages.collect()
}

/// The template in a `chat_template` field.
fn default_template(field: &Value) -> Result<&str> {
    let refuse = |why| Error::TemplateField { field: "chat_template", why };
    let list = match field {
        Value::String(source) => return Ok(source),
        Value::Array(list) => list,
        _ => return Err(refuse("is neither a template nor a list of named ones")),
    };
    let named_default = list.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"));
    let default = named_default.ok_or_else(|| refuse("is a list without a template named `default`"))?;
    default.get("template").and_then(Value::as_str).ok_or_else(|| refuse("has a default that is no template"))
}
