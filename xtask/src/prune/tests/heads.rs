//! The tiny checkpoint with heads that are not needed, and with fewer than it needs.

use autoglm::{Generate, Part, Precision};

use super::*;
use crate::prune::heads::set;

/// Width of a head of the tiny checkpoint, which has four in two groups.
const D: usize = 32;

/// Heads of the planted checkpoint, each an old one, how many times its queries and how many times its columns of `o_proj`.
/// Head 0 stands in three parts, 2 twice as loud and taken back; one is not read. All factors, and what comes
/// of them one by one, are exact in f16.
const HEADS: [(usize, f32, f32); 8] = [
    (1, 1.0, 1.0),
    (0, 1.0, 0.25),
    (0, 1.0, 0.25),
    (0, 1.0, 0.5),
    (2, 1.0, 2.0),
    (3, -1.0, 0.0),
    (3, 1.0, 1.0),
    (2, 1.0, -1.0),
];

/// The tiny checkpoint with twice as many heads, which computes what the tiny checkpoint computes.
fn planted(model: &Path) {
    for (name, content) in autoglm_tiny::FILES {
        fs::write(model.join(name), content).unwrap();
    }
    let mut tensors = Tensors::of(model);
    let rows = |factor: fn(&(usize, f32, f32)) -> f32| -> Vec<(usize, f32)> {
        HEADS.iter().flat_map(|head| (0..D).map(move |i| (head.0 * D + i, factor(head)))).collect()
    };
    for layer in 0..LAYERS {
        let at = |name: &str| format!("{LAYER}.{layer}.self_attn.{name}");
        tensors.gather(&at("q_proj.weight"), &rows(|head| head.1), None);
        let bias = at("q_proj.bias");
        tensors.0.get_mut(&bias).unwrap().0.push(1);
        tensors.gather(&bias, &rows(|head| head.1), None);
        tensors.0.get_mut(&bias).unwrap().0.pop();
        let c: Vec<(usize, f32)> = (0..128).map(|i| (i, 1.0)).collect();
        tensors.gather(&at("o_proj.weight"), &c, Some(&rows(|head| head.2)));
    }
    tensors.write(model);
    let mut config = read(&model.join("config.json"));
    set(&mut config, HEADS.len(), D);
    fs::write(model.join("config.json"), config.to_string()).unwrap();
}

#[derive(Debug, Parser)]
struct Export {
    #[command(flatten)]
    arguments: crate::export::Arguments,
}

/// What `prune.json` says of the heads of each layer.
fn of_layers(report: &Value) -> Vec<&Value> {
    let steps = report["steps"].as_array().unwrap().iter();
    steps.filter(|step| step["op"] == "heads" && step["layer"].is_u64()).collect()
}

#[test]
fn planted_heads_are_found_and_nothing_changes() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("planted");
    fs::create_dir(&model).unwrap();
    planted(&model);
    let before = logits(&model, true);
    assert!(furthest(&before, &logits(&tiny(), true)) <= 1e-4, "what is planted changes nothing");
    for (to, kept, standard) in [(4, json!([0, 1, 4, 6]), true), (6, json!([0, 1, 3, 4, 6, 7]), false)] {
        let out = folder.path().join(to.to_string());
        prune(&model, &out, &format!("--heads {to} --lines 2")).unwrap();
        let report = read(&out.join("prune.json"));
        let layers = of_layers(&report);
        assert_eq!(layers.len(), LAYERS);
        for layer in layers {
            assert_eq!((&layer["kept"], &layer["redundant"]), (&kept, &json!(8 - to)), "{layer}");
            assert_eq!(layer["error"], 0.0);
        }
        assert_eq!(report["standard"], standard);
        let furthest = furthest(&before, &logits(&out, true));
        assert!(furthest <= 1e-4, "{to}: {furthest}");
    }
}

#[test]
fn fewer_heads_than_are_needed_cost_something_and_every_precision_takes_them() {
    let folder = tempfile::tempdir().unwrap();
    let (out, lines) = (folder.path().join("two"), folder.path().join("held-out.jsonl"));
    let picture = tiny().join("screens/19.png");
    fs::write(&lines, format!("{}\n", json!({ "text": "go back", "image": picture }))).unwrap();
    prune(&tiny(), &out, &format!("--heads 2 --lines 12 --eval {}", lines.display())).unwrap();
    let report = read(&out.join("prune.json"));
    // Half of the heads, with their bias.
    let gone = LAYERS as u64 * 64 * (2 * 128 + 1);
    assert_eq!(report["params_before"].as_u64().unwrap() - report["params_after"].as_u64().unwrap(), gone);
    assert_eq!(report["standard"], false);
    let kl = report["eval"]["kl"].as_f64().unwrap();
    assert!(kl > 0.0 && kl < 2.0, "{report}");
    for layer in of_layers(&report) {
        let kept: Vec<u64> = layer["kept"].as_array().unwrap().iter().map(|head| head.as_u64().unwrap()).collect();
        assert!(kept.len() == 2 && kept[0] < 2 && kept[1] >= 2, "one of each group: {kept:?}");
        let error = layer["error"].as_f64().unwrap();
        assert!(error > 0.0 && error < 1.0, "{layer}");
    }
    let config = read(&out.join("config.json"));
    assert_eq!(
        (&config["text_config"]["num_attention_heads"], &config["text_config"]["head_dim"]),
        (&json!(2), &json!(D))
    );
    for precision in [None, Some(Precision::Int8), Some(Precision::Int4)] {
        let model = Model::open_with(&out, &OpenOptions::default().threads(2).precision(precision)).unwrap();
        let mut session = model.session();
        session.push(Part::text("go back")).unwrap();
        let reply = session.reply(Generate::default().max_new_tokens(4)).unwrap();
        assert!(reply.collect::<std::result::Result<Vec<_>, _>>().is_ok());
    }
    // Other programs would refuse it in any format.
    let other = folder.path().join("other");
    let line = ["export", "--format", "compressed-tensors", "--precision", "int8", "--model"].map(Path::new);
    let line = Export::parse_from(line.into_iter().chain([out.as_path(), Path::new("--out"), other.as_path()]));
    let refused = crate::export::run(&line.arguments).unwrap_err();
    assert!(refused.status() == 2 && one_line(&refused).contains("ours alone") && !other.exists(), "{refused}");
    // Without the fit the same heads leave a larger error.
    let plain = folder.path().join("plain");
    prune(&tiny(), &plain, "--heads 2 --lines 12 --refit false").unwrap();
    let first = |report: &Value| of_layers(report)[0]["error"].as_f64().unwrap();
    assert!(first(&report) < first(&read(&plain.join("prune.json"))));
}

#[test]
fn the_decoder_alone_takes_every_step_at_once_and_has_words_for_its_heads() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let all = "--drop vision --heads 2 --ffn 304 --ffn-multiple 8 --layers 3 --vocab padding --lines 12";
    prune(&tiny(), &out, all).unwrap();
    let (report, config) = (read(&out.join("prune.json")), read(&out.join("config.json")));
    assert_eq!((&report["standard"], of_layers(&report).len()), (&json!(true), 3));
    assert_eq!(config["architectures"], json!(["Glm4ForCausalLM"]));
    let sizes = ["num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size", "num_hidden_layers"];
    assert_eq!(sizes.map(|name| config[name].as_u64().unwrap()), [2, 2, 32, 304, 3]);
    assert_eq!(logits(&out, false).len() % 660, 0);
    // All heads are what there was.
    let same = folder.path().join("same");
    prune(&tiny(), &same, "--heads 4 --lines 1").unwrap();
    assert_eq!(logits(&same, true), logits(&tiny(), true));
    assert_eq!(read(&same.join("prune.json"))["standard"], true);
}

#[test]
fn heads_that_cannot_be_shared_out_are_one_line_and_status_two() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    for to in ["0", "1", "3", "6", "18446744073709551615"] {
        let failure = prune(&tiny(), &out, &format!("--heads {to}")).unwrap_err();
        let line = one_line(&failure);
        assert!(line.contains("a multiple of the 2") && !line.contains('\n'), "{line}");
        assert_eq!(failure.status(), 2, "{line}");
    }
    assert!(!out.exists());
    let asr = workspace::root().join("goldens/cases/asr");
    let deaf = prune(&asr, &out, "--heads 2").unwrap_err();
    assert!(deaf.status() == 2 && one_line(&deaf).contains("no sounds yet"), "{deaf}");
}
