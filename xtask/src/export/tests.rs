//! Packed copies of the tiny checkpoint: opened, compared bit by bit, and damaged.

use std::fs;
use std::path::Path;

use autoglm::{Error as ModelError, Model, OpenOptions, Precision as Stored, TokenId};
use autoglm_core::Checkpoint;
use autoglm_core::checkpoint::Dtype;
use serde_json::{Map, Value, json};

use super::*;
use crate::error::one_line;
use crate::workspace;

fn tiny() -> PathBuf {
    workspace::root().join("models/autoglm-tiny")
}

/// Exports the tiny checkpoint below `folder`.
fn export(folder: &Path, precision: Precision, layout: Option<Layout>) -> PathBuf {
    let out = folder.join(format!("{}-{}", precision.name(), layout.map_or("own", Layout::name)));
    let (model, threads) = (tiny(), Some(2));
    run(&Arguments { model, out: out.clone(), format: Format::Packed, precision, layout, calib: None, threads })
        .unwrap();
    out
}

fn stored(precision: Precision) -> Stored {
    Stored::named(precision.name()).unwrap()
}

/// The bits of all logits of a prompt with a picture and a sound.
fn logits(model: &Model) -> Vec<u32> {
    let [picture, voice] =
        ["screens/01.png", "voice/01.wav"].map(|name| Ok::<_, ModelError>(fs::read(tiny().join(name)).unwrap()));
    let ids = [647, 649, 648, 653, 655, 654, 5, 77, 301, 12].map(TokenId);
    let mut prompt = model.prompt(&ids, [picture].into_iter(), [voice].into_iter()).unwrap();
    let mut bits = Vec::new();
    prompt
        .logits(|logits| {
            bits.extend(logits.iter().map(|logit| logit.to_bits()));
            Ok::<_, ModelError>(())
        })
        .unwrap();
    assert!(bits.len() > 50 * model.vocab_size(), "a picture of this size has 72 rows");
    bits
}

fn open(dir: &Path) -> autoglm::Result<Model> {
    Model::open_with(dir, &OpenOptions::default().threads(2))
}

const ALL: [Precision; 3] = [Precision::Mixed, Precision::Int8, Precision::Int4];

fn other_layout() -> Layout {
    let own = Layout::of(Isa::best());
    [Layout::Dotprod, Layout::I8mm].into_iter().find(|layout| *layout != own).unwrap()
}

#[test]
fn a_packed_checkpoint_computes_what_quantising_at_load_computes_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    for precision in ALL {
        let at_load =
            Model::open_with(tiny(), &OpenOptions::default().precision(stored(precision)).threads(2)).unwrap();
        let want = logits(&at_load);
        let dir = export(folder.path(), precision, None);
        let packed = open(&dir).unwrap();
        assert!(logits(&packed) == want, "{precision:?}");
        // Biases are packed as f32 and lie in the tiny checkpoint as f16, and a map without one that shares its
        // input with others gets zeros.
        let biases = |dir: &Path, dtype| -> u64 {
            let checkpoint = Checkpoint::open(&Files::directory(dir).unwrap()).unwrap();
            let biases = checkpoint.tensors().filter(|t| t.name.ends_with(".bias") && t.dtype == dtype);
            biases.map(|tensor| tensor.size() as u64).sum()
        };
        let left = biases(&dir, Dtype::F16);
        let widened = biases(&dir, Dtype::F32) - (biases(&tiny(), Dtype::F16) - left);
        assert_eq!(packed.weights_bytes(), at_load.weights_bytes() + widened, "{precision:?}");
        assert_eq!(packed.warning(), None);

        let moved = open(&export(folder.path(), precision, Some(other_layout()))).unwrap();
        assert!(logits(&moved) == want, "{precision:?} in another order");
        assert!(moved.warning().unwrap().contains(other_layout().name()), "{:?}", moved.warning());
    }
}

#[test]
fn tied_heads_shards_and_other_floats_are_packed_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let cases = workspace::root().join("goldens/cases");
    // As GLM-ASR's own file has it: a head of its own, and a word that it was tied.
    let contradictory = folder.path().join("tied-with-a-head");
    fs::create_dir(&contradictory).unwrap();
    for name in ["model.safetensors", "config.json", "preprocessor_config.json"] {
        fs::copy(cases.join("asr-legacy-names").join(name), contradictory.join(name)).unwrap();
    }
    let path = contradictory.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(config["tie_word_embeddings"], false);
    config["tie_word_embeddings"] = true.into();
    fs::write(path, config.to_string()).unwrap();
    let names = ["tied", "sharded-bf16", "glm4", "text-v5", "asr", "asr-legacy-names", "ears"];
    for model in names.map(|name| cases.join(name)).into_iter().chain([contradictory]) {
        for precision in ALL {
            let case = model.file_name().unwrap().to_string_lossy().into_owned();
            let out = folder.path().join(format!("{case}-{}", precision.name()));
            let format = Format::Packed;
            run(&Arguments {
                model: model.clone(),
                out: out.clone(),
                format,
                precision,
                layout: None,
                calib: None,
                threads: Some(2),
            })
            .unwrap();
            let bits = |model: &Model| {
                let ids = [5, 7, 301, 12].map(TokenId);
                let mut bits = Vec::new();
                let each = |logits: &[f32]| {
                    bits.extend(logits.iter().map(|logit| logit.to_bits()));
                    Ok::<_, ModelError>(())
                };
                let none = std::iter::empty::<std::result::Result<Vec<u8>, ModelError>>();
                model.prompt(&ids, none.clone(), none).unwrap().logits(each).unwrap();
                bits
            };
            let at_load = Model::open_with(&model, &OpenOptions::default().precision(stored(precision))).unwrap();
            assert!(bits(&open(&out).unwrap()) == bits(&at_load), "{case} {precision:?}");
        }
    }
}

#[test]
fn a_packed_checkpoint_keeps_its_precision_and_talks() {
    let folder = tempfile::tempdir().unwrap();
    let dir = export(folder.path(), Precision::Int8, None);
    let asked = |precision: Stored| Model::open_with(&dir, &OpenOptions::default().precision(precision));
    assert!(asked(Stored::Int8).is_ok());
    for other in [Stored::Int4, Stored::F16] {
        let error = asked(other).unwrap_err().to_string();
        assert_eq!(error, format!("the checkpoint is packed as int8 and cannot be opened as {}", other.name()));
    }
    let mut session = open(&dir).unwrap().session();
    session.push(autoglm::Part::text("go back")).unwrap();
    let reply = session.reply(autoglm::Generate::default().thinking(autoglm::Thinking::Skipped)).unwrap();
    let text: String = reply.map(|piece| piece.unwrap().text).collect();
    assert_eq!(text, "do(action=\"Back\")");
    // A second export of it is refused, not done badly.
    let failure = run(&Arguments {
        model: dir,
        out: folder.path().join("twice"),
        format: Format::Packed,
        precision: Precision::Int4,
        layout: None,
        calib: None,
        threads: None,
    });
    assert!(one_line(&failure.unwrap_err()).contains("packed already"));
}

#[test]
fn every_tensor_of_a_packed_file_starts_at_a_whole_line() {
    let folder = tempfile::tempdir().unwrap();
    for precision in ALL {
        let dir = export(folder.path(), precision, Some(Layout::Dotprod));
        let checkpoint = Checkpoint::open(&Files::directory(dir).unwrap()).unwrap();
        for tensor in checkpoint.tensors().filter(|tensor| !tensor.name.starts_with(autoglm_quant::PADDING)) {
            assert_eq!(tensor.offset() % autoglm_quant::ALIGN, 0, "{}", tensor.name);
        }
    }
}

/// A packed directory that is damaged in one way after the other.
struct Victim {
    dir: PathBuf,
    weights: Vec<u8>,
    config: Value,
}

impl Victim {
    fn new(folder: &Path) -> Self {
        let dir = export(folder, Precision::Int4, None);
        let weights = fs::read(dir.join("model.safetensors")).unwrap();
        let config = serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap();
        Self { dir, weights, config }
    }

    fn header(&self) -> (Map<String, Value>, &[u8]) {
        let (length, rest) = self.weights.split_first_chunk::<8>().unwrap();
        let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
        (serde_json::from_slice(header).unwrap(), data)
    }

    /// The error of opening the directory with these weights.
    fn opened(&self, weights: &[u8]) -> String {
        fs::write(self.dir.join("model.safetensors"), weights).unwrap();
        self.failure()
    }

    fn failure(&self) -> String {
        let error = open(&self.dir).map(|model| model.weights_bytes()).unwrap_err();
        one_line(&crate::error::Error::from(error))
    }

    /// The error of opening it with another header, `shift` bytes behind where it ended.
    fn with_header(&self, shift: usize, change: impl FnOnce(&mut Map<String, Value>)) -> String {
        let (mut header, data) = self.header();
        change(&mut header);
        let mut json = Value::Object(header).to_string().into_bytes();
        json.resize((8 + json.len()).next_multiple_of(64) - 8 + shift, b' ');
        self.opened(&[&(json.len() as u64).to_le_bytes()[..], &json, data].concat())
    }

    /// The error of opening it with the numbers at the start of `tensor` replaced.
    fn with_numbers(&self, tensor: &str, numbers: &[u8]) -> String {
        let (header, data) = self.header();
        let start = header[tensor]["data_offsets"][0].as_u64().unwrap() as usize + self.weights.len() - data.len();
        let mut weights = self.weights.clone();
        weights[start..][..numbers.len()].copy_from_slice(numbers);
        self.opened(&weights)
    }
}

const DOWN: &str = "model.language_model.layers.1.mlp.down_proj";

fn qkv() -> String {
    ["q", "k", "v"].map(|map| format!("model.language_model.layers.1.self_attn.{map}_proj")).join("+")
}

#[test]
fn a_damaged_header_is_one_error_that_names_the_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let victim = Victim::new(folder.path());
    let codes = format!("{DOWN}.codes");

    let half = victim.opened(&victim.weights[..victim.weights.len() / 2]);
    assert!(half.contains("ends at byte"), "{half}");

    let wrong = victim.with_header(0, |header| {
        let shape = header[&codes]["shape"].as_array_mut().unwrap();
        shape.swap(0, 1);
        let factors = header[&format!("{DOWN}.factors")].as_object_mut().unwrap();
        factors["dtype"] = json!("BF16");
    });
    assert!(wrong.contains(&format!("1 of another shape: `{codes}`")), "{wrong}");
    assert!(wrong.contains(&format!("1 of another format: `{DOWN}.factors` is BF16, not F16")), "{wrong}");

    let overlap = victim.with_header(0, |header| {
        let offsets = header[&codes]["data_offsets"].as_array_mut().unwrap();
        let shift = |offset: &Value| json!(offset.as_u64().unwrap() - 64);
        *offsets = offsets.iter().map(shift).collect();
    });
    assert!(overlap.contains("is no valid safetensors file") && overlap.contains("within the one before"), "{overlap}");

    let renamed = victim.with_header(0, |header| {
        for kind in ["codes", "channel", "factors"] {
            let entry = header.remove(&format!("{}.{kind}", qkv())).unwrap();
            header.insert(format!("{}+model.ghost.{kind}", qkv()), entry);
        }
    });
    for name in ["q", "k", "v"] {
        assert!(renamed.contains(&format!("`model.language_model.layers.1.self_attn.{name}_proj.codes`")), "{renamed}");
    }
    assert!(renamed.contains("3 missing") && renamed.contains("unexpected") && renamed.contains("ghost"), "{renamed}");

    let swapped = victim.with_header(0, |header| {
        let names = qkv().split('+').map(str::to_owned).collect::<Vec<_>>();
        for kind in ["codes", "channel", "factors", "bias"] {
            if let Some(entry) = header.remove(&format!("{}.{kind}", qkv())) {
                header.insert(format!("{}+{}+{}.{kind}", names[1], names[0], names[2]), entry);
            }
        }
    });
    assert!(swapped.contains("the file packs") && swapped.contains("and the model asks for"), "{swapped}");

    let misaligned = victim.with_header(8, |_| {});
    assert!(misaligned.contains("no multiple of 64"), "{misaligned}");
}

#[test]
fn a_scale_that_is_no_number_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let victim = Victim::new(folder.path());
    let channel = format!("{DOWN}.channel");
    for value in [f32::NAN, f32::NEG_INFINITY] {
        let error = victim.with_numbers(&channel, &[[0, 0, 0, 0], value.to_le_bytes()].concat());
        assert!(error.ends_with(&format!("number 1 of `{channel}` is {value}")), "{error}");
    }
    let factors = format!("{}.factors", qkv());
    let error = victim.with_numbers(&factors, &[0x00, 0x7c]);
    assert!(error.ends_with(&format!("number 0 of `{factors}` is inf")), "{error}");
    let bias = "model.visual.patch_embed.proj.bias";
    let error = victim.with_numbers(bias, &f32::NAN.to_le_bytes());
    assert!(error.ends_with(&format!("number 0 of `{bias}` is NaN")), "{error}");
}

#[test]
fn a_config_that_says_something_unknown_is_refused_by_its_field() {
    let folder = tempfile::tempdir().unwrap();
    let victim = Victim::new(folder.path());
    for (field, value) in [
        ("version", json!(2)),
        ("layout", json!("avx9")),
        ("decoder", json!("int4-g48")),
        ("precision", json!("int3")),
        ("precision", json!("f16")),
        ("quant_method", json!("gptq")),
    ] {
        let mut config = victim.config.clone();
        config["quantization_config"][field] = value;
        fs::write(victim.dir.join("config.json"), config.to_string()).unwrap();
        let error = victim.failure();
        assert!(error.contains(&format!("`quantization_config.{field}`")), "{error}");
    }
    // Another scheme of the same sizes is found by the names and shapes alone.
    let mut config = victim.config.clone();
    config["quantization_config"]["decoder"] = json!("int8");
    fs::write(victim.dir.join("config.json"), config.to_string()).unwrap();
    let error = victim.failure();
    assert!(error.contains("of another shape") && error.contains("unexpected"), "{error}");
}

#[test]
fn compressed_tensors_have_the_names_and_shapes_of_the_convention_and_are_refused_here() {
    let folder = tempfile::tempdir().unwrap();
    for (precision, format) in [(Precision::Int8, "int-quantized"), (Precision::Int4, "pack-quantized")] {
        let out = folder.path().join(format);
        let (model, threads) = (tiny(), Some(2));
        run(&Arguments {
            model,
            out: out.clone(),
            format: Format::CompressedTensors,
            precision,
            layout: None,
            calib: None,
            threads,
        })
        .unwrap();
        let checkpoint = Checkpoint::open(&Files::directory(&out).unwrap()).unwrap();
        let of = |name: &str| {
            let info = checkpoint.info(name).unwrap();
            (info.dtype, info.shape.clone())
        };
        if precision == Precision::Int8 {
            assert_eq!(of(&format!("{DOWN}.weight")), (Dtype::I8, vec![128, 384]));
            assert_eq!(of(&format!("{DOWN}.weight_scale")), (Dtype::F16, vec![128, 1]));
        } else {
            assert_eq!(of(&format!("{DOWN}.weight_packed")), (Dtype::I32, vec![128, 48]));
            assert_eq!(of(&format!("{DOWN}.weight_scale")), (Dtype::F16, vec![128, 6]));
            assert_eq!(
                checkpoint.bytes(&format!("{DOWN}.weight_shape")).unwrap()[..9],
                [128, 0, 0, 0, 0, 0, 0, 0, 128]
            );
            assert!(!checkpoint.contains(&format!("{DOWN}.weight")));
        }
        for kept in ["lm_head.weight", "model.visual.merger.proj.weight"] {
            assert_eq!(of(kept).0, Dtype::F16, "{kept}");
        }
        let config: Value = serde_json::from_slice(&fs::read(out.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["quantization_config"]["format"], format);
        let error = one_line(&crate::error::Error::from(open(&out).unwrap_err()));
        assert!(error.contains("`quantization_config.quant_method` is \"compressed-tensors\""), "{error}");
    }
    let (model, out) = (tiny(), folder.path().join("mixed"));
    let (format, precision) = (Format::CompressedTensors, Precision::Mixed);
    let failure =
        run(&Arguments { model, out, format, precision, layout: None, calib: None, threads: None }).unwrap_err();
    assert_eq!(one_line(&failure), "`compressed-tensors` has no mixed; it takes int8 and int4");
}

#[test]
fn other_floats_are_the_same_numbers_in_another_format() {
    let folder = tempfile::tempdir().unwrap();
    let hf = |model: &Path, precision: Precision| {
        let out = folder.path().join(format!("{}-{}", model.file_name().unwrap().to_str().unwrap(), precision.name()));
        let (model, format) = (model.to_owned(), Format::Hf);
        run(&Arguments { model, out: out.clone(), format, precision, layout: None, calib: None, threads: Some(2) })
            .map(|()| out)
    };
    // What f16 becomes in f32 and back is what it was, in numbers and in bytes.
    let wide = hf(&tiny(), Precision::F32).unwrap();
    let at_load = Model::open_with(tiny(), &OpenOptions::default().precision(Stored::F32).threads(2)).unwrap();
    assert!(logits(&open(&wide).unwrap()) == logits(&at_load));
    let config: Value = serde_json::from_slice(&fs::read(wide.join("config.json")).unwrap()).unwrap();
    for at in ["/dtype", "/text_config/dtype", "/vision_config/dtype", "/audio_config/dtype"] {
        assert_eq!(config.pointer(at), Some(&json!("float32")), "{at}");
    }
    let back = hf(&wide, Precision::F16).unwrap();
    let [old, new] = [tiny(), back].map(|dir| Checkpoint::open(&Files::directory(&dir).unwrap()).unwrap());
    for tensor in old.tensors() {
        assert!(old.bytes(&tensor.name).unwrap()[..] == new.bytes(&tensor.name).unwrap()[..], "{}", tensor.name);
    }
    for (format, precision) in [(Format::Hf, Precision::Int8), (Format::Packed, Precision::F16)] {
        let (model, out) = (tiny(), folder.path().join("refused"));
        let failure =
            run(&Arguments { model, out, format, precision, layout: None, calib: None, threads: None }).unwrap_err();
        assert_eq!(failure.status(), 2, "{}", one_line(&failure));
    }
    assert!(!folder.path().join("refused").exists());
}
