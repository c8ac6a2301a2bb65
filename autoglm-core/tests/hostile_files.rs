//! Files that lie, one test per way of lying. Each is refused by an error that names the file and
//! the tensor; none panics, waits or takes memory the file does not have.

mod writing;

use autoglm_core::checkpoint::{CONFIG_LIMIT, Dtype, FileError, HeaderError, IndexError};
use autoglm_core::{Checkpoint, Error, Files};
use writing::{bytes_named, chain, directory, entry, file, open};

const INDEX: &str = "model.safetensors.index.json";

/// What is wrong with a file, having seen that the error's line names it.
fn refusal(bytes: &[u8]) -> HeaderError {
    let directory = directory(&[("model.safetensors", bytes)]);
    let error = open(directory.path()).unwrap_err();
    assert!(chain(&error).contains("model.safetensors"), "{}", chain(&error));
    match error {
        Error::Header { source, .. } => source,
        other => panic!("{}", chain(&other)),
    }
}

/// What is wrong with a file of one tensor `w`, having seen that the error's line names the tensor.
fn refused_tensor(dtype: &str, shape: &str, offsets: &str, data: usize) -> HeaderError {
    let error = refusal(&file(format!("{{{}}}", entry("w", dtype, shape, offsets)), data));
    assert!(error.to_string().contains("`w`"), "{error}");
    error
}

/// What the JSON parser says about a file of one tensor.
fn json_refusal(dtype: &str, shape: &str, offsets: &str) -> String {
    match refused_tensor(dtype, shape, offsets, 4) {
        HeaderError::Json(error) => error.why,
        other => panic!("{other}"),
    }
}

fn refused_header(header: &str) -> String {
    match refusal(&file(header, 4)) {
        HeaderError::Json(error) => error.why,
        other => other.to_string(),
    }
}

/// What is wrong with a directory that has `name`.
fn refused_file(directory: &std::path::Path, name: &str) -> FileError {
    match Files::directory(directory).unwrap().read(name, 100).unwrap_err() {
        Error::File { path, source } => {
            assert!(path.starts_with(directory.canonicalize().unwrap()), "{}", path.display());
            source
        }
        other => panic!("{}", chain(&other)),
    }
}

#[test]
fn the_file_these_lies_are_told_about_opens_when_it_is_honest() {
    let honest = file(format!("{{{}}}", entry("w", "F32", "[1]", "[0,4]")), 4);
    assert_eq!(Checkpoint::from_bytes(honest).unwrap().len(), 1);
}

// The header as such.

#[test]
fn a_file_shorter_than_a_header_length() {
    for len in 1..8 {
        assert_eq!(refusal(&vec![0; len]), HeaderError::Short { len });
    }
}

#[test]
fn a_header_longer_than_any() {
    for header in [100_000_001, u64::from(u32::MAX), 1 << 63, u64::MAX - 8, u64::MAX] {
        let mut bytes = header.to_le_bytes().to_vec();
        bytes.extend(b"{}");
        assert_eq!(refusal(&bytes), HeaderError::Long { header });
    }
}

#[test]
fn a_header_longer_than_its_file_by_one_byte_or_many() {
    for header in [3, 4, 1000, 100_000_000] {
        let mut bytes = u64::to_le_bytes(header).to_vec();
        bytes.extend(b"{}");
        assert_eq!(refusal(&bytes), HeaderError::BeyondFile { header, len: 10 });
    }
}

#[test]
fn a_header_that_is_no_object_from_its_first_byte_on() {
    for header in ["", " {}", "[]", "null", "\u{feff}{}", "\0\0\0\0"] {
        assert_eq!(refusal(&file(header, 0)), HeaderError::NotAnObject);
    }
}

#[test]
fn a_header_that_is_not_json() {
    for header in ["{", "{\"w\"", "{} {}", "{\"w\":}", "{'w':1}", "{\"w\":{\"dtype\":\"F32\",}}", "{}\0"] {
        assert!(matches!(refusal(&file(header, 0)), HeaderError::Json(_)), "{header}");
    }
}

#[test]
fn a_header_that_is_not_utf8() {
    assert_eq!(refusal(&file(b"{\"w\xff\":1}", 0)), HeaderError::NotUtf8 { valid: 3 });
    // A surrogate, and an overlong slash.
    assert_eq!(refusal(&file(b"{\"\xed\xa0\x80\":1}", 0)), HeaderError::NotUtf8 { valid: 2 });
    assert_eq!(refusal(&file(b"{\"\xc0\xaf\":1}", 0)), HeaderError::NotUtf8 { valid: 2 });
}

#[test]
fn a_header_nested_deeper_than_any_stack() {
    for depth in [130, 60_000, 1_000_000] {
        for (open, close) in [("[", "]"), ("{\"w\":", "}")] {
            for place in ["", "\"dtype\":\"F32\",\"shape\":", "\"data_offsets\":", "\"other\":"] {
                let nest = format!("{}1{}", open.repeat(depth), close.repeat(depth));
                let header =
                    if place.is_empty() { format!("{{\"w\":{nest}}}") } else { format!("{{\"w\":{{{place}{nest}}}}}") };
                assert!(matches!(refusal(&file(&header, 0)), HeaderError::Json(_)));
                let metadata = format!("{{\"__metadata__\":{{\"w\":{nest}}}}}");
                assert!(matches!(refusal(&file(&metadata, 0)), HeaderError::Json(_)));
            }
        }
    }
}

#[test]
fn more_tensors_than_any_checkpoint_has() {
    let header: Vec<String> = (0..=1 << 18).map(|i| entry(&i.to_string(), "U8", "[0]", "[0,0]")).collect();
    let why = refused_header(&format!("{{{}}}", header.join(",")));
    assert_eq!(why, "more than 262144 names");
}

#[test]
fn a_name_of_terminal_commands_is_spelled_out_and_cut() {
    let name = "\\u001b[2J\\n".repeat(1 << 16);
    let line = refusal(&file(format!("{{{}}}", entry(&name, "F32", "[2]", "[0,4]")), 4)).to_string();
    assert!(line.chars().count() < 400 && !line.contains(char::is_control), "{line}");
    let line = refused_header(&format!("{{\"{name}\":5}}"));
    assert!(line.chars().count() < 400 && !line.contains(char::is_control), "{line}");
}

// Keys.

#[test]
fn one_tensor_twice() {
    let w = entry("w", "F32", "[1]", "[0,4]");
    assert_eq!(refused_header(&format!("{{{w},{w}}}")), "duplicate key `w`");
    // The same name, spelled differently; and the same name with another place.
    assert_eq!(refused_header(&format!("{{{w},{}}}", entry("\\u0077", "F32", "[1]", "[0,4]"))), "duplicate key `w`");
    assert_eq!(refused_header(&format!("{{{w},{}}}", entry("w", "F32", "[1]", "[4,8]"))), "duplicate key `w`");
}

#[test]
fn one_field_or_the_metadata_twice() {
    let why = refused_header(r#"{"w":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}}"#);
    assert_eq!(why, "`w`: duplicate field `shape`");
    assert_eq!(refused_header(r#"{"__metadata__":{},"__metadata__":{}}"#), "duplicate key `__metadata__`");
    assert_eq!(refused_header(r#"{"__metadata__":{"a":"1","a":"2"}}"#), "`__metadata__`: duplicate key `a`");
}

#[test]
fn fields_missing_unknown_or_of_another_type() {
    assert_eq!(refused_header(r#"{"w":{"dtype":"F32","shape":[1]}}"#), "`w`: missing field `data_offsets`");
    assert!(
        refused_header(r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"scale":2}}"#)
            .starts_with("`w`: unknown field `scale`")
    );
    assert!(refused_header(r#"{"__metadata__":{"a":1}}"#).starts_with("`__metadata__`: `a`: invalid type"));
    for tensor in ["1", "null", "[]", "\"F32\"", "{}"] {
        assert!(refused_header(&format!("{{\"w\":{tensor}}}")).starts_with("`w`: "), "{tensor}");
    }
}

// Numbers.

#[test]
fn offsets_and_dimensions_that_are_no_sizes() {
    let hostile = [
        "-1",
        "-8",
        "-9223372036854775808",
        "18446744073709551616",
        "1e308",
        "1e999",
        "4.0",
        "0.5",
        "-0.0",
        "NaN",
        "Infinity",
        "\"4\"",
        "null",
        "true",
        "[]",
        "{}",
        "0x4",
        "+4",
        "04",
    ];
    for number in hostile {
        for offsets in [format!("[{number},4]"), format!("[0,{number}]")] {
            assert!(
                matches!(
                    refusal(&file(format!("{{{}}}", entry("w", "F32", "[1]", &offsets)), 4)),
                    HeaderError::Json(_)
                ),
                "{offsets}"
            );
        }
        assert!(matches!(
            refusal(&file(format!("{{{}}}", entry("w", "F32", &format!("[{number}]"), "[0,4]")), 4)),
            HeaderError::Json(_)
        ));
    }
    assert!(json_refusal("F32", "[1]", "[-8,4]").contains("integer `-8`"));
}

#[test]
fn offsets_of_another_number_than_two() {
    for offsets in ["[]", "[0]", "[0,4,4]", "4", "{\"start\":0,\"end\":4}"] {
        assert!(json_refusal("F32", "[1]", offsets).starts_with("`w`: "), "{offsets}");
    }
}

#[test]
fn shapes_of_more_dimensions_than_any() {
    let ones = |n: usize| format!("[{}]", vec!["1"; n].join(","));
    assert_eq!(json_refusal("F32", &ones(33), "[0,4]"), "`w`: more than 32 dimensions");
    assert_eq!(json_refusal("F32", &ones(1_000_000), "[0,4]"), "`w`: more than 32 dimensions");
    assert!(Checkpoint::from_bytes(file(format!("{{{}}}", entry("w", "F32", &ones(32), "[0,4]")), 4)).is_ok());
}

#[test]
fn shapes_whose_product_leaves_the_integers() {
    let overflowing = [
        ("U8", "[9223372036854775808]"),             // 2^63 bytes, 2^66 bits
        ("U8", "[3037000500,3037000500]"),           // just above 2^63
        ("U8", "[18446744073709551615]"),            // 2^64 − 1
        ("U8", "[6700417,641,4294967297]"),          // 2^64 + 2^32 + … : wraps
        ("U8", "[274177,67280421310721]"),           // 2^64 + 1: wraps to 1
        ("U8", "[4294967296,4294967296]"),           // 2^64: wraps to 0
        ("F32", "[4611686018427387905]"),            // × 4 wraps to 4
        ("F32", "[2305843009213693952]"),            // 2^61: 2^66 bits
        ("F64", "[1,2,4,8,16,1152921504606846976]"), // overflows at the last dimension
        ("F32", "[9223372036854775808,0,2]"),        // a zero does not excuse it
        ("F32", "[0,9223372036854775808,2]"),
    ];
    for (dtype, shape) in overflowing {
        for (offsets, data) in [("[0,4]", 4), ("[0,0]", 0), ("[0,1]", 1)] {
            let refused = refused_tensor(dtype, shape, offsets, data);
            assert!(matches!(refused, HeaderError::Overflow { .. }), "{dtype} {shape}: {refused}");
        }
    }
}

#[test]
fn absurd_shapes_that_fit_the_integers_take_no_memory() {
    for shape in ["[2305843009213693951]", "[1073741824,1073741824]", "[1152921504606846976,1]"] {
        assert!(matches!(refused_tensor("U8", shape, "[0,4]", 4), HeaderError::Size { got: 4, .. }), "{shape}");
    }
    let all = "[0,2305843009213693951]";
    assert!(matches!(refused_tensor("U8", "[2305843009213693951]", all, 4), HeaderError::BeyondEnd { len: 4, .. }));
}

#[test]
fn a_dtype_nobody_knows() {
    for dtype in ["F31", "f32", "float32", "", "F32 ", "Q4_0"] {
        assert_eq!(
            refused_tensor(dtype, "[1]", "[0,4]", 4),
            HeaderError::Dtype { tensor: "w".into(), dtype: dtype.into() }
        );
    }
    for dtype in ["1", "-1", "null", "{\"F32\":null}"] {
        let header = format!(r#"{{"w":{{"dtype":{dtype},"shape":[1],"data_offsets":[0,4]}}}}"#);
        assert!(refused_header(&header).starts_with("`w`: invalid type"), "{dtype}");
    }
}

#[test]
fn numbers_that_end_within_a_byte() {
    let refused = refused_tensor("F4", "[3]", "[0,1]", 1);
    assert_eq!(refused, HeaderError::PartialByte { tensor: "w".into(), dtype: Dtype::F4, shape: vec![3] });
    assert!(Checkpoint::from_bytes(file(format!("{{{}}}", entry("w", "F4", "[4]", "[0,2]")), 2)).is_ok());
}

// Places.

#[test]
fn a_tensor_larger_or_smaller_than_its_place() {
    for (shape, needed) in [("[1]", 4), ("[3]", 12), ("[0]", 0), ("[2,2]", 16), ("[]", 4)] {
        let refused = refused_tensor("F32", shape, "[0,8]", 8);
        assert!(matches!(refused, HeaderError::Size { needed: n, got: 8, .. } if n == needed), "{refused}");
    }
}

#[test]
fn a_tensor_that_ends_before_it_starts() {
    assert_eq!(
        refused_tensor("F32", "[1]", "[4,0]", 4),
        HeaderError::Reversed { tensor: "w".into(), start: 4, end: 0 }
    );
    assert!(matches!(refused_tensor("U8", "[1]", "[18446744073709551615,0]", 4), HeaderError::Reversed { .. }));
}

#[test]
fn a_tensor_that_reaches_beyond_the_file_by_one_byte_or_many() {
    for (size, data) in [(4, 3), (5, 4), (1 << 20, 4), (1 << 40, 4)] {
        let refused = refused_tensor("U8", &format!("[{size}]"), &format!("[0,{size}]"), data);
        assert_eq!(refused, HeaderError::BeyondEnd { tensor: "w".into(), end: size, len: data });
    }
}

#[test]
fn each_tensor_is_held_against_the_end_of_the_file() {
    // Three tensors; the file ends one byte early, within the second, and within the first.
    for (kept, culprit) in [(8, "c"), (5, "b"), (2, "a"), (0, "a")] {
        let mut bytes = bytes_named(&[("a", 3), ("b", 3), ("c", 3)]);
        bytes.truncate(bytes.len() - 9 + kept);
        assert!(
            matches!(refusal(&bytes), HeaderError::BeyondEnd { tensor, len, .. } if tensor == culprit && len == kept)
        );
    }
}

#[test]
fn a_gap_before_and_between_tensors() {
    assert_eq!(refused_tensor("U8", "[3]", "[1,4]", 4), HeaderError::Gap { tensor: "w".into(), start: 1, before: 0 });
    let header = format!("{{{},{}}}", entry("a", "U8", "[2]", "[0,2]"), entry("b", "U8", "[1]", "[3,4]"));
    assert_eq!(refusal(&file(header, 4)), HeaderError::Gap { tensor: "b".into(), start: 3, before: 2 });
}

#[test]
fn tensors_that_share_a_byte_or_everything() {
    for (offsets, shape, start) in [("[1,4]", "[3]", 1), ("[0,4]", "[4]", 0), ("[0,1]", "[1]", 0)] {
        let header = format!("{{{},{}}}", entry("a", "U8", "[2]", "[0,2]"), entry("b", "U8", shape, offsets));
        assert!(matches!(refusal(&file(header, 4)), HeaderError::Overlap { start: s, .. } if s == start), "{offsets}");
    }
}

#[test]
fn bytes_behind_the_last_tensor() {
    for extra in [1, 8, 4096] {
        assert_eq!(
            refusal(&file(format!("{{{}}}", entry("w", "U8", "[4]", "[0,4]")), 4 + extra)),
            HeaderError::Trailing { extra }
        );
        assert_eq!(refusal(&file("{}", extra)), HeaderError::Trailing { extra });
    }
}

// The file system.

#[test]
fn an_empty_file() {
    let directory = directory(&[("model.safetensors", b""), ("config.json", b"")]);
    assert_eq!(refused_file(directory.path(), "config.json"), FileError::Empty);
    assert!(matches!(open(directory.path()), Err(Error::File { source: FileError::Empty, .. })));
}

#[test]
fn a_directory_in_place_of_a_file_and_a_file_in_place_of_the_directory() {
    let directory = directory(&[("file", b"x")]);
    std::fs::create_dir(directory.path().join("model.safetensors")).unwrap();
    assert_eq!(refused_file(directory.path(), "model.safetensors"), FileError::NotRegular);
    assert!(matches!(open(directory.path()), Err(Error::File { source: FileError::NotRegular, .. })));
    let of_file = Files::directory(directory.path().join("file"));
    assert!(matches!(of_file, Err(Error::File { source: FileError::NotADirectory, .. })));
    assert!(matches!(Files::directory(directory.path().join("absent")), Err(Error::Read { .. })));
}

#[test]
fn a_directory_without_weights() {
    let directory = directory(&[("pytorch_model.bin", b"x")]);
    let error = open(directory.path()).unwrap_err();
    assert!(matches!(error, Error::NoWeights { .. }));
    assert!(chain(&error).contains("neither `model.safetensors`"));
}

#[test]
fn names_that_are_more_than_a_name() {
    let directory = directory(&[("x", b"x")]);
    let files = Files::directory(directory.path()).unwrap();
    for name in ["", ".", "..", "/etc/passwd", "../x", "./x", "a/x", "a\\x", "..\\x", "C:x", "x\0", "x\n", "/"] {
        assert!(matches!(files.read(name, 9), Err(Error::File { source: FileError::Name { .. }, .. })), "{name:?}");
    }
    assert_eq!(files.read("x", 9).unwrap().unwrap(), b"x");
    assert_eq!(files.read("y", 9).unwrap(), None);
}

#[test]
fn a_file_larger_than_its_limit_by_one_byte() {
    let directory = directory(&[("f", &[7; 100])]);
    let files = Files::directory(directory.path()).unwrap();
    assert_eq!(files.read("f", 100).unwrap().unwrap().len(), 100);
    assert!(matches!(
        files.read("f", 99),
        Err(Error::File { source: FileError::TooLarge { len: 100, limit: 99 }, .. })
    ));
    assert!(matches!(files.read("f", 0), Err(Error::File { source: FileError::TooLarge { .. }, .. })));
    assert!(files.read("f", usize::MAX).is_ok());
}

#[test]
fn a_configuration_larger_than_any() {
    let directory = directory(&[]);
    let file = std::fs::File::create(directory.path().join("config.json")).unwrap();
    file.set_len(CONFIG_LIMIT as u64 + 1).unwrap();
    let refused = Files::directory(directory.path()).unwrap().json::<serde_json::Value>("config.json");
    assert!(matches!(refused, Err(Error::File { source: FileError::TooLarge { .. }, .. })));
}

#[test]
fn a_configuration_that_says_two_things() {
    let directory = directory(&[("config.json", br#"{"text_config": {"eos_token_id": 1, "eos_token_id": 2}}"#)]);
    let error = Files::directory(directory.path()).unwrap().json::<serde_json::Value>("config.json").unwrap_err();
    assert!(matches!(error, Error::Json { .. }));
    let line = chain(&error);
    assert!(line.contains("config.json: duplicate key `eos_token_id` (line 1"), "{line}");
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Longer than any refusal takes on a busy machine; a reader that waits for a pipe waits for ever.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn within_patience<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || sender.send(work()));
        receiver.recv_timeout(PATIENCE).expect("the reader waits")
    }

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let directory = directory(&[]);
        let pipe = directory.path().join("model.safetensors");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let path = directory.path().to_owned();
        let (read, opened) =
            within_patience(move || (refused_file(&path, "model.safetensors"), open(&path).unwrap_err()));
        assert_eq!(read, FileError::NotRegular);
        assert!(matches!(opened, Error::File { source: FileError::NotRegular, .. }));
    }

    #[test]
    fn a_socket_and_a_device_are_refused() {
        let directory = directory(&[]);
        let _listener = std::os::unix::net::UnixListener::bind(directory.path().join("config.json")).unwrap();
        assert_eq!(refused_file(directory.path(), "config.json"), FileError::NotRegular);
        assert_eq!(within_patience(|| refused_file(Path::new("/dev"), "zero")), FileError::NotRegular);
    }

    #[test]
    fn a_link_out_of_the_directory_is_refused_wherever_it_leads() {
        let outside = directory(&[("model.safetensors", &bytes_named(&[("a", 4)]))]);
        let target = outside.path().join("model.safetensors").canonicalize().unwrap();
        for path in [target.clone(), Path::new("/dev/zero").into(), outside.path().canonicalize().unwrap()] {
            let directory = directory(&[]);
            symlink(&path, directory.path().join("model.safetensors")).unwrap();
            assert_eq!(
                refused_file(directory.path(), "model.safetensors"),
                FileError::Outside { target: path.clone() }
            );
            assert!(open(directory.path()).is_err());
        }
        // A prefix of the directory's name is not the directory.
        let parent = tempfile::tempdir().unwrap();
        std::fs::create_dir(parent.path().join("model")).unwrap();
        std::fs::create_dir(parent.path().join("model-of-others")).unwrap();
        std::fs::write(parent.path().join("model-of-others/f"), b"x").unwrap();
        symlink("../model-of-others/f", parent.path().join("model/f")).unwrap();
        assert!(matches!(refused_file(&parent.path().join("model"), "f"), FileError::Outside { .. }));
    }

    #[test]
    fn the_cache_layout_lends_no_other_way_out() {
        let cache = tempfile::tempdir().unwrap();
        let (repository, other) = (cache.path().join("one"), cache.path().join("other"));
        for path in [
            repository.join("snapshots/r"),
            repository.join("blobs/deep"),
            other.join("blobs"),
            repository.join("snapshots/s"),
        ] {
            std::fs::create_dir_all(path).unwrap();
        }
        let targets = ["one/blobs/deep/x", "other/blobs/x", "one/x", "one/snapshots/s/x"];
        for (i, target) in targets.iter().enumerate() {
            std::fs::write(cache.path().join(target), b"x").unwrap();
            let link = format!("f{i}");
            symlink(cache.path().join(target), repository.join("snapshots/r").join(&link)).unwrap();
            let refused = refused_file(&repository.join("snapshots/r"), &link);
            assert!(matches!(refused, FileError::Outside { .. }), "{target}: {refused}");
        }
        // A `blobs` that is itself a link elsewhere.
        std::fs::create_dir_all(cache.path().join("two/snapshots/r")).unwrap();
        symlink(other.join("blobs"), cache.path().join("two/blobs")).unwrap();
        symlink("../../blobs/x", cache.path().join("two/snapshots/r/x")).unwrap();
        assert!(matches!(refused_file(&cache.path().join("two/snapshots/r"), "x"), FileError::Outside { .. }));
    }

    #[test]
    fn a_link_to_nothing_is_not_an_absent_file() {
        let directory = directory(&[]);
        symlink("gone", directory.path().join("config.json")).unwrap();
        symlink("loop", directory.path().join("loop")).unwrap();
        let files = Files::directory(directory.path()).unwrap();
        assert!(matches!(files.read("config.json", 9), Err(Error::Read { .. })));
        assert!(matches!(files.read("loop", 9), Err(Error::Read { .. })));
    }

    #[cfg(target_pointer_width = "64")]
    #[test]
    fn a_sparse_terabyte_is_opened_by_its_header() {
        const TERABYTE: u64 = 1 << 40;
        let header =
            |size: u64| file(format!("{{{}}}", entry("w", "U8", &format!("[{size}]"), &format!("[0,{size}]"))), 0);
        let size = TERABYTE - header(TERABYTE).len() as u64;
        for (bytes, opens) in
            [(header(size), true), (header(size - 1), false), (header(size + 1), false), (vec![0; 16], false)]
        {
            let directory = directory(&[("model.safetensors", &bytes)]);
            let file = std::fs::File::options().write(true).open(directory.path().join("model.safetensors")).unwrap();
            file.set_len(TERABYTE).unwrap();
            let opened = open(directory.path());
            assert_eq!(opened.is_ok(), opens, "{opened:?}");
            if let Ok(checkpoint) = opened {
                let bytes = checkpoint.bytes("w").unwrap();
                assert_eq!((bytes.len() as u64, bytes[bytes.len() - 1]), (size, 0));
            }
        }
    }
}

// The index.

fn refused_index(index: &str, shards: &[(&str, &[u8])]) -> IndexError {
    let mut files = vec![(INDEX, index.as_bytes())];
    files.extend(shards);
    let directory = directory(&files);
    match open(directory.path()).unwrap_err() {
        Error::Index { path, source } => {
            assert!(path.ends_with(INDEX));
            source
        }
        other => panic!("{}", chain(&other)),
    }
}

#[test]
fn shard_names_that_lead_elsewhere() {
    let names = [
        "../other.safetensors",
        "..",
        "/etc/passwd.safetensors",
        "a/b.safetensors",
        "a\\\\b.safetensors",
        "..\\\\b.safetensors",
        "C:b.safetensors",
        "b.safetensors\\u0000",
        "\\u0000.safetensors",
        "b\\n.safetensors",
        "",
        "b.bin",
        "b.safetensors.index.json",
        "safetensors",
        "b.SAFETENSORS",
        "b.safetensors/",
        "./b.safetensors",
    ];
    for name in names {
        let index = format!(r#"{{"weight_map":{{"w":"{name}"}}}}"#);
        assert!(matches!(refused_index(&index, &[]), IndexError::ShardName { .. }), "{name}");
    }
}

#[test]
fn more_shards_than_any_checkpoint_has() {
    let index = |n: usize| {
        let map: Vec<String> = (0..n).map(|i| format!(r#""w{i}":"{i:06}.safetensors""#)).collect();
        format!(r#"{{"weight_map":{{{}}}}}"#, map.join(","))
    };
    assert_eq!(refused_index(&index(1025), &[]), IndexError::TooManyShards { shards: 1025 });
    assert_eq!(refused_index(&index(1024), &[]), IndexError::MissingShard { shard: "000000.safetensors".into() });
}

#[test]
fn an_index_of_nothing() {
    assert_eq!(refused_index(r#"{"weight_map":{}}"#, &[]), IndexError::Empty);
}

#[test]
fn an_index_that_is_no_index() {
    let refused = |index: &str| {
        let directory = directory(&[(INDEX, index.as_bytes())]);
        match open(directory.path()).unwrap_err() {
            Error::Json { path, source } => {
                assert!(path.ends_with(INDEX));
                source.why
            }
            other => panic!("{}", chain(&other)),
        }
    };
    assert_eq!(refused("{}"), "missing field `weight_map`");
    assert_eq!(refused(r#"{"weight_map":{"a":"1.safetensors","a":"2.safetensors"}}"#), "duplicate key `a`");
    assert_eq!(refused(r#"{"weight_map":{},"weight_map":{}}"#), "duplicate key `weight_map`");
    assert_eq!(refused(r#"{"metadata":{"a":1,"a":1},"weight_map":{}}"#), "duplicate key `a`");
    for entry in ["1", "null", "[]", "{}", "true"] {
        let why = refused(&format!(r#"{{"weight_map":{{"a":{entry}}}}}"#));
        assert!(why.starts_with("`a`: invalid type"), "{why}");
    }
    assert!(refused("[").contains("EOF"));
    assert!(refused(&"[".repeat(100_000)).contains("recursion limit"));
}

#[test]
fn a_shard_that_is_missing() {
    let refused = refused_index(
        r#"{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#,
        &[("1.safetensors", &bytes_named(&[("a", 1)]))],
    );
    assert_eq!(refused, IndexError::MissingShard { shard: "2.safetensors".into() });
}

#[test]
fn a_tensor_that_is_not_in_its_shard() {
    let (one, two) = (bytes_named(&[("a", 1)]), bytes_named(&[("b", 1)]));
    let shards = [("1.safetensors", &one[..]), ("2.safetensors", &two[..])];
    let index = |map: &str| format!(r#"{{"weight_map":{{{map}}}}}"#);
    let nowhere = index(r#""a":"1.safetensors","b":"2.safetensors","c":"1.safetensors","d":"2.safetensors""#);
    assert_eq!(refused_index(&nowhere, &shards), IndexError::NotInShard { tensors: vec!["c".into(), "d".into()] });
    let swapped = index(r#""a":"2.safetensors","b":"1.safetensors""#);
    assert_eq!(refused_index(&swapped, &shards), IndexError::NotInShard { tensors: vec!["a".into(), "b".into()] });
}

#[test]
fn a_tensor_that_is_not_in_the_index() {
    let refused = refused_index(
        r#"{"weight_map":{"a":"1.safetensors"}}"#,
        &[("1.safetensors", &bytes_named(&[("a", 1), ("b", 1)]))],
    );
    assert_eq!(refused, IndexError::Unlisted { shard: "1.safetensors".into(), tensors: vec!["b".into()] });
}

#[test]
fn one_tensor_in_two_shards() {
    let (one, two) = (bytes_named(&[("a", 1)]), bytes_named(&[("a", 1), ("b", 1)]));
    let shards = [("1.safetensors", &one[..]), ("2.safetensors", &two[..])];
    let refused = refused_index(r#"{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#, &shards);
    let (first, second) = ("1.safetensors".into(), "2.safetensors".into());
    assert_eq!(refused, IndexError::TwoShards { tensor: "a".into(), first, second });
}

#[test]
fn a_lie_in_a_shard_names_the_shard() {
    let mut two = bytes_named(&[("b", 3)]);
    two.pop();
    let index = r#"{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#;
    let directory =
        directory(&[(INDEX, index.as_bytes()), ("1.safetensors", &bytes_named(&[("a", 1)])), ("2.safetensors", &two)]);
    let error = open(directory.path()).unwrap_err();
    assert!(
        matches!(&error, Error::Header { path, source: HeaderError::BeyondEnd { .. } } if path.ends_with("2.safetensors"))
    );
    assert!(
        chain(&error).contains("2.safetensors is no valid safetensors file: tensor `b` ends at byte 3"),
        "{}",
        chain(&error)
    );
}
