//! `autoglm power simulate`: policies side by side on a modelled device.

use std::io::Write as _;

use autoglm::power::model::{Comparison, Name};
use serde::Serialize;

use super::scenario::{Loaded, Scenario};
use crate::error::Error;

/// Play days of use against a modelled device under power policies, and compare them
///
/// Everything printed is modelled, not measured on a phone. The trace repeats until three days have passed, or once where
/// it is longer, from a full battery and a phone as warm as the air. `none` and `seed` are always played, since the others
/// are compared with them. Equal seeds give equal bytes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    scenario: Scenario,
    /// Print one JSON object instead of a table; minutes_over_43c and reloads_per_day count per day, throttles_per_h per hour
    /// of inference, gains and llm_share are fractions
    #[arg(long)]
    json: bool,
}

/// What `--json` prints. The order of the keys is part of it.
#[derive(Debug, Serialize)]
struct Report<'a> {
    device: &'a str,
    trace: &'a str,
    seed: u64,
    ambient_c: f64,
    /// So that nobody takes these numbers for a phone's.
    power: &'static str,
    policies: Vec<Line>,
}

/// One policy. A number that there is none of, such as the time of steps where no step was done, is null.
#[derive(Debug, Serialize)]
struct Line {
    policy: &'static str,
    life_h: Option<f64>,
    gain_vs_none: Option<f64>,
    gain_vs_seed: Option<f64>,
    llm_share: Option<f64>,
    step_p95_s: Option<f64>,
    minutes_over_43c: f64,
    throttles_per_h: Option<f64>,
    reloads_per_day: f64,
    idle_regret: Option<f64>,
}

impl Line {
    fn of(Comparison { outcome, gain_vs_none, gain_vs_seed }: &Comparison) -> Self {
        // A device that draws nothing lasts for ever, which is no number.
        let finite = |value: f64| Some(value).filter(|value| value.is_finite());
        Self {
            policy: outcome.policy.as_str(),
            life_h: finite(outcome.life_h),
            gain_vs_none: finite(*gain_vs_none),
            gain_vs_seed: finite(*gain_vs_seed),
            llm_share: finite(outcome.llm_share),
            step_p95_s: outcome.step_p95_s,
            minutes_over_43c: outcome.minutes_over_43c,
            throttles_per_h: outcome.speed_changes_per_h,
            reloads_per_day: outcome.reloads_per_day,
            idle_regret: outcome.idle_regret,
        }
    }
}

/// Runs the command.
pub(super) fn simulate(args: &Args) -> Result<(), Error> {
    let loaded = args.scenario.load()?;
    let played = |name: &Name| loaded.policies.contains(name) || matches!(name, Name::None | Name::Seed);
    let policies: Vec<Name> = Name::ALL.into_iter().filter(played).collect();
    let comparisons = Comparison::of(loaded.outcomes(&policies, false));
    let report = Report {
        device: &loaded.device.name,
        trace: &loaded.trace.name,
        seed: loaded.seed,
        ambient_c: loaded.ambient_c,
        power: "modelled",
        policies: comparisons.iter().map(Line::of).collect(),
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        let object = serde_json::to_string(&report).map_err(|e| Error::Output(e.into()))?;
        return writeln!(out, "{object}").map_err(Error::Output);
    }
    out.write_all(table(&loaded, &report.policies).as_bytes()).map_err(Error::Output)
}

/// Columns of the table: heading, unit, how a policy fills it, and what it means.
type Column = (&'static str, &'static str, fn(&Line) -> Option<String>, &'static str);

const COLUMNS: &[Column] = &[
    ("life", "h", |l| fixed(l.life_h, 1), "how long a full battery lasts at the mean power of the days played"),
    ("vs none", "%", |l| percent(l.gain_vs_none), "how much longer that is than without any management"),
    ("vs seed", "%", |l| percent(l.gain_vs_seed), "how much longer it is than with the five techniques of `seed`"),
    (
        "llm",
        "%",
        |l| fixed(l.llm_share.map(|s| 100.0 * s), 1),
        "the model's share of all energy, the screen's not counted",
    ),
    ("step p95", "s", |l| fixed(l.step_p95_s, 1), "time within which 95 % of the steps were done"),
    ("over 43 °C", "min/day", |l| fixed(Some(l.minutes_over_43c), 1), "minutes per day with a body warmer than 43 °C"),
    (
        "throttles",
        "1/h",
        |l| fixed(l.throttles_per_h, 1),
        "how often the speed changed by a tenth or more, per hour of inference",
    ),
    ("reloads", "1/day", |l| fixed(Some(l.reloads_per_day), 1), "how often weights were read, per day"),
    (
        "regret",
        "×",
        |l| fixed(l.idle_regret, 2),
        "cost of memory between steps, against knowing the next step: 1 at best",
    ),
];

fn fixed(value: Option<f64>, digits: usize) -> Option<String> {
    value.map(|value| format!("{value:.digits$}"))
}

fn percent(gain: Option<f64>) -> Option<String> {
    gain.map(|gain| format!("{:+.1}", 100.0 * gain))
}

/// The table for people.
fn table(loaded: &Loaded, lines: &[Line]) -> String {
    let Loaded { device, trace, ambient_c, seed, .. } = loaded;
    let mut text = format!(
        "modelled, not measured on a phone: {}, {}, air of {ambient_c} °C, seed {seed}\n\n",
        printable(&device.name),
        printable(&trace.name)
    );
    let row = |name: &str, cells: &mut dyn Iterator<Item = String>| {
        let cells: String = cells.zip(COLUMNS).map(|(cell, column)| format!("  {cell:>0$}", width(column))).collect();
        format!("{name:10}{cells}\n")
    };
    text += &row("policy", &mut COLUMNS.iter().map(|(heading, ..)| (*heading).to_owned()));
    text += &row("", &mut COLUMNS.iter().map(|(_, unit, ..)| (*unit).to_owned()));
    for line in lines {
        let cell = |(_, _, cell, _): &Column| cell(line).unwrap_or_else(|| "–".to_owned());
        text += &row(line.policy, &mut COLUMNS.iter().map(cell));
    }
    text.push('\n');
    text.extend(COLUMNS.iter().map(|(heading, unit, _, meaning)| format!("{heading:10}  {unit:7}  {meaning}\n")));
    text
}

fn width((heading, unit, ..): &Column) -> usize {
    heading.chars().count().max(unit.chars().count()).max(6)
}

/// A name without characters that move a terminal's cursor.
pub(super) fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
