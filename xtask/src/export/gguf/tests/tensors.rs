//! Tensors and their numbers: which there are, in which order, and how far from the checkpoint's.

use std::collections::BTreeMap;
use std::path::Path;

use autoglm_core::checkpoint::{Dtype, TensorInfo};
use autoglm_core::{Checkpoint, Files, FloatType};
use candle_core::quantized::GgmlDType;
use safetensors::tensor::TensorView;

use super::super::container::{Values, create};
use super::super::item::{Item, Order};
use super::super::kind::{Kind, of_rows};
use super::{Read, case, export};
use crate::error::one_line;
use crate::export::Precision;

/// The numbers of every tensor of a checkpoint.
fn numbers(model: &Path) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let checkpoint = Checkpoint::open(&Files::directory(model).unwrap()).unwrap();
    let read = |info: &TensorInfo| {
        let mut wide = Vec::new();
        info.float().unwrap().widen(&checkpoint.bytes(&info.name).unwrap(), &mut wide);
        (info.name.to_string(), (info.shape.clone(), wide))
    };
    checkpoint.tensors().map(read).collect()
}

/// Rows of `width` in the order that `of` says: row i of the answer is row `of(i)`.
fn rows(numbers: &[f32], width: usize, of: impl Fn(usize) -> usize) -> Vec<f32> {
    (0..numbers.len() / width).flat_map(|row| numbers[of(row) * width..][..width].iter().copied()).collect()
}

/// What the checkpoint's tensor is called in the file, for layers and blocks with their number in front.
const NAMES: &[(&str, &str)] = &[
    ("lm_head.weight", "output.weight"),
    ("embed_tokens.weight", "token_embd.weight"),
    ("norm.weight", "output_norm.weight"),
    ("layers.#.input_layernorm.weight", "blk.#.attn_norm.weight"),
    ("layers.#.post_self_attn_layernorm.weight", "blk.#.post_attention_norm.weight"),
    ("layers.#.post_attention_layernorm.weight", "blk.#.ffn_norm.weight"),
    ("layers.#.post_mlp_layernorm.weight", "blk.#.post_ffw_norm.weight"),
    ("layers.#.self_attn.q_proj.weight", "blk.#.attn_q.weight"),
    ("layers.#.self_attn.q_proj.bias", "blk.#.attn_q.bias"),
    ("layers.#.self_attn.k_proj.weight", "blk.#.attn_k.weight"),
    ("layers.#.self_attn.k_proj.bias", "blk.#.attn_k.bias"),
    ("layers.#.self_attn.v_proj.weight", "blk.#.attn_v.weight"),
    ("layers.#.self_attn.v_proj.bias", "blk.#.attn_v.bias"),
    ("layers.#.self_attn.o_proj.weight", "blk.#.attn_output.weight"),
    ("layers.#.mlp.gate_up_proj.weight", "blk.#.ffn_up.weight"),
    ("layers.#.mlp.down_proj.weight", "blk.#.ffn_down.weight"),
    ("visual.patch_embed.proj.bias", "v.patch_embd.bias"),
    ("visual.post_conv_layernorm.weight", "v.norm_embd.weight"),
    ("visual.embeddings.position_embedding.weight", "v.position_embd.weight"),
    ("visual.post_layernorm.weight", "v.post_ln.weight"),
    ("visual.downsample.weight", "mm.patch_merger.weight"),
    ("visual.downsample.bias", "mm.patch_merger.bias"),
    ("visual.merger.proj.weight", "mm.model.fc.weight"),
    ("visual.merger.post_projection_norm.weight", "mm.post_norm.weight"),
    ("visual.merger.post_projection_norm.bias", "mm.post_norm.bias"),
    ("visual.merger.gate_proj.weight", "mm.gate.weight"),
    ("visual.merger.up_proj.weight", "mm.up.weight"),
    ("visual.merger.down_proj.weight", "mm.down.weight"),
    ("visual.blocks.#.norm1.weight", "v.blk.#.ln1.weight"),
    ("visual.blocks.#.norm2.weight", "v.blk.#.ln2.weight"),
    ("visual.blocks.#.attn.qkv.weight", "v.blk.#.attn_qkv.weight"),
    ("visual.blocks.#.attn.qkv.bias", "v.blk.#.attn_qkv.bias"),
    ("visual.blocks.#.attn.proj.weight", "v.blk.#.attn_out.weight"),
    ("visual.blocks.#.mlp.gate_proj.weight", "v.blk.#.ffn_gate.weight"),
    ("visual.blocks.#.mlp.up_proj.weight", "v.blk.#.ffn_up.weight"),
    ("visual.blocks.#.mlp.down_proj.weight", "v.blk.#.ffn_down.weight"),
];

/// The file's name of a checkpoint's tensor, if it goes there under one.
fn named(source: &str) -> Option<String> {
    let short = source.strip_prefix("model.language_model.").or_else(|| source.strip_prefix("model."));
    let short = short.unwrap_or(source);
    let index = short.split('.').find(|part| part.parse::<usize>().is_ok()).unwrap_or("");
    let pattern = short.replace(&format!(".{index}."), ".#.");
    let (_, name) = NAMES.iter().find(|(theirs, _)| *theirs == pattern)?;
    Some(name.replace('#', index))
}

/// Undoes what the exporter did to queries and keys: pair j of a head's turned rows is (j, j + turned / 2) there and
/// (2j, 2j + 1) here.
fn undone(head: usize, turned: usize, numbers: &[f32], width: usize) -> Vec<f32> {
    rows(numbers, width, |row| {
        let at = row % head;
        if at < turned { row - at + (at % 2) * (turned / 2) + at / 2 } else { row }
    })
}

#[test]
fn every_tensor_is_the_checkpoints_in_the_order_that_is_stated() {
    let folder = tempfile::tempdir().unwrap();
    // Head width and turned part of each, where the file has M-RoPE.
    for (name, mrope) in [
        ("autoglm-tiny", Some((32, 16))),
        ("one-image-legacy", Some((16, 8))),
        ("sharded-bf16", Some((32, 16))),
        ("tied", Some((16, 8))),
        ("text-v5", Some((16, 8))),
        ("glm4", None),
    ] {
        let precision = if name == "sharded-bf16" { Precision::Bf16 } else { Precision::F32 };
        let out = export(folder.path(), &case(name), precision).unwrap();
        let mut files: Vec<Read> = ["model", "mmproj"]
            .map(|file| out.join(format!("{file}-{}.gguf", precision.name())))
            .into_iter()
            .filter(|path| path.exists())
            .map(|path| Read::open(&path))
            .collect();
        let mut left: usize = files.iter().map(|file| file.content.tensor_infos.len()).sum();
        for (source, (shape, want)) in numbers(&case(name)) {
            if source.contains("audio_tower") || source.contains("multi_modal_projector") {
                continue;
            }
            if source == "model.visual.patch_embed.proj.weight" {
                // Frame t of colour c of output o is number t of three dimensions behind them.
                let frame: usize = shape[3..].iter().product();
                let file = files.iter_mut().find(|file| file.content.tensor_infos.contains_key("v.patch_embd.bias"));
                let file = file.unwrap();
                for (at, name) in ["v.patch_embd.weight", "v.patch_embd.weight.1"].into_iter().enumerate() {
                    assert_eq!(file.shape(name), [shape[0], 3, shape[3], shape[4]]);
                    assert!(file.numbers(name) == rows_of_frame(&want, frame, at), "{name}");
                    left -= 1;
                }
                continue;
            }
            let theirs = named(&source).unwrap_or_else(|| panic!("{source} has no name"));
            let file = files.iter_mut().find(|file| file.content.tensor_infos.contains_key(&theirs));
            let file = file.unwrap_or_else(|| panic!("{name} has no {theirs}"));
            assert_eq!(file.shape(&theirs), shape, "{theirs}");
            let got = file.numbers(&theirs);
            let width = shape[1..].iter().product();
            let got = match mrope.filter(|_| source.contains("q_proj") || source.contains("k_proj")) {
                Some((head, turned)) => {
                    assert!(got != want, "{theirs} is not permuted");
                    undone(head, turned, &got, width)
                }
                None => got,
            };
            assert!(got == want, "{name}: {theirs}");
            left -= 1;
        }
        assert_eq!(left, 0, "{name} has tensors of nothing");
    }
}

fn rows_of_frame(numbers: &[f32], frame: usize, at: usize) -> Vec<f32> {
    numbers.chunks(frame).skip(at).step_by(2).flatten().copied().collect()
}

#[test]
fn quantised_tensors_are_within_the_formats_step() {
    let folder = tempfile::tempdir().unwrap();
    let model = case("autoglm-tiny");
    let source = numbers(&model);
    // The largest error in steps, and the step in the largest of 32 numbers: four bits reach from -8 to 7.
    for (precision, eyes, steps, step) in
        [(Precision::Q8_0, "mmproj-q8_0.gguf", 0.5, 1.0 / 127.0), (Precision::Q4_0, "mmproj-q8_0.gguf", 1.0, 1.0 / 8.0)]
    {
        let out = export(folder.path(), &model, precision).unwrap();
        let mut file = Read::open(&out.join(format!("model-{}.gguf", precision.name())));
        let (_, want) = &source["model.language_model.layers.1.self_attn.k_proj.weight"];
        let got = undone(32, 16, &file.numbers("blk.1.attn_k.weight"), 128);
        assert_eq!(got.len(), want.len());
        for (got, want) in got.chunks(32).zip(want.chunks(32)) {
            // An f16 holds the step to a 2048th.
            let largest = want.iter().fold(0f32, |largest, x| largest.max(x.abs()));
            let bound = largest * step * steps + largest / 2048.0;
            assert!(got.iter().zip(want).all(|(got, want)| (got - want).abs() <= bound), "{precision:?}");
        }
        assert!(got != *want);
        let matrices = if precision == Precision::Q8_0 { GgmlDType::Q8_0 } else { GgmlDType::Q4_0 };
        for (name, kind) in [
            ("blk.1.attn_k.weight", matrices),
            ("token_embd.weight", matrices),
            ("output.weight", GgmlDType::Q8_0),
            ("blk.1.attn_k.bias", GgmlDType::F32),
        ] {
            assert_eq!(file.kind(name), kind, "{name}");
        }
        let eyes = Read::open(&out.join(eyes));
        for (name, kind) in [
            ("v.blk.0.attn_qkv.weight", GgmlDType::Q8_0),
            ("v.patch_embd.weight", GgmlDType::F32),
            ("mm.patch_merger.weight", GgmlDType::F32),
        ] {
            assert_eq!(eyes.kind(name), kind, "{name}");
        }
    }
    // What two uses share has the precision of the finer one.
    let tied = export(folder.path(), &case("tied"), Precision::Q4_0).unwrap();
    let tied = Read::open(&tied.join("model-q4_0.gguf"));
    assert!(!tied.content.tensor_infos.contains_key("output.weight"));
    assert_eq!(tied.kind("token_embd.weight"), GgmlDType::Q8_0);
    // Its rows have 90 numbers.
    assert_eq!(tied.kind("blk.0.ffn_down.weight"), GgmlDType::F16);
}

#[test]
fn what_no_block_fits_is_f16_and_what_no_format_holds_is_an_error() {
    let half = Kind::Float(FloatType::F16);
    assert_eq!([64, 96, 48].map(|columns| of_rows(Kind::Q4_0, columns)), [Kind::Q4_0, Kind::Q4_0, half]);
    assert_eq!(of_rows(Kind::Float(FloatType::Bf16), 48), Kind::Float(FloatType::Bf16));

    for (kind, bad) in [(half, 65_520.0), (Kind::Q8_0, 8.4e6), (Kind::Q8_0, f32::NAN), (Kind::Q4_0, -5.3e5)] {
        let write = |last: f32| {
            let values: Vec<u8> =
                [[1f32; 63].as_slice(), &[last]].concat().iter().flat_map(|x| x.to_le_bytes()).collect();
            let view = TensorView::new(Dtype::F32, vec![2, 32], &values).unwrap();
            let checkpoint = Checkpoint::from_bytes(safetensors::serialize([("w", view)], None).unwrap()).unwrap();
            let (name, source, shape) = ("w".to_owned(), "w".to_owned(), vec![2, 32]);
            let item = Item { name, source, shape, kind, order: Order::Stored };
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.gguf");
            let mut file = create(&path, &Values::new(), &[item.announced()]).unwrap();
            item.write(&checkpoint, &mut file, &path)
        };
        write(1.0).unwrap();
        let error = one_line(&write(bad).unwrap_err());
        assert!(error.starts_with("a weight of `w` is") && error.ends_with(&format!("{} does not hold", kind.name())));
    }
}
