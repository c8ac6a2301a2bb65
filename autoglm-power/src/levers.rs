//! What a process may change of its device, and how it is put back.
//!
//! [`Levers`] apply a [`Configuration`]: threads are pinned to cores and, where the kernel can, clamped, which touches
//! nobody else. The kernel's files ([`Knobs`]) move something for all processes and are left alone until somebody asks
//! for them with [`Levers::with_knobs`]. What cannot be moved is no error: the next lever is tried, and
//! [`Levers::take_complaints`] tells once what fell through.

mod clocks;
mod complaint;
mod ending;
mod journal;
mod knob;
mod knobs;
mod pacing;
mod places;
mod threads;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

pub use complaint::{Complaint, Lever, Obstacle};
pub use knob::Knob;
pub use knobs::Knobs;
pub use pacing::{Pace, Pacing};
pub use threads::{Kernel, Threads, WHOLE};

use crate::{Configuration, Topology, Tree};
use knob::CPUFREQ;
use places::{Place, limit, places};
use threads::{Before, has_ended};

/// Whether a lever can be moved here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Availability {
    /// Which one.
    pub lever: Lever,
    /// What stands in the way, if anything does.
    pub obstacle: Option<Obstacle>,
}

/// What keeps a cluster at the clock that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hold {
    /// Nothing needs to: it may run at its highest, or inference does not run on it.
    Free,
    /// This lever does.
    By(Lever),
    /// No lever can.
    Nothing,
}

/// What became of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// Threads that run on the cores that were asked for, and on no others.
    pub pinned: usize,
    /// For each cluster, what keeps it at its clock.
    pub holds: Vec<Hold>,
}

/// Everything that a process may move here. Dropping it puts everything back.
#[derive(Debug)]
pub struct Levers {
    tree: Tree,
    topology: Topology,
    /// The cpufreq policies of each cluster: several where each core has its own.
    policies: Vec<Vec<u32>>,
    threads: Box<dyn Threads>,
    affinity: Option<Obstacle>,
    clamp: Option<Obstacle>,
    /// For each lever of files, what stands in the way of all its files.
    files: BTreeMap<Lever, Option<Obstacle>>,
    knobs: Option<Knobs>,
    before: BTreeMap<i32, Before>,
    complaints: Vec<Complaint>,
    told: BTreeSet<Complaint>,
}

impl Levers {
    /// Finds out what can be moved, and moves nothing.
    #[must_use]
    pub fn probe(tree: &Tree, topology: &Topology) -> Self {
        Self::probe_with(tree, topology, Box::new(Kernel))
    }

    /// As [`Levers::probe`], with another scheduler than this kernel's.
    #[must_use]
    pub fn probe_with(tree: &Tree, topology: &Topology, threads: Box<dyn Threads>) -> Self {
        let mut files: BTreeMap<Lever, Option<Obstacle>> = [Lever::Cap, Lever::Governor, Lever::Cooling, Lever::Fan]
            .map(|lever| (lever, Some(Obstacle::Missing)))
            .into();
        for knob in Knobs::list(tree) {
            // One file that can be written makes a lever, and otherwise the last obstacle is as good as any.
            match files.get_mut(&knob.lever()) {
                Some(obstacle) if obstacle.is_some() => *obstacle = Knobs::probe(tree, knob).err(),
                _ => {}
            }
        }
        Self {
            policies: topology.clusters.iter().map(|cluster| policies_of(tree, &cluster.cores)).collect(),
            tree: tree.clone(),
            topology: topology.clone(),
            affinity: threads.affinity(threads.own()).err().map(|e| Obstacle::from(&e)),
            clamp: threads.can_clamp().err().map(|e| Obstacle::from(&e)),
            threads,
            files,
            knobs: None,
            before: BTreeMap::new(),
            complaints: Vec::new(),
            told: BTreeSet::new(),
        }
    }

    /// Lets the kernel's files be written as well, which moves something for all processes. First puts back what an
    /// owner of `journal` that was killed left changed; see [`Knobs::open`]. Where that fails, the files are left alone
    /// and a complaint says why.
    #[must_use]
    pub fn with_knobs(mut self, journal: impl Into<PathBuf>) -> Self {
        match Knobs::open(self.tree.clone(), journal) {
            Ok(knobs) => self.knobs = Some(knobs),
            Err(error) => self.complain(Complaint::Knobs { why: chain(&error) }),
        }
        self
    }

    /// The kernel's files, where they were asked for.
    #[must_use]
    pub fn knobs(&self) -> Option<&Knobs> {
        self.knobs.as_ref()
    }

    /// What can be moved here, as it was found at the beginning.
    #[must_use]
    pub fn available(&self) -> Vec<Availability> {
        let threads = [(Lever::Affinity, self.affinity.clone()), (Lever::Clamp, self.clamp.clone())];
        let files = self.files.iter().map(|(lever, obstacle)| {
            let closed = || self.knobs.is_none().then_some(Obstacle::NotOpened);
            (*lever, obstacle.clone().or_else(closed))
        });
        threads.into_iter().chain(files).map(|(lever, obstacle)| Availability { lever, obstacle }).collect()
    }

    /// Has the threads `tids` (0 being the calling one) run as a configuration says: on so many cores of each cluster,
    /// the fast ones first, and at no higher clocks, by a clamp or else by a cap. Threads that are not named stay as they
    /// are, and what an earlier configuration held that this one does not is let go.
    ///
    /// A clamp is `capacity × clock / highest clock` of the cluster. Whether the kernel honours it, only the measured
    /// speed tells; see [`Levers::give_up_clamps`]. Threads that a named one starts afterwards inherit its cores and its
    /// clamp, and keep them.
    pub fn apply(&mut self, configuration: &Configuration, tids: &[i32]) -> Applied {
        let (shares, clusters) = (&configuration.shares, self.topology.clusters.len());
        if shares.len() != clusters {
            self.complain(Complaint::Shares { got: shares.len(), expected: clusters });
            return Applied { pinned: 0, holds: vec![Hold::Nothing; clusters] };
        }
        let tids = self.remember(tids);
        let mut complaints = Vec::new();
        let places = places(&self.topology, shares, &self.allowed(&tids), tids.len(), &mut complaints);
        complaints.into_iter().for_each(|complaint| self.complain(complaint));

        let mut applied = Applied { pinned: 0, holds: vec![Hold::Free; clusters] };
        let mut clamped = vec![true; clusters];
        for (idx, tid) in tids.iter().enumerate() {
            match places.get(idx) {
                Some(place) => {
                    applied.pinned += usize::from(self.pin(*tid, place));
                    if !self.clamp(*tid, place) {
                        place.clusters.iter().for_each(|cluster| clamped[*cluster] = false);
                    }
                }
                None => {
                    self.let_go(*tid);
                }
            }
        }
        for (idx, share) in shares.iter().enumerate() {
            let Some(khz) = limit(&self.topology.clusters[idx], *share) else {
                self.uncap(idx);
                continue;
            };
            applied.holds[idx] = if !places.iter().any(|place| place.clusters.contains(&idx)) {
                self.uncap(idx);
                Hold::Free
            } else if clamped[idx] {
                self.uncap(idx);
                Hold::By(Lever::Clamp)
            } else if self.cap(idx, khz) {
                Hold::By(Lever::Cap)
            } else {
                self.complain(Complaint::Clock { cluster: idx });
                Hold::Nothing
            };
        }
        applied
    }

    /// Takes all clamps off and sets no more, so that the next configuration is held by caps: for when a clamp was set
    /// and the measured speed did not follow.
    pub fn give_up_clamps(&mut self) {
        for tid in self.before.keys().copied().collect::<Vec<_>>() {
            self.unclamp(tid);
        }
        self.clamp.get_or_insert(Obstacle::NoEffect);
    }

    /// Puts everything back: clamps, cores, then files. What does not go back now is tried again the next time.
    pub fn restore(&mut self) {
        for tid in self.before.keys().copied().collect::<Vec<_>>() {
            if self.let_go(tid) {
                self.before.remove(&tid);
            }
        }
        if let Some(knobs) = &self.knobs {
            knobs.restore();
        }
    }

    /// What fell through since the last time. The same is told once in the life of these levers.
    #[must_use]
    pub fn take_complaints(&mut self) -> Vec<Complaint> {
        let of_files = self.knobs.as_ref().map(Knobs::take_complaints).unwrap_or_default();
        of_files.into_iter().for_each(|complaint| self.complain(complaint));
        std::mem::take(&mut self.complaints)
    }

    fn complain(&mut self, complaint: Complaint) {
        if self.told.insert(complaint.clone()) {
            self.complaints.push(complaint);
        }
    }

    /// A thread that has ended is nobody's fault.
    fn complain_of(&mut self, lever: Lever, error: &std::io::Error) {
        if !has_ended(error) {
            self.complain(Complaint::Lever { lever, obstacle: Obstacle::from(error) });
        }
    }

    /// Keeps what each thread has before anything is moved on it, and says which threads there are. One that has ended
    /// is forgotten, since its number may be given to another one.
    fn remember(&mut self, tids: &[i32]) -> Vec<i32> {
        let mut all: Vec<i32> = Vec::new();
        for tid in tids.iter().map(|tid| if *tid == 0 { self.threads.own() } else { *tid }) {
            if self.threads.affinity(tid).is_err_and(|error| has_ended(&error)) {
                self.before.remove(&tid);
            } else if !all.contains(&tid) {
                all.push(tid);
                self.before.entry(tid).or_insert_with(|| Before::of(self.threads.as_ref(), tid));
            }
        }
        all
    }

    /// Cores that any of these threads may run on; all, where nothing tells.
    fn allowed(&self, tids: &[i32]) -> Vec<usize> {
        let told: Vec<&Vec<usize>> = tids.iter().filter_map(|tid| self.before.get(tid)?.affinity.as_ref()).collect();
        let cores = self.topology.clusters.iter().flat_map(|cluster| cluster.cores.iter().copied());
        cores.filter(|core| told.is_empty() || told.iter().any(|cores| cores.contains(core))).collect()
    }

    fn pin(&mut self, tid: i32, place: &Place) -> bool {
        let Some(before) = self.before.get(&tid).and_then(|before| before.affinity.as_ref()) else {
            // What is not known could not be put back.
            let obstacle = self.affinity.clone().unwrap_or(Obstacle::Denied);
            self.complain(Complaint::Lever { lever: Lever::Affinity, obstacle });
            return false;
        };
        // Cores that somebody kept a thread off are not for it.
        let cores: Vec<usize> = place.cores.iter().copied().filter(|core| before.contains(core)).collect();
        let pinned = match cores[..] {
            [] => Err(std::io::ErrorKind::PermissionDenied.into()),
            _ => self.threads.pin(tid, &cores),
        };
        if let Err(error) = &pinned {
            self.complain_of(Lever::Affinity, error);
        }
        pinned.is_ok()
    }

    /// Whether a thread has the clamp of its place.
    fn clamp(&mut self, tid: i32, place: &Place) -> bool {
        let Some(max) = place.clamp else {
            self.unclamp(tid);
            return true;
        };
        if let Some(obstacle) = self.clamp.clone() {
            self.complain(Complaint::Lever { lever: Lever::Clamp, obstacle });
            return false;
        }
        if self.before.get(&tid).is_none_or(|before| before.clamp.is_none()) {
            // What is not known could not be put back.
            self.complain(Complaint::Lever { lever: Lever::Clamp, obstacle: Obstacle::Denied });
            return false;
        }
        match self.threads.set_clamp(tid, Some(max)) {
            Ok(()) => true,
            // It asks for no clock any more.
            Err(error) if has_ended(&error) => true,
            Err(error) => {
                self.complain_of(Lever::Clamp, &error);
                false
            }
        }
    }

    /// Whether a thread has the clamp that it came with.
    fn unclamp(&mut self, tid: i32) -> bool {
        // Where there never were clamps there is none to take off; those that were given up may still be on.
        let was_there = matches!(self.clamp, None | Some(Obstacle::NoEffect));
        let Some(before) = self.before.get(&tid).filter(|_| was_there) else { return true };
        let unclamped = before.unclamp(self.threads.as_mut(), tid);
        self.is_back(Lever::Clamp, &unclamped)
    }

    /// Whether a thread has everything that it came with, or is no more.
    fn let_go(&mut self, tid: i32) -> bool {
        let unclamped = self.unclamp(tid);
        let Some(before) = self.before.get(&tid) else { return true };
        let unpinned = before.unpin(self.threads.as_mut(), tid);
        self.is_back(Lever::Affinity, &unpinned) && unclamped
    }

    fn is_back(&mut self, lever: Lever, result: &std::io::Result<()>) -> bool {
        let Err(error) = result else { return true };
        self.complain_of(lever, error);
        has_ended(error)
    }

    fn cap(&mut self, cluster: usize, khz: u32) -> bool {
        let Some(knobs) = self.knobs.as_ref().filter(|_| !self.policies[cluster].is_empty()) else {
            let obstacle = if self.knobs.is_none() { Obstacle::NotOpened } else { Obstacle::Missing };
            self.complain(Complaint::Lever { lever: Lever::Cap, obstacle });
            return false;
        };
        match self.policies[cluster].iter().try_for_each(|policy| knobs.cap(*policy, khz)) {
            Ok(()) => true,
            Err(error) => {
                self.complain(Complaint::Lever { lever: Lever::Cap, obstacle: knobs::obstacle(&error) });
                false
            }
        }
    }

    fn uncap(&mut self, cluster: usize) {
        if let Some(knobs) = &self.knobs {
            self.policies[cluster].iter().for_each(|policy| knobs.put_back(Knob::Cap { policy: *policy }));
        }
    }
}

impl Drop for Levers {
    fn drop(&mut self) {
        self.restore();
    }
}

/// The cpufreq policy that a core belongs to.
fn policies_of(tree: &Tree, cores: &[usize]) -> Vec<u32> {
    let number = |name: &String| {
        let related = tree.text(&format!("{CPUFREQ}/{name}/related_cpus")).ok()??;
        let is_here = related.split_whitespace().any(|each| each.parse().is_ok_and(|core| cores.contains(&core)));
        name.strip_prefix("policy")?.parse().ok().filter(|_| is_here)
    };
    tree.names(CPUFREQ).unwrap_or_default().iter().filter_map(number).collect()
}

/// An error with its reasons, for those who cannot follow `source()`.
fn chain(error: &dyn std::error::Error) -> String {
    let reasons = std::iter::successors(error.source(), |error| error.source());
    reasons.fold(error.to_string(), |text, reason| format!("{text}: {reason}"))
}

#[cfg(test)]
pub(crate) mod tests;
