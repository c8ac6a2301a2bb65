//! Clocks, governors, cooling devices and fans: what may be asked of each.

use super::knob::{CPUFREQ, Knob, MANUAL, THERMAL};
use super::knobs::Knobs;
use crate::{Error, Result, Tree};

impl Knobs {
    /// Caps the clock of a cpufreq policy, in kHz.
    ///
    /// A first cap is refused while the kernel throttles: the file then reads as the throttled clock, and putting that
    /// back would leave the device slow once it is cool.
    ///
    /// # Errors
    /// - [`Error::Refused`] for a clock outside of what the hardware has.
    /// - [`Error::Read`] and [`Error::Write`] where the file or the journal cannot be read or written.
    pub fn cap(&self, policy: u32, khz: u32) -> Result<()> {
        let mut held = self.held();
        let limit = |file: &str| held.tree.number(&format!("{CPUFREQ}/policy{policy}/{file}"));
        let range = limit("cpuinfo_min_freq")?.zip(limit("cpuinfo_max_freq")?);
        let knob = Knob::Cap { policy };
        match range {
            Some((lowest, highest)) if (lowest..=highest).contains(&i64::from(khz)) && khz > 0 => {
                held.set(knob, &khz.to_string())
            }
            Some(_) => Err(refused(&held.tree, knob, &khz.to_string(), "the hardware has no such clock")),
            None => Err(refused(&held.tree, knob, &khz.to_string(), "the clocks of the hardware are not known")),
        }
    }

    /// Has the clock of a cpufreq policy chosen by a governor.
    ///
    /// # Errors
    /// - [`Error::Refused`] for a governor that the kernel does not list.
    /// - [`Error::Read`] and [`Error::Write`] where the file or the journal cannot be read or written.
    pub fn governor(&self, policy: u32, name: &str) -> Result<()> {
        let mut held = self.held();
        let knob = Knob::Governor { policy };
        let listed = held.tree.text(&format!("{CPUFREQ}/policy{policy}/scaling_available_governors"))?;
        if knob.takes(name) && listed.is_some_and(|listed| listed.split_whitespace().any(|listed| listed == name)) {
            held.set(knob, name)
        } else {
            Err(refused(&held.tree, knob, name, "the kernel does not list it"))
        }
    }

    /// Has a cooling device cool this much, 0 being not at all.
    ///
    /// # Errors
    /// - [`Error::Refused`] for more than the device can.
    /// - [`Error::Read`] and [`Error::Write`] where the file or the journal cannot be read or written.
    pub fn cool(&self, device: u32, state: u32) -> Result<()> {
        let mut held = self.held();
        let knob = Knob::Cooling { device };
        let most = held.tree.number(&format!("{THERMAL}/cooling_device{device}/max_state"))?;
        if most.is_some_and(|most| i64::from(state) <= most) {
            held.set(knob, &state.to_string())
        } else {
            Err(refused(&held.tree, knob, &state.to_string(), "the device has no such state"))
        }
    }

    /// Turns a fan at `pwm` out of 255, after taking it from its controller where it has one.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Read`] and [`Error::Write`] where its files or the journal cannot be read or written.
    /// A fan that was taken is then given back to its controller.
    pub fn fan(&self, hwmon: u32, channel: u32, pwm: u8) -> Result<()> {
        let mut held = self.held();
        let (fan, mode) = (Knob::Fan { hwmon, channel }, Knob::FanMode { hwmon, channel });
        // Asked before anything is changed: a fan without a controller and without our speed would be worse than both.
        if Knobs::probe(&held.tree, fan).is_err() {
            return Err(refused(&held.tree, fan, &pwm.to_string(), "it may not be written"));
        }
        if held.tree.text(&mode.path())?.is_some_and(|mode| mode != MANUAL) {
            held.set(mode, MANUAL)?;
        }
        let turned = held.set(fan, &pwm.to_string());
        if turned.is_err() {
            held.put_back(fan);
        }
        turned
    }
}

fn refused(tree: &Tree, knob: Knob, value: &str, why: &'static str) -> Error {
    Error::Refused { path: tree.path(&knob.path()), value: value.to_owned(), why }
}
