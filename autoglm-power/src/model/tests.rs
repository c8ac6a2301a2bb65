//! Laws of the simulated device: energy is neither made nor lost, and what is said of a policy is what it does.

use super::physics::{Heat, Physics};
use super::{Assumptions, Comparison, Device, Name, Outcome, PROFILES, Run, Trace, simulate};
use crate::Configuration;
use crate::control::Phase;

fn device(name: &str) -> Device {
    let text = PROFILES.iter().find(|(known, _)| *known == name).unwrap().1;
    Device::parse(name, text).unwrap()
}

fn run<'a>(device: &'a Device, trace: &'a Trace, assumptions: &'a Assumptions) -> Run<'a> {
    Run { device, trace, assumptions, ambient_c: 25.0, seed: 3, samples: false }
}

fn trace(rows: &str) -> Trace {
    Trace::parse("t", &format!("t_s,event,text_tokens,visual_tokens,think_tokens,answer_tokens\n{rows}")).unwrap()
}

fn outcome(device: &Device, trace: &Trace, name: Name) -> Outcome {
    simulate(&run(device, trace, &Assumptions::default()), name)
}

/// Mean power over the run, in W.
fn mean_w(device: &Device, outcome: &Outcome) -> f64 {
    device.battery_wh / outcome.life_h
}

#[test]
fn a_phone_that_is_asked_nothing_lives_as_long_as_its_tables_say() {
    let phone = device("tensor-g4");
    // An hour of screen a day.
    let out = outcome(&phone, &trace("3600,screen_on,,,,\n7200,screen_off,,,,\n"), Name::Ours);
    let expected = phone.idle.suspend_w * 23.0 / 24.0 + (phone.idle.awake_w + phone.idle.screen_w) / 24.0;
    assert!((mean_w(&phone, &out) / expected - 1.0).abs() < 1e-9, "{} W, not {expected}", mean_w(&phone, &out));
    assert_eq!((out.llm_share, out.steps, out.step_p95_s, out.speed_changes_per_h), (0.0, 0, None, None));
}

#[test]
fn a_step_takes_the_energy_and_the_time_that_the_laws_say() {
    let phone = device("tensor-g4");
    let assumed = Assumptions::default();
    let day = trace("3600,step,1000,0,0,50\n3601,task_end,,,,\n");
    let physics = Physics { device: &phone, assumed: &assumed };
    let big = Configuration::big_cores(&phone.topology());
    let prompt = 1000.0 * (2.0 * assumed.parameters + assumed.attention_ops * 500.0) / 1e9;
    let read = 50.0 * (assumed.weights_bytes(false) + assumed.kv_bytes_per_token * 1025.0) / 1e9;
    let (compute, decode) = (physics.point(&big, Phase::Compute), physics.point(&big, Phase::Decode));
    let (prompt_s, read_s) = (prompt / compute.rate, read / decode.rate);
    let gb = assumed.weights_bytes(false) / 1e9;
    let reload_s = gb / assumed.storage_gb_s;
    let out = outcome(&phone, &day, Name::None);
    // The first of three days reads the weights; the others find them.
    assert_eq!((out.steps, out.reloads_per_day), (3, 1.0 / 3.0));
    assert!((out.step_p95_s.unwrap() - (0.1 + reload_s + prompt_s + read_s)).abs() < 1e-6, "{out:?}");
    let idle = &phone.idle;
    let resident = idle.resident_w * (3.0 * 86_400.0 - 3600.0 - 3.0 * (0.1 + prompt_s + read_s) - reload_s);
    let wakes = (idle.reload_j_per_gb * gb + assumed.start_j + assumed.spill_j).min(1e9);
    let expected = 3.0 * (compute.watts * prompt_s + decode.watts * read_s) + wakes + resident;
    let got = out.joules_per_step * 3.0;
    assert!((got / expected - 1.0).abs() < 1e-3, "{got} J where {expected} J are expected");
}

#[test]
fn equal_seeds_give_equal_bits_and_others_do_not() {
    let (phone, day) = (device("snapdragon-8-gen-2"), Trace::synthetic(3, 1, 5));
    let assumed = Assumptions::default();
    for name in Name::ALL {
        let once = simulate(&run(&phone, &day, &assumed), name);
        assert_eq!(once, simulate(&run(&phone, &day, &assumed), name), "{}", name.as_str());
    }
    let other = simulate(&Run { seed: 4, ..run(&phone, &day, &assumed) }, Name::Ours);
    assert_ne!(other, simulate(&run(&phone, &day, &assumed), Name::Ours));
}

#[test]
fn the_seed_does_what_it_says() {
    let phone = device("tensor-g4");
    // Two tasks an hour apart, and a step soon after another, which finds the model loaded.
    let day = trace("0,step,1000,3306,100,40\n40000,step,1000,3306,100,40\n");
    let out = outcome(&phone, &day, Name::Seed);
    assert_eq!(out.reloads_per_day, 2.0);
    let soon = trace("0,step,1000,0,0,40\n30,step,1150,0,0,40\n56,task_end,,,,\n");
    assert_eq!(outcome(&phone, &soon, Name::Seed).reloads_per_day, 1.0);
    assert_eq!(outcome(&phone, &soon, Name::None).reloads_per_day, 1.0 / 3.0);
}

#[test]
fn the_oracle_pays_for_memory_what_clairvoyance_pays() {
    let phone = device("tensor-g4");
    let day = Trace::synthetic(6, 1, 1);
    let regret = |name| outcome(&phone, &day, name).idle_regret.unwrap();
    assert!((regret(Name::Oracle) - 1.0).abs() < 1e-9);
    assert!(regret(Name::None) > 5.0 && regret(Name::Seed) > 1.5 && regret(Name::Ours) < 1.3);
}

#[test]
fn knowing_the_device_is_worth_little_more_than_learning_it() {
    let day = Trace::synthetic(6, 2, 2);
    for name in ["tensor-g4", "snapdragon-8-gen-3"] {
        let phone = device(name);
        let (ours, oracle) = (outcome(&phone, &day, Name::Ours), outcome(&phone, &day, Name::Oracle));
        assert!(ours.life_h > 0.9 * oracle.life_h, "{name}: {} h of {} h", ours.life_h, oracle.life_h);
    }
}

#[test]
fn hotter_air_and_hungrier_cores_never_help_who_does_nothing_about_it() {
    let day = Trace::synthetic(4, 1, 2);
    let phone = device("snapdragon-888");
    let assumed = Assumptions::default();
    let mut last = (0.0, 0.0);
    for ambient_c in [0.0, 10.0, 20.0, 30.0, 40.0] {
        let out = simulate(&Run { ambient_c, ..run(&phone, &day, &assumed) }, Name::None);
        assert!(out.minutes_over_43c >= last.0 && out.warmest_body_c > last.1, "{ambient_c} C: {out:?}");
        last = (out.minutes_over_43c, out.warmest_body_c);
    }
    let mut hungry = phone.clone();
    hungry.clusters.iter_mut().for_each(|c| c.watt_per_core.iter_mut().for_each(|w| *w *= 1.3));
    assert!(outcome(&hungry, &day, Name::None).life_h < outcome(&phone, &day, Name::None).life_h);
}

#[test]
fn heat_passes_alike_in_one_stretch_and_in_many() {
    let phone = device("tensor-g4");
    let (mut one, mut many) = (Heat::at(20.0), Heat::at(20.0));
    one.pass(&phone, 20.0, 3.0, 3.5, 600.0);
    (0..600).for_each(|_| many.pass(&phone, 20.0, 3.0, 3.5, 1.0));
    assert!((one.body_c - many.body_c).abs() < 1e-9);
    assert!((one.junction_c - many.junction_c).abs() < 0.2, "{one:?} {many:?}");
    one.pass(&phone, 20.0, 0.0, 0.0, 1e6);
    assert!((one.body_c - 20.0).abs() < 1e-6 && (one.junction_c - 20.0).abs() < 1e-6);
}

#[test]
fn what_is_known_of_a_prompt_is_what_the_agent_left_in_it() {
    // With reuse, the second and the third step compute two turns each, and the first of a later day one.
    let mut phone = device("tensor-g4");
    phone.idle.resident_w = 0.0;
    let assumed = Assumptions { pruned: 0.0, ..Assumptions::default() };
    let day = trace("0,step,2150,0,0,10\n1,step,2300,0,0,10\n2,step,2450,0,0,10\n3,task_end,,,,\n");
    let three = simulate(&run(&phone, &day, &assumed), Name::Os);
    let whole = simulate(&run(&phone, &day, &assumed), Name::None);
    assert!(three.joules_per_step < 0.35 * whole.joules_per_step, "{three:?} {whole:?}");
}

#[test]
fn comparisons_are_against_none_and_the_seed() {
    let phone = device("tensor-g4");
    let day = Trace::synthetic(2, 1, 1);
    let outcomes: Vec<Outcome> = [Name::None, Name::Seed, Name::Os].map(|name| outcome(&phone, &day, name)).into();
    let compared = Comparison::of(outcomes.clone());
    assert_eq!((compared[0].gain_vs_none, compared[1].gain_vs_seed), (0.0, 0.0));
    assert_eq!(compared[1].gain_vs_none, outcomes[1].life_h / outcomes[0].life_h - 1.0);
    assert_eq!(Comparison::of(vec![outcomes[0].clone()]), []);
}

#[test]
fn the_curves_begin_full_and_end_empty() {
    let (phone, day, assumed) = (device("tensor-g4"), Trace::synthetic(6, 1, 1), Assumptions::default());
    let out = simulate(&Run { samples: true, ..run(&phone, &day, &assumed) }, Name::Ours);
    let (first, last) = (out.samples[0], out.samples[out.samples.len() - 1]);
    assert!(first.charge > 0.99 && last.charge < 0.01, "{first:?} {last:?}");
    assert!(out.samples.is_sorted_by(|a, b| a.hours < b.hours && a.charge >= b.charge));
}
