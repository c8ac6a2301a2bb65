//! A conductor on a phone of files and threads that are only numbers.

use std::io::ErrorKind;

use super::*;
use crate::Share;
use crate::levers::Obstacle;
use crate::levers::tests::phone::{CLOCKS, Phone};
use crate::levers::tests::scheduler::Scheduler;
use crate::sensors::PowerSource;

const TIDS: [i32; 4] = [11, 12, 13, 14];

/// A phone in the hand, on its battery, and somebody who plays the seconds to its conductor.
struct Stage {
    phone: Phone,
    scheduler: Scheduler,
    conductor: Conductor,
    second: u64,
    skin_c: f64,
    big_c: f64,
    watts: f64,
}

impl Stage {
    fn new() -> Self {
        let (phone, scheduler) = (Phone::new(), Scheduler::new(&TIDS));
        let levers = Levers::probe_with(&phone.tree, &Phone::topology(), Box::new(scheduler.clone()));
        let conductor = Conductor::new(phone.tree.clone(), Phone::topology(), levers, Limits::default());
        let stage = Self { phone, scheduler, conductor, second: 0, skin_c: 30.0, big_c: 45.0, watts: 4.0 };
        for (file, text) in [("type", "Battery"), ("status", "Discharging"), ("capacity", "50")] {
            stage.phone.lay(&format!("sys/class/power_supply/battery/{file}"), text);
        }
        stage.phone.lay("sys/class/thermal/thermal_zone0/type", "VIRTUAL-SKIN");
        stage.phone.lay("sys/class/thermal/thermal_zone1/type", "BIG");
        stage.sense();
        stage
    }

    /// Lays what sensors say, moved a little as theirs are that live.
    fn sense(&self) {
        let noise = (self.second % 3) as i64 * 100;
        for (zone, celsius) in [self.skin_c, self.big_c].iter().enumerate() {
            let temp = (celsius * 1e3) as i64 + noise;
            self.phone.lay(&format!("sys/class/thermal/thermal_zone{zone}/temp"), &temp.to_string());
        }
        self.phone.lay("sys/class/power_supply/battery/power_now", &((self.watts * 1e6) as i64).to_string());
    }

    /// The clocks that a device has which does as it was asked, scaled.
    fn clocks(&self, on: &Configuration, scale: f64) {
        for (idx, first) in [0, 4, 6].iter().enumerate() {
            let khz = f64::from(CLOCKS[idx][on.shares[idx].clock.min(2)]) * scale;
            self.phone.lay(&format!("sys/devices/system/cpu/cpufreq/policy{first}/scaling_cur_freq"), &khz.to_string());
        }
    }

    fn now(&self) -> Duration {
        Duration::from_secs(self.second)
    }

    fn tick(&mut self, phase: Phase, work: f64) -> Tick {
        self.second += 1;
        self.sense();
        let progress = Progress { phase, work, seconds: 1.0, threads: &TIDS };
        self.conductor.tick(self.now(), &progress)
    }

    /// Computes for so many seconds on a device that grants what it is asked for, as fast as cores and clocks are.
    fn compute(&mut self, seconds: usize) -> Tick {
        let mut last = self.tick(Phase::Compute, 0.0);
        for _ in 0..seconds {
            self.clocks(&last.configuration, 1.0);
            last = self.tick(Phase::Compute, rate(&last.configuration));
        }
        last
    }
}

/// What a configuration of the phone computes in a second.
fn rate(on: &Configuration) -> f64 {
    let of = |(idx, share): (usize, &Share)| {
        let capacity = [160.0, 500.0, 1024.0][idx] / f64::from(CLOCKS[idx][2]);
        share.cores as f64 * f64::from(CLOCKS[idx][share.clock]) * capacity
    };
    on.shares.iter().enumerate().map(of).sum()
}

#[test]
fn a_request_moves_threads_and_its_end_puts_them_back() {
    let mut stage = Stage::new();
    let (threads, files) = (stage.scheduler.state(), stage.phone.texts());
    stage.conductor.begin(stage.now());
    let tick = stage.tick(Phase::Compute, 0.0);
    assert_eq!((tick.threads(), tick.applied.pinned), (tick.configuration.threads(), 4));
    assert_eq!(stage.scheduler.of(11).0, [6, 7]);
    stage.conductor.pause();
    assert_eq!(stage.scheduler.state(), threads);
    stage.tick(Phase::Decode, 10.0);
    assert_ne!(stage.scheduler.state(), threads);
    let energy = stage.conductor.end(stage.now(), &Computed::default()).unwrap();
    assert_eq!((energy.source, energy.joules), (PowerSource::Battery, 4.0 * 2.0));
    assert_eq!((stage.scheduler.state(), stage.phone.texts()), (threads.clone(), files));
    assert_eq!(stage.conductor.end(stage.now(), &Computed::default()), None, "it is over");
    // One that is dropped while it computes.
    stage.tick(Phase::Decode, 10.0);
    assert_ne!(stage.scheduler.state(), threads);
    let Stage { conductor, scheduler, .. } = stage;
    drop(conductor);
    assert_eq!(scheduler.state(), threads);
}

#[test]
fn heat_takes_cores_or_clocks_away() {
    let mut stage = Stage::new();
    stage.watts = 2.0;
    let cool = stage.compute(120);
    assert!(!cool.throttling, "{cool:?}");
    stage.skin_c = 47.0;
    stage.watts = 6.0;
    stage.big_c = 70.0;
    // A body is warm for minutes: the clocks follow it once in a while.
    let warm = stage.compute(240);
    assert!(warm.throttling, "{warm:?}");
    // At the trip nothing but the lowest clocks is left.
    stage.big_c = 80.0;
    let hot = stage.compute(10);
    let lowest = hot.configuration.shares.iter().all(|share| share.cores == 0 || share.clock == 0);
    assert!(lowest && rate(&hot.configuration) <= rate(&warm.configuration), "{hot:?} after {warm:?}");
    assert!(hot.applied.holds.contains(&Hold::By(Lever::Clamp)), "{hot:?}");
}

#[test]
fn what_ran_at_other_clocks_than_asked_for_teaches_nothing() {
    // The same seconds on a device that grants 60 % of what it is asked for, and says so or does not.
    let learned = |scale: f64, tells: bool| {
        let mut stage = Stage::new();
        let mut last = stage.tick(Phase::Compute, 0.0);
        for _ in 0..40 {
            if tells {
                stage.clocks(&last.configuration, scale);
            }
            last = stage.tick(Phase::Compute, scale * rate(&last.configuration));
        }
        let selector = stage.conductor.regulator.selector();
        selector.curve().point(selector.reference(), Phase::Compute).rate
    };
    let untaught = Stage::new().conductor.regulator.selector().clone();
    let untaught = untaught.curve().point(untaught.reference(), Phase::Compute).rate;
    let whole = learned(1.0, true);
    assert!((whole / rate(&Configuration::big_cores(&Phone::topology())) - 1.0).abs() < 0.2, "{whole}");
    assert_eq!(learned(0.6, true), untaught);
    assert!(learned(0.6, false) != untaught);
}

#[test]
fn clamps_that_clocks_do_not_heed_are_given_up_where_caps_are_open() {
    let mut stage = Stage::new();
    let journal = stage.phone.journal();
    stage.conductor = stage.conductor.with_knobs(journal);
    stage.big_c = 80.0;
    for _ in 0..10 {
        stage.clocks(&Configuration::highest(&Phone::topology()), 1.0);
        stage.tick(Phase::Compute, 100.0);
    }
    let hot = stage.tick(Phase::Compute, 100.0);
    assert!(hot.applied.holds.contains(&Hold::By(Lever::Cap)), "{hot:?}");
    let told: Vec<String> = stage.conductor.take_complaints().iter().map(ToString::to_string).collect();
    assert_eq!(told, [Complaint::Lever { lever: Lever::Clamp, obstacle: Obstacle::NoEffect }.to_string()]);
}

#[test]
fn a_container_without_clusters_limits_nothing_and_tells_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let tree = Tree::new(folder.path());
    let scheduler = Scheduler::new(&[]);
    scheduler.mute();
    scheduler.without_clamps(ErrorKind::PermissionDenied);
    let topology = Topology::read(&tree).unwrap();
    let levers = Levers::probe_with(&tree, &topology, Box::new(scheduler));
    let mut conductor = Conductor::new(tree, topology, levers, Limits::default());
    for second in 0..40 {
        let phase = if second % 2 == 0 { Phase::Compute } else { Phase::Decode };
        let progress = Progress { phase, work: 5.0, seconds: 1.0, threads: &[] };
        let tick = conductor.tick(Duration::from_secs(second), &progress);
        assert_eq!((tick.threads(), tick.throttling), (0, false), "{tick:?}");
    }
    assert_eq!(conductor.end(Duration::from_secs(40), &Computed::default()), None);
    assert_eq!(conductor.left(Duration::from_secs(41)), Left::default());
}

#[test]
fn without_clocks_only_cores_are_chosen() {
    let stage = Stage::new();
    let topology =
        Topology { clusters: vec![crate::Cluster { cores: (0..8).collect(), clocks_khz: vec![], capacity: None }] };
    let levers = Levers::probe_with(&stage.phone.tree, &topology, Box::new(stage.scheduler.clone()));
    let mut conductor = Conductor::new(stage.phone.tree.clone(), topology, levers, Limits::default());
    let mut seen = Vec::new();
    for second in 0..60 {
        let progress = Progress { phase: Phase::Compute, work: 5.0, seconds: 1.0, threads: &TIDS };
        let tick = conductor.tick(Duration::from_secs(second), &progress);
        assert!(tick.applied.holds == [Hold::Free] && tick.applied.pinned == 4, "{tick:?}");
        seen.push(tick.threads());
    }
    assert!(seen.iter().all(|threads| [4, 8].contains(threads)), "{seen:?}");
}

#[test]
fn what_is_left_is_told_and_spent() {
    let mut stage = Stage::new();
    stage.conductor = stage.conductor.with_budget(Budgeter::new(f64::INFINITY, f64::INFINITY, 80.0));
    assert_eq!(stage.conductor.left(stage.now()), Left { charge: Some(0.5), budget: Some(1.0) });
    stage.compute(9);
    stage.conductor.end(stage.now(), &Computed { text_tokens: 30, new_tokens: 20, ..Computed::default() }).unwrap();
    assert_eq!(stage.conductor.left(stage.now()).budget, Some(1.0 - 36.0 / 80.0));
    stage.phone.lay("sys/class/power_supply/battery/status", "Charging");
    let later = stage.now() + FRESH;
    assert_eq!(stage.conductor.left(later).charge, None, "on a supply nothing is scarce");
}

#[test]
fn a_task_has_a_budget_of_its_own() {
    let mut stage = Stage::new();
    stage.conductor = stage.conductor.with_budget(Budgeter::new(f64::INFINITY, 80.0, f64::INFINITY));
    stage.compute(9);
    stage.conductor.end(stage.now(), &Computed::default()).unwrap();
    assert_eq!(stage.conductor.left(stage.now()).budget, Some(1.0 - 36.0 / 80.0));
    stage.conductor.begin_task();
    assert_eq!(stage.conductor.left(stage.now()).budget, Some(1.0));
}

#[test]
fn the_dearer_a_wake_is_the_later_weights_go() {
    let rests_after = |power: bool, took: Option<u64>| {
        let mut stage = Stage::new();
        if !power {
            stage.conductor = {
                let levers = Levers::probe(&Tree::new("nowhere"), &Topology::default());
                Conductor::new(Tree::new("nowhere"), Topology::default(), levers, Limits::default())
            };
        }
        stage.conductor.begin(stage.now());
        if let Some(took) = took {
            stage.conductor.woke(Duration::from_secs(took));
        }
        stage.tick(Phase::Compute, 0.0);
        stage.conductor.end(stage.now(), &Computed::default());
        // Those of a request that woke nothing are what they were.
        stage.tick(Phase::Compute, 0.0);
        stage.conductor.end(stage.now(), &Computed::default());
        stage.conductor.rests_after_s()
    };
    let guessed = rests_after(true, None);
    let all = [1, 2, 5, 20, 60].map(|took| rests_after(true, Some(took)));
    assert!(all.is_sorted() && all[0] <= guessed && all[3] > 2.0 * guessed, "{all:?} {guessed}");
    assert_eq!(rests_after(false, Some(20)), rests_after(false, None), "nobody tells what it cost");
}

#[test]
fn gaps_are_learned_and_a_picture_before_its_reply_is_none() {
    let mut stage = Stage::new();
    let before = stage.conductor.rests_after_s();
    for _ in 0..20 {
        stage.tick(Phase::Compute, 1.0);
        stage.conductor.end(stage.now(), &Computed::default());
        stage.conductor.begin(stage.now());
        stage.tick(Phase::Decode, 1.0);
        stage.conductor.end(stage.now(), &Computed::default());
        stage.second += 20;
    }
    let after = stage.conductor.rests_after_s();
    assert!(before < 20.0 && after > 20.0, "{before} {after}");
}
