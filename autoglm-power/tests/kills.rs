//! A process that is killed, told to end, or aborts while it changes files of the kernel leaves none of them changed:
//! after `SIGKILL` the next one puts them back, after the others they are back when it has ended.
//!
//! `AUTOGLM_KILLS` says how often it is killed, ten times otherwise. The processes are this test itself, told by the
//! environment what to do.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "all of it is a test, whose files and processes are its own")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use autoglm_power::levers::Knobs;
use autoglm_power::{Error, Tree};

/// What the child does, and where; set for children alone.
const ROLE: &str = "AUTOGLM_KNOBS_ROLE";
const FOLDER: &str = "AUTOGLM_KNOBS_FOLDER";

/// What a child says when its first knobs are turned.
const READY: &str = "knobs are turned";

/// The test that becomes whatever [`ROLE`] says.
const CHILD: &str = "a_killed_process_leaves_no_knob_changed";

/// Kills that a test has time for.
const KILLS: u32 = 10;

const FILES: [(&str, &str); 9] = [
    ("proc/sys/kernel/random/boot_id", "0f4c0ac4-5d2c-4f4b-9d54-6f3f0b1d2c3a"),
    ("sys/devices/system/cpu/cpufreq/policy0/cpuinfo_min_freq", "300000"),
    ("sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq", "1803000"),
    ("sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq", "1803000"),
    ("sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "schedutil"),
    ("sys/devices/system/cpu/cpufreq/policy0/scaling_available_governors", "schedutil powersave performance"),
    ("sys/class/thermal/cooling_device0/max_state", "10"),
    ("sys/class/thermal/cooling_device0/cur_state", "0"),
    ("sys/class/hwmon/hwmon2/pwm1_enable", "2"),
];
const FAN: (&str, &str) = ("sys/class/hwmon/hwmon2/pwm1", "80");

struct Device {
    folder: tempfile::TempDir,
}

impl Device {
    fn new() -> Self {
        let device = Self { folder: tempfile::tempdir().unwrap() };
        for (path, text) in FILES.into_iter().chain([FAN]) {
            let path = device.tree().path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{text}\n")).unwrap();
        }
        device
    }

    fn tree(&self) -> Tree {
        Tree::new(self.folder.path().join("root"))
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("knobs")
    }

    /// Files that do not hold what they held at first.
    fn changed(&self) -> Vec<&'static str> {
        let is_changed = |(path, text): &(&str, &str)| self.tree().text(path).unwrap().as_deref() != Some(*text);
        FILES.into_iter().chain([FAN]).filter(is_changed).map(|(path, _)| path).collect()
    }

    /// What lies beside the files, apart from the lock.
    fn left(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let names = names.map(|name| name.into_string().unwrap());
        names.filter(|name| name != "root" && name != "knobs.lock").collect()
    }

    /// A process that has turned knobs.
    fn child(&self, role: &str) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", CHILD, "--nocapture"]);
        self.start(command, role)
    }

    fn start(&self, mut command: Command, role: &str) -> Child {
        command.env(ROLE, role).env(FOLDER, self.folder.path()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with(READY)), "a child that turns no knobs");
        child
    }
}

/// What children do.
fn play(role: &str, folder: &Path) -> ! {
    let (tree, journal) = (Tree::new(folder.join("root")), folder.join("knobs"));
    let mut rng = fastrand::Rng::new();
    let mut out = std::io::stdout();
    let open = || Knobs::open(tree.clone(), &journal).expect("nobody else");
    let turn = |knobs: &Knobs, rng: &mut fastrand::Rng| match rng.u32(0..6) {
        0 | 1 => knobs.cap(0, rng.u32(300_000..1_803_000)).expect("a clock"),
        2 => knobs.governor(0, ["powersave", "performance"][rng.usize(0..2)]).expect("a governor"),
        3 => knobs.cool(0, rng.u32(1..10)).expect("a state"),
        4 => knobs.fan(2, 1, rng.u8(..)).expect("a speed"),
        _ => knobs.changed().into_iter().for_each(|knob| knobs.put_back(knob)),
    };
    let mut say = || writeln!(out, "\n{READY}").and_then(|()| out.flush()).expect("a parent that listens");
    match role {
        "turn" | "turn and listen" => {
            let mut said = false;
            loop {
                let knobs = open();
                if role == "turn and listen" {
                    knobs.restore_on_signals().expect("signals");
                }
                knobs.fan(2, 1, 255).expect("a speed");
                if !said {
                    say();
                    said = true;
                }
                (0..rng.u32(0..12)).for_each(|_| turn(&knobs, &mut rng));
            }
        }
        "hold" => {
            let knobs = open();
            (0..12).for_each(|_| turn(&knobs, &mut rng));
            knobs.fan(2, 1, 255).expect("a speed");
            say();
            loop {
                std::thread::park();
            }
        }
        "handle" => {
            let told = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&told)).expect("a handler");
            let knobs = open();
            knobs.restore_on_signals().expect("signals");
            knobs.fan(2, 1, 255).expect("a speed");
            say();
            while !told.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(!knobs.changed().is_empty(), "knobs are put back while they are used");
            drop(knobs);
            std::process::exit(7);
        }
        "abort" => {
            extern "C" fn in_the_middle() {
                panic!("where nothing unwinds");
            }
            let knobs = open();
            knobs.restore_on_panic();
            knobs.fan(2, 1, 255).expect("a speed");
            say();
            in_the_middle();
            unreachable!("a panic that cannot unwind aborts");
        }
        role => unreachable!("{role}"),
    }
}

fn kill(signal: &str, child: &mut Child) -> ExitStatus {
    let told = Command::new("sh").args(["-c", &format!("kill -{signal} {}", child.id())]).status().unwrap();
    assert!(told.success());
    child.wait().unwrap()
}

#[test]
fn a_killed_process_leaves_no_knob_changed() {
    if let Some(role) = std::env::var_os(ROLE) {
        play(role.to_str().unwrap(), Path::new(&std::env::var_os(FOLDER).unwrap()));
    }
    let kills = std::env::var("AUTOGLM_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number"));
    let device = Device::new();
    let (mut changed, mut unfinished) = (0, 0);
    for kill in 0..kills {
        let mut child = device.child("turn");
        std::thread::sleep(Duration::from_micros(fastrand::u64(..30_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        changed += u32::from(!device.changed().is_empty());
        unfinished += u32::from(device.left().iter().any(|name| name.ends_with("unfinished")));
        // The next process comes at once, or is killed as well.
        if kill % 3 != 1 || kill + 1 == kills {
            let knobs = Knobs::open(device.tree(), device.journal()).unwrap();
            assert_eq!(device.changed(), [""; 0], "kill {kill}");
            assert_eq!((knobs.changed(), knobs.take_complaints()), (vec![], vec![]), "kill {kill}");
            assert_eq!(device.left(), [""; 0], "kill {kill}");
        }
    }
    println!("{kills} kills, {changed} with knobs changed, {unfinished} in the middle of a journal");
    assert!(changed > 0, "no kill found a knob changed");
}

/// Whether this process, and so its children, ignores a signal.
fn is_ignored(number: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (number - 1) & 1 == 1
}

#[test]
fn a_process_that_is_told_to_end_puts_everything_back_and_ends_so() {
    // Whoever runs this may ignore some, as `nohup` and shells with jobs in the background do; a child then ignores them, too.
    let signals = [("TERM", 15), ("INT", 2), ("HUP", 1), ("TERM", 15), ("INT", 2)];
    for (name, number) in signals.into_iter().filter(|(_, number)| !is_ignored(*number)) {
        let device = Device::new();
        let mut child = device.child("turn and listen");
        std::thread::sleep(Duration::from_micros(fastrand::u64(..10_000)));
        assert_eq!(kill(name, &mut child).signal(), Some(number));
        assert_eq!((device.changed(), device.left()), (vec![], vec![]), "{name}");
    }
}

#[test]
fn a_signal_that_is_ignored_stays_so() {
    let device = Device::new();
    let mut command = Command::new("sh");
    let this = std::env::current_exe().unwrap();
    command.args(["-c", "trap '' HUP; exec \"$0\" --exact \"$1\" --nocapture"]).arg(this).arg(CHILD);
    let mut child = device.start(command, "turn and listen");
    let told = Command::new("sh").args(["-c", &format!("kill -HUP {}", child.id())]).status().unwrap();
    assert!(told.success());
    std::thread::sleep(Duration::from_millis(50));
    assert!(child.try_wait().unwrap().is_none(), "it has ended");
    assert_eq!(kill("TERM", &mut child).signal(), Some(15));
    assert_eq!((device.changed(), device.left()), (vec![], vec![]));
}

#[test]
fn a_signal_that_somebody_handles_is_theirs() {
    let device = Device::new();
    assert_eq!(kill("TERM", &mut device.child("handle")).code(), Some(7));
    assert_eq!((device.changed(), device.left()), (vec![], vec![]));
}

#[test]
fn a_process_that_aborts_in_a_panic_puts_everything_back() {
    let device = Device::new();
    let status = device.child("abort").wait().unwrap();
    assert_eq!(status.signal(), Some(6));
    assert_eq!((device.changed(), device.left()), (vec![], vec![]));
}

#[test]
fn a_second_process_waits_for_the_death_of_the_first() {
    let device = Device::new();
    let mut child = device.child("hold");
    let changed = device.changed();
    assert!(!changed.is_empty());
    for _ in 0..3 {
        assert!(matches!(Knobs::open(device.tree(), device.journal()), Err(Error::Busy { .. })));
        assert_eq!(device.changed(), changed);
    }
    assert_eq!(kill("KILL", &mut child).signal(), Some(9));
    let knobs = Knobs::open(device.tree(), device.journal()).unwrap();
    assert_eq!(device.changed(), [""; 0]);
    knobs.cap(0, 300_000).unwrap();
    drop(knobs);
    assert_eq!((device.changed(), device.left()), (vec![], vec![]));
}
