//! Conversations against transformers, words that pretend to be markers, and templates made to hurt.

use serde_json::json;

use super::*;
use crate::tokenizer::tests::tiny;

fn tiny_template() -> ChatTemplate {
    let path = autoglm_testing::repository().join("models/autoglm-tiny/chat_template.jinja");
    ChatTemplate::from_files(Some(&std::fs::read_to_string(path).unwrap()), None, Family::Glm4v).unwrap()
}

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::from_files(Some(source), None, Family::Glm4v).unwrap()
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
            .map(|part| match part["type"].as_str() {
                Some("image") => Content::Image,
                Some("audio") => Content::Audio,
                _ => words(&part["text"]),
            })
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
    for template in [tiny_template(), ChatTemplate::built_in(Family::Glm4v).unwrap()] {
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
        let template = ChatTemplate::from_files(jinja, Some(&config), Family::Glm4v).unwrap();
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
        let refused = ChatTemplate::from_files(None, Some(&json!({"chat_template": field})), Family::Glm4v);
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
    let template = ChatTemplate::from_files(None, Some(&config), Family::Glm4v).unwrap();
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
    let refused = ChatTemplate::built_in(Family::Glm4v).unwrap().apply(&tokenizer, &[many], true);
    assert!(matches!(refused, Err(Error::TooManyParts { .. })));
}

#[test]
fn a_template_runs_within_bounds() {
    type Name = fn(&Error) -> bool;
    let fuel: Name = |e| matches!(e, Error::TemplateFuel { .. });
    let failed: Name = |e| matches!(e, Error::Template(_));
    let grows: Name = |e| matches!(e, Error::TemplateGrowth { .. });
    let twice = "{% for i in range(10000) %}{% for j in range(10000) %}";
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
        ("{% set x = range(10001) %}".into(), failed),
        ("{% for i in range(10000) %}{% if range(10000) in 's' %}{% endif %}{% endfor %}".into(), fuel),
        ("{{ [1] * 90000000 }}".into(), grows),
        ("{{ '{:>1000000000}'.format(1) }}".into(), failed),
        ("{{ '%1000000000d' | format(1) }}".into(), failed),
        ("{{ [1] | tojson(indent=1000000000) }}".into(), failed),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".into(), failed),
        ("{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}".into(), failed),
        // Two long texts, which differ at their ends, compared as often as the steps allow.
        (
            "{% set a = 'x' * 1200000 %}{% set b = a ~ 'b' %}{% set a = a ~ 'a' %}{% for i in range(10000) %}{% if a == b %}{% endif %}{% endfor %}"
                .into(),
            fuel,
        ),
        ("{{ unknown_function() }}".into(), failed),
        ("{{ 'x' | unknown_filter }}".into(), failed),
        ("{{ missing.field }}".into(), failed),
        ("{{ debug() }}".into(), failed),
        ("{% include 'chat_template' %}".into(), failed),
    ];
    for (source, expected) in cases {
        let error = ChatTemplate::from_files(Some(&source), None, Family::Glm4v)
            .and_then(|t| t.apply(&tiny(), &[user("x")], true))
            .unwrap_err();
        assert!(expected(&error), "{source:.200}: {error:?}");
    }
}

/// What each made-up template ends in: one step that visits all of `x` and `y`.
const VISITS: [&str; 10] = [
    "{% if x == y %}{% endif %}",
    "{% if x < y %}{% endif %}",
    "{% set z = x ~ '' %}",
    "{% set z = x | string %}",
    "{% set z = x | join %}",
    "{% set z = [x, y] | sort %}",
    "{% set z = [x, y] | unique | list %}",
    "{% if x in [y] %}{% endif %}",
    "{% set z = {x: 1} %}",
    "{% if x is eq(y) %}{% endif %}",
];

#[test]
fn a_template_that_could_build_values_without_end_is_refused() {
    let in_a_loop = |step: &str| {
        let twice = [step.replace('@', "ns.x"), step.replace('@', "ns.y")].concat();
        let built =
            format!("{{% set ns = namespace(x=[1], y=[1]) %}}{{% for i in range(5000) %}}{twice}{{% endfor %}}");
        format!("{built}{{% set x = ns.x %}}{{% set y = ns.y %}}")
    };
    let written_out = |step: &str| {
        format!(
            "{{% set x = [1] %}}{{% set y = [1] %}}{}",
            [step.replace('@', "x"), step.replace('@', "y")].concat().repeat(40)
        )
    };
    let mut cases = Vec::new();
    for step in [
        "{% set @ = [@, @] %}",
        "{% set @ = (@, @) %}",
        "{% set @ = {'a': @, 'b': @} %}",
        "{% set @ = @ + @ %}",
        "{% set @ = @[0:] %}",
        "{% set @ = @ | reverse %}",
        "{% set @ = @ | map('list') %}",
        "{% set @ = @ | default([@]) %}",
        "{% set @ = [@][0:] or [] %}",
        "{% set @ = [[@]] if true else [] %}",
        "{% set @ = @ * 2 %}",
    ] {
        for visit in VISITS {
            cases.push(in_a_loop(step) + visit);
            cases.push(written_out(step) + visit);
        }
    }
    let ends = |start: &str| VISITS.map(|visit| format!("{start}{visit}"));
    for start in [
        "{% set ns = namespace() %}{% set ns.a = ns %}{% set x = '' ~ ns %}",
        "{% set ns = namespace() %}{% set ns.a = [ns] %}{% set x = ns.a %}{% set y = ns.a %}",
        "{% set ns = namespace() %}{% for other in [ns] %}{% set ns.a = other %}{% endfor %}{% set x = ns.a %}",
        "{% set make = namespace %}{% set x = make() %}{% set x.a = x %}",
        "{% set x = [namespace()][0] %}",
        "{% set x = range(100000) %}{% set x = [x] %}{% set r = range %}{% set y = [r(100000)] %}",
        "{% macro m(a, b, n) %}{% if n %}{{ m([a, a], [b, b], n - 1) }}{% elif a == b %}{% endif %}{% endmacro %}{{ m([1], [1], 60) }}",
        "{% for i in [[1]] recursive %}{% if loop.depth < 60 %}{{ loop([[i, i]]) }}{% endif %}{% endfor %}",
        "{% set ns = namespace(x=m, y=m) %}{% macro m(a) %}{% endmacro %}{% set ns.x = m.arguments %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{% set x = ns.x %}",
        "{% set ns = namespace(x=none) %}{% set ns.x = none[:] %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{% set x = ns.x %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns['x'], ns['x']] %}{% endfor %}{% set x = ns.x %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% for j in [[ns.x, ns.x]] %}{% set ns.x = [loop.previtem, j] %}{% endfor %}{% endfor %}{% set x = ns.x %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% with a = [ns.x, ns.x] %}{% set ns.x = a %}{% endwith %}{% endfor %}{% set x = ns.x %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set a, b = [ns.x, ns.x], 1 %}{% set ns.x = loop.cycle(a) %}{% endfor %}{% set x = ns.x %}",
        "{% set ns = namespace(**{'x': [1]}) %}{% set x = ns.x %}",
        "{% set x = messages * 100000 %}",
        "{% macro range(a) %}{% endmacro %}",
    ] {
        cases.extend(ends(start));
    }
    let start = std::time::Instant::now();
    for case in &cases {
        let refused = ChatTemplate::from_files(Some(case), None, Family::Glm4v).map(drop);
        assert!(matches!(refused, Err(Error::TemplateGrowth { .. })), "{case}: {refused:?}");
    }
    assert!(start.elapsed().as_secs() < 60, "{} refusals took {:?}", cases.len(), start.elapsed());
    let named =
        ChatTemplate::from_files(Some("a\n{% set ns = namespace() %}\n{% set ns.a = ns %}"), None, Family::Glm4v)
            .unwrap_err();
    assert_eq!(named.to_string(), "line 3 of the chat template uses a namespace as a whole and not by an attribute");
}

#[test]
fn a_template_is_judged_in_time_however_its_names_are_tangled() {
    let chain: String = (0..900).rev().map(|n| format!("{{% set a{} = a{n} %}}", n + 1)).collect();
    let tangled = format!("{{% for i in messages %}}{chain}{{% set a0 = [a900] %}}{{% endfor %}}");
    let nested = format!("{}{{% set a = [a] %}}{}", "{% for i in messages %}".repeat(90), "{% endfor %}".repeat(90));
    let start = std::time::Instant::now();
    for source in [tangled, nested] {
        let refused = ChatTemplate::from_files(Some(&source), None, Family::Glm4v).map(drop);
        assert!(matches!(refused, Err(Error::TemplateGrowth { .. })), "{refused:?}");
    }
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
}

#[test]
fn templates_as_others_write_them_are_taken() {
    let say = "{{ messages[0].content }}";
    for source in [
        // Flags and counters, and the last turn of the user looked for from behind.
        "{% set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1, system='', first=true) %}{% for message in messages[::-1] %}{% set index = (messages|length - 1) - loop.index0 %}{% if ns.multi_step_tool and message.role == 'user' %}{% set ns.multi_step_tool = false %}{% set ns.last_query_index = index %}{% endif %}{% endfor %}",
        "{% set ns = namespace(system='', n=0) %}{% for m in messages %}{% if m['role'] == 'system' %}{% set ns.system = ns.system + '\n\n' + m['content'] %}{% set ns.n = ns.n + 1 %}{% endif %}{% endfor %}{{ ns.system }}",
        "{% set ns = namespace(text='', last=none) %}{% for m in messages %}{% set ns.last = m %}{% if m.role == 'tool' %}{% set ns.text = ns.text + m.content %}{% endif %}{% endfor %}",
        // The system message taken off the front.
        "{% if messages[0]['role'] == 'system' %}{% set system_message = messages[0]['content']|trim %}{% set messages = messages[1:] %}{% else %}{% set system_message = '' %}{% endif %}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('order') }}{% endif %}{% endfor %}",
        "{% set loop_messages = messages %}{% if loop_messages[0].role != 'system' %}{% set loop_messages = [{'role': 'system', 'content': 'You help.'}] + loop_messages %}{% endif %}{% for m in loop_messages %}{% set content = '' if loop.first else '' + m.role %}{% endfor %}",
        // Tools as JSON, and their parameters read level by level.
        "{% if tools %}{% for tool in tools %}{% set tool = tool.function if tool.function else tool %}{{ tool | tojson(indent=4) }}{{ tool | items | list | length }}{% endfor %}{% endif %}",
        "{% macro kind(spec, required, depth=0) %}{% if spec.properties %}{% for name, inner in spec.properties.items() %}{{ name }}{{ kind(inner, spec.required or [], depth + 1) }}{% endfor %}{% elif spec['items'] %}{{ kind(spec['items'], []) }}{% elif spec.type is string and spec.type in ['string', 'number'] %}{{ spec.type }}{% endif %}{% endmacro %}{% if tools %}{% for tool in tools %}{{ kind(tool.parameters, []) }}{% endfor %}{% endif %}",
        "{% for m in messages %}{% if m.tool_calls %}{% for call in m.tool_calls %}{% if call.function is defined %}{% set call = call.function %}{% endif %}{% set arguments = call.arguments %}{% for k, v in arguments | dictsort %}{{ k ~ (v if v is string else v | tojson(ensure_ascii=False)) }}{% endfor %}{% for k, v in arguments.items() %}{{ k }}{% endfor %}{% endfor %}{% endif %}{% endfor %}",
        // Thoughts cut off the assistant's words.
        "{% for m in messages %}{% if m.role == 'assistant' %}{% set content = m.content %}{% set reasoning = '' %}{% if '</think>' in content %}{% set reasoning = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}{{ reasoning + content }}{% endif %}{% endfor %}",
        "{% set images = namespace(count=0) %}{% macro visible(content) %}{% if content is string %}{{ content }}{% elif content is iterable and content is not mapping %}{% for item in content %}{% if 'image' in item or item.type == 'image' %}{% set images.count = images.count + 1 %}Picture {{ images.count }}{% elif item is mapping %}{{ item.text }}{% endif %}{% endfor %}{% endif %}{% endmacro %}{% set said = visible([]) %}{{ said.strip() }}",
        "{% set roles = messages | map(attribute='role') | unique | list %}{% set users = messages | selectattr('role', 'equalto', 'user') | list %}{{ '-' * (users | length) }}{{ roles | join(', ') }}{% set d = {'a': 1, 'b': [1, 2]} %}{{ d.a }}",
        "{% set names = {'user': 'User', 'assistant': 'Bot'} %}{% for m in messages %}{% if loop.nextitem is defined and loop.nextitem.role == m.role %}{% endif %}{{ names[m.role] }}{{ loop.cycle('a', 'b') }}{% endfor %}",
        "{% macro box(title) %}{{ title }}{{ caller() }}{% endmacro %}{% call box('a') %}b{% endcall %}{% filter upper %}c{% endfilter %}{% set text %}d{% endset %}{{ text | trim }}",
    ] {
        let taken = apply(&format!("{source}{say}"), "x");
        assert!(taken.as_ref().is_ok_and(|text| text.ends_with('x')), "{source}: {taken:?}");
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
        assert!(
            matches!(ChatTemplate::from_files(Some(source), None, Family::Glm4v), Err(Error::Template(_))),
            "{source}"
        );
    }
    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000));
    assert!(matches!(ChatTemplate::from_files(Some(&deep), None, Family::Glm4v), Err(Error::Template(_))));
    let large = "x".repeat(MAX_TEMPLATE_BYTES + 1);
    assert!(matches!(ChatTemplate::from_files(Some(&large), None, Family::Glm4v), Err(Error::TooLarge { .. })));
    // Long chains compile or not, but they end, on any thread.
    for unit in ["+a", "~a", ".b", "|e", " and a", "()", "[0]", " if a else a", "<a"] {
        let _ended = ChatTemplate::from_files(Some(&long(unit)), None, Family::Glm4v);
    }
    let _ended = ChatTemplate::from_files(
        Some(&format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(2500))),
        None,
        Family::Glm4v,
    );
}

#[test]
fn what_is_asked_about_a_sound_is_a_turn_of_its_own_in_glm_asr() {
    let template = ChatTemplate::built_in(Family::GlmAsr).unwrap();
    let message =
        Message { role: Role::User, content: vec![Content::Audio, Content::Text("What is said?".to_owned())] };
    let printed = tiny().decode(&template.apply(&tiny(), &[message], true).unwrap()).unwrap();
    let wanted = "<|user|>\n<|begin_of_audio|><|pad|><|end_of_audio|><|user|>\nWhat is said?<|assistant|>\n";
    assert_eq!(printed, wanted);
    let template = ChatTemplate::built_in(Family::Glm4v).unwrap();
    let message = Message { role: Role::User, content: vec![Content::Image, Content::Audio] };
    let printed = tiny().decode(&template.apply(&tiny(), &[message], false).unwrap()).unwrap();
    let media = "<|begin_of_image|><|image|><|end_of_image|><|begin_of_audio|><|audio|><|end_of_audio|>";
    assert_eq!(printed, format!("[gMASK]<sop><|user|>\n{media}"));
}
