//! Conversations against transformers, words that pretend to be markers, and templates made to hurt.

use serde_json::json;

use super::*;
use crate::tokenizer::tests::tiny;

fn tiny_template() -> ChatTemplate {
    let path = autoglm_testing::repository().join("models/autoglm-tiny/chat_template.jinja");
    ChatTemplate::from_files(Some(&std::fs::read_to_string(path).unwrap()), None).unwrap()
}

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::from_files(Some(source), None).unwrap()
}

fn user(text: &str) -> Message {
    Message::text(Role::User, text)
}

/// Applies `source` to one message of the user and decodes the ids.
fn apply(source: &str, text: &str) -> Result<String> {
    let tokenizer = tiny();
    tokenizer.decode(&template(source).apply(&tokenizer, &[user(text)], true)?)
}

/// A golden's message. Transformers finds markers in the assistant's words; here the program that wrote
/// them there says so.
fn message(value: &Value) -> Message {
    let role = match value["role"].as_str().unwrap() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        other => panic!("unknown role {other}"),
    };
    let words = |text: &Value| {
        let text = text.as_str().unwrap().to_owned();
        if role == Role::Assistant { Content::Markup(text) } else { Content::Text(text) }
    };
    let content = match &value["content"] {
        Value::Array(parts) => parts
            .iter()
            .map(|part| if part["type"] == "image" { Content::Image } else { words(&part["text"]) })
            .collect(),
        text => vec![words(text)],
    };
    Message { role, content }
}

#[test]
fn conversations_have_the_ids_of_transformers() {
    let path = autoglm_testing::repository().join("goldens/components/chat.json");
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let cases = file["rendered"].as_array().unwrap();
    assert!(cases.len() >= 20);
    let tokenizer = tiny();
    for template in [tiny_template(), ChatTemplate::built_in().unwrap()] {
        for case in cases {
            let messages: Vec<_> = case["messages"].as_array().unwrap().iter().map(message).collect();
            let prompt = case["add_generation_prompt"].as_bool().unwrap();
            let ids = template.apply(&tokenizer, &messages, prompt).unwrap();
            let expected: Vec<_> =
                case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
            assert_eq!(ids.iter().map(|id| id.0).collect::<Vec<_>>(), expected, "{}", case["name"]);
        }
    }
}

#[test]
fn words_open_no_turn_and_show_no_image() {
    let tokenizer = tiny();
    let markers: Vec<_> = tokenizer.markers().map(|(content, _)| content).collect();
    let plain = |text: &str| {
        let messages = [
            Message::text(Role::System, text),
            Message { role: Role::User, content: vec![Content::Image, Content::Text(text.into())] },
            Message::text(Role::Assistant, text),
        ];
        let ids = tiny_template().apply(&tokenizer, &messages, true).unwrap();
        assert_eq!(tokenizer.decode(&ids).unwrap().matches(text).count(), 3);
        let is_marker = |id: &TokenId| tokenizer.markers().any(|(_, marker)| marker == *id);
        ids.into_iter().filter(is_marker).collect::<Vec<_>>()
    };
    let honest = plain("honest words");
    for marker in &markers {
        for text in [format!("a{marker}b"), format!("{marker}{marker}"), format!("\n{marker}\n")] {
            assert_eq!(plain(&text), honest, "{text:?}");
        }
    }
    assert_eq!(plain(&markers.concat()), honest);
}

#[test]
fn words_in_the_private_use_plane_are_words() {
    let tokenizer = tiny();
    let text = "\u{F0000}\u{F0001}\u{E000}{{ x }}\u{FFFFD}\u{100000}";
    let messages = [user(text), Message::text(Role::Assistant, text), user(text)];
    let ids = tiny_template().apply(&tokenizer, &messages, false).unwrap();
    let expected = format!("[gMASK]<sop><|user|>\n{text}<|assistant|>\n{text}<|user|>\n{text}");
    assert_eq!(tokenizer.decode(&ids).unwrap(), expected);
}

#[test]
fn ids_stand_as_they_are_and_markup_is_read() {
    let tokenizer = tiny();
    let think = tokenizer.token_id("<think>").unwrap();
    // Two halves of a word, which encoding would have joined.
    let ids = [think, tokenizer.encode_text("o").unwrap()[0], tokenizer.encode_text("pen").unwrap()[0]];
    let content = vec![Content::Tokens(ids.to_vec())];
    let laid_out = tiny_template().apply(&tokenizer, &[Message { role: Role::Assistant, content }], false).unwrap();
    assert_eq!(laid_out[laid_out.len() - 3..], ids);
    let content = vec![Content::Markup("<think>".into()), Content::Text("<think>".into())];
    let laid_out = tiny_template().apply(&tokenizer, &[Message { role: Role::Assistant, content }], false).unwrap();
    assert_eq!(laid_out.iter().filter(|id| **id == think).count(), 1);
}

#[test]
fn the_template_comes_from_the_first_file_that_has_one() {
    let tokenizer = tiny();
    let text = |jinja: Option<&str>, config: Value| {
        let template = ChatTemplate::from_files(jinja, Some(&config)).unwrap();
        tokenizer.decode(&template.apply(&tokenizer, &[user("x")], false).unwrap()).unwrap()
    };
    let config = json!({"chat_template": "config {{ messages[0].content }}"});
    assert_eq!(text(Some("file {{ messages[0].content }}"), config.clone()), "file x");
    assert_eq!(text(None, config), "config x");
    let named = json!({"chat_template": [
        {"name": "tool_use", "template": "tools"},
        {"name": "default", "template": "named {{ messages[0].content }}"},
    ]});
    assert_eq!(text(None, named), "named x");
    assert_eq!(text(None, json!({"chat_template": null})), "[gMASK]<sop><|user|>\nx");
    for field in [json!(7), json!([]), json!([{"name": "other", "template": "x"}]), json!([{"name": "default"}])] {
        let refused = ChatTemplate::from_files(None, Some(&json!({"chat_template": field})));
        assert!(matches!(refused, Err(Error::TemplateField { field: "chat_template", .. })));
    }
}

#[test]
fn what_transformers_gives_to_templates_is_there() {
    let tokenizer = tiny();
    let config = json!({
        "bos_token": "<sop>", "eos_token": {"content": "<|endoftext|>", "special": true},
        "chat_template": "{{ bos_token }}{{ messages[0]['content'] }}{{ eos_token }}{{ pad_token }}{% if tools %}tools{% endif %}",
    });
    let template = ChatTemplate::from_files(None, Some(&config)).unwrap();
    let ids = template.apply(&tokenizer, &[user("x")], false).unwrap();
    assert_eq!(tokenizer.decode(&ids).unwrap(), "<sop>x<|endoftext|>");
    assert_eq!(ids.len(), 3);

    for (source, expected) in [
        ("  {% if true %}\n  a\n  {% endif %}\nb{{ messages[0].content }}\n", "  a\nbx"),
        (
            "{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}{{ messages[0].content }}",
            "1x",
        ),
        ("{{ true }}{{ none }}{{ 1.5 }}{{ missing }}{{ messages[0].content }}", "TrueNone1.5x"),
        ("{{ ' a,b '.strip().split(',') | join('-') }}{{ messages[0].content }}", "a-bx"),
        (
            "{{ {'z': [1, none, true], 'a': \"<'é&\"} | tojson }}{{ messages[0].content }}",
            "{\"z\": [1, null, true], \"a\": \"<'é&\"}x",
        ),
        ("{{ [1, {'a': []}] | tojson(indent=2) }}{{ messages[0].content }}", "[\n  1,\n  {\n    \"a\": []\n  }\n]x"),
        (
            "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}{{ messages[0].content }}",
            "1x",
        ),
    ] {
        assert_eq!(apply(source, "x").unwrap(), expected, "{source}");
    }
}

#[test]
fn a_text_that_is_lost_or_repeated_is_an_error() {
    let times = |source| match apply(source, "x") {
        Err(Error::TemplateCount { message: 0, part: 0, times }) => times,
        other => panic!("{other:?}"),
    };
    assert_eq!(times("nothing"), 0);
    assert_eq!(times("{{ messages[0].content }} {{ messages[0].content }}"), 2);
    assert_eq!(times("{{ messages[0].content.split('x')[9] }}"), 0);
    // An empty text has nothing to lose.
    assert_eq!(apply("nothing", "").unwrap(), "nothing");
}

#[test]
fn a_template_that_reads_or_changes_words_is_noticed() {
    let stripped = "{{ messages[0].content.strip() }}";
    assert_eq!(apply(stripped, "x").unwrap(), "x");
    assert!(matches!(apply(stripped, " x"), Err(Error::TemplateReadsText)));
    let searched = "{% if '</think>' in messages[0].content %}{{ messages[0].content.split('</think>')[-1] }}{% else %}{{ messages[0].content }}{% endif %}";
    assert_eq!(apply(searched, "x").unwrap(), "x");
    assert!(matches!(apply(searched, "<think></think>x"), Err(Error::TemplateReadsText)));
    assert!(matches!(
        apply("{{ messages[0].content }}{{ messages[0].content | length }}", "long"),
        Err(Error::TemplateReadsText)
    ));
}

#[test]
fn a_long_text_is_laid_out_within_the_same_bounds() {
    let text = "打开 the camera. ".repeat(25_000);
    let ids = tiny_template().apply(&tiny(), &vec![user(&text[..text.len() / 25]); 20], true).unwrap();
    assert!(ids.len() > 100_000);
    let parts = vec![Content::Text("x".into()); 5000];
    tiny_template().apply(&tiny(), &[Message { role: Role::User, content: parts }], true).unwrap();
}

#[test]
fn a_template_says_no_in_its_own_words() {
    let refused = apply("{{ raise_exception('no \\u001b[31msystem') }}", "x").unwrap_err();
    assert!(matches!(&refused, Error::TemplateRefusal { message } if message == "no \\u{1b}[31msystem"), "{refused:?}");
    let tokenizer = tiny();
    let clock = apply("{{ strftime_now('%Y') }}", "x").unwrap_err();
    assert!(matches!(&clock, Error::Template(e) if e.to_string().contains("strftime_now")), "{clock:?}");
    // The default layout has no place for parts of a system message but words.
    let list = apply("{{ messages }}", "x").unwrap_err();
    assert!(matches!(list, Error::Template(_)), "{list:?}");
    let many = Message { role: Role::User, content: vec![Content::Text("x".into()); MAX_PARTS + 1] };
    let refused = ChatTemplate::built_in().unwrap().apply(&tokenizer, &[many], true);
    assert!(matches!(refused, Err(Error::TooManyParts { .. })));
}

#[test]
fn a_template_runs_within_bounds() {
    type Name = fn(&Error) -> bool;
    let fuel: Name = |e| matches!(e, Error::TemplateFuel { .. });
    let failed: Name = |e| matches!(e, Error::Template(_));
    let twice = "{% for i in range(100000) %}{% for j in range(100000) %}";
    let cases: Vec<(String, Name)> = vec![
        (format!("{twice}{{% endfor %}}{{% endfor %}}"), fuel),
        (format!("{twice}0123456789{{% endfor %}}{{% endfor %}}"), |e| {
            matches!(e, Error::TemplateFuel { .. } | Error::TemplateOutput { .. })
        }),
        ("{% set x = 'x' * 1000000 %}{{ x }}{{ x }}".into(), |e| matches!(e, Error::TemplateOutput { .. })),
        ("{{ 'x' * 90000000 }}".into(), fuel),
        ("{{ 'x' | indent(100000000) }}".into(), fuel),
        ("{{ 'a' | replace('', 'b' * 10000000) }}".into(), fuel),
        ("{{ range(1000000000) }}".into(), failed),
        ("{{ [1] * 90000000 }}".into(), failed),
        ("{{ '{:>1000000000}'.format(1) }}".into(), failed),
        ("{{ '%1000000000d' | format(1) }}".into(), failed),
        ("{{ [1] | tojson(indent=1000000000) }}".into(), failed),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".into(), failed),
        ("{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}".into(), failed),
        ("{% set n = namespace() %}{% set n.n = n %}{{ n | tojson }}".into(), failed),
        ("{% set n = namespace(a=[1]) %}{% for i in range(60) %}{% set n.a = [n.a, n.a] %}{% endfor %}{{ n.a | tojson }}".into(), failed),
        // Dropped, and never printed: level after level of lists.
        (nested_lists(), fuel),
        ("{{ unknown_function() }}".into(), failed),
        ("{{ 'x' | unknown_filter }}".into(), failed),
        ("{{ missing.field }}".into(), failed),
        ("{{ debug() }}".into(), failed),
        ("{% include 'chat_template' %}".into(), failed),
    ];
    for (source, expected) in cases {
        let error = ChatTemplate::from_files(Some(&source), None)
            .and_then(|t| t.apply(&tiny(), &[user("x")], true))
            .unwrap_err();
        assert!(expected(&error), "{source:.200}: {error:?}");
    }
}

/// Lists inside of each other in one expression, near what the parser takes.
const LEVELS: usize = 60;

/// Builds lists inside of lists until the steps are used up.
fn nested_lists() -> String {
    let (open, close) = ("[".repeat(LEVELS), "]".repeat(LEVELS));
    format!(
        "{{% set n = namespace(a=[1]) %}}{{% for i in range(100000) %}}{{% set n.a = {open}n.a{close} %}}{{% endfor %}}"
    )
}

#[test]
fn deep_lists_can_be_printed_and_compared_without_overflow() {
    // Nearly as deep as the steps allow.
    let build = nested_lists().replace("range(100000)", "range(3000)");
    for tail in ["{{ n.a ~ '' }}", "{{ n.a == [n.a] }}", "{{ n.a | string }}", "{{ [n.a, [2]] | sort }}"] {
        match apply(&format!("{build}{tail}"), "x") {
            Err(
                Error::TemplateCount { .. }
                | Error::TemplateFuel { .. }
                | Error::TemplateOutput { .. }
                | Error::Template(_),
            ) => {}
            other => panic!("{tail}: {other:?}"),
        }
    }
}

#[test]
fn templates_that_do_not_compile_are_errors() {
    let long = |unit: &str| format!("{{{{ a{} }}}}", unit.repeat(3000));
    for source in [
        "{{",
        "{% if %}",
        "{% endfor %}",
        "{% for a in %}{% endfor %}",
        "{{ 'x }}",
        "{% generation %}x{% endgeneration %}",
    ] {
        assert!(matches!(ChatTemplate::from_files(Some(source), None), Err(Error::Template(_))), "{source}");
    }
    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000));
    assert!(matches!(ChatTemplate::from_files(Some(&deep), None), Err(Error::Template(_))));
    let large = "x".repeat(MAX_TEMPLATE_BYTES + 1);
    assert!(matches!(ChatTemplate::from_files(Some(&large), None), Err(Error::TooLarge { .. })));
    // Long chains compile or not, but they end, on any thread.
    for unit in ["+a", "~a", ".b", "|e", " and a", "()", "[0]", " if a else a", "<a"] {
        let _ended = ChatTemplate::from_files(Some(&long(unit)), None);
    }
    let _ended =
        ChatTemplate::from_files(Some(&format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(2500))), None);
}
