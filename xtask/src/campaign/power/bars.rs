//! What is claimed of the policies, each figure with how many cells it is of.

use std::fmt::Write as _;

use super::cells::Cell;

/// Cells in which inference takes at least this share of all energy where nothing is managed: on others no policy of
/// inference can matter much.
const SHARE: f64 = 0.45;

/// One line per claim.
pub(super) fn bars(all: &[Cell]) -> Vec<String> {
    let heavy: Vec<&Cell> = all.iter().filter(|cell| cell.share() >= SHARE).collect();
    if heavy.is_empty() {
        return vec![format!("no cell of {} has an LLM share of 45 % or more: nothing is claimed of them", all.len())];
    }
    let of = format!("of {} cells with an LLM share >= 45 %", heavy.len());
    let gain = |better: fn(&Cell) -> f64, than: fn(&Cell) -> f64| -> Vec<f64> {
        sorted(heavy.iter().map(|cell| better(cell) / than(cell) - 1.0))
    };
    let none = gain(|c| c.ours.life_h, |c| c.none.life_h);
    let seed = gain(|c| c.ours.life_h, |c| c.seed.life_h);
    let os = gain(|c| c.ours.life_h, |c| c.os.life_h);
    let tiers = gain(|c| c.tiers.life_h, |c| c.seed.life_h);
    let seed_none = gain(|c| c.seed.life_h, |c| c.none.life_h);
    let oracle = gain(|c| c.oracle.life_h, |c| c.none.life_h);
    let both =
        |cell: &&&Cell| cell.ours.life_h >= 1.45 * cell.none.life_h && cell.ours.life_h >= 1.08 * cell.seed.life_h;
    let both = heavy.iter().filter(both).count();
    let shares = sorted(heavy.iter().map(|cell| cell.share()));
    // life gain = 1 / (1 - s r) - 1, where s is the share of inference and r what it is cut by.
    let cut =
        |better: fn(&Cell) -> f64| median(&sorted(heavy.iter().map(|c| (1.0 - c.none.life_h / better(c)) / c.share())));
    let seed_share = median(&sorted(heavy.iter().map(|c| c.seed.llm_share)));
    let cut_of_seed = |better: fn(&Cell) -> f64| {
        median(&sorted(heavy.iter().map(|c| (1.0 - c.seed.life_h / better(c)) / c.seed.llm_share)))
    };
    let p95 = sorted(heavy.iter().map(|cell| cell.p95_ratio()));
    let up_to = |air: f64| sorted(heavy.iter().filter(|c| c.ambient_c <= air).map(|cell| cell.p95_ratio()));
    let mild: Vec<&Cell> = all.iter().filter(|cell| cell.ambient_c <= 30.0).collect();
    let cool = mild.iter().filter(|cell| cell.extra_minutes() == 0.0).count();
    let seed_cool = mild.iter().filter(|cell| cell.extra_minutes_of(&cell.seed) == 0.0).count();
    let changes = sorted(all.iter().filter_map(|cell| cell.ours.speed_changes_per_h));
    let calm = changes.iter().filter(|per_h| **per_h <= 6.0).count();
    let seed_changes = sorted(all.iter().filter_map(|cell| cell.seed.speed_changes_per_h));
    let idle = sorted(all.iter().filter_map(|cell| cell.ours.idle_regret));
    let seed_idle = sorted(all.iter().filter_map(|cell| cell.seed.idle_regret));
    vec![
        format!("LLM share s without management: median {:.2}, {of}; {} cells in all", median(&shares), all.len()),
        format!(
            "battery life, ours against none, same tokens as seed: median {:+.0} % ({of}; median r {:.2}), tenth percentile {:+.0} %, least {:+.0} %",
            100.0 * median(&none),
            cut(|c| c.ours.life_h),
            100.0 * at(&none, 0.1),
            100.0 * none[0]
        ),
        format!(
            "battery life, ours against seed, same tokens: median {:+.0} % ({of}; of seed: median s {:.2}, r {:.2}), tenth percentile {:+.0} %, least {:+.0} %; seed better in {} cells",
            100.0 * median(&seed),
            seed_share,
            cut_of_seed(|c| c.ours.life_h),
            100.0 * at(&seed, 0.1),
            100.0 * seed[0],
            seed.iter().filter(|gain| **gain < 0.0).count()
        ),
        format!(
            "at least +45 % against none and +8 % against seed: {both} {of} ({:.1} %)",
            100.0 * both as f64 / heavy.len() as f64
        ),
        format!(
            "battery life, ours against os: median {:+.0} % ({of}), least {:+.0} %",
            100.0 * median(&os),
            100.0 * os[0]
        ),
        format!(
            "battery life, tiers and picture budget on, against seed: median {:+.0} % ({of}; of seed: median r {:.2}), least {:+.0} %",
            100.0 * median(&tiers),
            cut_of_seed(|c| c.tiers.life_h),
            100.0 * tiers[0]
        ),
        format!(
            "for comparison, against none: seed median {:+.0} %, oracle (as ours, knowing the device and the next step) {:+.0} % ({of})",
            100.0 * median(&seed_none),
            100.0 * median(&oracle)
        ),
        format!(
            "p95 step time, ours over seed: median {:.2}, worst {:.2} ({of}); in air of at most 25 C worst {:.2} of {}",
            median(&p95),
            p95[p95.len() - 1],
            up_to(25.0).last().copied().unwrap_or(f64::NAN),
            up_to(25.0).len()
        ),
        format!(
            "no minute above 43 C beyond those without the agent, air up to 30 C: ours {cool}, seed {seed_cool} of {} cells ({:.1} and {:.1} %)",
            mild.len(),
            100.0 * cool as f64 / mild.len() as f64,
            100.0 * seed_cool as f64 / mild.len() as f64
        ),
        format!(
            "changes of speed by a tenth or more per hour of inference, for any reason: at most 6 in {calm} of {} cells ({:.1} %), median {:.1}, worst {:.1}; seed median {:.0}",
            changes.len(),
            100.0 * calm as f64 / changes.len() as f64,
            median(&changes),
            changes[changes.len() - 1],
            median(&seed_changes)
        ),
        format!(
            "idle cost over clairvoyant: mean {:.2}, worst {:.2} of {} cells; seed mean {:.2}",
            mean(&idle),
            idle[idle.len() - 1],
            idle.len(),
            mean(&seed_idle)
        ),
    ]
}

/// Medians by device and air.
pub(super) fn table(all: &[Cell]) -> String {
    let mut text = String::from(
        "medians over the days                 share  vs none  vs seed    vs os  tiers vs seed  p95/seed  extra min/day   changes/h  idle  warmest C (seed)\n",
    );
    for group in all.chunk_by(|a, b| a.device == b.device && a.ambient_c == b.ambient_c) {
        let of = |value: fn(&Cell) -> f64| median(&sorted(group.iter().map(value)));
        let percent = |value: fn(&Cell) -> f64| format!("{:+.0} %", 100.0 * (of(value) - 1.0));
        let _ = writeln!(
            text,
            "{:<27} {:>5.0} C  {:>6.2}  {:>7}  {:>7}  {:>7}  {:>13}  {:>8.2}  {:>13.1}  {:>10.1}  {:>4.2}  {:>9.1} ({:.1})",
            group[0].device,
            group[0].ambient_c,
            of(Cell::share),
            percent(|c| c.ours.life_h / c.none.life_h),
            percent(|c| c.ours.life_h / c.seed.life_h),
            percent(|c| c.ours.life_h / c.os.life_h),
            percent(|c| c.tiers.life_h / c.seed.life_h),
            of(Cell::p95_ratio),
            of(Cell::extra_minutes),
            of(|c| c.ours.speed_changes_per_h.unwrap_or(f64::NAN)),
            of(|c| c.ours.idle_regret.unwrap_or(f64::NAN)),
            of(|c| c.ours.warmest_body_c),
            of(|c| c.seed.warmest_body_c),
        );
    }
    text
}

pub(super) fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The value below which this share of them lies; not a number where there is none.
fn at(sorted: &[f64], share: f64) -> f64 {
    sorted.get((share * sorted.len() as f64) as usize).copied().unwrap_or(f64::NAN)
}

pub(super) fn median(sorted: &[f64]) -> f64 {
    at(sorted, 0.5)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
