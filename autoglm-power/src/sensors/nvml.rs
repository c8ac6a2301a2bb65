//! NVIDIA cards through the driver's own library, where there is one.

use std::ffi::OsStr;
use std::time::Duration;

use nvml_wrapper::Nvml;

use super::counter::Counter;

/// Names of the library: images without development files have only the first, and some older systems only the second.
const LIBRARIES: &[&str] = &["libnvidia-ml.so.1", "libnvidia-ml.so"];

/// What one card takes at most, in W; the largest are specified for somewhat more than 1000.
const MOST_W: f64 = 2000.0;

/// All cards of a machine.
#[derive(Debug)]
pub(super) struct Cards {
    nvml: Nvml,
    counters: Vec<Counter>,
}

impl Cards {
    /// The cards; none without a driver, or without cards.
    pub(super) fn of_this_device() -> Option<Self> {
        let nvml = LIBRARIES.iter().find_map(|name| Nvml::builder().lib_path(OsStr::new(name)).init().ok())?;
        let count = nvml.device_count().ok().filter(|count| *count > 0)?;
        Some(Self { nvml, counters: (0..count).map(|_| Counter::new(MOST_W)).collect() })
    }

    /// What all cards take, in W: the mean since the reading before where a card counts its energy (since Volta), and
    /// what it takes now where it does not, or there was no reading before. None where one of them says neither.
    pub(super) fn power_w(&mut self, now: Duration) -> Option<f64> {
        let mut total = 0.0;
        for (idx, counter) in (0..).zip(&mut self.counters) {
            let card = self.nvml.device_by_index(idx).ok()?;
            let energy = card.total_energy_consumption().ok().and_then(|millijoules| millijoules.checked_mul(1000));
            let mean = energy.and_then(|microjoules| counter.watts(microjoules, None, now));
            let at_once = || card.power_usage().ok().map(|milliwatts| f64::from(milliwatts) / 1e3);
            total += mean.or_else(at_once).filter(|watts| (0.0..=MOST_W).contains(watts))?;
        }
        (total > 0.0).then_some(total)
    }
}
