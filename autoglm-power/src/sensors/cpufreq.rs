//! Cores and their clocks, as cpufreq and the scheduler's capacities describe them.

use std::collections::BTreeSet;

use crate::{Cluster, Error, Result, Topology, Tree};

const CPU: &str = "sys/devices/system/cpu";

/// The most cores that a kernel can be built for (`NR_CPUS` on x86-64), which bounds what a list of cores can ask for.
const CORES: usize = 8192;

/// Clocks of processors, in kHz, from an idling microcontroller's to well above the fastest; others are not believed.
const CLOCKS_KHZ: std::ops::RangeInclusive<u32> = 1_000..=20_000_000;

/// The scheduler's scale: the fastest core of a device has this capacity.
const CAPACITY: u32 = 1024;

/// One cpufreq policy: online cores that change their clock together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The number in its name, which is that of one of its cores.
    pub number: usize,
    /// Its online cores, in order.
    pub cores: Vec<usize>,
    /// Clocks that it can run at, in kHz, in order: all of them where the driver lists them, and the lowest and the
    /// highest where it does not, as with hardware-managed clocks (`intel_pstate`, `amd-pstate`).
    pub clocks_khz: Vec<u32>,
    /// The driver. Names of governors mean other things under `intel_pstate`, where `powersave` is not the lowest clock.
    pub driver: Option<String>,
    /// The governor.
    pub governor: Option<String>,
}

impl Policy {
    /// All policies with an online core, by number; empty where the kernel has no cpufreq, as in most containers.
    ///
    /// # Errors
    /// [`Error::Read`] for a file that cannot be read and [`Error::Content`] for one that holds something else.
    pub fn read_all(tree: &Tree) -> Result<Vec<Self>> {
        let online = online(tree)?;
        let mut policies = Vec::new();
        for name in tree.names(&format!("{CPU}/cpufreq"))? {
            let Some(number) = number_in(&name, "policy") else { continue };
            let file = |file: &str| format!("{CPU}/cpufreq/{name}/{file}");
            let cores = match list(tree, &file("affected_cpus"))? {
                Some(cores) => cores,
                None => list(tree, &file("related_cpus"))?.unwrap_or_else(|| BTreeSet::from([number])),
            };
            let cores: Vec<usize> = cores.intersection(&online).copied().collect();
            if cores.is_empty() {
                continue;
            }
            policies.push(Self {
                number,
                cores,
                clocks_khz: clocks(tree, &file)?,
                driver: tree.text(&file("scaling_driver"))?,
                governor: tree.text(&file("scaling_governor"))?,
            });
        }
        Ok(policies)
    }
}

impl Topology {
    /// The online cores of a device.
    ///
    /// Policies of one core that have the same clocks and capacity make one cluster, since x86 has a policy per core.
    /// Without cpufreq the online cores are told apart by their capacities alone and have no clocks; a tree that does
    /// not even list cores has no cluster.
    ///
    /// # Errors
    /// [`Error::Read`] for a file that cannot be read and [`Error::Content`] for one that holds something else.
    pub fn read(tree: &Tree) -> Result<Self> {
        let mut left = online(tree)?;
        let mut groups = Vec::new();
        for mut policy in Policy::read_all(tree)? {
            policy.cores.retain(|core| left.remove(core));
            groups.push((policy.cores, policy.clocks_khz));
        }
        groups.extend(left.into_iter().map(|core| (vec![core], Vec::new())));

        // Each cluster, and whether it takes further single cores.
        let mut clusters: Vec<(Cluster, bool)> = Vec::new();
        for (cores, clocks_khz) in groups {
            let Some(&first) = cores.first() else { continue };
            let capacity = tree.number(&format!("{CPU}/cpu{first}/cpu_capacity"))?;
            let capacity = capacity.and_then(|c| u32::try_from(c).ok()).filter(|c| (1..=CAPACITY).contains(c));
            let alone = cores.len() == 1;
            let like = clusters.iter_mut().find(|(cluster, takes)| {
                alone && *takes && cluster.clocks_khz == clocks_khz && cluster.capacity == capacity
            });
            match like {
                Some((cluster, _)) => cluster.cores.extend(cores),
                None => clusters.push((Cluster { cores, clocks_khz, capacity }, alone)),
            }
        }
        let mut clusters: Vec<Cluster> = clusters.into_iter().map(|(cluster, _)| cluster).collect();
        clusters.iter_mut().for_each(|cluster| cluster.cores.sort_unstable());
        clusters.sort_by_key(|c| (c.capacity, c.clocks_khz.last().copied(), c.cores.first().copied()));
        Ok(Self { clusters })
    }

    /// The clock of each cluster right now, in kHz: that of its fastest core, and none where nothing is told.
    #[must_use]
    pub fn current_khz(&self, tree: &Tree) -> Vec<Option<u32>> {
        // A policy keeps the number of a core that has gone offline; the link in each core's directory still leads to it.
        let of_core = |core: &usize| {
            let places = [format!("{CPU}/cpu{core}/cpufreq"), format!("{CPU}/cpufreq/policy{core}")];
            let clock = |place: &String| clock(tree, &format!("{place}/scaling_cur_freq")).ok().flatten();
            places.iter().find_map(clock)
        };
        self.clusters.iter().map(|cluster| cluster.cores.iter().filter_map(of_core).max()).collect()
    }
}

/// The clocks of one policy, in order.
fn clocks(tree: &Tree, file: &dyn Fn(&str) -> String) -> Result<Vec<u32>> {
    let path = file("scaling_available_frequencies");
    let mut clocks = Vec::new();
    for word in tree.text(&path)?.unwrap_or_default().split_whitespace() {
        let clock = word.parse::<u32>().map_err(|_| content(tree, &path, word, "is no clock in kHz"))?;
        clocks.extend(Some(clock).filter(|clock| CLOCKS_KHZ.contains(clock)));
    }
    if clocks.is_empty() {
        for end in ["cpuinfo_min_freq", "cpuinfo_max_freq"] {
            clocks.extend(clock(tree, &file(end))?);
        }
    }
    clocks.sort_unstable();
    clocks.dedup();
    Ok(clocks)
}

/// A clock in kHz; none where there is no such file or no processor has such a clock.
fn clock(tree: &Tree, path: &str) -> Result<Option<u32>> {
    let number = tree.number(path)?;
    Ok(number.and_then(|number| u32::try_from(number).ok()).filter(|clock| CLOCKS_KHZ.contains(clock)))
}

/// The online cores: those that the kernel lists, or all possible ones, without those whose own file says 0.
fn online(tree: &Tree) -> Result<BTreeSet<usize>> {
    let mut cores = match list(tree, &format!("{CPU}/online"))? {
        Some(cores) => cores,
        None => list(tree, &format!("{CPU}/possible"))?.unwrap_or_default(),
    };
    for name in tree.names(CPU)? {
        let Some(core) = number_in(&name, "cpu").filter(|core| cores.contains(core)) else { continue };
        // The first core often cannot go offline, and then has no such file.
        if tree.text(&format!("{CPU}/{name}/online"))?.as_deref() == Some("0") {
            cores.remove(&core);
        }
    }
    Ok(cores)
}

/// The number behind a prefix, and nothing behind that.
fn number_in(name: &str, prefix: &str) -> Option<usize> {
    name.strip_prefix(prefix)?.parse().ok().filter(|number| *number < CORES)
}

/// The cores that a file lists, as `0-3,5` or `0 1 2 3`; none where there is no such file.
fn list(tree: &Tree, path: &str) -> Result<Option<BTreeSet<usize>>> {
    let Some(text) = tree.text(path)? else { return Ok(None) };
    match cores_in(&text) {
        Some(cores) => Ok(Some(cores)),
        None => Err(content(tree, path, &text, "is no list of cores in order")),
    }
}

/// The kernel lists cores in order, which also bounds the work that a list can ask for.
fn cores_in(text: &str) -> Option<BTreeSet<usize>> {
    let mut cores = BTreeSet::new();
    let parts = text.split(|c: char| c == ',' || c.is_ascii_whitespace());
    for part in parts.filter(|part| !part.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (usize, usize) = (from.parse().ok()?, to.parse().ok()?);
        if from > to || to >= CORES || cores.last().is_some_and(|last| from <= *last) {
            return None;
        }
        cores.extend(from..=to);
    }
    Some(cores)
}

fn content(tree: &Tree, path: &str, got: &str, why: &'static str) -> Error {
    Error::Content { path: tree.path(path), got: got.chars().take(40).collect(), why }
}

#[cfg(test)]
mod tests {
    use super::cores_in;

    #[test]
    fn a_list_of_cores_is_ranges_or_words_in_order() {
        let cores = |text| cores_in(text).map(Vec::from_iter);
        assert_eq!(cores("0-3,5"), Some(vec![0, 1, 2, 3, 5]));
        assert_eq!(cores("0 1 2 3"), Some(vec![0, 1, 2, 3]));
        assert_eq!(cores(""), Some(vec![]));
        assert_eq!(cores("8191"), Some(vec![8191]));
        for hostile in ["3-0", "0-18446744073709551615", "8192", "0-3,2", "1,1", "-1", "a", "0-", "0--3", "1.5"] {
            assert_eq!(cores(hostile), None, "{hostile}");
        }
    }
}
