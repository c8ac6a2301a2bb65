//! Journals that are whole, cut short, damaged, hostile, or of another boot.

use super::*;

const BOOT: &str = "0f4c0ac4-5d2c-4f4b-9d54-6f3f0b1d2c3a";

fn journal(folder: &Path, boot: &str) -> Journal {
    Journal::hold(folder.join("knobs"), Some(boot.to_owned())).unwrap()
}

fn entries() -> Vec<Entry> {
    let entry = |knob, original: &str, asked: &str, found: Option<&str>| Entry {
        knob,
        original: original.to_owned(),
        asked: asked.to_owned(),
        found: found.map(str::to_owned),
    };
    vec![
        entry(Knob::Cap { policy: 4 }, "2253000", "1197000", Some("1197000")),
        entry(Knob::Governor { policy: 0 }, "sched_pixel", "powersave", Some("powersave")),
        entry(Knob::FanMode { hwmon: 0, channel: 1 }, "2", "1", None),
    ]
}

fn with(lines: &[&str]) -> Vec<u8> {
    let before = format!("{FIRST}\nboot {BOOT}\n{}", lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    let end = end(&before, lines.len());
    (before + &end).into_bytes()
}

#[test]
fn what_was_kept_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let first = journal(folder.path(), BOOT);
    first.keep(&entries()).unwrap();
    assert_eq!(first.left().unwrap(), entries());
    drop(first);
    let next = journal(folder.path(), BOOT);
    assert_eq!(next.left().unwrap(), entries());
    next.keep(&[]).unwrap();
    assert_eq!(next.left().unwrap(), []);
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["knobs.lock"]);
}

#[test]
fn a_journal_of_another_boot_says_nothing_even_if_it_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    journal(folder.path(), BOOT).keep(&entries()).unwrap();
    let other = journal(folder.path(), "11111111-5d2c-4f4b-9d54-6f3f0b1d2c3a");
    assert_eq!(other.left().unwrap(), []);
    std::fs::write(folder.path().join("knobs"), format!("{FIRST}\nboot {BOOT}\nsys/class/the")).unwrap();
    assert_eq!(other.left().unwrap(), []);
    drop(other);
    assert!(journal(folder.path(), BOOT).left().is_err());
}

#[test]
fn a_journal_cut_short_anywhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let journal = journal(folder.path(), BOOT);
    let whole = journal.text(&entries());
    assert_eq!(journal.parse(whole.as_bytes()).unwrap(), entries());
    for bytes in 0..whole.len() {
        let error = journal.parse(&whole.as_bytes()[..bytes]).unwrap_err();
        assert!(matches!(error, Error::Journal { .. }), "{bytes}: {error}");
    }
}

#[test]
fn a_journal_with_any_byte_changed_is_refused_or_of_another_boot() {
    let folder = tempfile::tempdir().unwrap();
    let journal = journal(folder.path(), BOOT);
    let whole = journal.text(&entries()).into_bytes();
    for idx in 0..whole.len() {
        for changed in [b'0', b' ', b'\n', 0xff, whole[idx] ^ 1] {
            let mut bytes = whole.clone();
            bytes[idx] = changed;
            match journal.parse(&bytes) {
                _ if bytes == whole => {}
                Ok(entries) => assert_eq!(entries, [], "byte {idx}"),
                Err(error) => assert!(matches!(error, Error::Journal { .. }), "{error}"),
            }
        }
    }
}

#[test]
fn hostile_lines_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let journal = journal(folder.path(), BOOT);
    let cap = "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq";
    let long = format!("{cap} 1 2 {}", "9".repeat(5000));
    let twice = format!("{cap} 1 2 2");
    for (lines, at) in [
        (vec!["etc/passwd root 0 0"], 3),
        (vec!["sys/devices/system/cpu/cpufreq/policy0/../../../../../../etc/scaling_max_freq 1 2 2"], 3),
        (vec!["/sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq 1 2 2"], 3),
        (vec!["sys/devices/system/cpu/cpufreq/policy99999999999/scaling_max_freq 1 2 2"], 3),
        (vec![twice.as_str(), twice.as_str()], 4),
        (vec![long.as_str()], 3),
        (vec!["sys/class/hwmon/hwmon0/pwm1 256 1 1"], 3),
        (vec!["sys/class/hwmon/hwmon0/pwm1 1 1"], 3),
        (vec!["sys/class/hwmon/hwmon0/pwm1  1 1"], 3),
        (vec!["sys/devices/system/cpu/cpufreq/policy0/scaling_governor ../x performance -"], 3),
        (vec![""], 3),
    ] {
        match journal.parse(&with(&lines)).unwrap_err() {
            Error::Journal { line, got, .. } => {
                assert_eq!(line, at);
                assert!(lines[at - 3].starts_with(got.trim_end()), "{got}");
            }
            error => panic!("{error}"),
        }
    }
}

#[test]
fn a_journal_that_is_too_large_or_no_journal_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let journal = journal(folder.path(), BOOT);
    for bytes in [
        vec![b'x'; 1 << 20],
        b"".to_vec(),
        b"autoglm knobs 2\n".to_vec(),
        b"autoglm knobs 1\nboot /../\nend 0 0\n".to_vec(),
        vec![0xff, 0xfe],
        vec![0; 4096],
    ] {
        std::fs::write(folder.path().join("knobs"), bytes).unwrap();
        assert!(matches!(journal.left().unwrap_err(), Error::Journal { .. }));
    }
}

#[test]
fn a_link_in_the_way_is_replaced_and_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let victim = folder.path().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    #[cfg(unix)]
    for name in ["knobs", "knobs.unfinished"] {
        std::os::unix::fs::symlink(&victim, folder.path().join(name)).unwrap();
    }
    journal(folder.path(), BOOT).keep(&entries()).unwrap();
    assert_eq!(std::fs::read_to_string(victim).unwrap(), "precious");
}

#[test]
fn one_process_at_a_time_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let first = journal(folder.path(), BOOT);
    let second = Journal::hold(folder.path().join("knobs"), None);
    assert!(matches!(second.unwrap_err(), Error::Busy { .. }));
    drop(first);
    journal(folder.path(), BOOT);
}
