//! A model that sleeps: what it gives back, what comes again, and what nobody notices.
#![cfg(feature = "power")]
#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::path::Path;
use std::time::{Duration, Instant};

use autoglm::{Error, Generate, Model, OpenOptions, Part, Session, Sleeps, Stats, Thinking};

fn options() -> OpenOptions {
    OpenOptions::default().threads(2)
}

fn model() -> Model {
    Model::open_embedded(autoglm_tiny::FILES, &options()).unwrap()
}

fn ask(session: &mut Session, text: &str) -> (String, Stats) {
    session.push(Part::text(text)).unwrap();
    let mut reply = session.reply(Generate::default().thinking(Thinking::Skipped).max_new_tokens(48)).unwrap();
    let text = reply.by_ref().map(|piece| piece.unwrap().text).collect();
    (text, reply.stats())
}

/// The tiny checkpoint as files of a directory.
fn checkpoint(folder: &Path) {
    for (name, bytes) in autoglm_tiny::FILES {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

/// Waits for what must come soon, and not for ever.
fn soon(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < Duration::from_secs(30), "it never came");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_request_wakes_a_model_and_questions_about_it_do_not() {
    let model = model();
    let before = (model.context(), model.vocab_size(), model.weights_bytes(), model.bytes_per_token(), model.threads());
    assert!(!model.is_asleep() && model.idle_for().is_some());
    assert!(model.sleep().unwrap() && model.sleep().unwrap(), "twice is once");
    let asleep = (model.context(), model.vocab_size(), model.weights_bytes(), model.bytes_per_token(), model.threads());
    assert_eq!(asleep, before);
    assert_eq!((model.isa().is_empty(), model.warning(), model.idle_for()), (false, None, None));
    let mut session = model.session();
    session.system("You tap on phones.");
    assert!(model.is_asleep());
    assert_eq!(ask(&mut session, "go back").0, "do(action=\"Back\")");
    assert!(!model.is_asleep());
    assert_eq!(model.sleeps(), Sleeps { sleeps: 1, wakes: 1, ..Sleeps::default() });
    assert!(model.sleep().unwrap());
    model.wake().unwrap();
    assert!(!model.is_asleep());
}

#[test]
fn nothing_sleeps_under_a_reply() {
    let model = model();
    let mut session = model.session();
    session.push(Part::text("go back")).unwrap();
    let mut reply = session.reply(Generate::default().thinking(Thinking::Skipped)).unwrap();
    assert!(!model.sleep().unwrap() && model.idle_for().is_none());
    let text: String = reply.by_ref().map(|piece| piece.unwrap().text).collect();
    assert_eq!(text, "do(action=\"Back\")");
    assert!(!model.sleep().unwrap(), "there is still a reply");
    drop(reply);
    assert!(model.sleep().unwrap());
}

#[test]
fn a_checkpoint_that_changed_or_went_is_named_and_may_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().join("checkpoint");
    std::fs::create_dir(&here).unwrap();
    checkpoint(&here);
    let model = Model::open_with(&here, &options()).unwrap();
    let mut session = model.session();
    let first = ask(&mut session, "go back").0;
    assert!(model.sleep().unwrap());
    let refused = |name: &str| {
        let error = model.wake().unwrap_err();
        assert!(matches!(&error, Error::Changed { path } if path.ends_with(name)), "{error:?}");
        assert!(model.is_asleep());
    };
    // Gone, a file more, another file, and all as it was.
    let away = folder.path().join("away");
    std::fs::rename(&here, &away).unwrap();
    refused("config.json");
    let mut session = model.session();
    session.push(Part::text("go back")).unwrap();
    assert!(matches!(session.reply(Generate::default()), Err(Error::Changed { .. })), "a request says so, too");
    std::fs::rename(&away, &here).unwrap();
    std::fs::write(here.join("more.safetensors"), "x").unwrap();
    refused("more.safetensors");
    std::fs::remove_file(here.join("more.safetensors")).unwrap();
    let weights = here.join("model.safetensors");
    std::fs::rename(&weights, folder.path().join("weights")).unwrap();
    std::fs::write(&weights, "others").unwrap();
    refused("model.safetensors");
    std::fs::rename(folder.path().join("weights"), &weights).unwrap();
    let mut reply = session.reply(Generate::default().thinking(Thinking::Skipped)).unwrap();
    let text: String = reply.by_ref().map(|piece| piece.unwrap().text).collect();
    assert_eq!(text, first);
}

#[test]
fn a_model_that_nobody_uses_goes_to_sleep_and_being_asked_about_it_is_no_use() {
    let model = model();
    let start = Instant::now();
    model.sleep_when_idle(Duration::from_millis(150)).unwrap();
    soon(|| {
        assert!(model.context() > 0 && model.weights_bytes() > 0);
        model.is_asleep()
    });
    assert!(start.elapsed() >= Duration::from_millis(150));
    for sleeps in 1..4 {
        assert_eq!(model.sleeps().sleeps, sleeps);
        assert_eq!(ask(&mut model.session(), "go back").0, "do(action=\"Back\")");
        soon(|| model.is_asleep());
    }
    // Another time, and none.
    model.sleep_when_idle(Duration::from_secs(3_600)).unwrap();
    model.wake().unwrap();
    std::thread::sleep(Duration::from_millis(250));
    assert!(!model.is_asleep());
    model.sleep_when_idle(Duration::ZERO).unwrap();
    soon(|| model.is_asleep());
    model.sleep_when_idle(None).unwrap();
    model.wake().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert!(!model.is_asleep());
}

#[test]
fn requests_of_many_threads_are_answered_while_it_falls_asleep_all_the_time() {
    let model = model();
    model.sleep_when_idle(Duration::from_millis(10)).unwrap();
    let threads = (0..4u64).map(|seed| {
        let model = model.clone();
        std::thread::spawn(move || {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut session = model.session();
            for _ in 0..12 {
                match random.u8(0..4) {
                    0 => drop(model.sleep().unwrap()),
                    1 => session = model.session(),
                    2 => std::thread::sleep(Duration::from_millis(random.u64(0..25))),
                    _ => {}
                }
                assert_eq!(ask(&mut session, "go back").0, "do(action=\"Back\")");
            }
        })
    });
    threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
    let Sleeps { sleeps, wakes, .. } = model.sleeps();
    assert!(sleeps > 0 && wakes <= sleeps && sleeps <= wakes + 1, "{sleeps} {wakes}");
}

#[cfg(feature = "kvcache")]
mod pins {
    use super::*;

    fn system() -> String {
        "You tap on phones. ".repeat(20)
    }

    /// A model with a pinned prompt, asleep. `folder` is where that lies.
    fn asleep(folder: &Path) -> Model {
        let model = Model::open_embedded(autoglm_tiny::FILES, &options().sleep_folder(folder.to_owned())).unwrap();
        for (salt, name) in [([0; 32], "common"), ([7; 32], "of another tenant")] {
            let mut session = model.session().of_tenant(salt);
            session.system(system());
            ask(&mut session, "go back");
            session.pin(name).unwrap();
        }
        assert!(model.sleep().unwrap());
        model
    }

    fn known(model: &Model, salt: [u8; 32]) -> (usize, usize) {
        let mut session = model.session().of_tenant(salt);
        session.system(system());
        let (text, stats) = ask(&mut session, "go back");
        assert_eq!(text, "do(action=\"Back\")");
        (stats.reused_tokens, stats.prompt_tokens)
    }

    fn files(folder: &Path) -> usize {
        std::fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn what_was_pinned_comes_back_for_its_tenant_and_its_files_go() {
        let folder = tempfile::tempdir().unwrap();
        let model = asleep(folder.path());
        assert_eq!(files(folder.path()), 2);
        let names: Vec<Vec<u8>> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|file| std::fs::read(file.unwrap().path()).unwrap())
            .collect();
        assert!(names.iter().all(|bytes| !bytes.windows(6).any(|word| word == b"phones")));
        for salt in [[0; 32], [7; 32]] {
            let (reused, rows) = known(&model, salt);
            assert_eq!(reused, rows - 1);
        }
        assert_eq!(known(&model, [9; 32]).0, 0, "a tenant who pinned nothing");
        assert_eq!(files(folder.path()), 0);
        // They are pins as before, and can be ended.
        assert!(model.session().unpin("common") && !model.session().unpin("of another tenant"));
        // The last handle takes its files along.
        assert!(model.sleep().unwrap());
        assert_eq!(files(folder.path()), 1);
        drop(model);
        assert_eq!(files(folder.path()), 0);
    }

    #[test]
    fn a_pin_may_be_ended_while_it_sleeps() {
        let folder = tempfile::tempdir().unwrap();
        let model = asleep(folder.path());
        assert!(model.session().unpin("common") && !model.session().unpin("common"));
        assert!(model.is_asleep());
        assert_eq!(files(folder.path()), 1);
        assert_eq!(known(&model, [0; 32]).0, 0);
        assert!(known(&model, [7; 32]).0 > 0);
    }

    #[test]
    fn a_pin_whose_file_is_damaged_or_gone_is_counted_and_computed_anew() {
        let folder = tempfile::tempdir().unwrap();
        let model = asleep(folder.path());
        let paths: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()).collect();
        std::fs::remove_file(&paths[0]).unwrap();
        let mut bytes = std::fs::read(&paths[1]).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&paths[1], bytes).unwrap();
        assert_eq!([known(&model, [0; 32]).0, known(&model, [7; 32]).0], [0, 0]);
        assert_eq!(model.sleeps().lost_pins, 2);
    }

    #[test]
    fn a_pin_that_cannot_be_saved_keeps_the_model_awake() {
        let folder = tempfile::tempdir().unwrap();
        let nowhere = folder.path().join("nowhere");
        let model = Model::open_embedded(autoglm_tiny::FILES, &options().sleep_folder(nowhere.clone())).unwrap();
        assert!(model.sleep().unwrap(), "nothing is pinned yet");
        let mut session = model.session();
        session.system(system());
        ask(&mut session, "go back");
        session.pin("common").unwrap();
        assert!(matches!(model.sleep(), Err(Error::Pool(_))));
        assert!(!model.is_asleep());
        assert_eq!(model.sleeps(), Sleeps { sleeps: 1, wakes: 1, failed: 1, lost_pins: 0 });
        let (reused, rows) = known(&model, [0; 32]);
        assert_eq!(reused, rows - 1);
        std::fs::create_dir(&nowhere).unwrap();
        assert!(model.sleep().unwrap());
    }
}
