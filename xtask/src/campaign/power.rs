//! What the power policies are worth on the device model: every figure with its denominator.

mod bars;
mod cells;
mod sensitivity;

use std::fmt::Write as _;

use crate::error::Result;
use cells::{AMBIENTS_C, Cell};

/// The power policies on 13 classes of devices, in air of 15 to 35 °C: battery life, time, heat; and what each assumption does
///
/// Everything it prints is modelled, not measured on a phone. With the defaults it takes a quarter of an hour on two cores.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Days that are drawn for each device and temperature
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Tasks a day
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=50))]
    tasks: u32,
    /// Leave out the sweep over assumptions
    #[arg(long)]
    no_sweep: bool,
}

#[expect(clippy::print_stdout, reason = "the tables are what it is called for")]
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let devices = cells::devices()?;
    let all = cells::all(&devices, &AMBIENTS_C, arguments.seeds, arguments.tasks as usize);
    println!("{}", report(&all, arguments.tasks));
    if !arguments.no_sweep {
        println!("{}", sensitivity::report(&devices, arguments.tasks as usize));
    }
    Ok(())
}

/// Everything that is said of the cells.
fn report(all: &[Cell], tasks: u32) -> String {
    let mut text = format!(
        "Modelled, not measured on a phone. {} cells: {} devices x {} temperatures of the air x days drawn by seed, {tasks} \
         tasks a day.\n\n",
        all.len(),
        cells::count(all, |cell| cell.device.as_str()),
        cells::count(all, |cell| cell.ambient_c as i64),
    );
    for bar in bars::bars(all) {
        let _ = writeln!(text, "{bar}");
    }
    let _ = writeln!(text, "\n{}", bars::table(all));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A three-hundredth of the campaign: the same code, on devices that differ most.
    #[test]
    fn the_controllers_are_better_than_the_seed_where_the_model_says_so() {
        let devices = cells::devices().unwrap();
        let some: Vec<_> =
            devices.into_iter().filter(|d| d.name == "tensor-g4" || d.name == "snapdragon-888").collect();
        let all = cells::all(&some, &[20.0, 25.0, 30.0], 2, 6);
        assert_eq!(all.len(), 12);
        for cell in &all {
            assert!(cell.ours.life_h > 1.08 * cell.seed.life_h, "{cell:?}");
            assert!(cell.ours.life_h > 1.45 * cell.none.life_h, "{cell:?}");
            assert!(cell.tiers.life_h > 1.4 * cell.seed.life_h, "{cell:?}");
            // Below 43 °C in warm air there is not the power to be as fast as whoever goes beyond.
            assert!(cell.p95_ratio() < 1.15 || cell.ambient_c == 30.0, "{cell:?}");
            assert!(cell.extra_minutes() == 0.0, "{cell:?}");
            assert!(cell.ours.speed_changes_per_h.unwrap() < 6.0, "{cell:?}");
        }
        let report = report(&all, 6);
        assert!(report.contains("not measured on a phone") && report.contains("of 12 cells"), "{report}");
    }
}
