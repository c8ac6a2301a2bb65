//! Levers on a phone of files and threads that are no threads.

pub(crate) mod phone;
pub(crate) mod scheduler;

use std::io::ErrorKind;

use proptest::prelude::*;

use super::*;
use crate::Share;
use phone::{CLOCKS, KNOBS, POLICIES, Phone};
use scheduler::Scheduler;

/// How many sequences of events a property is tried on: each brings some journals to the disk. `PROPTEST_CASES` asks
/// for more.
pub(crate) fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").map_or(8, |cases| cases.parse().expect("a number"))
}

fn configuration(shares: [(usize, usize); 3]) -> Configuration {
    Configuration { shares: shares.map(|(cores, clock)| Share { cores, clock }).to_vec() }
}

fn levers(phone: &Phone, scheduler: &Scheduler) -> Levers {
    Levers::probe_with(&phone.tree, &Phone::topology(), Box::new(scheduler.clone()))
}

const TIDS: [i32; 4] = [11, 12, 13, 14];

#[test]
fn probing_moves_nothing_and_says_what_can_be_moved() {
    let (phone, scheduler) = (Phone::new(), Scheduler::new(&TIDS));
    let (files, threads) = (phone.texts(), scheduler.state());
    phone.write_protect(Knob::Fan { hwmon: 0, channel: 1 }, true);
    phone.write_protect(Knob::FanMode { hwmon: 0, channel: 1 }, true);
    let levers = levers(&phone, &scheduler);
    let can = |levers: &Levers| -> Vec<_> {
        levers.available().into_iter().map(|available| (available.lever, available.obstacle)).collect()
    };
    let closed = || Some(Obstacle::NotOpened);
    let expected = [
        (Lever::Affinity, None),
        (Lever::Clamp, None),
        (Lever::Cap, closed()),
        (Lever::Governor, closed()),
        (Lever::Cooling, closed()),
        (Lever::Fan, Some(Obstacle::Denied)),
    ];
    assert_eq!(can(&levers), expected);
    let levers = levers.with_knobs(phone.journal());
    assert_eq!(
        can(&levers)[2..],
        [Lever::Cap, Lever::Governor, Lever::Cooling]
            .map(|lever| (lever, None))
            .into_iter()
            .chain([(Lever::Fan, Some(Obstacle::Denied))])
            .collect::<Vec<_>>()
    );
    assert_eq!((phone.texts(), scheduler.state()), (files, threads));
    assert!(!phone.journal().exists());
}

#[test]
fn threads_are_pinned_and_clamped_and_files_left_alone() {
    let (phone, scheduler) = (Phone::new(), Scheduler::new(&TIDS));
    let (files, threads) = (phone.texts(), scheduler.state());
    let mut levers = levers(&phone, &scheduler).with_knobs(phone.journal());
    let applied = levers.apply(&configuration([(0, 0), (2, 1), (2, 1)]), &TIDS);
    assert_eq!(applied.pinned, 4);
    assert_eq!(applied.holds, [Hold::Free, Hold::By(Lever::Clamp), Hold::By(Lever::Clamp)]);
    assert_eq!(scheduler.of(11), (vec![6, 7], 1024 * 1_582 / 2_850 + 1));
    assert_eq!(scheduler.of(14), (vec![4, 5], 500 * 1_491 / 2_253 + 1));
    assert_eq!(phone.texts(), files);
    assert_eq!(levers.take_complaints(), []);
    drop(levers);
    assert_eq!(scheduler.state(), threads);
}

#[test]
fn without_clamps_clocks_are_capped_and_that_is_told_once() {
    let (phone, scheduler) = (Phone::new(), Scheduler::new(&TIDS));
    scheduler.without_clamps(ErrorKind::Unsupported);
    let files = phone.texts();
    let mut levers = levers(&phone, &scheduler).with_knobs(phone.journal());
    for _ in 0..3 {
        let applied = levers.apply(&configuration([(0, 0), (0, 0), (2, 1)]), &TIDS[..2]);
        assert_eq!(applied.holds, [Hold::Free, Hold::Free, Hold::By(Lever::Cap)]);
    }
    assert_eq!(phone.text(Knob::Cap { policy: 6 }), CLOCKS[2][1].to_string());
    let told = Complaint::Lever { lever: Lever::Clamp, obstacle: Obstacle::Unsupported };
    assert_eq!(levers.take_complaints(), [told]);
    assert_eq!(levers.take_complaints(), []);
    // What the next configuration does not ask for is let go.
    levers.apply(&configuration([(0, 0), (0, 0), (2, 2)]), &TIDS[..2]);
    assert_eq!(phone.texts(), files);
}

#[test]
fn without_clamps_and_files_clocks_stay_and_that_is_told_once() {
    let (phone, scheduler) = (Phone::new(), Scheduler::new(&TIDS));
    scheduler.without_clamps(ErrorKind::PermissionDenied);
    let mut levers = levers(&phone, &scheduler);
    for _ in 0..3 {
        let applied = levers.apply(&configuration([(0, 0), (0, 0), (2, 1)]), &TIDS[..2]);
        assert_eq!((applied.pinned, applied.holds[2]), (2, Hold::Nothing));
    }
    assert_eq!(
        levers.take_complaints(),
        [
            Complaint::Lever { lever: Lever::Clamp, obstacle: Obstacle::Denied },
            Complaint::Lever { lever: Lever::Cap, obstacle: Obstacle::NotOpened },
            Complaint::Clock { cluster: 2 },
        ]
    );
    assert_eq!(levers.take_complaints(), []);
}

#[test]
fn clamps_that_do_nothing_are_given_up_for_caps() {
    let (phone, scheduler) = (Phone::new(), Scheduler::new(&TIDS));
    let (files, threads) = (phone.texts(), scheduler.state());
    let mut levers = levers(&phone, &scheduler).with_knobs(phone.journal());
    let slow = configuration([(0, 0), (0, 0), (2, 1)]);
    assert_eq!(levers.apply(&slow, &TIDS[..2]).holds[2], Hold::By(Lever::Clamp));
    levers.give_up_clamps();
    assert_eq!((scheduler.of(11).1, scheduler.of(12).1), (900, WHOLE));
    assert_eq!(levers.apply(&slow, &TIDS[..2]).holds[2], Hold::By(Lever::Cap));
    let told = Complaint::Lever { lever: Lever::Clamp, obstacle: Obstacle::NoEffect };
    assert_eq!(levers.take_complaints(), [told]);
    drop(levers);
    assert_eq!((phone.texts(), scheduler.state()), (files, threads));
}

#[test]
fn a_thread_that_somebody_kept_off_some_cores_stays_off_them() {
    let (phone, mut scheduler) = (Phone::new(), Scheduler::new(&TIDS));
    scheduler.pin(11, &[0, 1, 6]).unwrap();
    scheduler.pin(12, &[0, 1]).unwrap();
    let threads = scheduler.state();
    let mut levers = levers(&phone, &scheduler);
    assert_eq!(levers.apply(&configuration([(0, 0), (0, 0), (2, 2)]), &TIDS[..3]).pinned, 2);
    assert_eq!((scheduler.of(11).0, scheduler.of(12).0, scheduler.of(13).0), (vec![6], vec![0, 1], vec![6, 7]));
    let told = Complaint::Lever { lever: Lever::Affinity, obstacle: Obstacle::Denied };
    assert_eq!(levers.take_complaints(), [told]);
    drop(levers);
    assert_eq!(scheduler.state(), threads);
}

#[test]
fn a_container_that_shows_and_allows_nothing_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let scheduler = Scheduler::new(&[]);
    scheduler.mute();
    scheduler.without_clamps(ErrorKind::PermissionDenied);
    let tree = Tree::new(folder.path());
    let mut levers = Levers::probe_with(&tree, &Phone::topology(), Box::new(scheduler.clone()));
    assert!(levers.available().iter().all(|available| available.obstacle.is_some()));
    let journal = folder.path().join("no such folder").join("journal");
    levers = levers.with_knobs(journal);
    let applied = levers.apply(&configuration([(4, 0), (2, 1), (2, 1)]), &[0, 77]);
    assert_eq!((applied.pinned, applied.holds), (0, vec![Hold::Free, Hold::Free, Hold::Nothing]));
    let complaints = levers.take_complaints();
    assert!(matches!(complaints[0], Complaint::Knobs { .. }), "{complaints:?}");
    assert!(complaints.contains(&Complaint::Clock { cluster: 2 }), "{complaints:?}");
}

#[test]
fn a_write_protected_phone_is_no_error() {
    let (phone, scheduler) = (Phone::new(), Scheduler::new(&TIDS));
    scheduler.without_clamps(ErrorKind::Unsupported);
    KNOBS.iter().for_each(|knob| phone.write_protect(*knob, true));
    let files = phone.texts();
    let mut levers = levers(&phone, &scheduler).with_knobs(phone.journal());
    for clock in [0, 1] {
        let applied = levers.apply(&configuration([(4, clock), (2, clock), (2, clock)]), &TIDS);
        assert_eq!(applied.holds[2], Hold::Nothing);
    }
    let complaints = levers.take_complaints();
    let denied = Complaint::Lever { lever: Lever::Cap, obstacle: Obstacle::Denied };
    assert_eq!(complaints.iter().filter(|complaint| **complaint == denied).count(), 1, "{complaints:?}");
    drop(levers);
    assert_eq!(phone.texts(), files);
}

#[test]
fn a_configuration_of_another_processor_is_told_and_not_applied() {
    let (phone, scheduler) = (Phone::new(), Scheduler::new(&TIDS));
    let threads = scheduler.state();
    let mut levers = levers(&phone, &scheduler);
    let applied = levers.apply(&Configuration { shares: vec![Share { cores: 1, clock: 0 }] }, &TIDS);
    assert_eq!((applied.pinned, applied.holds), (0, vec![Hold::Nothing; 3]));
    assert_eq!(levers.take_complaints(), [Complaint::Shares { got: 1, expected: 3 }]);
    assert_eq!(scheduler.state(), threads);
}

#[test]
fn threads_that_end_are_nobodys_fault() {
    let (phone, scheduler) = (Phone::new(), Scheduler::new(&TIDS));
    let mut levers = levers(&phone, &scheduler);
    levers.apply(&configuration([(0, 0), (2, 1), (2, 1)]), &TIDS);
    scheduler.end(12);
    let applied = levers.apply(&configuration([(0, 0), (2, 1), (2, 1)]), &TIDS);
    assert_eq!(applied.pinned, 3);
    levers.restore();
    assert_eq!(levers.take_complaints(), []);
}

#[test]
fn the_calling_thread_is_the_one_that_called() {
    let (phone, scheduler) = (Phone::new(), Scheduler::new(&[Scheduler::OWN]));
    let threads = scheduler.state();
    let mut levers = levers(&phone, &scheduler);
    levers.apply(&configuration([(0, 0), (0, 0), (1, 2)]), &[0, 0]);
    assert_eq!(scheduler.of(Scheduler::OWN).0, [6]);
    drop(levers);
    assert_eq!(scheduler.state(), threads);
}

#[test]
fn this_kernel_takes_what_it_can_and_gives_it_back() {
    let apply = || {
        let before = Kernel.affinity(Kernel.own()).unwrap();
        let topology = Topology {
            clusters: vec![crate::Cluster { cores: before.clone(), clocks_khz: vec![1, 2], capacity: None }],
        };
        let folder = tempfile::tempdir().unwrap();
        let mut levers = Levers::probe(&Tree::new(folder.path()), &topology);
        let one = Configuration { shares: vec![Share { cores: 1, clock: 0 }] };
        assert_eq!(levers.apply(&one, &[0]).pinned, 1);
        assert_eq!(Kernel.affinity(Kernel.own()).unwrap(), before[..1]);
        drop(levers);
        assert_eq!(Kernel.affinity(Kernel.own()).unwrap(), before);
    };
    // The pinned thread is not one of the test runner's.
    std::thread::spawn(apply).join().unwrap();
}

/// What happens to levers.
#[derive(Debug, Clone)]
enum Event {
    Apply([(usize, usize); 3], usize),
    Governor(usize),
    Clamps(bool),
    End(usize),
    Else(usize, u32),
    WriteProtect(usize, bool),
    GiveUp,
    Restore,
}

fn event() -> impl Strategy<Value = Event> {
    let share = || (0..5_usize, 0..4_usize);
    prop_oneof![
        6 => ([share(), share(), share()], 0..=4_usize).prop_map(|(shares, tids)| Event::Apply(shares, tids)),
        1 => (0..3_usize).prop_map(Event::Governor),
        2 => any::<bool>().prop_map(Event::Clamps),
        1 => (0..4_usize).prop_map(Event::End),
        1 => (0..3_usize, 600_000..600_009_u32).prop_map(|(policy, khz)| Event::Else(policy, khz)),
        1 => (0..6_usize, any::<bool>()).prop_map(|(knob, protect)| Event::WriteProtect(knob, protect)),
        1 => Just(Event::GiveUp),
        1 => Just(Event::Restore),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn whatever_was_applied_ends_as_it_was(clamps in any::<bool>(), events in proptest::collection::vec(event(), 1..25)) {
        let (phone, scheduler) = (Phone::new(), Scheduler::new(&TIDS));
        if !clamps {
            scheduler.without_clamps(ErrorKind::Unsupported);
        }
        let mut files = phone.texts();
        let mut threads = scheduler.state();
        let mut levers = levers(&phone, &scheduler).with_knobs(phone.journal());
        for event in events {
            match event {
                Event::Apply(shares, tids) => {
                    let applied = levers.apply(&configuration(shares), &TIDS[..tids]);
                    prop_assert!(applied.pinned <= tids);
                }
                Event::Governor(policy) => drop(levers.knobs().unwrap().governor(POLICIES[policy], "powersave")),
                Event::Clamps(fail) => scheduler.fail_clamps(fail),
                Event::End(idx) => {
                    scheduler.end(TIDS[idx]);
                    threads.remove(&TIDS[idx]);
                }
                Event::Else(idx, khz) => {
                    let knob = Knob::Cap { policy: POLICIES[idx] };
                    if !std::fs::metadata(phone.path(knob)).unwrap().permissions().readonly() {
                        files[idx] = khz.to_string();
                        phone.lay(&knob.path(), &files[idx]);
                    }
                }
                Event::WriteProtect(idx, protect) => phone.write_protect(KNOBS[idx], protect),
                Event::GiveUp => levers.give_up_clamps(),
                Event::Restore => levers.restore(),
            }
        }
        KNOBS.iter().for_each(|knob| phone.write_protect(*knob, false));
        scheduler.fail_clamps(false);
        let complaints = levers.take_complaints();
        let different: std::collections::BTreeSet<_> = complaints.iter().collect();
        prop_assert_eq!(different.len(), complaints.len());
        drop(levers);
        prop_assert_eq!(phone.texts(), files);
        prop_assert_eq!(scheduler.state(), threads);
    }
}
