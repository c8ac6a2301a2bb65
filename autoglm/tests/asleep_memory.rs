//! What is left in memory of a model that sleeps, in a process that does nothing else.
#![cfg(all(feature = "power", feature = "quant", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use autoglm::{Model, OpenOptions, Precision, Shape};

/// The resident size of this process, in bytes, where the system tells it.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() * 1024
}

#[test]
fn asleep_less_than_a_twentieth_of_the_weights_is_left_in_memory() {
    let shape = Shape::named("glm-4.1v-0.9b").unwrap().layers(Some(2)).vision_layers(Some(0));
    let before = resident();
    let model = Model::synthetic(&shape, &OpenOptions::default().threads(2).precision(Precision::Int8)).unwrap();
    let mut trial = model.trial(16, &[]).unwrap();
    trial.prefill().unwrap();
    let weights = model.weights_bytes();
    assert!(resident() > before + weights / 2, "{} of {weights}", resident() - before);
    drop(trial);
    assert!(model.sleep().unwrap());
    let left = resident().saturating_sub(before);
    assert!(left < weights / 20, "{left} of {weights}");
    model.trial(16, &[]).unwrap().prefill().unwrap();
}
