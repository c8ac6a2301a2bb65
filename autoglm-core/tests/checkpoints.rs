//! Checkpoints that are in order: whole, sharded, embedded, linked; and models held against them.

// The allowance in clippy.toml covers test functions, not what they share.
#![allow(clippy::unwrap_used)]

mod writing;

use autoglm_core::checkpoint::{Dtype, Mismatch, Misshaped, Verified};
use autoglm_core::{Checkpoint, Error, Files, FloatType, TensorSpec};
use writing::{bytes_named, chain, directory, entry, file, open};

const INDEX: &str = "model.safetensors.index.json";

fn sharded() -> tempfile::TempDir {
    let index = r#"{"metadata": {"total_size": 6}, "weight_map":
        {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors", "c": "model-00001-of-00002.safetensors"}}"#;
    directory(&[
        ("model-00001-of-00002.safetensors", &bytes_named(&[("c", 1), ("a", 2)])),
        ("model-00002-of-00002.safetensors", &bytes_named(&[("b", 3)])),
        (INDEX, index.as_bytes()),
    ])
}

#[test]
fn a_checkpoint_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Checkpoint>();
    shared::<Files>();
}

#[test]
fn a_whole_file_lends_every_tensor_uncopied() {
    let header = format!(
        r#"{{"__metadata__":{{"format":"pt"}},{},{},{}}}   "#,
        entry("m.weight", "BF16", "[2,3]", "[4,16]"),
        entry("scale", "F32", "[]", "[0,4]"),
        entry("none", "I64", "[0,7]", "[16,16]"),
    );
    let directory = directory(&[("model.safetensors", &file(header, 12 + 4))]);
    let checkpoint = open(directory.path()).unwrap();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["m.weight", "none", "scale"]);
    assert_eq!((checkpoint.len(), checkpoint.is_empty()), (3, false));
    let info = checkpoint.info("m.weight").unwrap();
    assert_eq!((info.dtype, info.shape.as_slice(), info.size()), (Dtype::BF16, &[2, 3][..], 12));
    assert_eq!(info.float().unwrap(), FloatType::Bf16);
    assert_eq!(*checkpoint.bytes("m.weight").unwrap(), [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    assert_eq!(*checkpoint.bytes("scale").unwrap(), [0, 1, 2, 3]);
    assert!(checkpoint.bytes("none").unwrap().is_empty());
    assert!(checkpoint.contains("none") && !checkpoint.contains("m"));
    assert!(matches!(checkpoint.bytes("m"), Err(Error::MissingTensor { name }) if name == "m"));
    assert!(
        matches!(checkpoint.info("none").unwrap().float(), Err(Error::NotFloat { name, dtype: Dtype::I64 }) if name == "none")
    );
}

#[test]
fn bytes_outlive_the_checkpoint_they_came_from() {
    let directory = directory(&[("model.safetensors", &bytes_named(&[("a", 2), ("b", 3)]))]);
    let checkpoint = open(directory.path()).unwrap();
    let bytes = checkpoint.bytes("b").unwrap();
    drop(checkpoint);
    drop(directory);
    assert_eq!(*bytes, [2, 3, 4]);
}

#[test]
fn shards_are_one_checkpoint() {
    let directory = sharded();
    let checkpoint = open(directory.path()).unwrap();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(*checkpoint.bytes("a").unwrap(), [1, 2]);
    assert_eq!(*checkpoint.bytes("b").unwrap(), [0, 1, 2]);
    let on_disk: u64 = ["1", "2"]
        .iter()
        .map(|i| std::fs::metadata(directory.path().join(format!("model-0000{i}-of-00002.safetensors"))).unwrap().len())
        .sum();
    assert_eq!(checkpoint.file_bytes(), on_disk);
}

#[test]
fn a_whole_file_goes_before_an_index_as_in_transformers() {
    let directory = sharded();
    std::fs::write(directory.path().join("model.safetensors"), bytes_named(&[("only", 1)])).unwrap();
    assert_eq!(open(directory.path()).unwrap().names().collect::<Vec<_>>(), ["only"]);
}

#[test]
fn each_tensor_counts_once_however_often_it_is_read() {
    let directory = sharded();
    let checkpoint = open(directory.path()).unwrap();
    assert_eq!(checkpoint.bytes_used(), 0);
    for _ in 0..3 {
        checkpoint.bytes("a").unwrap();
    }
    assert_eq!(checkpoint.bytes_used(), 2);
    checkpoint.bytes("b").unwrap();
    assert_eq!(checkpoint.bytes_used(), 5);
}

#[test]
fn an_embedded_checkpoint_reads_like_a_directory() {
    const HEADER: &[u8] = br#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#;
    let whole: &'static [u8] = Box::leak(file(HEADER, 2).into_boxed_slice());
    let listed: &'static [(&str, &[u8])] =
        Box::leak(Box::new([("model.safetensors", whole), ("config.json", br#"{"n": 5}"#.as_slice()), ("empty", b"")]));
    let files = Files::embedded(listed);
    let checkpoint = Checkpoint::open(&files).unwrap();
    assert_eq!(*checkpoint.bytes("a").unwrap(), [0, 1]);
    // The same memory, not a copy of it.
    assert_eq!(checkpoint.bytes("a").unwrap().as_ptr(), whole[8 + HEADER.len()..].as_ptr());
    assert_eq!(files.json::<serde_json::Value>("config.json").unwrap().unwrap()["n"], 5);
    assert_eq!(files.read("absent", 9).unwrap(), None);
    assert!(matches!(files.read("empty", 9), Err(Error::File { .. })));
    assert!(matches!(files.read("config.json", 7), Err(Error::File { .. })));
    assert_eq!(files.read("config.json", 8).unwrap().unwrap(), br#"{"n": 5}"#);
}

#[cfg(unix)]
#[test]
fn the_hugging_face_cache_opens_through_its_links() {
    use std::os::unix::fs::symlink;
    let cache = tempfile::tempdir().unwrap();
    let repository = cache.path().join("models--zai-org--AutoGLM-Phone-9B");
    let snapshot = repository.join("snapshots/0123abcd");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(repository.join("blobs")).unwrap();
    std::fs::write(repository.join("blobs/aa11"), bytes_named(&[("a", 4)])).unwrap();
    std::fs::write(repository.join("blobs/bb22"), b"{}").unwrap();
    symlink("../../blobs/aa11", snapshot.join("model.safetensors")).unwrap();
    symlink("../../blobs/bb22", snapshot.join("config.json")).unwrap();
    let files = Files::directory(&snapshot).unwrap();
    assert_eq!(Checkpoint::open(&files).unwrap().len(), 1);
    assert!(files.json::<serde_json::Value>("config.json").unwrap().is_some());
}

#[cfg(unix)]
#[test]
fn a_link_within_the_directory_is_followed() {
    let directory = directory(&[("weights", &bytes_named(&[("a", 4)]))]);
    std::os::unix::fs::symlink("weights", directory.path().join("model.safetensors")).unwrap();
    assert_eq!(open(directory.path()).unwrap().len(), 1);
}

fn model() -> Checkpoint {
    let header = format!(
        "{{{},{},{},{},{},{},{}}}",
        entry("lm_head.weight", "F16", "[2]", "[0,4]"),
        entry("model.embed", "F16", "[2,2]", "[4,12]"),
        entry("model.visual.a", "F16", "[5]", "[12,22]"),
        entry("model.visual.b", "U8", "[3]", "[22,25]"),
        entry("model.rotary.inv_freq", "F32", "[1]", "[25,29]"),
        entry("model.position_ids", "I64", "[1]", "[29,37]"),
        entry("odd", "U8", "[1]", "[37,38]"),
    );
    Checkpoint::from_bytes(file(header, 38)).unwrap()
}

fn mismatch(result: Result<Verified, Error>) -> Mismatch {
    match result {
        Err(Error::Mismatch(mismatch)) => *mismatch,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_off_tied_or_computed_is_no_mismatch() {
    let model = model();
    let expected = [TensorSpec::new("model.embed", [2, 2])];
    let verified = model.verify(&expected, &["model.visual."], true).unwrap();
    assert_eq!(verified, Verified { ignored: 2, ignored_bytes: 13, extra: vec!["odd".into()] });
    assert_eq!(model.bytes_used(), 0);
    let untied = [TensorSpec::new("model.embed", [2, 2]), TensorSpec::new("lm_head.weight", [2])];
    assert!(model.verify(&untied, &["model.visual.", "odd"], false).is_ok());
}

#[test]
fn everything_that_does_not_fit_is_reported_at_once() {
    let expected = [
        TensorSpec::new("model.embed", [3, 2]),
        TensorSpec::new("model.visual.b", [3]),
        TensorSpec::new("model.norm", [2]),
        TensorSpec::new("lm_head.weight", [2]),
    ];
    let mismatch = mismatch(model().verify(&expected, &[], false));
    let want = Mismatch {
        missing: vec!["model.norm".into()],
        misshaped: vec![Misshaped { name: "model.embed".into(), expected: vec![3, 2], got: vec![2, 2] }],
        not_float: vec![("model.visual.b".into(), Dtype::U8)],
        mistyped: Vec::new(),
        unexpected: vec!["model.visual.a".into(), "odd".into()],
    };
    assert_eq!(mismatch, want);
    assert_eq!(
        mismatch.to_string(),
        "checkpoint does not fit the model; 1 missing: `model.norm`; 1 of another shape: `model.embed` is [2, 2], not [3, 2]; \
         1 not in f32, f16 or bf16: `model.visual.b` is U8; 2 unexpected: `model.visual.a`, `odd`"
    );
}

#[test]
fn a_tensor_may_be_expected_in_one_format_only() {
    let one = |name: &str, shape: usize, dtype| TensorSpec::new(name, [shape]).stored_as(dtype);
    assert!(model().verify(&[one("model.visual.b", 3, Dtype::U8)], &["model.", "odd"], false).is_ok());
    let wrong = [one("model.visual.b", 3, Dtype::I8), one("model.visual.a", 5, Dtype::F16)];
    let mismatch = mismatch(model().verify(&wrong, &["model.", "odd"], false));
    assert_eq!(
        mismatch.to_string(),
        "checkpoint does not fit the model; 1 of another format: `model.visual.b` is U8, not I8"
    );
}

#[test]
fn twenty_names_are_told_and_the_rest_counted() {
    let expected: Vec<TensorSpec> = (0..1000).map(|i| TensorSpec::new(format!("layers.{i}"), [1])).collect();
    let line = chain(&model().verify(&expected, &["model", "odd"], false).unwrap_err());
    assert!(line.contains("1000 missing: `layers.0`, ") && line.ends_with("`layers.19` and 980 more"), "{line}");
}

#[test]
fn more_layers_than_tensors_are_refused_before_names_are_made() {
    let model = model();
    assert!(model.bound_layers("num_hidden_layers", 7).is_ok());
    let refused = model.bound_layers("num_hidden_layers", usize::MAX);
    assert!(matches!(refused, Err(Error::Config { field: "num_hidden_layers", .. })));
    assert!(model.bound_layers("num_hidden_layers", 8).is_err());
}
