//! `autoglm power status`: what sensors and levers there are here, and what they say.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use autoglm::power::levers::{Availability, Lever, Levers, Obstacle};
use autoglm::power::sensors::Sensors;
use autoglm::power::{Reading, Topology, Tree};
use serde::Serialize;

use crate::error::Error;
use crate::one_line;

/// Between the two readings, so that counters of energy have something to subtract.
const PAUSE: Duration = Duration::from_millis(300);

/// Say what sensors tell now, what the processor is, and what could be moved; nothing is changed
///
/// What is missing is "not here", in JSON null, and no failure: most containers have no sensor at all. Power that the
/// system counts as energy is the mean of some 0.3 s.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A directory that stands for the root of the file system, `/`; affinity and clamp are this process's in any case
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Print one JSON object instead of lines
    #[arg(long)]
    json: bool,
}

/// What `--json` prints. The order of the keys is part of it.
#[derive(Debug, Serialize)]
struct Status {
    body_c: Option<f64>,
    junction_c: Option<f64>,
    power_w: Option<f64>,
    power_source: Option<String>,
    charge: Option<f64>,
    on_supply: Option<bool>,
    memory_pressure: Option<f64>,
    headroom: Option<f64>,
    fan_rpm: Option<u32>,
    clusters: Vec<Cluster>,
    levers: Vec<Moves>,
    complaints: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Cluster {
    cores: Vec<usize>,
    clocks_khz: Vec<u32>,
    now_khz: Option<u32>,
    capacity: Option<u32>,
}

/// What a lever can do here.
#[derive(Debug, Serialize)]
struct Moves {
    lever: String,
    /// Whether it moves something for all processes, and not for this one alone.
    for_all: bool,
    movable: bool,
    why_not: Option<String>,
}

impl Moves {
    fn of(Availability { lever, obstacle }: &Availability) -> Self {
        // Nobody asks for the kernel's files here, so that this is no obstacle but what every lever of files says.
        let obstacle = obstacle.as_ref().filter(|obstacle| **obstacle != Obstacle::NotOpened);
        Self {
            lever: lever.to_string(),
            for_all: !matches!(lever, Lever::Affinity | Lever::Clamp),
            movable: obstacle.is_none(),
            why_not: obstacle.map(Obstacle::to_string),
        }
    }
}

/// Runs the command.
pub(super) fn status(args: &Args) -> Result<(), Error> {
    let (tree, mut sensors) = match &args.root {
        Some(root) => {
            std::fs::read_dir(root).map_err(|source| Error::Read { path: root.clone(), source })?;
            (Tree::new(root), Sensors::new(Tree::new(root)))
        }
        None => (Tree::default(), Sensors::of_this_device()),
    };
    let status = look(&tree, &mut sensors);
    let text = if args.json {
        serde_json::to_string(&status).map_err(|e| Error::Output(e.into()))? + "\n"
    } else {
        status.lines()
    };
    std::io::stdout().write_all(text.as_bytes()).map_err(Error::Output)
}

/// Two readings, and everything that is read once.
fn look(tree: &Tree, sensors: &mut Sensors) -> Status {
    let start = Instant::now();
    sensors.read(start.elapsed());
    std::thread::sleep(PAUSE);
    let reading = sensors.read(start.elapsed());
    let fan_rpm = sensors.fan_rpm();
    let mut complaints: Vec<String> = sensors.take_complaints().iter().map(|error| one_line(error)).collect();
    let topology = Topology::read(tree).unwrap_or_else(|error| {
        complaints.push(one_line(&error));
        Topology::default()
    });
    let mut levers = Levers::probe(tree, &topology);
    let movable = levers.available().iter().map(Moves::of).collect();
    complaints.extend(levers.take_complaints().iter().map(ToString::to_string));
    let now = topology.current_khz(tree);
    let clusters = topology.clusters.into_iter().zip(now).map(|(cluster, now_khz)| Cluster {
        cores: cluster.cores,
        clocks_khz: cluster.clocks_khz,
        now_khz,
        capacity: cluster.capacity,
    });
    let Reading { body_c, junction_c, power_w, charge, on_supply, memory_pressure, headroom } = reading;
    Status {
        body_c,
        junction_c,
        power_w,
        power_source: sensors.power_source().map(|source| source.to_string()),
        charge,
        on_supply,
        memory_pressure,
        headroom,
        fan_rpm,
        clusters: clusters.collect(),
        levers: movable,
        complaints,
    }
}

impl Status {
    /// For people, a line each.
    fn lines(&self) -> String {
        let here = |text: Option<String>| text.unwrap_or_else(|| "not here".to_owned());
        let degrees = |value: Option<f64>| here(value.map(|value| format!("{value:.1} °C")));
        let percent = |value: Option<f64>| value.map(|value| format!("{:.1} %", 100.0 * value));
        let source = self.power_source.as_deref().unwrap_or("an unknown source");
        let mut lines = vec![
            ("body".to_owned(), degrees(self.body_c)),
            ("junction".to_owned(), degrees(self.junction_c)),
            ("power".to_owned(), here(self.power_w.map(|watts| format!("{watts:.2} W, by {source}")))),
            ("charge".to_owned(), here(percent(self.charge))),
            (
                "supply".to_owned(),
                here(
                    self.on_supply
                        .map(|on| if on { "on supply, or without a battery" } else { "on battery" }.to_owned()),
                ),
            ),
            (
                "memory pressure".to_owned(),
                here(percent(self.memory_pressure).map(|share| share + " of the last seconds were waits")),
            ),
            ("headroom".to_owned(), here(self.headroom.map(|value| format!("{value:.2}, where 1 throttles severely")))),
            ("fan".to_owned(), here(self.fan_rpm.map(|rpm| format!("{rpm} 1/min")))),
        ];
        if self.clusters.is_empty() {
            lines.push(("clusters".to_owned(), here(None)));
        }
        lines.extend(self.clusters.iter().enumerate().map(|(idx, c)| (format!("cluster {idx}"), c.line())));
        lines.extend(self.levers.iter().map(|moves| (format!("lever {}", moves.lever), moves.line())));
        lines.extend(self.complaints.iter().map(|complaint| ("complaint".to_owned(), complaint.clone())));
        lines.into_iter().map(|(what, value)| format!("{what:16} {value}\n")).collect()
    }
}

impl Cluster {
    fn line(&self) -> String {
        let mhz = |khz: u32| f64::from(khz) / 1e3;
        let clocks = match self.clocks_khz[..] {
            [] => "clocks not here".to_owned(),
            [only] => format!("{:.0} MHz", mhz(only)),
            [lowest, .., highest] => {
                format!("{:.0} to {:.0} MHz in {} clocks", mhz(lowest), mhz(highest), self.clocks_khz.len())
            }
        };
        let now = self.now_khz.map(|khz| format!(", now {:.0} MHz", mhz(khz))).unwrap_or_default();
        let capacity = self.capacity.map(|capacity| format!(", capacity {capacity} of 1024")).unwrap_or_default();
        format!("cores {}: {clocks}{now}{capacity}", ranges(&self.cores))
    }
}

impl Moves {
    fn line(&self) -> String {
        match (&self.why_not, self.for_all) {
            (Some(why), _) => format!("no: {why}"),
            (None, true) => "can be moved, where it is asked for: it moves something for all processes".to_owned(),
            (None, false) => "can be moved, for this process alone".to_owned(),
        }
    }
}

/// Cores as the kernel lists them: `0-3,6`.
fn ranges(cores: &[usize]) -> String {
    let runs = cores.chunk_by(|one, next| one + 1 == *next);
    let texts = runs.map(|run| match run {
        [first, .., last] => format!("{first}-{last}"),
        _ => run.iter().map(usize::to_string).collect(),
    });
    texts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_listed_as_the_kernel_lists_them() {
        for (cores, text) in [(&[][..], ""), (&[3], "3"), (&[0, 1], "0-1"), (&[0, 1, 2, 5, 7, 8], "0-2,5,7-8")] {
            assert_eq!(ranges(cores), text);
        }
    }

    #[test]
    fn a_lever_that_nobody_asked_for_can_be_moved_and_one_that_is_denied_cannot() {
        let moves = |lever, obstacle| Moves::of(&Availability { lever, obstacle });
        let cap = moves(Lever::Cap, Some(Obstacle::NotOpened));
        assert!(cap.movable && cap.for_all && cap.why_not.is_none());
        let denied = moves(Lever::Cap, Some(Obstacle::Denied));
        assert!(!denied.movable && denied.line() == "no: not permitted");
        assert!(!moves(Lever::Affinity, None).for_all);
    }
}
