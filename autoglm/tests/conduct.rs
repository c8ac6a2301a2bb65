//! A model with a conductor, on phones of files: what it changes, what it must not, and that it does nothing while nothing is asked.
#![cfg(feature = "power")]
#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use autoglm::power::control::{Budgeter, Limits};
use autoglm::power::levers::{Levers, Threads};
use autoglm::power::{Conductor, Topology, Tree};
use autoglm::{
    Conducted, Error, Generate, Model, OpenOptions, Outlook, Part, Precision, Session, Stats, Thinking, Tier, TokenId,
};

const WORKERS: usize = 3;

fn model() -> Model {
    Model::open_embedded(autoglm_tiny::FILES, &OpenOptions::default().threads(WORKERS)).unwrap()
}

/// Waits for what must come soon, and not for ever.
fn soon(mut what: impl FnMut() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < Duration::from_secs(30), "it never came");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn ask(session: &mut Session) -> (Vec<TokenId>, Stats) {
    session.push(Part::text("go back")).unwrap();
    let mut reply = session.reply(Generate::default().thinking(Thinking::Skipped).max_new_tokens(48)).unwrap();
    reply.by_ref().for_each(|piece| assert!(piece.is_ok()));
    (reply.tokens().to_vec(), reply.stats())
}

/// A scheduler of threads that are only numbers: where each may run.
#[derive(Debug, Clone, Default)]
struct Scheduler(Arc<Mutex<BTreeMap<i32, Vec<usize>>>>);

const ALL: [usize; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

impl Scheduler {
    /// Threads that may not run everywhere.
    fn pinned(&self) -> usize {
        self.0.lock().unwrap().values().filter(|cores| **cores != ALL).count()
    }
}

impl Threads for Scheduler {
    fn own(&self) -> i32 {
        1
    }

    fn affinity(&self, tid: i32) -> io::Result<Vec<usize>> {
        Ok(self.0.lock().unwrap().get(&tid).cloned().unwrap_or_else(|| ALL.to_vec()))
    }

    fn pin(&mut self, tid: i32, cores: &[usize]) -> io::Result<()> {
        self.0.lock().unwrap().insert(tid, cores.to_vec());
        Ok(())
    }

    fn can_clamp(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn clamp(&self, _: i32) -> io::Result<u32> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_clamp(&mut self, _: i32, _: Option<u32>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

fn lay(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A phone of two clusters that is too hot for more than one core, on its battery.
fn phone(folder: &Path) -> (Conductor, Scheduler) {
    lay(folder, "sys/devices/system/cpu/online", "0-7");
    for (first, cores, clocks) in [(0, "0 1 2 3", "300000 900000 1800000"), (4, "4 5 6 7", "500000 1500000 2800000")] {
        let of = |file: &str| format!("sys/devices/system/cpu/cpufreq/policy{first}/{file}");
        lay(folder, &of("affected_cpus"), cores);
        lay(folder, &of("related_cpus"), cores);
        lay(folder, &of("scaling_available_frequencies"), clocks);
    }
    for (zone, kind, temp) in [(0, "VIRTUAL-SKIN", "47000"), (1, "BIG", "90000")] {
        lay(folder, &format!("sys/class/thermal/thermal_zone{zone}/type"), kind);
        lay(folder, &format!("sys/class/thermal/thermal_zone{zone}/temp"), temp);
    }
    let battery = [("type", "Battery"), ("status", "Discharging"), ("capacity", "10"), ("power_now", "4000000")];
    battery.iter().for_each(|(file, text)| lay(folder, &format!("sys/class/power_supply/battery/{file}"), text));
    // Whichever pool the model's workers are of.
    for pool in 0..200 {
        for worker in 1..WORKERS {
            lay(
                folder,
                &format!("proc/self/task/{}/comm", 1000 + 10 * pool + worker),
                &format!("autoglm{pool}-{worker}"),
            );
        }
    }
    let (tree, scheduler) = (Tree::new(folder), Scheduler::default());
    let topology = Topology::read(&tree).unwrap();
    let levers = Levers::probe_with(&tree, &topology, Box::new(scheduler.clone()));
    (Conductor::new(tree, topology, levers, Limits::default()), scheduler)
}

/// A device that tells nothing at all.
fn nothing(folder: &Path) -> Conductor {
    let tree = Tree::new(folder);
    let levers = Levers::probe_with(&tree, &Topology::default(), Box::new(Scheduler::default()));
    Conductor::new(tree, Topology::default(), levers, Limits::default())
}

/// Asks until the conductor ticks in the middle of a reply, and lets `act` be there before it goes on. → all of its tokens.
fn amid(model: &Model, act: impl Fn()) -> Vec<TokenId> {
    let mut all = None;
    soon(|| {
        let mut session = model.session();
        session.push(Part::text("go back")).unwrap();
        let mut reply = session.reply(Generate::default().thinking(Thinking::Skipped).max_new_tokens(48)).unwrap();
        reply.next().unwrap().unwrap();
        // The thread has been called by now, or is within a second of its next tick.
        let until = Instant::now() + Duration::from_millis(50);
        while Instant::now() < until && model.conducted().unwrap().threads == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let ticked = model.conducted().unwrap().threads > 0;
        if ticked {
            act();
        }
        reply.by_ref().for_each(|piece| assert!(piece.is_ok()));
        all = Some(reply.tokens().to_vec());
        ticked
    });
    all.unwrap()
}

#[test]
fn answers_are_the_same_to_the_bit_on_fewer_threads() {
    let folder = tempfile::tempdir().unwrap();
    let logits = |model: &Model| {
        let ids: Vec<TokenId> = (0..40).map(|i| TokenId(i * 7 % 100)).collect();
        let none = || std::iter::empty::<Result<Vec<u8>, Error>>().collect::<Vec<_>>().into_iter();
        let mut bits = Vec::new();
        let mut prompt = model.prompt(&ids, none(), none()).unwrap();
        let take = |row: &[f32]| {
            bits.extend(row.iter().map(|x| x.to_bits()));
            Ok::<_, Error>(())
        };
        prompt.logits(take).unwrap();
        bits
    };
    let plain = model();
    let (tokens, _) = ask(&mut plain.session());
    let bits = logits(&plain);
    let model = model();
    let (conductor, scheduler) = phone(folder.path());
    model.conduct(conductor).unwrap();
    let conducted = amid(&model, || {
        assert!(model.conducted().unwrap().threads < WORKERS, "{:?}", model.conducted());
        assert!(scheduler.pinned() >= WORKERS - 1);
        assert_eq!(logits(&model), bits);
    });
    assert_eq!(conducted, tokens);
    assert_eq!((model.conducted().unwrap().threads, scheduler.pinned()), (0, 0), "put back at its end");
}

#[test]
fn who_steps_down_amid_a_reply_puts_everything_back() {
    let folder = tempfile::tempdir().unwrap();
    let model = model();
    for how in 0..2 {
        let (conductor, scheduler) = phone(folder.path());
        model.conduct(conductor).unwrap();
        let mut session = model.session();
        session.push(Part::text("go back")).unwrap();
        let mut reply = session.reply(Generate::default().thinking(Thinking::Skipped).max_new_tokens(48)).unwrap();
        reply.next().unwrap().unwrap();
        soon(|| scheduler.pinned() > 0);
        soon(|| scheduler.pinned() == 0);
        let next = (how == 1).then(|| nothing(folder.path()));
        model.conduct(next).unwrap();
        assert_eq!(scheduler.pinned(), 0);
        assert_eq!(model.conducted().is_some(), how == 1);
        reply.by_ref().for_each(|piece| assert!(piece.is_ok()));
        assert_eq!(reply.stats().energy_j, None, "nobody saw it to its end");
    }
    let (conductor, scheduler) = phone(folder.path());
    model.conduct(conductor).unwrap();
    amid(&model, || {
        assert!(scheduler.pinned() > 0);
        model.conduct(None).unwrap();
        assert_eq!(scheduler.pinned(), 0);
        // The loop that asks wants one.
        model.conduct(nothing(folder.path())).unwrap();
    });
}

#[test]
fn nothing_ticks_while_nothing_is_computed() {
    let folder = tempfile::tempdir().unwrap();
    let model = model();
    model.conduct(phone(folder.path()).0).unwrap();
    let ticks = || model.conducted().unwrap().ticks;
    std::thread::sleep(Duration::from_millis(1_200));
    assert_eq!(ticks(), 0);
    let start = Instant::now();
    let mut session = model.session();
    while start.elapsed() < Duration::from_millis(3_500) {
        ask(&mut session);
        session = model.session();
    }
    let seen = ticks();
    assert!((1..=start.elapsed().as_secs() + 1).contains(&seen), "{seen}");
    // A reply that nobody pulls is no work either.
    session.push(Part::text("go back")).unwrap();
    let mut reply = session.reply(Generate::default()).unwrap();
    reply.next().unwrap().unwrap();
    std::thread::sleep(Duration::from_millis(1_200));
    let seen = ticks();
    std::thread::sleep(Duration::from_millis(2_200));
    assert_eq!(ticks(), seen);
    drop(reply);
    std::thread::sleep(Duration::from_millis(1_200));
    assert_eq!(ticks(), seen);
}

#[test]
fn it_sleeps_after_what_the_idle_manager_says_and_wakes() {
    let folder = tempfile::tempdir().unwrap();
    let model = model();
    model.conduct(nothing(folder.path())).unwrap();
    let mut session = model.session();
    let (first, _) = ask(&mut session);
    let Conducted { rests_after, .. } = model.conducted().unwrap();
    let rests_after = rests_after.unwrap();
    assert!(rests_after < Duration::from_secs(20), "{rests_after:?}");
    let start = Instant::now();
    soon(|| model.is_asleep());
    assert!(start.elapsed() >= rests_after - Duration::from_millis(100), "{:?}", start.elapsed());
    assert_eq!(ask(&mut model.session()).0, first);
    assert!(!model.is_asleep());
    // Who says otherwise afterwards has the say, also over the next request's end.
    model.sleep_when_idle(Duration::from_secs(3_600)).unwrap();
    ask(&mut session);
    let would_rest = model.conducted().unwrap().rests_after.unwrap();
    assert!(would_rest < Duration::from_secs(20), "{would_rest:?}");
    std::thread::sleep(would_rest + Duration::from_millis(500));
    assert!(!model.is_asleep());
}

#[test]
fn energy_is_told_where_a_sensor_tells_it() {
    let folder = tempfile::tempdir().unwrap();
    let model = model();
    let none = |stats: Stats| assert_eq!((stats.energy_j, stats.energy_source), (None, None));
    none(ask(&mut model.session()).1);
    model.conduct(nothing(folder.path())).unwrap();
    none(ask(&mut model.session()).1);
    model.conduct(phone(folder.path()).0).unwrap();
    let start = Instant::now();
    let (_, stats) = ask(&mut model.session());
    let most = 4.0 * start.elapsed().as_secs_f64();
    let computed = (stats.prefill + stats.decode).as_secs_f64();
    let joules = stats.energy_j.unwrap();
    assert!((4.0 * computed..=most).contains(&joules), "{joules} J of {computed} s");
    assert_eq!(stats.energy_source, Some("battery"));
    // Of two at a time nobody knows which one took it.
    let mut other = model.session();
    other.push(Part::text("go back")).unwrap();
    let reply = other.reply(Generate::default()).unwrap();
    none(ask(&mut model.session()).1);
    drop(reply);
    assert!(ask(&mut model.session()).1.energy_j.is_some());
}

#[test]
fn a_battery_that_is_low_makes_auto_fast() {
    let folder = tempfile::tempdir().unwrap();
    let model = model();
    assert_eq!(model.outlook(), Outlook::default());
    let prompt = |outlook: Outlook| {
        let mut session = model.session();
        session.tier(Tier::Auto);
        session.outlook(outlook);
        session.push(Part::text("go back")).unwrap();
        let reply = session.reply(Generate::default()).unwrap();
        reply.stats().prompt_tokens
    };
    let deep = prompt(Outlook::default());
    model.conduct(phone(folder.path()).0).unwrap();
    assert_eq!(model.outlook().charge, Some(0.1));
    // The empty thought that is forced belongs to the prompt.
    assert!(prompt(Outlook::default()) > deep);
    assert_eq!(prompt(Outlook { charge: Some(0.9), budget_left: None }), deep, "the caller knows better");
}

#[test]
fn a_task_that_begins_has_its_budget_whole() {
    let folder = tempfile::tempdir().unwrap();
    let model = model();
    model.begin_task();
    let budget = Budgeter::new(f64::INFINITY, 1e3, f64::INFINITY);
    model.conduct(phone(folder.path()).0.with_budget(budget)).unwrap();
    ask(&mut model.session());
    assert!(model.outlook().budget_left.unwrap() < 1.0);
    model.begin_task();
    assert_eq!(model.outlook().budget_left, Some(1.0));
}

#[test]
fn what_is_converted_each_time_does_not_sleep_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let rests = |precision: Option<Precision>| {
        let options = OpenOptions::default().threads(1).precision(precision);
        let model = Model::open_embedded(autoglm_tiny::FILES, &options).unwrap();
        model.conduct(nothing(folder.path())).unwrap();
        let before = model.conducted().unwrap().rests_after;
        ask(&mut model.session());
        [before, model.conducted().unwrap().rests_after].map(|after| after.is_some())
    };
    assert_eq!(rests(None), [true; 2]);
    let other = [Precision::F32, Precision::Bf16].map(|precision| rests(Some(precision)));
    assert!(other.contains(&[false; 2]), "{other:?}");
}

#[test]
fn who_is_done_is_let_go_while_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let model = model();
    let (conductor, scheduler) = phone(folder.path());
    model.conduct(conductor).unwrap();
    let (mut one, mut other) = (model.session(), model.session());
    one.push(Part::text("go back")).unwrap();
    other.push(Part::text("go back")).unwrap();
    let mut one = one.reply(Generate::default()).unwrap();
    let mut other = other.reply(Generate::default()).unwrap();
    other.next().unwrap().unwrap();
    one.next().unwrap().unwrap();
    soon(|| scheduler.pinned() > 0);
    drop(one);
    assert_eq!(scheduler.pinned(), 0);
}
