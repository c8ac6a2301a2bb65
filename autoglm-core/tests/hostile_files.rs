//! Files, links and shard names that are not what they seem, one test per way of seeming. Each is
//! refused by an error that names the file; none panics or waits.

// The allowance in clippy.toml covers test functions, not what they share.
#![allow(clippy::unwrap_used)]

mod writing;

use autoglm_core::checkpoint::{CONFIG_LIMIT, FileError, HeaderError, IndexError};
use autoglm_core::{Error, Files};
use writing::{bytes_named, chain, directory, entry, file, open};

const INDEX: &str = "model.safetensors.index.json";

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

/// What is wrong with an index and these shards.
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
