//! Knobs that are turned, taken over, lost, found and left behind.

use proptest::prelude::*;

use super::*;
use crate::levers::Lever;
use crate::levers::tests::phone::{CLOCKS, KNOBS, POLICIES, Phone};

fn open(phone: &Phone) -> Knobs {
    Knobs::open(phone.tree.clone(), phone.journal()).unwrap()
}

fn die(knobs: Knobs) {
    knobs.held().die();
    drop(knobs);
}

const CAP: Knob = Knob::Cap { policy: 4 };
const MODE: Knob = Knob::FanMode { hwmon: 0, channel: 1 };
const FAN: Knob = Knob::Fan { hwmon: 0, channel: 1 };

fn turn_everything(knobs: &Knobs) {
    knobs.cap(4, 1_491_000).unwrap();
    knobs.governor(0, "powersave").unwrap();
    knobs.cool(1, 7).unwrap();
    knobs.fan(0, 1, 255).unwrap();
}

#[test]
fn everything_is_put_back_on_drop() {
    let phone = Phone::new();
    let before = phone.texts();
    let knobs = open(&phone);
    turn_everything(&knobs);
    assert_eq!(phone.text(CAP), "1491000");
    assert_eq!(phone.text(Knob::Governor { policy: 0 }), "powersave");
    assert_eq!((phone.text(MODE), phone.text(FAN)), ("1".to_owned(), "255".to_owned()));
    assert!(phone.journal().exists());
    drop(knobs);
    assert_eq!(phone.texts(), before);
    assert!(!phone.journal().exists());
}

#[test]
fn a_panic_that_unwinds_puts_everything_back() {
    let phone = Phone::new();
    let before = phone.texts();
    let caught = std::panic::catch_unwind(|| {
        let knobs = open(&phone);
        turn_everything(&knobs);
        let _held = knobs.held();
        panic!("in the middle of it");
    });
    assert!(caught.is_err());
    assert_eq!(phone.texts(), before);
}

#[test]
fn what_a_killed_process_left_is_put_back_by_the_next() {
    let phone = Phone::new();
    let before = phone.texts();
    let knobs = open(&phone);
    turn_everything(&knobs);
    die(knobs);
    assert_ne!(phone.texts(), before);
    let next = open(&phone);
    assert_eq!(phone.texts(), before);
    assert_eq!((next.changed(), next.take_complaints()), (vec![], vec![]));
    assert!(!phone.journal().exists());
}

#[test]
fn a_reboot_resets_knobs_and_the_journal_is_dropped() {
    let phone = Phone::new();
    let knobs = open(&phone);
    knobs.cap(4, 1_491_000).unwrap();
    die(knobs);
    phone.lay("proc/sys/kernel/random/boot_id", "22222222-5d2c-4f4b-9d54-6f3f0b1d2c3a");
    drop(open(&phone));
    assert_eq!(phone.text(CAP), "1491000");
    assert!(!phone.journal().exists());
}

#[test]
fn a_second_process_neither_restores_nor_changes_anything() {
    let phone = Phone::new();
    let knobs = open(&phone);
    turn_everything(&knobs);
    let turned = phone.texts();
    assert!(matches!(Knobs::open(phone.tree.clone(), phone.journal()), Err(Error::Busy { .. })));
    assert_eq!(phone.texts(), turned);
}

#[test]
fn what_somebody_else_wrote_stays_and_is_told() {
    let phone = Phone::new();
    let knobs = open(&phone);
    turn_everything(&knobs);
    phone.lay(&CAP.path(), "777000");
    knobs.restore();
    assert_eq!(phone.text(CAP), "777000");
    assert_eq!(knobs.take_complaints(), [Complaint::Changed { path: CAP.path() }]);
    assert_eq!(knobs.changed(), []);
}

#[test]
fn what_somebody_else_wrote_is_what_the_next_change_goes_back_to() {
    let phone = Phone::new();
    let knobs = open(&phone);
    knobs.cap(4, 1_491_000).unwrap();
    phone.lay(&CAP.path(), "777000");
    knobs.cap(4, 400_000).unwrap();
    drop(knobs);
    assert_eq!(phone.text(CAP), "777000");
}

#[test]
fn a_second_change_goes_back_to_the_first_original() {
    let phone = Phone::new();
    let before = phone.texts();
    let knobs = open(&phone);
    for khz in [1_491_000, 400_000, 2_253_000, 1_491_000, 1_491_000] {
        knobs.cap(4, khz).unwrap();
    }
    for pwm in [10, 20, 80, 30] {
        knobs.fan(0, 1, pwm).unwrap();
    }
    assert_eq!(knobs.changed(), [CAP, MODE, FAN]);
    drop(knobs);
    assert_eq!(phone.texts(), before);
}

#[test]
fn a_knob_that_vanished_is_put_back_when_it_is_there_again() {
    let phone = Phone::new();
    let before = phone.texts();
    let knobs = open(&phone);
    turn_everything(&knobs);
    phone.hide(CAP, true);
    knobs.restore();
    assert_eq!(knobs.take_complaints(), [Complaint::Vanished { path: CAP.path() }]);
    assert_eq!(knobs.changed(), [CAP]);
    drop(knobs);
    phone.hide(CAP, false);
    assert_eq!(phone.text(CAP), "1491000");
    let next = open(&phone);
    assert_eq!(phone.texts(), before);
    assert_eq!(next.changed(), []);
}

#[test]
fn a_knob_that_was_write_protected_is_put_back_when_it_can_be() {
    let phone = Phone::new();
    let before = phone.texts();
    let knobs = open(&phone);
    turn_everything(&knobs);
    phone.write_protect(CAP, true);
    drop(knobs);
    let next = open(&phone);
    assert_eq!(next.take_complaints(), [Complaint::Stuck { path: CAP.path(), obstacle: Obstacle::Denied }]);
    phone.write_protect(CAP, false);
    // The one that was left is no original, even for a new change.
    next.cap(4, 400_000).unwrap();
    drop(next);
    assert_eq!(phone.texts(), before);
}

#[test]
fn a_process_that_died_before_it_looked_at_what_it_wrote_leaves_nothing() {
    let phone = Phone::new();
    let before = phone.texts();
    let knobs = open(&phone);
    knobs.cap(4, 1_491_000).unwrap();
    {
        let mut held = knobs.held();
        held.entries[0].found = None;
        held.journal.keep(&held.entries).unwrap();
    }
    die(knobs);
    // What the kernel made of it.
    phone.lay(&CAP.path(), "1400000");
    drop(open(&phone));
    assert_eq!(phone.texts(), before);
}

#[test]
fn what_the_kernel_made_of_a_value_is_ours() {
    let phone = Phone::new();
    let before = phone.texts();
    let knobs = open(&phone);
    knobs.cap(4, 1_500_000).unwrap();
    {
        let mut held = knobs.held();
        held.entries[0].found = Some("1491000".to_owned());
        held.journal.keep(&held.entries).unwrap();
    }
    phone.lay(&CAP.path(), "1491000");
    die(knobs);
    drop(open(&phone));
    assert_eq!(phone.texts(), before);
}

#[test]
fn throttling_does_not_pass_for_somebody_else_and_is_not_kept_as_an_original() {
    let phone = Phone::new();
    let before = phone.texts();
    let knobs = open(&phone);
    knobs.cap(4, 1_491_000).unwrap();
    // The kernel holds the clock below the cap, and the file says so.
    phone.lay("sys/class/thermal/cooling_device0/cur_state", "5");
    phone.lay(&CAP.path(), "900000");
    assert!(matches!(knobs.cap(6, 1_582_000), Err(Error::Refused { .. })));
    knobs.cap(4, 400_000).unwrap();
    drop(knobs);
    assert_eq!(phone.texts(), before);
}

#[test]
fn a_fan_that_its_controller_has_again_is_left_to_it() {
    let phone = Phone::new();
    let knobs = open(&phone);
    knobs.fan(0, 1, 200).unwrap();
    phone.lay(&MODE.path(), "5");
    drop(knobs);
    assert_eq!((phone.text(MODE), phone.text(FAN)), ("5".to_owned(), "200".to_owned()));
}

#[test]
fn a_fan_whose_speed_cannot_be_set_stays_with_its_controller() {
    let phone = Phone::new();
    phone.write_protect(FAN, true);
    let knobs = open(&phone);
    assert!(knobs.fan(0, 1, 200).is_err());
    assert_eq!(phone.text(MODE), "2");
    phone.write_protect(FAN, false);
    // An original that could not be put back is not given up.
    phone.lay(&FAN.path(), "fast");
    assert!(matches!(knobs.fan(0, 1, 200), Err(Error::Content { .. })));
    assert_eq!(phone.text(MODE), "2");
    assert_eq!(knobs.changed(), []);
}

#[test]
fn a_fan_and_its_mode_are_put_back_together() {
    let phone = Phone::new();
    let before = phone.texts();
    let knobs = open(&phone);
    for knob in [MODE, FAN] {
        knobs.fan(0, 1, 200).unwrap();
        knobs.put_back(knob);
        assert_eq!(phone.texts(), before);
        assert_eq!(knobs.changed(), []);
    }
}

#[test]
fn values_that_the_device_does_not_have_are_refused_and_nothing_is_written() {
    let phone = Phone::new();
    let before = phone.texts();
    let knobs = open(&phone);
    let refused = [
        knobs.cap(4, 399_999),
        knobs.cap(4, 2_253_001),
        knobs.cap(4, 0),
        knobs.cap(9, 1_000_000),
        knobs.governor(0, "ondemand"),
        knobs.governor(0, "sched_pixel powersave"),
        knobs.governor(0, ""),
        knobs.governor(9, "powersave"),
        knobs.cool(1, 11),
        knobs.cool(9, 0),
    ];
    for refused in refused {
        assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    }
    assert!(knobs.fan(3, 1, 0).is_err());
    assert_eq!(phone.texts(), before);
    assert!(!phone.journal().exists());
}

#[test]
fn a_journal_that_cannot_be_written_keeps_knobs_from_being_changed() {
    let phone = Phone::new();
    let before = phone.texts();
    let knobs = open(&phone);
    // A directory of this name cannot be replaced by a file.
    std::fs::create_dir_all(phone.journal().join("x")).unwrap();
    assert!(matches!(knobs.cap(4, 1_491_000), Err(Error::Write { .. })));
    assert!(knobs.fan(0, 1, 9).is_err());
    assert_eq!(phone.texts(), before);
    assert_eq!(knobs.changed(), []);
}

#[test]
fn a_damaged_journal_is_refused_and_stays() {
    let phone = Phone::new();
    let before = phone.texts();
    std::fs::write(phone.journal(), "autoglm knobs 1\nboot -\nsys/class").unwrap();
    for _ in 0..2 {
        assert!(matches!(Knobs::open(phone.tree.clone(), phone.journal()), Err(Error::Journal { line: 3, .. })));
    }
    assert_eq!(phone.texts(), before);
}

/// What happens to a device, to its knobs, or to the process.
#[derive(Debug, Clone)]
enum Event {
    Cap(usize, usize),
    Governor(usize, usize),
    Cool(u32),
    Fan(u8),
    PutBack(usize),
    Restore,
    /// Somebody else writes a value that is never written here.
    Else(usize, u8),
    WriteProtect(usize, bool),
    Hide(usize, bool),
    /// The process is killed and another one comes.
    Die,
}

fn event() -> impl Strategy<Value = Event> {
    let knob = || 0..KNOBS.len();
    prop_oneof![
        3 => (0..3_usize, 0..3_usize).prop_map(|(policy, clock)| Event::Cap(policy, clock)),
        3 => (0..3_usize, 0..3_usize).prop_map(|(policy, name)| Event::Governor(policy, name)),
        2 => (1..=10_u32).prop_map(Event::Cool),
        2 => (0..=79_u8).prop_map(Event::Fan),
        1 => knob().prop_map(Event::PutBack),
        1 => Just(Event::Restore),
        2 => (knob(), 0..5_u8).prop_map(|(knob, value)| Event::Else(knob, value)),
        2 => (knob(), any::<bool>()).prop_map(|(knob, protect)| Event::WriteProtect(knob, protect)),
        2 => (knob(), any::<bool>()).prop_map(|(knob, hide)| Event::Hide(knob, hide)),
        1 => Just(Event::Die),
    ]
}

/// A fan's two files come and go together.
fn with_its_device(knob: Knob) -> Vec<Knob> {
    if knob.lever() == Lever::Fan { vec![FAN, MODE] } else { vec![knob] }
}

/// A value that [`event`] never asks for.
fn of_somebody_else(knob: Knob, value: u8) -> String {
    match knob {
        Knob::Cap { .. } => (700_000 + u32::from(value)).to_string(),
        Knob::Governor { .. } => format!("theirs{value}"),
        Knob::Cooling { .. } => (100 + u32::from(value)).to_string(),
        Knob::FanMode { .. } => (5 + u32::from(value)).min(9).to_string(),
        Knob::Fan { .. } => (100 + u32::from(value)).to_string(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::levers::tests::cases()))]

    #[test]
    fn whatever_happens_all_knobs_end_as_nobody_here_had_been(events in proptest::collection::vec(event(), 1..40)) {
        let phone = Phone::new();
        let mut expected = phone.texts();
        let mut knobs = open(&phone);
        for event in events {
            match event {
                // Whether it works depends on what is hidden and protected.
                Event::Cap(policy, clock) => drop(knobs.cap(POLICIES[policy], CLOCKS[policy][clock])),
                Event::Governor(policy, name) => {
                    drop(knobs.governor(POLICIES[policy], ["powersave", "performance", "schedutil"][name]));
                }
                Event::Cool(state) => drop(knobs.cool(1, state)),
                Event::Fan(pwm) => drop(knobs.fan(0, 1, pwm)),
                Event::PutBack(knob) => knobs.put_back(KNOBS[knob]),
                Event::Restore => knobs.restore(),
                Event::Else(idx, value) => {
                    if phone.path(KNOBS[idx]).exists() {
                        let protected = std::fs::metadata(phone.path(KNOBS[idx])).unwrap().permissions().readonly();
                        if !protected {
                            expected[idx] = of_somebody_else(KNOBS[idx], value);
                            phone.lay(&KNOBS[idx].path(), &expected[idx]);
                        }
                        // A fan's speed is whoever's its mode is, and nobody else's to judge.
                        if KNOBS[idx] == MODE && !protected {
                            knobs.put_back(FAN);
                            if phone.path(FAN).exists() {
                                expected[8] = phone.text(FAN);
                            }
                        }
                    }
                }
                Event::WriteProtect(idx, protect) => {
                    for knob in with_its_device(KNOBS[idx]).into_iter().filter(|knob| phone.path(*knob).exists()) {
                        phone.write_protect(knob, protect);
                    }
                }
                Event::Hide(idx, hide) => {
                    with_its_device(KNOBS[idx]).into_iter().for_each(|knob| phone.hide(knob, hide));
                }
                Event::Die => {
                    die(knobs);
                    knobs = open(&phone);
                }
            }
        }
        for knob in KNOBS {
            phone.hide(knob, false);
            phone.write_protect(knob, false);
        }
        knobs.restore();
        let left = knobs.changed();
        drop(knobs);
        prop_assert_eq!(phone.texts(), expected);
        prop_assert_eq!(left, vec![]);
        prop_assert!(!phone.journal().exists());
    }
}
