//! GGUF files of small checkpoints, read by candle's reader and held against what they were made of.

mod tensors;

use std::fs::{self, File};
use std::io::BufReader;
use std::path::PathBuf;

use autoglm_core::Files;
use candle_core::Device;
use candle_core::quantized::{GgmlDType, gguf_file};
use serde_json::{Value as Json, json};

use super::container::{Announced, Value, create};
use super::kind::Kind;
use super::*;
use crate::error::one_line;
use crate::export::{Arguments, Format, run};
use crate::workspace;

/// A GGUF file as candle reads it.
struct Read {
    content: gguf_file::Content,
    file: BufReader<File>,
}

impl Read {
    fn open(path: &Path) -> Self {
        let mut file = BufReader::new(File::open(path).unwrap());
        Self { content: gguf_file::Content::read(&mut file).unwrap(), file }
    }

    fn value(&self, name: &str) -> &gguf_file::Value {
        self.content.metadata.get(name).unwrap_or_else(|| panic!("no {name}"))
    }

    fn u32(&self, name: &str) -> u32 {
        self.value(name).to_u32().unwrap()
    }

    fn text(&self, name: &str) -> &str {
        self.value(name).to_string().unwrap()
    }

    fn texts(&self, name: &str) -> Vec<&str> {
        self.value(name).to_vec().unwrap().iter().map(|text| text.to_string().unwrap().as_str()).collect()
    }

    fn i32s(&self, name: &str) -> Vec<i32> {
        self.value(name).to_vec().unwrap().iter().map(|number| number.to_i32().unwrap()).collect()
    }

    fn kind(&self, name: &str) -> GgmlDType {
        self.content.tensor_infos[name].ggml_dtype
    }

    fn shape(&self, name: &str) -> &[usize] {
        self.content.tensor_infos[name].shape.dims()
    }

    fn numbers(&mut self, name: &str) -> Vec<f32> {
        let tensor = self.content.tensor(&mut self.file, name, &Device::Cpu).unwrap();
        tensor.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }
}

fn case(name: &str) -> PathBuf {
    match name {
        "autoglm-tiny" => workspace::root().join("models").join(name),
        _ => workspace::root().join("goldens/cases").join(name),
    }
}

fn export(folder: &Path, model: &Path, precision: Precision) -> Result<PathBuf> {
    let out = folder.join(format!("{}-{}", model.file_name().unwrap().display(), precision.name()));
    let (model, format) = (model.to_owned(), Format::Gguf);
    run(&Arguments { model, out: out.clone(), format, precision, layout: None, calib: None, threads: Some(2) })
        .map(|()| out)
}

#[test]
fn a_file_says_what_llama_cpp_must_know() {
    let folder = tempfile::tempdir().unwrap();
    let out = export(folder.path(), &case("autoglm-tiny"), Precision::F16).unwrap();
    let mut written: Vec<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    written.sort();
    assert_eq!(written, ["mmproj-f16.gguf", "model-f16.gguf"]);

    let model = Read::open(&out.join("model-f16.gguf"));
    for (name, text) in [
        ("general.architecture", "glm4"),
        ("general.type", "model"),
        ("general.name", "autoglm-tiny"),
        ("tokenizer.ggml.model", "gpt2"),
        ("tokenizer.ggml.pre", "chatglm-bpe"),
    ] {
        assert_eq!(model.text(name), text, "{name}");
    }
    for (name, number) in [
        ("general.file_type", 1),
        ("general.quantization_version", 2),
        ("glm4.block_count", 4),
        ("glm4.context_length", 4096),
        ("glm4.embedding_length", 128),
        ("glm4.feed_forward_length", 384),
        ("glm4.vocab_size", 704),
        ("glm4.attention.head_count", 4),
        ("glm4.attention.head_count_kv", 2),
        ("glm4.attention.key_length", 32),
        ("glm4.attention.value_length", 32),
        ("glm4.rope.dimension_count", 16),
        ("tokenizer.ggml.eos_token_id", 640),
        ("tokenizer.ggml.eot_token_id", 644),
        ("tokenizer.ggml.eom_token_id", 659),
        ("tokenizer.ggml.bos_token_id", 640),
        ("tokenizer.ggml.padding_token_id", 640),
    ] {
        assert_eq!(model.u32(name), number, "{name}");
    }
    assert_eq!(model.value("glm4.attention.layer_norm_rms_epsilon").to_f32().unwrap(), 1e-5);
    assert_eq!(model.value("glm4.rope.freq_base").to_f32().unwrap(), 10_000.0);
    assert_eq!(model.i32s("glm4.rope.dimension_sections"), [2, 3, 3, 0]);
    for name in ["tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token"] {
        assert!(!model.value(name).to_bool().unwrap(), "{name}");
    }
    let (tokens, kinds) = (model.texts("tokenizer.ggml.tokens"), model.i32s("tokenizer.ggml.token_type"));
    assert_eq!((tokens.len(), kinds.len()), (704, 704));
    for (id, text, kind) in [(0, "!", 1), (640, "<|endoftext|>", 3), (659, "</answer>", 3), (660, "[PAD660]", 5)] {
        assert_eq!((tokens[id], kinds[id]), (text, kind));
    }
    let merges = model.texts("tokenizer.ggml.merges");
    assert_eq!((merges.len(), merges[1]), (384, "t h"));
    let template = fs::read_to_string(case("autoglm-tiny").join("chat_template.jinja")).unwrap();
    assert_eq!(model.text("tokenizer.chat_template"), template);
    for (name, kind) in [
        ("token_embd.weight", GgmlDType::F16),
        ("blk.0.attn_q.bias", GgmlDType::F32),
        ("blk.0.attn_norm.weight", GgmlDType::F32),
    ] {
        assert_eq!(model.kind(name), kind, "{name}");
    }
    for info in model.content.tensor_infos.values() {
        assert_eq!((model.content.tensor_data_offset + info.offset) % 32, 0);
    }

    let eyes = Read::open(&out.join("mmproj-f16.gguf"));
    assert_eq!((eyes.text("general.architecture"), eyes.text("clip.projector_type")), ("clip", "glm4v"));
    for (name, number) in [
        ("clip.vision.projection_dim", 128),
        ("clip.vision.image_size", 168),
        ("clip.vision.patch_size", 14),
        ("clip.vision.spatial_merge_size", 2),
        ("clip.vision.embedding_length", 128),
        ("clip.vision.feed_forward_length", 128),
        ("clip.vision.block_count", 3),
        ("clip.vision.attention.head_count", 4),
    ] {
        assert_eq!(eyes.u32(name), number, "{name}");
    }
    for name in ["clip.has_vision_encoder", "clip.use_silu"] {
        assert!(eyes.value(name).to_bool().unwrap(), "{name}");
    }
    for (name, want) in [
        ("clip.vision.image_mean", [0.481_455, 0.457_828, 0.408_211]),
        ("clip.vision.image_std", [0.268_630, 0.261_303, 0.275_777]),
    ] {
        let got: Vec<f32> = eyes.value(name).to_vec().unwrap().iter().map(|x| x.to_f32().unwrap()).collect();
        assert!(got.iter().zip(want).all(|(got, want): (_, f32)| (got - want).abs() < 1e-6), "{got:?}");
    }
    assert_eq!(eyes.kind("v.patch_embd.weight"), GgmlDType::F16);
    assert_eq!(eyes.kind("v.position_embd.weight"), GgmlDType::F32);
}

#[test]
fn a_decoder_alone_has_no_axes_and_its_own_width_of_heads() {
    let folder = tempfile::tempdir().unwrap();
    let out = export(folder.path(), &case("glm4"), Precision::F32).unwrap();
    assert!(!out.join("mmproj-f32.gguf").exists());
    let model = Read::open(&out.join("model-f32.gguf"));
    assert!(!model.content.metadata.contains_key("glm4.rope.dimension_sections"));
    // 64 / 4 would be 16.
    assert_eq!((model.u32("glm4.attention.key_length"), model.u32("glm4.rope.dimension_count")), (32, 16));
    assert_eq!(model.text("tokenizer.ggml.model"), "no_vocab");
    assert_eq!(model.u32("glm4.vocab_size"), 320);
}

#[test]
fn values_of_every_kind_and_ragged_tensors_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    let values: Values = [
        ("u", Value::U32(7)),
        ("f", Value::F32(0.5)),
        ("b", Value::Bool(true)),
        ("t", Value::Text("Ġ中".to_owned())),
        ("i", Value::I32s(vec![-1, 2])),
        ("l", Value::F32s(vec![0.25])),
        ("s", Value::Texts(vec![String::new(), "a b".to_owned()])),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let kind = Kind::Float(FloatType::F32);
    let tensors = [("a", vec![3]), ("c", vec![2, 5])];
    let announced: Vec<_> = tensors.iter().map(|(name, shape)| Announced { name, shape, kind }).collect();
    let mut file = create(&path, &values, &announced).unwrap();
    for (_, shape) in &tensors {
        let bytes: Vec<u8> = (0..shape.iter().product::<usize>()).flat_map(|i| (i as f32).to_le_bytes()).collect();
        file.tensor(|file| file.write_all(&bytes)).unwrap();
    }
    file.finish().unwrap();
    let mut read = Read::open(&path);
    assert_eq!((read.u32("u"), read.value("f").to_f32().unwrap(), read.value("b").to_bool().unwrap()), (7, 0.5, true));
    assert_eq!((read.text("t"), read.i32s("i"), read.texts("s")), ("Ġ中", vec![-1, 2], vec!["", "a b"]));
    assert_eq!(read.value("l").to_vec().unwrap()[0].to_f32().unwrap(), 0.25);
    assert_eq!(read.shape("c"), [2, 5]);
    assert_eq!((read.numbers("a"), read.numbers("c").len(), read.numbers("c")[9]), (vec![0.0, 1.0, 2.0], 10, 9.0));
}

/// A copy of a case with some files put in or changed.
fn changed(folder: &Path, name: &str, model: &str, files: &[(&str, &[u8])]) -> PathBuf {
    let copy = folder.join(name);
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(case(model)).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        fs::copy(&entry, copy.join(entry.file_name().unwrap())).unwrap();
    }
    files.iter().for_each(|(file, content)| fs::write(copy.join(file), content).unwrap());
    copy
}

#[test]
fn what_llama_cpp_would_read_as_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = |change: &dyn Fn(&mut Json)| {
        let mut config: Json =
            serde_json::from_slice(&fs::read(case("one-image").join("config.json")).unwrap()).unwrap();
        change(&mut config);
        config.to_string()
    };
    let turned = config(&|config| config["vision_config"]["rope_parameters"]["rope_theta"] = json!(100.0));
    let tokenizer = fs::read(case("autoglm-tiny").join("tokenizer.json")).unwrap();
    let edited = |change: &dyn Fn(&mut Json)| {
        let mut file: Json = serde_json::from_slice(&tokenizer).unwrap();
        change(&mut file);
        file.to_string()
    };
    let named_as_padding = edited(&|file| file["added_tokens"][19]["content"] = json!("[PAD700]"));
    for (name, model, file, content, why) in [
        ("theta", "one-image", "config.json", turned.as_bytes(), "`vision_config.rope_theta`: it is 100"),
        ("few", "one-image", "tokenizer.json", &tokenizer, "the table has 320 rows and the tokenizer a token 320"),
        ("same", "autoglm-tiny", "tokenizer.json", named_as_padding.as_bytes(), "two tokens `[PAD700]`"),
    ] {
        let failure = export(folder.path(), &changed(folder.path(), name, model, &[(file, content)]), Precision::F16);
        let failure = failure.unwrap_err();
        assert!(one_line(&failure).contains(why), "{}", one_line(&failure));
        assert_eq!(failure.status(), 2);
    }
    for (model, precision, why) in [
        ("asr", Precision::F16, "`gguf` takes glm4v and glm4 checkpoints, not glmasr"),
        ("autoglm-tiny", Precision::Int8, "`gguf` has no int8; it takes bf16, f16, f32, q8_0 and q4_0"),
    ] {
        let failure = export(folder.path(), &case(model), precision).unwrap_err();
        assert_eq!((one_line(&failure).as_str(), failure.status()), (why, 2));
    }
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "nothing was written beside the three copies: {left:?}");
}

#[test]
fn more_stops_than_places_leave_out_the_one_that_is_known_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let stops = json!({ "eos_token_id": [640, 644, 646, 659] }).to_string();
    let model = changed(folder.path(), "stops", "autoglm-tiny", &[("generation_config.json", stops.as_bytes())]);
    let out = export(folder.path(), &model, Precision::F16).unwrap();
    let file = Read::open(&out.join("model-f16.gguf"));
    let ids = ["eos", "eot", "eom", "bos"].map(|name| file.u32(&format!("tokenizer.ggml.{name}_token_id")));
    assert_eq!(ids, [644, 646, 659, 640]);
}

#[test]
fn what_llama_cpp_would_read_otherwise_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let tiny =
        |name: &str| -> Json { serde_json::from_slice(&fs::read(case("autoglm-tiny").join(name)).unwrap()).unwrap() };
    let mut endless = tiny("config.json");
    endless.as_object_mut().unwrap().remove("eos_token_id");
    endless["text_config"].as_object_mut().unwrap().remove("eos_token_id");
    let mut nameless = tiny("tokenizer.json");
    nameless["added_tokens"][0]["content"] = json!("<|end|>");
    let mut nul = tiny("tokenizer.json");
    nul["added_tokens"][19]["content"] = json!("a\0b");
    let mut sections = tiny("config.json");
    sections["text_config"]["rope_parameters"]["mrope_section"] = json!([0, 4, 4]);
    let nowhere = json!({});
    let beyond = json!({ "eos_token_id": [99_999] });
    let template = json!({ "chat_template": 5 });
    type Files<'a> = &'a [(&'a str, &'a Json)];
    let cases: [(&str, Files<'_>, &str); 5] = [
        (
            "endless",
            &[("config.json", &endless), ("generation_config.json", &nowhere), ("tokenizer.json", &nameless)],
            "a token to stop at",
        ),
        ("beyond", &[("generation_config.json", &beyond)], "stop at token 99999"),
        ("nul", &[("tokenizer.json", &nul)], "the NUL in token"),
        ("sections", &[("config.json", &sections)], "mrope_section"),
        ("template", &[("tokenizer_config.json", &template), ("chat_template.jinja", &Json::Null)], "chat_template"),
    ];
    for (name, files, why) in cases {
        let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(name, file)| (*name, file.to_string().into())).collect();
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, file)| (*name, &file[..])).collect();
        let model = changed(folder.path(), name, "autoglm-tiny", &files);
        if name == "template" {
            fs::remove_file(model.join("chat_template.jinja")).unwrap();
        }
        let failure = export(folder.path(), &model, Precision::F16).unwrap_err();
        assert!(one_line(&failure).contains(why), "{name}: {}", one_line(&failure));
    }
    // Where nothing says where answers end, the end of text is known by its name.
    let files = [("config.json", endless.to_string()), ("generation_config.json", nowhere.to_string())];
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, file)| (*name, file.as_bytes())).collect();
    let model = changed(folder.path(), "named", "autoglm-tiny", &files);
    let out = export(folder.path(), &model, Precision::F16).unwrap();
    assert_eq!(Read::open(&out.join("model-f16.gguf")).u32("tokenizer.ggml.eos_token_id"), 640);
}

#[test]
fn notes_say_what_the_files_are_without() {
    let folder = tempfile::tempdir().unwrap();
    let notes = |model: &Path, precision| {
        let files = Files::directory(model).unwrap();
        let out = tempfile::tempdir_in(folder.path()).unwrap();
        write(&Inventory::of(&files).unwrap(), &files, precision, out.path()).unwrap().notes
    };
    let [pattern, bars, ears] = &notes(&case("autoglm-tiny"), Precision::Q4_0)[..] else { panic!("three notes") };
    assert!(pattern.contains("another pattern than GLM-4's") && ears.contains("ears"), "{pattern}, {ears}");
    assert!(bars.contains("multiples of 28"), "{bars}");
    let model = changed(folder.path(), "silent", "autoglm-tiny", &[]);
    fs::remove_file(model.join("chat_template.jinja")).unwrap();
    fs::remove_file(model.join("tokenizer_config.json")).unwrap();
    assert!(
        notes(&model, Precision::F16)
            .contains(&"there is no chat template, so llama.cpp takes one of its own".to_owned())
    );
    let [words] = &notes(&case("glm4"), Precision::F16)[..] else { panic!("one note") };
    assert!(words.contains("no words"), "{words}");
    let [.., wide] = &notes(&case("tied"), Precision::Q8_0)[..] else { panic!("some notes") };
    assert!(wide.ends_with("matrices are f16, because no blocks of 32 fit their rows"), "{wide}");
    // The pattern of the published models, and words that are one token whatever the merges.
    let mut file: Json =
        serde_json::from_slice(&fs::read(case("autoglm-tiny").join("tokenizer.json")).unwrap()).unwrap();
    file["model"]["ignore_merges"] = json!(true);
    file["pre_tokenizer"] = json!({ "type": "Sequence", "pretokenizers": [
        { "type": "Split", "pattern": { "Regex": crate::synth::tokenizer::SPLIT }, "behavior": "Isolated", "invert": false },
        { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false },
    ] });
    let model = changed(folder.path(), "glm", "autoglm-tiny", &[("tokenizer.json", file.to_string().as_bytes())]);
    assert_eq!(notes(&model, Precision::F16).len(), 2, "bars and ears");
    let out = export(folder.path(), &model, Precision::F16).unwrap();
    assert_eq!(Read::open(&out.join("model-f16.gguf")).text("tokenizer.ggml.pre"), "glm4");
}
