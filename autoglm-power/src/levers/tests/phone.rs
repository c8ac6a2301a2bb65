//! A phone of files: three clusters, two cooling devices and a fan, in a directory.

use std::path::PathBuf;

use crate::levers::Knob;
use crate::{Cluster, Topology, Tree};

/// Clocks of each cluster, in kHz.
pub(crate) const CLOCKS: [[u32; 3]; 3] =
    [[300_000, 1_197_000, 1_803_000], [400_000, 1_491_000, 2_253_000], [500_000, 1_582_000, 2_850_000]];

/// The cpufreq policy of each cluster.
pub(crate) const POLICIES: [u32; 3] = [0, 4, 6];

/// All that can be written there.
pub(crate) const KNOBS: [Knob; 9] = [
    Knob::Cap { policy: 0 },
    Knob::Cap { policy: 4 },
    Knob::Cap { policy: 6 },
    Knob::Governor { policy: 0 },
    Knob::Governor { policy: 4 },
    Knob::Governor { policy: 6 },
    Knob::Cooling { device: 1 },
    Knob::FanMode { hwmon: 0, channel: 1 },
    Knob::Fan { hwmon: 0, channel: 1 },
];

#[derive(Debug)]
pub(crate) struct Phone {
    folder: tempfile::TempDir,
    pub(crate) tree: Tree,
}

impl Phone {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::new(folder.path());
        let phone = Self { folder, tree };
        phone.lay("proc/sys/kernel/random/boot_id", "0f4c0ac4-5d2c-4f4b-9d54-6f3f0b1d2c3a");
        for ((policy, clocks), cores) in POLICIES.iter().zip(CLOCKS).zip(["0 1 2 3", "4 5", "6 7"]) {
            let of = |file: &str| format!("sys/devices/system/cpu/cpufreq/policy{policy}/{file}");
            phone.lay(&of("related_cpus"), cores);
            phone.lay(&of("cpuinfo_min_freq"), &clocks[0].to_string());
            phone.lay(&of("cpuinfo_max_freq"), &clocks[2].to_string());
            phone.lay(&of("scaling_max_freq"), &clocks[2].to_string());
            phone.lay(&of("scaling_governor"), "sched_pixel");
            phone.lay(&of("scaling_available_governors"), "sched_pixel powersave performance schedutil");
        }
        for (device, kind) in ["thermal-cpufreq-0", "fan"].iter().enumerate() {
            let of = |file: &str| format!("sys/class/thermal/cooling_device{device}/{file}");
            phone.lay(&of("type"), kind);
            phone.lay(&of("max_state"), "10");
            phone.lay(&of("cur_state"), "0");
        }
        phone.lay("sys/class/hwmon/hwmon0/pwm1", "80");
        phone.lay("sys/class/hwmon/hwmon0/pwm1_enable", "2");
        phone
    }

    /// A file with the line break that the kernel ends its own with.
    pub(crate) fn lay(&self, path: &str, text: &str) {
        let path = self.tree.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("{text}\n")).unwrap();
    }

    pub(crate) fn text(&self, knob: Knob) -> String {
        self.tree.text(&knob.path()).unwrap().unwrap()
    }

    pub(crate) fn path(&self, knob: Knob) -> PathBuf {
        self.tree.path(&knob.path())
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        KNOBS.iter().map(|knob| self.text(*knob)).collect()
    }

    pub(crate) fn write_protect(&self, knob: Knob, protect: bool) {
        let mut permissions = std::fs::metadata(self.path(knob)).unwrap().permissions();
        permissions.set_readonly(protect);
        std::fs::set_permissions(self.path(knob), permissions).unwrap();
    }

    pub(crate) fn hide(&self, knob: Knob, hide: bool) {
        let (there, gone) = (self.path(knob), self.path(knob).with_added_extension("gone"));
        let (from, to) = if hide { (there, gone) } else { (gone, there) };
        // It may be so already.
        let _ = std::fs::rename(from, to);
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    pub(crate) fn topology() -> Topology {
        let clusters = [(0..4, 160), (4..6, 500), (6..8, 1024)].into_iter().zip(CLOCKS);
        let cluster = |((cores, capacity), clocks): ((std::ops::Range<usize>, u32), [u32; 3])| Cluster {
            cores: cores.collect(),
            clocks_khz: clocks.to_vec(),
            capacity: Some(capacity),
        };
        Topology { clusters: clusters.map(cluster).collect() }
    }
}
