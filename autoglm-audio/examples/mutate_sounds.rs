//! Damages sound files at random and holds the reader to its laws.
//!
//! `cargo run -p autoglm-audio --example mutate_sounds -- CASES [SEED]` runs CASES damaged files and prints one JSON
//! object of what became of them. The development profile is the right one: it traps integers that overflow. A
//! broken law ends the run with the seed and the case.

#[path = "../tests/mutation/mod.rs"]
mod mutation;

use std::process::ExitCode;

// Standard output is what this program is for.
#[allow(clippy::print_stdout)]
fn main() -> ExitCode {
    let numbers: Option<Vec<u64>> = std::env::args().skip(1).map(|word| word.parse().ok()).collect();
    let (cases, seed) = match numbers.as_deref() {
        Some([cases]) => (*cases as usize, 0),
        Some([cases, seed]) => (*cases as usize, *seed),
        _ => {
            eprintln!("usage: mutate_sounds CASES [SEED]");
            return ExitCode::from(2);
        }
    };
    let [wav, flac, mp3] =
        mutation::sounds(seed, cases).map(|of| format!(r#"{{"read":{},"refused":{}}}"#, of.read, of.refused));
    println!(r#"{{"seed":{seed},"wav":{wav},"flac":{flac},"mp3":{mp3}}}"#);
    ExitCode::SUCCESS
}
