//! The download against a server on this machine that speaks the hub's protocol.
#![cfg(feature = "hub")]
#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use autoglm::hub::{Event, Pull, PullError};

/// Serves files and remembers the ranges that were asked for.
struct Hub {
    address: String,
    ranges: Arc<Mutex<Vec<(String, u64)>>>,
}

/// What the server does with a file.
#[derive(Clone)]
struct File {
    bytes: Vec<u8>,
    /// Bytes after which the connection ends, once.
    cut: Option<usize>,
}

impl Hub {
    fn serve(files: &[(&str, File)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let files: BTreeMap<String, File> = files.iter().map(|(n, f)| ((*n).to_owned(), f.clone())).collect();
        let (files, seen) = (Arc::new(Mutex::new(files)), Arc::clone(&ranges));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (files, seen) = (Arc::clone(&files), Arc::clone(&seen));
                thread::spawn(move || answer(stream.unwrap(), &files, &seen));
            }
        });
        Self { address, ranges }
    }

    fn pull(&self, cache: &std::path::Path) -> Pull {
        let mut pull = Pull::new("zai-org/AutoGLM-Phone-9B");
        pull.endpoint = Some(self.address.clone());
        pull.cache = Some(cache.to_owned());
        pull
    }
}

fn answer(mut stream: TcpStream, files: &Mutex<BTreeMap<String, File>>, seen: &Mutex<Vec<(String, u64)>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let request = lines.next().unwrap().unwrap();
    let mut from = None;
    for line in lines.map_while(Result::ok).take_while(|l| !l.is_empty()) {
        let lower = line.to_lowercase();
        if let Some(range) = lower.strip_prefix("range: bytes=") {
            from = range.split('-').next().and_then(|n| n.parse::<u64>().ok());
        }
    }
    let path = request.split(' ').nth(1).unwrap();
    let mut files = files.lock().unwrap();
    if path.starts_with("/api/models/") {
        let list: Vec<_> = files.keys().map(|n| format!(r#"{{"rfilename":"{n}"}}"#)).collect();
        let body = format!(r#"{{"sha":"c0ffee","siblings":[{}]}}"#, list.join(","));
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).unwrap();
        return;
    }
    let name = path.rsplit('/').next().unwrap().to_owned();
    let Some(file) = files.get_mut(&name) else {
        write!(stream, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
        return;
    };
    let from = from.unwrap_or(0);
    let rest = &file.bytes[from as usize..];
    // The library asks for the first byte to learn the size; anything longer is the download.
    let probe = request.contains("resolve") && !seen.lock().unwrap().contains(&(format!("probe {name}"), 0));
    let key = if probe { format!("probe {name}") } else { name.clone() };
    seen.lock().unwrap().push((key, from));
    let sent = file.cut.take_if(|_| !probe).map_or(rest.len(), |cut| cut.min(rest.len()));
    let total = file.bytes.len();
    write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\ncontent-length: {}\r\ncontent-range: bytes {from}-{}/{total}\r\n\
         etag: \"e-{name}\"\r\nx-repo-commit: c0ffee\r\nconnection: close\r\n\r\n",
        rest.len(),
        total.saturating_sub(1),
    )
    .unwrap();
    // A probe closes the connection early; that is no failure of the server.
    let _ = stream.write_all(&rest[..sent]);
}

fn whole(bytes: &[u8]) -> File {
    File { bytes: bytes.to_vec(), cut: None }
}

#[test]
fn a_checkpoint_is_fetched_and_nothing_else() {
    let hub = Hub::serve(&[
        ("config.json", whole(b"{}")),
        ("model.safetensors", whole(&[7; 5_000])),
        ("README.md", whole(b"no")),
        ("pytorch_model.bin", whole(b"no")),
    ]);
    let cache = tempfile::tempdir().unwrap();
    let mut bytes = 0;
    let directory = hub
        .pull(cache.path())
        .fetch(|event| {
            if let Event::Bytes(more) = event {
                bytes += more;
            }
        })
        .unwrap();
    assert_eq!(std::fs::read(directory.join("model.safetensors")).unwrap(), vec![7; 5_000]);
    assert_eq!(bytes, 5_002);
    let mut names: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["config.json", "model.safetensors"]);
}

#[test]
fn a_download_that_was_cut_off_goes_on_where_it_ended() {
    let bytes: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
    let hub = Hub::serve(&[
        ("config.json", whole(b"{}")),
        ("model.safetensors", File { bytes: bytes.clone(), cut: Some(150_000) }),
    ]);
    let cache = tempfile::tempdir().unwrap();
    let directory = hub.pull(cache.path()).fetch(|_| ()).unwrap();
    assert_eq!(std::fs::read(directory.join("model.safetensors")).unwrap(), bytes);
    let ranges = hub.ranges.lock().unwrap();
    let resumed = ranges.iter().any(|(name, from)| name == "model.safetensors" && *from > 0);
    assert!(resumed, "{ranges:?}");
}

#[test]
fn a_repository_without_weights_is_refused_before_anything_is_fetched() {
    let hub = Hub::serve(&[("config.json", whole(b"{}")), ("weights/model.safetensors", whole(b"x"))]);
    let cache = tempfile::tempdir().unwrap();
    let refused = hub.pull(cache.path()).fetch(|_| ()).unwrap_err();
    assert!(matches!(refused, PullError::NoCheckpoint { missing: "model.safetensors", .. }), "{refused}");
}

#[test]
fn without_a_network_the_error_says_what_to_do() {
    // A port that was just free and has no listener any more.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let mut pull = Pull::new("zai-org/AutoGLM-Phone-9B");
    (pull.endpoint, pull.cache) = (Some(format!("http://{address}")), Some(cache.path().to_owned()));
    let offline = pull.fetch(|_| ()).unwrap_err();
    assert!(matches!(offline, PullError::Offline { .. }), "{offline:?}");
    assert!(offline.to_string().contains("--model"));
}

#[test]
fn names_that_are_no_repository_are_refused() {
    for name in ["", "a", "/b", "a/", "a/b/c", "../b", "a/..", "a b/c", "a/b?x"] {
        assert!(matches!(Pull::new(name).fetch(|_| ()), Err(PullError::Name { .. })), "{name}");
    }
    let mut pull = Pull::new("a/b");
    pull.revision = "../../x".into();
    assert!(matches!(pull.fetch(|_| ()), Err(PullError::Revision { .. })));
}
