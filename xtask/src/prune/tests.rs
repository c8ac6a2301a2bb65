//! Pruned copies of the tiny checkpoint, and of one with neurons, a layer and rows that are not needed.

use std::fs;
use std::path::Path;

use autoglm::{Error as ModelError, TokenId};
use autoglm_core::checkpoint::Dtype;
use clap::Parser;
use safetensors::tensor::TensorView;

use super::*;
use crate::error::one_line;
use crate::workspace;

mod heads;

pub(super) fn tiny() -> PathBuf {
    workspace::root().join("models/autoglm-tiny")
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

/// A command line from `prune` on.
pub(super) fn arguments(line: &[&str]) -> Arguments {
    Line::parse_from(line).arguments
}

/// `cargo xtask prune --model MODEL --out OUT ARGUMENTS`.
pub(super) fn prune(model: &Path, out: &Path, arguments: &str) -> Result<()> {
    let mut line = vec!["prune", "--threads", "2", "--model", model.to_str().unwrap(), "--out", out.to_str().unwrap()];
    line.extend(arguments.split_whitespace());
    run(&Line::parse_from(line).arguments)
}

pub(super) fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Logits of a prompt, with a picture and a sound where `media` says so.
fn logits(model: &Path, media: bool) -> Vec<f32> {
    let model = Model::open_with(model, &OpenOptions::default().threads(2)).unwrap();
    let file = |name: &str| Ok::<_, ModelError>(fs::read(tiny().join(name)).unwrap());
    let (pictures, sounds) = if media { (vec!["screens/01.png"], vec!["voice/01.wav"]) } else { (vec![], vec![]) };
    let ids: &[u32] =
        if media { &[647, 649, 648, 653, 655, 654, 5, 77, 301, 12] } else { &[5, 77, 301, 12, 9, 640, 3, 100] };
    let ids: Vec<TokenId> = ids.iter().map(|id| TokenId(*id)).collect();
    let mut prompt = model.prompt(&ids, pictures.into_iter().map(file), sounds.into_iter().map(file)).unwrap();
    let mut all = Vec::new();
    prompt
        .logits(|logits| {
            all.extend_from_slice(logits);
            Ok::<_, ModelError>(())
        })
        .unwrap();
    all
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// A matrix of f16 as floats, by rows.
pub(super) struct Tensors(std::collections::BTreeMap<String, (Vec<usize>, Vec<f32>)>);

impl Tensors {
    pub(super) fn of(model: &Path) -> Self {
        let checkpoint = autoglm_core::Checkpoint::open(&Files::directory(model).unwrap()).unwrap();
        let read = |info: &autoglm_core::checkpoint::TensorInfo| {
            let mut values = Vec::new();
            info.float().unwrap().widen(&checkpoint.bytes(&info.name).unwrap(), &mut values);
            (info.name.to_string(), (info.shape.clone(), values))
        };
        Self(checkpoint.tensors().map(read).collect())
    }

    /// Rows, and then columns, of `name` are the old ones that these numbers name, times these factors.
    pub(super) fn gather(&mut self, name: &str, rows: &[(usize, f32)], columns: Option<&[(usize, f32)]>) {
        let (shape, values) = self.0.get_mut(name).unwrap();
        let k = shape[1];
        let every: Vec<(usize, f32)> = (0..k).map(|j| (j, 1.0)).collect();
        let columns = columns.unwrap_or(&every);
        let at = |i: usize, j: usize| if i < shape[0] && j < k { values[i * k + j] } else { 0.0 };
        let new = rows.iter().flat_map(|(i, a)| columns.iter().map(move |(j, b)| at(*i, *j) * a * b)).collect();
        (*shape, *values) = (vec![rows.len(), columns.len()], new);
    }

    pub(super) fn write(&self, model: &Path) {
        let bytes = |values: &[f32]| values.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect();
        let all: Vec<(&str, &[usize], Vec<u8>)> =
            self.0.iter().map(|(name, (shape, values))| (name.as_str(), &shape[..], bytes(values))).collect();
        let views =
            all.iter().map(|(name, shape, bytes)| (*name, TensorView::new(Dtype::F16, shape.to_vec(), bytes).unwrap()));
        fs::write(model.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    }
}

const F: usize = 384;
const LAYERS: usize = 4;
const LAYER: &str = "model.language_model.layers";

/// The tiny checkpoint with sixteen neurons more in every layer, some in parts and some idle, and a layer more that does
/// nothing. It computes what the tiny checkpoint computes.
fn planted(model: &Path) {
    for (name, content) in autoglm_tiny::FILES {
        fs::write(model.join(name), content).unwrap();
    }
    let mut tensors = Tensors::of(model);
    for layer in 0..LAYERS {
        let at = |name: &str| format!("{LAYER}.{layer}.mlp.{name}.weight");
        // Of old neurons, twelve stand twice, with half the weight behind each; four are read but compute nothing.
        let mut neurons: Vec<(usize, f32)> = (0..F).map(|j| (j, if j % 32 == 5 { 0.5 } else { 1.0 })).collect();
        neurons.extend((0..F).filter(|j| j % 32 == 5).map(|j| (j, 0.5)));
        neurons.extend([(1, 1.0); 4]);
        let idle = F + 12;
        let rows = |part: usize| {
            neurons.iter().enumerate().map(
                move |(new, (j, _))| {
                    if new >= idle { (usize::MAX, 0.0) } else { (part * F + j, 1.0) }
                },
            )
        };
        let gate_up: Vec<(usize, f32)> = rows(0).chain(rows(1)).collect();
        tensors.gather(&at("gate_up_proj"), &gate_up, None);
        let c: Vec<(usize, f32)> = (0..128).map(|i| (i, 1.0)).collect();
        tensors.gather(&at("down_proj"), &c, Some(&neurons));
    }
    // Layer 1 again behind itself, both branches ending in norms of weight zero.
    for layer in (2..=LAYERS).rev() {
        let names: Vec<String> = tensors.0.keys().cloned().collect();
        let from = format!("{LAYER}.{}.", layer - 1);
        for name in names.iter().filter(|name| name.starts_with(&from)) {
            let mut tensor = tensors.0[name].clone();
            if layer == 2 && [".post_self_attn_layernorm", ".post_mlp_"].iter().any(|norm| name.contains(norm)) {
                tensor.1.fill(0.0);
            }
            tensors.0.insert(name.replace(&from, &format!("{LAYER}.{layer}.")), tensor);
        }
    }
    tensors.write(model);
    let mut config = read(&model.join("config.json"));
    config::set(&mut config, "intermediate_size", &json!(F + 16));
    config::set(&mut config, "num_hidden_layers", &json!(LAYERS + 1));
    fs::write(model.join("config.json"), config.to_string()).unwrap();
}

#[test]
fn planted_neurons_and_layers_and_padding_are_found_and_nothing_changes() {
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (folder.path().join("planted"), folder.path().join("out"));
    fs::create_dir(&model).unwrap();
    planted(&model);
    let before = logits(&model, true);
    assert!(furthest(&before, &logits(&tiny(), true)) <= 1e-4, "what is planted changes nothing");
    prune(&model, &out, "--ffn 384 --layers 4 --vocab padding --ffn-multiple 128 --lines 4").unwrap();
    let report = read(&out.join("prune.json"));
    let steps = report["steps"].as_array().unwrap();
    assert!(steps.contains(&step("layers", None, &json!([0, 1, 3, 4]))), "{steps:?}");
    let narrowed: Vec<&Value> = steps.iter().filter(|step| step.get("redundant").is_some()).collect();
    assert_eq!(narrowed.len(), LAYERS);
    assert!(narrowed.iter().all(|step| step["redundant"] == 16 && step["error"] == 0.0), "{narrowed:?}");
    let config = read(&out.join("config.json"));
    assert_eq!(config["text_config"]["vocab_size"], 660);
    // The rows of the vocabulary that are left.
    let after = logits(&out, true);
    let before: Vec<f32> = before.chunks_exact(704).flat_map(|row| &row[..660]).copied().collect();
    let furthest = furthest(&before, &after);
    assert!(furthest <= 1e-4, "{furthest}");
}

#[test]
fn the_decoder_alone_computes_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("text");
    prune(&tiny(), &out, "--drop vision").unwrap();
    let config = read(&out.join("config.json"));
    assert_eq!((&config["architectures"], &config["model_type"]), (&json!(["Glm4ForCausalLM"]), &json!("glm4")));
    assert!(!out.join("preprocessor_config.json").exists() && out.join("tokenizer.json").exists());
    assert_eq!(logits(&out, false), logits(&tiny(), false));
    let deaf = folder.path().join("deaf");
    prune(&tiny(), &deaf, "--drop audio").unwrap();
    assert_eq!(logits(&deaf, false), logits(&tiny(), false));
    assert!(read(&deaf.join("config.json")).get("audio_config").is_none());
}

#[test]
fn one_frame_shows_what_two_equal_ones_showed() {
    let folder = tempfile::tempdir().unwrap();
    let (out, twice) = (folder.path().join("folded"), folder.path().join("twice"));
    prune(&tiny(), &out, "--fold").unwrap();
    let kernel = Tensors::of(&out).0.remove(fold::KERNEL).unwrap();
    assert_eq!(kernel.0[1..], [3, 1, 14, 14]);
    let config = read(&out.join("config.json"));
    assert_eq!(config["vision_config"]["temporal_patch_size"], 1);
    let preprocess = read(&out.join("preprocessor_config.json"));
    assert_eq!(preprocess["size"], json!({ "shortest_edge": 6_272, "longest_edge": 112_896 }));
    assert_eq!(preprocess["image_mean"], read(&tiny().join("preprocessor_config.json"))["image_mean"]);
    // As many rows, so the picture has the same size, and the same in them.
    let furthest = furthest(&logits(&tiny(), true), &logits(&out, true));
    assert!(furthest > 0.0 && furthest <= 1e-4, "{furthest}");
    let failure = prune(&out, &twice, "--fold").unwrap_err();
    assert!(failure.status() == 2 && one_line(&failure).contains("one frame already"), "{failure}");
    // Where transformers 5 has it: bounds are those of the file that says them, and no other file is made up.
    let nested = folder.path().join("nested");
    fs::create_dir(&nested).unwrap();
    for (name, content) in autoglm_tiny::FILES.iter().filter(|(name, _)| *name != "preprocessor_config.json") {
        fs::write(nested.join(name), content).unwrap();
    }
    let mut processor = read(&nested.join("processor_config.json"));
    processor["image_processor"] = read(&tiny().join("preprocessor_config.json"));
    fs::write(nested.join("processor_config.json"), processor.to_string()).unwrap();
    let five = folder.path().join("five");
    prune(&nested, &five, "--fold").unwrap();
    assert_eq!(
        read(&five.join("processor_config.json"))["image_processor"]["size"],
        json!({ "shortest_edge": 6_272, "longest_edge": 112_896 })
    );
    assert!(!five.join("preprocessor_config.json").exists());
    // A bound that has no half.
    let mut preprocess = read(&out.join("preprocessor_config.json"));
    preprocess["size"]["longest_edge"] = json!(225_793);
    preprocess["temporal_patch_size"] = json!(2);
    let odd = folder.path().join("odd");
    fs::create_dir(&odd).unwrap();
    for (name, content) in autoglm_tiny::FILES {
        fs::write(odd.join(name), content).unwrap();
    }
    fs::write(odd.join("preprocessor_config.json"), preprocess.to_string()).unwrap();
    let failure = prune(&odd, &twice, "--fold").unwrap_err();
    assert!(failure.status() == 2 && one_line(&failure).contains("225793"), "{failure}");
}

#[test]
fn a_narrow_model_still_answers_and_the_report_says_what_it_cost() {
    let folder = tempfile::tempdir().unwrap();
    let (out, lines) = (folder.path().join("narrow"), folder.path().join("held-out.jsonl"));
    let picture = tiny().join("screens/19.png");
    fs::write(&lines, format!("{}\n", json!({ "text": "go back", "image": picture }))).unwrap();
    prune(&tiny(), &out, &format!("--ffn 304 --ffn-multiple 8 --lines 12 --eval {}", lines.display())).unwrap();
    let report = read(&out.join("prune.json"));
    for key in ["params_before", "params_after", "bytes_before", "bytes_after"] {
        assert!(report[key].as_u64().unwrap() > 1_000_000, "{report}");
    }
    assert_eq!(report["params_before"].as_u64().unwrap() - report["params_after"].as_u64().unwrap(), 4 * 3 * 80 * 128);
    let eval = |key: &str| report["eval"][key].as_f64().unwrap();
    assert!(eval("kl") < 0.1 && eval("greedy_agreement") > 0.8, "{report}");
    assert!(eval("ppl_after") < 1.2 * eval("ppl_before"), "{report}");
    let errors = report["steps"].as_array().unwrap().iter().filter_map(|step| step["error"].as_f64());
    assert!(
        errors.clone().count() == LAYERS && errors.into_iter().all(|error| error > 0.0 && error < 0.05),
        "{report}"
    );
    assert_eq!(logits(&out, true).len(), logits(&tiny(), true).len());
}

#[test]
fn what_makes_no_sense_is_one_line_and_status_two_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let damaged = folder.path().join("damaged.jsonl");
    fs::write(&damaged, "{\"text\": \"a\"}\n{\"txt\": \"b\"}\n").unwrap();
    let blind = folder.path().join("blind.jsonl");
    fs::write(&blind, "{\"text\": \"a\", \"image\": \"nowhere.png\"}\n").unwrap();
    let shown = folder.path().join("shown.jsonl");
    fs::write(&shown, json!({ "text": "a", "image": tiny().join("screens/01.png") }).to_string()).unwrap();
    let wrong = [
        ("", "name something"),
        ("--ffn 300", "multiple of 128"),
        ("--ffn 512", "384 neurons"),
        ("--layers 1", "2 that are protected"),
        ("--layers 9", "4 that there are"),
        ("--vocab padding --lines 3", "--lines"),
        (&format!("--layers 3 --calib {}", damaged.display()), "line 2 of"),
        (&format!("--layers 3 --calib {}", blind.display()), "nowhere.png"),
        ("--drop vision --fold", "nothing is left"),
        ("--layers 3 --calib /dev/zero", "no regular file"),
        (&format!("--drop vision --eval {}", shown.display()), "every line has a picture"),
    ];
    for (arguments, expected) in wrong {
        let failure = prune(&tiny(), &out, arguments).unwrap_err();
        let line = one_line(&failure);
        assert!(line.contains(expected) && !line.contains('\n'), "{arguments}: {line}");
        assert_eq!(failure.status(), 2, "{line}");
    }
    let itself = prune(&tiny(), &tiny(), "--drop vision").unwrap_err();
    assert_eq!(itself.status(), 2);
    let missing = prune(&tiny(), &out, "--layers 3 --calib /nowhere.jsonl").unwrap_err();
    assert!(one_line(&missing).contains("/nowhere.jsonl"), "{missing}");
    assert_eq!(missing.status(), 2);
    let orphan = prune(&tiny(), &folder.path().join("no/where"), "--drop vision").unwrap_err();
    assert_eq!(orphan.status(), 2, "{orphan}");
    let asr = workspace::root().join("goldens/cases/asr");
    let blind = prune(&asr, &out, "--fold").unwrap_err();
    assert!(blind.status() == 2 && one_line(&blind).contains("no eyes"), "{blind}");
    let deaf = prune(&asr, &out, "--ffn 128").unwrap_err();
    assert!(deaf.status() == 2 && one_line(&deaf).contains("no sounds yet"), "{deaf}");
    // A line that the model cannot take is named; that is known only when it is tried.
    fs::write(&damaged, json!({ "text": "a", "image": tiny().join("config.json") }).to_string()).unwrap();
    let untaken = prune(&tiny(), &out, &format!("--layers 3 --calib {}", damaged.display())).unwrap_err();
    assert!(one_line(&untaken).contains("line 1 of"), "{}", one_line(&untaken));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "the calibration files alone");
}

#[test]
fn rows_that_any_file_names_are_no_padding() {
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (folder.path().join("model"), folder.path().join("out"));
    fs::create_dir(&model).unwrap();
    for (name, content) in autoglm_tiny::FILES {
        fs::write(model.join(name), content).unwrap();
    }
    let mut config = read(&model.join("generation_config.json"));
    config["suppress_tokens"] = json!([690]);
    fs::write(model.join("generation_config.json"), config.to_string()).unwrap();
    prune(&model, &out, "--vocab padding").unwrap();
    assert_eq!(read(&out.join("config.json"))["text_config"]["vocab_size"], 691);
}

#[test]
fn a_plan_is_printed_and_nothing_is_written() {
    let line = ["prune", "--model", tiny().to_str().unwrap(), "--vocab", "padding", "--plan"].map(str::to_owned);
    run(&Line::parse_from(line).arguments).unwrap();
    for both in ["--plan --out x", "--plan --eval x"] {
        let line = ["prune", "--model", "m", "--ffn", "8"].into_iter().chain(both.split(' '));
        assert!(Line::try_parse_from(line).is_err());
    }
}
