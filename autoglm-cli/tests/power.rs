//! `autoglm power` as a user or a script sees it: one object or one table, the same bytes for the same seed, one-line
//! errors, pictures that are pictures, and a status that changes nothing.
#![cfg(feature = "power-model")]
#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use autoglm::power::model::{Name, Trace};

const KEYS: [&str; 10] = [
    "policy",
    "life_h",
    "gain_vs_none",
    "gain_vs_seed",
    "llm_share",
    "step_p95_s",
    "minutes_over_43c",
    "throttles_per_h",
    "reloads_per_day",
    "idle_regret",
];

fn power(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_autoglm")).arg("power").args(args).output().unwrap()
}

fn repository(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path).to_string_lossy().into_owned()
}

/// What a successful call prints; nothing else is said.
fn stdout(args: &[&str]) -> String {
    let output = power(args);
    assert!(output.status.success() && output.stderr.is_empty(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn simulated(args: &[&str]) -> serde_json::Value {
    serde_json::from_str(&stdout(&[&["simulate", "--json"], args].concat())).unwrap()
}

/// This exit code, nothing on standard output, one line on standard error. → that line.
fn failure(code: i32, args: &[&str]) -> String {
    let output = power(args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert!(output.stdout.is_empty() && stderr.starts_with("error: ") && stderr.lines().count() == 1, "{stderr}");
    stderr
}

fn policies(object: &serde_json::Value) -> Vec<&str> {
    object["policies"].as_array().unwrap().iter().map(|line| line["policy"].as_str().unwrap()).collect()
}

/// A file of this name with this text, in a folder that lives as long as the first of the two.
fn written(name: &str, text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    (folder, path.to_string_lossy().into_owned())
}

#[test]
fn the_command_of_the_readme_compares_policies_on_a_modelled_device() {
    let readme = std::fs::read_to_string(repository("README.md")).unwrap();
    let command = readme.lines().find_map(|line| line.strip_prefix("$ cargo run --release -p autoglm-cli -- power "));
    let words: Vec<String> = command.unwrap().split(' ').map(str::to_owned).collect();
    let words = words.into_iter().map(|word| if word.contains('/') { repository(&word) } else { word });
    let words: Vec<String> = words.collect();
    let table = stdout(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(table.starts_with("modelled, not measured on a phone: tensor-g4, day, air of 25 °C, seed 0\n"), "{table}");
    for word in ["none ", "os ", "seed ", "ours ", "ours-tiers ", "min/day", "1/h", "life", "°C"] {
        assert!(table.contains(word), "{word}: {table}");
    }
}

#[test]
fn the_trace_that_comes_along_is_the_synthetic_day_of_seed_zero() {
    let file = std::fs::read_to_string(repository("autoglm-power/traces/day.csv")).unwrap();
    assert_eq!(file, Trace::synthetic(6, 1, 0).to_csv());
}

#[test]
fn the_object_has_its_keys_in_their_order_and_each_policy_once() {
    let text =
        stdout(&["simulate", "--json", "--device", "tensor-g4", "--trace", "synthetic", "--policy", "ours,os,ours"]);
    assert!(text.ends_with("}\n") && text.lines().count() == 1);
    let mut rest = text.as_str();
    let head = ["device", "trace", "seed", "ambient_c", "power", "policies"];
    for key in head.into_iter().chain((0..4).flat_map(|_| KEYS)) {
        let at = rest.find(&format!("\"{key}\":")).unwrap_or_else(|| panic!("{key} is not where it belongs: {text}"));
        rest = &rest[at + key.len() + 3..];
    }
    let object: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(object.as_object().unwrap().len(), head.len());
    assert_eq!((object["power"].as_str(), object["device"].as_str()), (Some("modelled"), Some("tensor-g4")));
    assert_eq!((object["seed"].as_u64(), object["ambient_c"].as_f64()), (Some(0), Some(25.0)));
    assert_eq!(policies(&object), ["none", "os", "seed", "ours"]);
    for line in object["policies"].as_array().unwrap() {
        assert_eq!(line.as_object().unwrap().len(), KEYS.len());
        assert!(KEYS[1..].iter().all(|key| line[key].is_number()), "{line}");
    }
    let life = |idx: usize| object["policies"][idx]["life_h"].as_f64().unwrap();
    let gain = |idx: usize, key| object["policies"][idx][key].as_f64().unwrap();
    assert!((gain(3, "gain_vs_none") - (life(3) / life(0) - 1.0)).abs() < 1e-12);
    assert!((gain(3, "gain_vs_seed") - (life(3) / life(2) - 1.0)).abs() < 1e-12);
    assert_eq!((gain(0, "gain_vs_none"), gain(2, "gain_vs_seed")), (0.0, 0.0));
}

#[test]
fn a_seed_decides_every_byte() {
    let trace = repository("autoglm-power/traces/day.csv");
    let play = |seed| stdout(&["simulate", "--json", "--device", "tensor-g4", "--trace", &trace, "--seed", seed]);
    let policies = |text: &str| text.split_once("\"policies\"").unwrap().1.to_owned();
    assert_eq!(play("1"), play("1"));
    assert_ne!(policies(&play("1")), policies(&play("2")));
    let day = |seed| stdout(&["simulate", "--json", "--device", "tensor-g4", "--trace", "synthetic:2", "--seed", seed]);
    assert_ne!(policies(&day("1")), policies(&day("2")));
}

#[test]
fn a_file_and_its_built_in_twin_give_the_same() {
    let (device, trace) =
        (repository("autoglm-power/devices/tensor-g4.toml"), repository("autoglm-power/traces/day.csv"));
    let files = simulated(&["--device", &device, "--trace", &trace]);
    let names = simulated(&["--device", "tensor-g4", "--trace", "synthetic:6"]);
    assert_eq!((files["trace"].as_str(), names["trace"].as_str()), (Some("day"), Some("6-a-day")));
    assert_eq!((&files["device"], &files["policies"]), (&names["device"], &names["policies"]));
}

#[test]
fn a_warmer_day_is_a_warmer_phone() {
    let minutes = |ambient| {
        let object = simulated(&["--device", "tensor-g4", "--trace", "synthetic", "--ambient", ambient]);
        object["policies"][0]["minutes_over_43c"].as_f64().unwrap()
    };
    assert!(minutes("-20") < minutes("25") && minutes("25") < minutes("40"));
}

#[test]
fn a_phone_that_is_asked_for_nothing_lasts_as_long_under_every_policy() {
    let (_folder, idle) = written(
        "idle.csv",
        "t_s,event,text_tokens,visual_tokens,think_tokens,answer_tokens\n60,screen_on,,,,\n120,screen_off,,,,\n",
    );
    let object =
        simulated(&["--device", "tensor-g4", "--trace", &idle, "--policy", &Name::ALL.map(Name::as_str).join(",")]);
    assert_eq!(policies(&object), Name::ALL.map(Name::as_str));
    for line in object["policies"].as_array().unwrap() {
        assert!(line["step_p95_s"].is_null() && line["throttles_per_h"].is_null() && line["idle_regret"].is_null());
        assert_eq!((line["llm_share"].as_f64(), line["reloads_per_day"].as_f64()), (Some(0.0), Some(0.0)));
        assert_eq!(line["life_h"], object["policies"][0]["life_h"]);
    }
    let out = Path::new(&idle).with_file_name("idle.svg");
    stdout(&["plot", "--device", "tensor-g4", "--trace", &idle, "--out", out.to_str().unwrap()]);
    assert!(std::fs::read_to_string(out).unwrap().contains("empty after"));
}

#[test]
fn what_is_not_known_is_named_in_one_line() {
    let known = ["--device", "tensor-g4", "--trace", "synthetic"];
    for (args, words) in [
        (&["--policy", "os,best"][..], &["\"best\"", "none, os, seed, ours, ours-tiers, oracle"][..]),
        (&["--policy", ""], &["policy \"\""]),
        (&["--ambient", "50.1"], &["50.1 °C", "-20 to 50"]),
        (&["--ambient", "-20.1"], &["-20.1 °C"]),
        (&["--ambient", "NaN"], &["NaN"]),
        (&["--ambient", "inf"], &["inf"]),
    ] {
        let line = failure(2, &[&["simulate"], &known[..], args].concat());
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
    }
    let line = failure(2, &["simulate", "--device", "nokia-3310", "--trace", "synthetic"]);
    assert!(line.contains("\"nokia-3310\"") && line.contains("tensor-g4"), "{line}");
    for trace in ["night", "synthetic:", "synthetic:-1", "synthetic:101"] {
        let line = failure(2, &["simulate", "--device", "tensor-g4", "--trace", trace]);
        assert!(line.contains(trace) && line.contains("synthetic:0"), "{line}");
    }
    assert_eq!(power(&[]).status.code(), Some(2));
    assert_eq!(power(&["simulate", "--device", "tensor-g4"]).status.code(), Some(2));
}

#[test]
fn damaged_files_are_named_with_what_is_wrong_in_them() {
    let profile = std::fs::read_to_string(repository("autoglm-power/devices/tensor-g4.toml")).unwrap();
    for (text, word) in [
        (profile.replace("[battery]", "[battery]\ncolour = 3"), "colour"),
        (profile.replace("[idle]", "[fan]\nrpm = 1\n[idle]"), "fan"),
        (profile.replace("wh = 19.5", "wh = -1"), "battery.wh"),
        (String::new(), "battery"),
    ] {
        let (_folder, device) = written("phone.toml", &text);
        let line = failure(1, &["simulate", "--device", &device, "--trace", "synthetic"]);
        assert!(line.contains("device phone") && line.contains(word), "{line}");
    }
    let header = "t_s,event,text_tokens,visual_tokens,think_tokens,answer_tokens\n";
    for (text, words) in [
        (format!("{header}5,jump,,,,\n"), ["line 2", "jump"]),
        (header.replace("think_tokens,", "thoughts,"), ["line 1", "thoughts"]),
        (format!("{header}5,step,1,x,1,1\n"), ["line 2", "visual_tokens"]),
    ] {
        let (_folder, trace) = written("week.csv", &text);
        let line = failure(1, &["simulate", "--device", "tensor-g4", "--trace", &trace]);
        assert!(line.contains("trace week") && words.iter().all(|word| line.contains(word)), "{line}");
    }
    for (device, trace) in [("gone.toml", "synthetic"), ("tensor-g4", "no/such/day")] {
        let line = failure(1, &["simulate", "--device", device, "--trace", trace]);
        assert!(line.contains("cannot read") && (line.contains("gone.toml") || line.contains("no/such/day")), "{line}");
    }
}

#[test]
fn a_plot_is_a_picture_of_all_its_policies() {
    let folder = tempfile::tempdir().unwrap();
    let drawn = |name: &str| {
        let out = folder.path().join(name);
        let out_text = out.to_str().unwrap();
        stdout(&[
            "plot",
            "--device",
            "tensor-g4",
            "--trace",
            "synthetic:2",
            "--policy",
            "none,ours",
            "--out",
            out_text,
        ]);
        std::fs::read(out).unwrap()
    };
    let svg = String::from_utf8(drawn("a.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
    for word in [
        "tensor-g4, trace 2-a-day, air of 25 °C, seed 0",
        "modelled, not measured on a phone",
        "charge in %",
        "body in °C",
        "time in h",
        "43 °C",
        "none: empty after ",
        "ours: empty after ",
        "#000000",
        "#56B4E9",
    ] {
        assert!(svg.contains(word), "{word}");
    }
    assert!(!svg.contains("seed:"), "only the named policies are drawn");
    let png = drawn("A.PNG");
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && png.len() > 50_000, "{} bytes", png.len());
    assert_eq!(drawn("b.svg"), svg.into_bytes());
}

#[test]
fn a_picture_that_cannot_be_written_is_one_line_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let plot = ["plot", "--device", "tensor-g4", "--trace", "synthetic:0", "--out"];
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    for name in ["picture.gif", "svg", "picture"] {
        let line = failure(2, &[&plot[..], &[&at(name)]].concat());
        assert!(line.contains("ends neither in .svg nor in .png"), "{line}");
    }
    let line = failure(1, &[&plot[..], &[&at("gone/picture.svg")]].concat());
    assert!(line.contains("cannot write") && line.contains("gone/picture.svg"), "{line}");
    std::fs::create_dir(folder.path().join("folder.svg")).unwrap();
    let line = failure(1, &[&plot[..], &[&at("folder.svg")]].concat());
    assert!(line.contains("no regular file"), "{line}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["folder.svg"]);
}

/// A phone's files, as a directory that stands for its root.
fn phone() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let cpu = "sys/devices/system/cpu";
    let battery = "sys/class/power_supply/battery";
    let files: &[(&str, &str)] = &[
        (&format!("{cpu}/online"), "0-2\n"),
        (&format!("{cpu}/cpufreq/policy0/related_cpus"), "0 1\n"),
        (&format!("{cpu}/cpufreq/policy0/affected_cpus"), "0 1\n"),
        (&format!("{cpu}/cpufreq/policy0/scaling_available_frequencies"), "300000 1800000\n"),
        (&format!("{cpu}/cpufreq/policy0/scaling_max_freq"), "1800000\n"),
        (&format!("{cpu}/cpufreq/policy0/scaling_cur_freq"), "300000\n"),
        (&format!("{cpu}/cpufreq/policy2/related_cpus"), "2\n"),
        (&format!("{cpu}/cpufreq/policy2/affected_cpus"), "2\n"),
        (&format!("{cpu}/cpufreq/policy2/scaling_available_frequencies"), "500000 2900000\n"),
        (&format!("{cpu}/cpu0/cpu_capacity"), "250\n"),
        (&format!("{cpu}/cpu1/cpu_capacity"), "250\n"),
        (&format!("{cpu}/cpu2/cpu_capacity"), "1024\n"),
        ("sys/class/thermal/thermal_zone0/type", "skin-therm\n"),
        ("sys/class/thermal/thermal_zone0/temp", "36500\n"),
        (&format!("{battery}/type"), "Battery\n"),
        (&format!("{battery}/scope"), "System\n"),
        (&format!("{battery}/present"), "1\n"),
        (&format!("{battery}/status"), "Discharging\n"),
        (&format!("{battery}/capacity"), "80\n"),
        (&format!("{battery}/current_now"), "-512000\n"),
        (&format!("{battery}/voltage_now"), "3900000\n"),
    ];
    for (path, text) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    root
}

/// Every file below a directory, and what it holds.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            all.insert(path, bytes);
        }
    }
    all
}

#[test]
fn status_says_what_a_phone_tells_and_changes_nothing() {
    let root = phone();
    let before = contents(root.path());
    let path = root.path().to_str().unwrap();
    let object: serde_json::Value = serde_json::from_str(&stdout(&["status", "--json", "--root", path])).unwrap();
    assert_eq!((object["body_c"].as_f64(), object["charge"].as_f64()), (Some(36.5), Some(0.8)), "{object}");
    assert!((object["power_w"].as_f64().unwrap() - 1.9968).abs() < 1e-9, "{object}");
    assert_eq!((object["power_source"].as_str(), object["on_supply"].as_bool()), (Some("battery"), Some(false)));
    assert_eq!(object["clusters"][0]["cores"], serde_json::json!([0, 1]));
    assert_eq!(object["clusters"][0]["now_khz"], 300_000);
    assert_eq!(object["clusters"][1]["clocks_khz"], serde_json::json!([500_000, 2_900_000]));
    let lever = |name: &str| object["levers"].as_array().unwrap().iter().find(|l| l["lever"] == name).unwrap().clone();
    assert_eq!((&lever("cap")["movable"], &lever("cap")["why_not"]), (&true.into(), &serde_json::Value::Null));
    assert_eq!((&lever("fan")["movable"], &lever("fan")["why_not"]), (&false.into(), &"no file for it".into()));
    let lines = stdout(&["status", "--root", path]);
    for line in [
        "body             36.5 °C",
        "power            2.00 W, by battery",
        "cluster 0        cores 0-1: 300 to 1800 MHz in 2 clocks, now 300 MHz, capacity 250 of 1024",
        "fan              not here",
        "lever cap        can be moved, where it is asked for",
    ] {
        assert!(lines.contains(line), "{line}: {lines}");
    }
    assert_eq!(contents(root.path()), before);
}

#[test]
fn status_complains_of_what_it_cannot_read_and_succeeds() {
    let root = phone();
    let path = root.path().to_str().unwrap();
    std::fs::write(root.path().join("sys/devices/system/cpu/online"), "many\u{1b}\n").unwrap();
    std::fs::write(root.path().join("sys/class/power_supply/battery/capacity"), "full\n").unwrap();
    let lines = stdout(&["status", "--root", path]);
    assert!(lines.contains("clusters         not here") && !lines.contains('\u{1b}'), "{lines}");
    assert!(lines.lines().filter(|line| line.starts_with("complaint  ")).count() >= 2, "{lines}");
}

#[test]
fn status_runs_wherever_these_tests_do_and_in_an_empty_root() {
    let empty = tempfile::tempdir().unwrap();
    for args in [&["status"][..], &["status", "--json"], &["status", "--root", empty.path().to_str().unwrap()]] {
        assert!(stdout(args).contains("junction"));
    }
    let line = failure(1, &["status", "--root", "no/such/root"]);
    assert!(line.contains("cannot read no/such/root"), "{line}");
}
