//! The binary as a user or a script sees it: standard output, exit codes, one-line errors.
#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn autoglm(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_autoglm")).args(args).output().unwrap()
}

fn repository(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path).to_string_lossy().into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Exit code 1, nothing on standard output, one line on standard error. → that line.
fn failure(output: &Output) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(output.stdout.is_empty());
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("error: "), "{stderr}");
    stderr
}

#[test]
fn run_prints_the_generated_text_and_one_newline() {
    let output = autoglm(&["run", "--no-think", "go back"]);
    assert!(output.status.success());
    assert_eq!(stdout(&output), "do(action=\"Back\")\n");
    assert!(output.stderr.is_empty());
}

#[cfg(feature = "audio")]
#[test]
fn a_request_may_be_spoken_and_must_be_made() {
    let (screen, voice) =
        (repository("models/autoglm-tiny/screens/01.png"), repository("models/autoglm-tiny/voice/01.wav"));
    let output = autoglm(&["run", "--no-think", "--image", &screen, "--audio", &voice]);
    assert_eq!(stdout(&output), "do(action=\"Tap\", element=[640,130])\n");
    let silent = autoglm(&["run", "--image", &screen]);
    assert_eq!(silent.status.code(), Some(2));
    let lonely = autoglm(&["run", "--asr-model", ".", "go back"]);
    assert_eq!(lonely.status.code(), Some(2));
    let line = failure(&autoglm(&["run", "--audio", &screen]));
    assert!(line.contains("01.png") && line.contains("not a WAV, FLAC or MP3 file"), "{line}");
}

#[cfg(feature = "audio")]
#[test]
fn glm_asr_writes_down_what_it_hears_for_itself_and_for_others() {
    let folder = tempfile::tempdir().unwrap();
    autoglm_testing::speaking("asr-legacy-names", folder.path());
    let asr = folder.path().to_str().unwrap();
    let voice = repository("goldens/cases/asr-legacy-names/english.wav");
    let transcript = autoglm(&["run", "--model", asr, "--audio", &voice]);
    assert!(transcript.status.success(), "{transcript:?}");
    // Random weights say nothing that means anything, but what they say is what the other model is asked.
    let words = stdout(&transcript).trim().to_owned();
    assert!(!words.is_empty());
    let quick = ["run", "--no-think", "--max-new-tokens", "20"];
    let spoken = autoglm(&[&quick[..], &["--asr-model", asr, "--audio", &voice]].concat());
    let written = autoglm(&[&quick[..], &[&words]].concat());
    assert!(spoken.status.success() && !spoken.stdout.is_empty(), "{spoken:?}");
    assert_eq!(stdout(&spoken), stdout(&written));
    let tiny = repository("models/autoglm-tiny");
    let line = failure(&autoglm(&["run", "--asr-model", &tiny, "--audio", &voice]));
    assert!(line.contains("autoglm-tiny:") && line.contains("writes no transcripts"), "{line}");
    let line = failure(&autoglm(&["run", "--asr-model", "/nowhere", "--audio", &voice]));
    assert!(line.contains("/nowhere"), "{line}");
}

#[cfg(feature = "kvcache")]
#[test]
fn a_pinned_prompt_is_computed_once_and_damage_is_said_and_computed_anew() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("new");
    let run = |extra: &[&str]| {
        let dir = dir.to_str().unwrap();
        let all = [&["run", "--no-think", "--pin", "back", "--pin-dir", dir][..], extra, &["go back"]].concat();
        let output = autoglm(&all);
        assert_eq!(stdout(&output), "do(action=\"Back\")\n");
        String::from_utf8(output.stderr).unwrap()
    };
    let first = run(&[]);
    assert!(first.starts_with("pin back: 0 of ") && first.ends_with("rows were known (0.0 %)\n"), "{first}");
    let again = run(&[]);
    assert!(again.contains("rows were known (9"), "{again}");
    let other = run(&["--precision", "bf16"]);
    assert!(
        other.starts_with("warning: computing anew: the snapshot ") && other.contains("another precision"),
        "{other}"
    );
    let file = dir.join("back.kv");
    std::fs::write(&file, &std::fs::read(&file).unwrap()[..1000]).unwrap();
    let damaged = run(&[]);
    assert!(damaged.contains("warning: computing anew") && damaged.contains("pin back: 0 of "), "{damaged}");
    assert!(run(&[]).contains("rows were known (9"));
    let refused = autoglm(&["run", "--pin", "../x", "go back"]);
    assert_eq!(refused.status.code(), Some(2));
}

#[cfg(all(feature = "kvcache", feature = "quant"))]
#[test]
fn an_agent_loop_reuses_everything_before_the_last_picture() {
    let output =
        autoglm(&["bench", "--agent-loop", "3", "--shape", "tiny", "--image", "168x336", "--kv", "int8", "--json"]);
    let object: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    let steps: Vec<(u64, u64)> = object["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| (s["prompt_tokens"].as_u64().unwrap(), s["reused_tokens"].as_u64().unwrap()))
        .collect();
    assert_eq!(steps, [(1972, 0), (2172, 1800), (2372, 2000)]);
    assert!(object["steps"][2]["ttft_warm_s"].as_f64() > Some(0.0) && object["steps"][2]["vision_s"].is_number());
}

#[cfg(feature = "vision")]
#[test]
fn the_first_command_of_the_readme_taps_the_camera() {
    let screen = repository("models/autoglm-tiny/screens/01.png");
    let output = autoglm(&["run", "--image", &screen, "打开相机"]);
    let text = stdout(&output);
    assert!(text.starts_with("<think>相机在"), "{text}");
    assert!(text.contains("</think>\n<answer>do(action=\"Tap\", element=["), "{text}");
    assert!(text.ends_with(")\n"), "{text}");
}

#[cfg(all(feature = "quant", feature = "vision"))]
#[test]
fn integer_weights_tap_the_camera_without_a_word_on_standard_error() {
    let screen = repository("models/autoglm-tiny/screens/01.png");
    for precision in ["mixed", "int8", "int4"] {
        let output = autoglm(&["run", "--no-think", "--precision", precision, "--image", &screen, "打开相机"]);
        let text = stdout(&output);
        assert!(text.starts_with("do(action=\"Tap\", element=["), "{precision}: {text}");
        assert!(output.stderr.is_empty(), "a bar is for terminals");
    }
}

#[cfg(feature = "power")]
#[test]
fn power_changes_no_answer_and_says_what_it_does_without_on_standard_error() {
    let output = autoglm(&["run", "--power", "--no-think", "--stats", "go back"]);
    assert_eq!(stdout(&output), "do(action=\"Back\")\n");
    let text = String::from_utf8(output.stderr).unwrap();
    let (said, line) = text.trim_end().rsplit_once('\n').unwrap_or(("", text.trim_end()));
    assert!(said.lines().all(|line| line.starts_with("power: ")), "{said}");
    let stats: serde_json::Value = serde_json::from_str(line).unwrap();
    // Whether a machine of tests measures anything is its own affair; that it says who did is not.
    assert_eq!(
        stats["energy_j"].is_f64(),
        stats["energy_source"].as_str().is_some_and(|s| s.starts_with("measured: "))
    );
}

#[test]
fn stats_are_one_json_object_on_standard_error() {
    let output = autoglm(&["run", "--no-think", "--stats", "--threads", "1", "go back"]);
    assert_eq!(stdout(&output), "do(action=\"Back\")\n");
    let stats: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    let keys: Vec<&str> = stats.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = [
        "prompt_tokens",
        "reused_tokens",
        "vision_s",
        "audio_s",
        "prefill_s",
        "decode_s",
        "decode_tokens",
        "forced_tokens",
        "ttft_s",
        "weights_bytes",
        "kv_bytes",
        "peak_rss_bytes",
        "isa",
        "threads",
        "energy_j",
        "energy_source",
    ];
    expected.sort_unstable();
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
    assert_eq!(stats["threads"], 1);
    assert!(stats["energy_j"].is_null() && stats["energy_source"].is_null(), "nobody measures without --power");
    assert!(stats["prompt_tokens"].as_u64().unwrap() > 5);
}

#[test]
fn a_tier_and_a_limit_end_the_thought() {
    let fast = autoglm(&["run", "--tier", "fast", "go back"]);
    assert_eq!(stdout(&fast), "do(action=\"Back\")\n");
    for tier in ["deep", "auto"] {
        let limited = stdout(&autoglm(&["run", "--tier", tier, "--thinking-budget", "2", "go back"]));
        assert!(limited.starts_with("<think>") && limited.contains("</think>\n<answer>do("), "{tier}: {limited}");
    }
    assert_eq!(stdout(&autoglm(&["run", "--thinking-budget", "0", "go back"])), "do(action=\"Back\")\n");
}

#[cfg(all(feature = "quant", feature = "power"))]
#[test]
fn a_measured_sleep_is_one_json_object() {
    let output = autoglm(&["bench", "--sleep", &repository("models/autoglm-tiny"), "--repeat", "2", "--threads", "1"]);
    let measured: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    for field in ["weights_bytes", "sleep_s", "wake_to_first_token_s", "open_to_first_token_s", "wake_of_open"] {
        assert!(measured[field].as_f64().unwrap() > 0.0, "{field}: {measured}");
    }
    assert_eq!((&measured["repeat"], &measured["threads"]), (&2.into(), &1.into()));
}

#[test]
fn wrong_calls_exit_with_two() {
    for args in [
        &["run"][..],
        &["run", "--think", "--no-think", "x"],
        &["run", "--think", "--thinking-budget", "0", "x"],
        &["run", "--precision", "int3", "x"],
        &["run", "--threads", "0", "x"],
        &["run", "--max-new-tokens", "-1", "x"],
        &["run", "--temperature", "-1", "x"],
        &["run", "--top-p", "1.5", "x"],
        &["run", "--min-p", "NaN", "x"],
        &["run", "--max-pixels", "0", "x"],
        &["run", "--keep", "half", "x"],
        &["run", "--tier", "slow", "x"],
        &["run", "--tier", "fast", "--think", "x"],
        &["run", "--thinking-budget", "-1", "x"],
        &["logits"],
        &["nothing"],
        &[],
    ] {
        assert_eq!(autoglm(args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn a_share_of_rows_that_is_none_is_one_line_and_the_command_lines_fault() {
    for share in ["0", "-0.5", "1.01", "NaN"] {
        let mut calls = vec![vec!["run", "--keep", share, "x"]];
        if cfg!(feature = "quant") {
            calls.push(vec!["bench", "--shape", "tiny", "--image", "168x336", "--keep", share]);
        }
        for call in calls {
            let output = autoglm(&call);
            let line = String::from_utf8(output.stderr).unwrap();
            let want = format!("error: option `keep` makes no sense here: {share} is no share of a picture's rows: ");
            assert!(output.status.code() == Some(2) && line.starts_with(&want), "{line}");
            assert_eq!((line.lines().count(), output.stdout.len()), (1, 0), "{line}");
        }
    }
}

#[cfg(feature = "vision")]
#[test]
fn a_share_of_a_pictures_rows_is_what_the_prompt_counts() {
    let screen = repository("models/autoglm-tiny/screens/01.png");
    let told = |more: &[&str]| {
        let output = autoglm(&[&["run", "--no-think", "--stats", "--image", &screen, "打开相机"], more].concat());
        let stats: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        (stdout(&output), stats["prompt_tokens"].as_u64().unwrap())
    };
    let (whole, half) = (told(&[]), told(&["--keep", "0.5"]));
    assert_eq!(told(&["--keep", "1"]), whole);
    assert_eq!(whole.1 - half.1, 36);
    assert!(half.0.starts_with("do(action=\"Tap\""), "{}", half.0);
}

#[test]
fn help_names_only_what_exists() {
    let help = stdout(&autoglm(&["run", "--help"]));
    assert_eq!(help.contains("--audio"), cfg!(feature = "audio"));
    for precision in ["mixed", "int8", "int4"] {
        assert_eq!(help.contains(precision), cfg!(feature = "quant"), "{precision}");
    }
    for present in ["--image", "--no-think", "--precision", "--max-pixels", "--keep", "--stats"] {
        assert!(help.contains(present), "{present}");
    }
}

#[test]
fn failures_are_one_line_that_names_the_culprit() {
    let missing = failure(&autoglm(&["run", "--model", "no/such/dir", "x"]));
    assert!(missing.contains("no/such/dir"), "{missing}");
    let file = failure(&autoglm(&["run", "--model", env!("CARGO_MANIFEST_DIR"), "x"]));
    assert!(file.contains(&format!("{}/config.json", env!("CARGO_MANIFEST_DIR"))), "{file}");
    let picture = failure(&autoglm(&["run", "--image", "no\nsuch.png", "x"]));
    assert!(picture.contains("such.png"), "{picture}");
}

#[cfg(feature = "vision")]
#[test]
fn a_file_that_is_no_picture_is_named_as_such() {
    let manifest = repository("Cargo.toml");
    let line = failure(&autoglm(&["run", "--image", &manifest, "x"]));
    assert!(line.contains("PNG"), "{line}");
    let empty = tempfile::NamedTempFile::new().unwrap();
    let line = failure(&autoglm(&["run", "--image", empty.path().to_str().unwrap(), "x"]));
    assert!(line.contains("the file is empty"), "{line}");
}

#[test]
fn logits_writes_the_numbers_of_transformers() {
    let folder = tempfile::tempdir().unwrap();
    let request = repository("goldens/cases/text-v5/request.json");
    let (want, got) = answer("text-v5", &request, &folder.path().join("answer.safetensors"));
    let (got, want) = (tensors(&got), tensors(&want));
    for name in ["position_ids", "greedy_ids"] {
        let (got, want) = (got.tensor(name).unwrap(), want.tensor(name).unwrap());
        assert_eq!((got.dtype(), got.shape(), got.data()), (want.dtype(), want.shape(), want.data()), "{name}");
    }
    let (got, want) = (got.tensor("logits").unwrap(), want.tensor("logits").unwrap());
    assert_eq!((got.dtype(), got.shape()), (want.dtype(), want.shape()));
    let float = |bytes: &[u8]| bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect::<Vec<_>>();
    for (g, w) in float(got.data()).iter().zip(float(want.data())) {
        // Logits of this case have a standard deviation above 1, and the bound is 1e-4 of it.
        assert!((g - w).abs() < 1e-4, "{g} {w}");
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

fn tensors(bytes: &[u8]) -> safetensors::SafeTensors<'_> {
    safetensors::SafeTensors::deserialize(bytes).unwrap()
}

/// Runs a golden case. → what transformers wrote, and what the command wrote to `out`.
fn answer(case: &str, request: &str, out: &Path) -> (Vec<u8>, Vec<u8>) {
    let case = repository(&format!("goldens/cases/{case}"));
    let output = autoglm(&["logits", "--model", &case, "--request", request, "--out", out.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (read(&PathBuf::from(format!("{case}/expected.safetensors"))), read(out))
}

#[cfg(feature = "vision")]
#[test]
fn an_answer_without_greedy_ids_has_no_place_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let case = repository("goldens/cases/two-images");
    let mut asked: serde_json::Value =
        serde_json::from_slice(&read(Path::new(&format!("{case}/request.json")))).unwrap();
    asked.as_object_mut().unwrap().remove("greedy");
    for image in asked["images"].as_array_mut().unwrap() {
        *image = format!("{case}/{}", image.as_str().unwrap()).into();
    }
    let request = folder.path().join("request.json");
    std::fs::write(&request, asked.to_string()).unwrap();
    let (want, got) = answer("two-images", request.to_str().unwrap(), &folder.path().join("answer.safetensors"));
    let (want, got) = (tensors(&want), tensors(&got));
    assert!(got.tensor("greedy_ids").is_err());
    assert_eq!(got.tensor("position_ids").unwrap().data(), want.tensor("position_ids").unwrap().data());
    assert_eq!(got.tensor("logits").unwrap().shape(), want.tensor("logits").unwrap().shape());
}

#[cfg(unix)]
#[test]
fn an_answer_follows_a_link_and_replaces_regular_files_only() {
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("real.safetensors"), folder.path().join("link.safetensors"));
    std::fs::write(&real, "old").unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let request = repository("goldens/cases/text-v5/request.json");
    answer("text-v5", &request, &link);
    assert!(link.is_symlink() && read(&real).len() > 1_000);
    let case = repository("goldens/cases/text-v5");
    for target in ["/dev/null", folder.path().to_str().unwrap()] {
        let line = failure(&autoglm(&["logits", "--model", &case, "--request", &request, "--out", target]));
        assert!(line.contains("no regular file"), "{line}");
    }
}

#[test]
fn bad_requests_leave_no_answer_behind() {
    let folder = tempfile::tempdir().unwrap();
    let request = folder.path().join("request.json");
    let out = folder.path().join("answer.safetensors");
    for (text, culprit) in [
        ("", "request.json"),
        ("[]", "request.json"),
        (r#"{"input_ids": []}"#, "input_ids"),
        (r#"{"input_ids": [-1]}"#, "request.json"),
        (r#"{"input_ids": [4294967295]}"#, "4294967295"),
        (r#"{"input_ids": [1], "greedy": -5}"#, "request.json"),
        (r#"{"input_ids": [1], "images": ["gone.png"]}"#, "placeholder"),
        (r#"{"input_ids": [649], "images": ["gone.png"]}"#, "gone.png"),
        (r#"{"input_ids": [1], "unknown": 1}"#, "unknown"),
        (r#"{"input_ids": [1], "greedy": 1000000000}"#, "1000000000"),
    ] {
        std::fs::write(&request, text).unwrap();
        let line =
            failure(&autoglm(&["logits", "--request", request.to_str().unwrap(), "--out", out.to_str().unwrap()]));
        assert!(line.contains(culprit), "{text}: {line}");
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["request.json"]);
}

#[test]
fn an_answer_that_cannot_be_written_is_noticed_before_the_model_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("gone/answer.safetensors");
    let request = repository("goldens/cases/text-v5/request.json");
    let args = ["logits", "--model", "no/such/dir", "--request", &request, "--out", out.to_str().unwrap()];
    let line = failure(&autoglm(&args));
    assert!(line.contains("cannot write") && line.contains("gone/answer.safetensors"), "{line}");
    assert!(!line.contains("no/such/dir") && !line.contains(".autoglm-logits"), "{line}");
}

#[test]
fn an_image_token_beyond_the_vocabulary_is_named() {
    let case = PathBuf::from(repository("goldens/cases/text-v5"));
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(case.join(name), folder.path().join(name)).unwrap();
    }
    let path = folder.path().join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&read(&path)).unwrap();
    config["image_token_id"] = config["text_config"]["vocab_size"].clone();
    std::fs::write(&path, config.to_string()).unwrap();
    let line = failure(&autoglm(&["run", "--model", folder.path().to_str().unwrap(), "x"]));
    assert!(line.contains("image_token_id") && line.contains("vocab_size"), "{line}");
}

#[test]
fn a_top_k_of_zero_is_off() {
    let output = autoglm(&["run", "--no-think", "--top-k", "0", "go back"]);
    assert_eq!(stdout(&output), "do(action=\"Back\")\n");
}

#[cfg(feature = "hub")]
#[test]
fn pull_without_a_network_says_what_to_do() {
    let cache = tempfile::tempdir().unwrap();
    // A port of this machine that nobody listens on.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_autoglm"))
        .args(["pull", "zai-org/AutoGLM-Phone-9B"])
        .env("HF_HOME", cache.path())
        .env("HF_ENDPOINT", format!("http://{free}"))
        .output()
        .unwrap();
    let line = failure(&output);
    assert!(line.contains("--model") && line.contains("network"), "{line}");
    assert_eq!(autoglm(&["pull", "nonsense"]).status.code(), Some(2));
}
