//! The kernel's files that may be written, and no others.

use super::Lever;

/// A file that moves something for all processes. There is no way to name another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Knob {
    /// The highest clock of a cluster, in kHz: `scaling_max_freq`.
    Cap {
        /// Number of the cpufreq policy.
        policy: u32,
    },
    /// How the clock of a cluster is chosen: `scaling_governor`.
    Governor {
        /// Number of the cpufreq policy.
        policy: u32,
    },
    /// How much a cooling device cools, from 0: `cur_state`.
    Cooling {
        /// Number of the cooling device.
        device: u32,
    },
    /// Who says how fast a fan turns, 1 being whoever writes [`Knob::Fan`]: `pwm*_enable`.
    FanMode {
        /// Number of the hwmon device.
        hwmon: u32,
        /// Which of its fans.
        channel: u32,
    },
    /// How fast a fan turns, out of 255: `pwm*`.
    Fan {
        /// Number of the hwmon device.
        hwmon: u32,
        /// Which of its fans.
        channel: u32,
    },
}

/// Where cpufreq policies are.
pub(super) const CPUFREQ: &str = "sys/devices/system/cpu/cpufreq";

/// Where cooling devices are.
pub(super) const THERMAL: &str = "sys/class/thermal";

/// Where fans are.
pub(super) const HWMON: &str = "sys/class/hwmon";

/// The longest name that the kernel gives a governor (`CPUFREQ_NAME_LEN`, without the end of a C string).
const GOVERNOR_BYTES: usize = 15;

/// The fan turns as fast as is written.
pub(super) const MANUAL: &str = "1";

impl Knob {
    /// Where it is below a root.
    #[must_use]
    pub fn path(&self) -> String {
        match self {
            Self::Cap { policy } => format!("{CPUFREQ}/policy{policy}/scaling_max_freq"),
            Self::Governor { policy } => format!("{CPUFREQ}/policy{policy}/scaling_governor"),
            Self::Cooling { device } => format!("{THERMAL}/cooling_device{device}/cur_state"),
            Self::FanMode { hwmon, channel } => format!("{HWMON}/hwmon{hwmon}/pwm{channel}_enable"),
            Self::Fan { hwmon, channel } => format!("{HWMON}/hwmon{hwmon}/pwm{channel}"),
        }
    }

    /// The lever that it is part of.
    #[must_use]
    pub fn lever(&self) -> Lever {
        match self {
            Self::Cap { .. } => Lever::Cap,
            Self::Governor { .. } => Lever::Governor,
            Self::Cooling { .. } => Lever::Cooling,
            Self::FanMode { .. } | Self::Fan { .. } => Lever::Fan,
        }
    }

    /// The knob at a path; none for any path that is not spelled as [`Knob::path`] spells it.
    pub(super) fn at(path: &str) -> Option<Self> {
        let (folder, file) = path.rsplit_once('/')?;
        let number = |prefix: &str| folder.strip_prefix(prefix)?.parse().ok();
        let knob = match file {
            "scaling_max_freq" => Self::Cap { policy: number(&format!("{CPUFREQ}/policy"))? },
            "scaling_governor" => Self::Governor { policy: number(&format!("{CPUFREQ}/policy"))? },
            "cur_state" => Self::Cooling { device: number(&format!("{THERMAL}/cooling_device"))? },
            _ => {
                let (hwmon, pwm) = (number(&format!("{HWMON}/hwmon"))?, file.strip_prefix("pwm")?);
                match pwm.strip_suffix("_enable") {
                    Some(channel) => Self::FanMode { hwmon, channel: channel.parse().ok()? },
                    None => Self::Fan { hwmon, channel: pwm.parse().ok()? },
                }
            }
        };
        // Signs and leading zeros are numbers to a parser, and other files to the kernel.
        (knob.path() == path).then_some(knob)
    }

    /// Whether a text is one that the kernel has in such a file.
    pub(super) fn takes(&self, text: &str) -> bool {
        let number = || text.parse::<u32>().ok().filter(|number| number.to_string() == text);
        match self {
            Self::Cap { .. } => number().is_some_and(|khz| khz > 0),
            Self::Governor { .. } => {
                let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
                (1..=GOVERNOR_BYTES).contains(&text.len()) && text.bytes().all(is_name)
            }
            Self::Cooling { .. } => number().is_some(),
            // Drivers have modes of their own above the documented 0 to 2.
            Self::FanMode { .. } => number().is_some_and(|mode| mode < 10),
            Self::Fan { .. } => number().is_some_and(|pwm| pwm <= 255),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knobs_are_found_at_their_paths_and_nothing_else_is_one() {
        for knob in [
            Knob::Cap { policy: 0 },
            Knob::Governor { policy: 4_294_967_295 },
            Knob::Cooling { device: 17 },
            Knob::FanMode { hwmon: 3, channel: 2 },
            Knob::Fan { hwmon: 3, channel: 2 },
        ] {
            assert_eq!(Knob::at(&knob.path()), Some(knob));
        }
        for path in [
            "",
            "etc/passwd",
            "sys/devices/system/cpu/cpufreq/policy0/../../cpu0/online",
            "sys/devices/system/cpu/cpufreq/policy+0/scaling_max_freq",
            "sys/devices/system/cpu/cpufreq/policy00/scaling_max_freq",
            "sys/devices/system/cpu/cpufreq/policy/scaling_max_freq",
            "sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq",
            "/sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq",
            "sys/class/thermal/cooling_device0/../../../../etc/cur_state",
            "sys/class/hwmon/hwmon0/pwm1_enable/pwm1",
            "sys/class/hwmon/hwmon0/pwm1_mode",
            "sys/class/hwmon/hwmon0/pwm",
        ] {
            assert_eq!(Knob::at(path), None, "{path}");
        }
    }

    #[test]
    fn texts_that_no_such_file_has_are_told_apart() {
        let policy = 0;
        for (knob, fine, not) in [
            (Knob::Cap { policy }, "1800000", ["0", "", "-1", "+5", "99999999999", "1e6", "1 2"]),
            (
                Knob::Governor { policy },
                "sugov_ext",
                ["", "a b", "a/b", "sixteen-letters!", "a\n", "é", "0123456789abcdef"],
            ),
            (Knob::Cooling { device: 0 }, "0", ["", "-1", "x", "0x1", "01", " 1", "1\t"]),
            (Knob::Fan { hwmon: 0, channel: 1 }, "255", ["256", "", "-1", "x", "1.5", "00", "+1"]),
            (Knob::FanMode { hwmon: 0, channel: 1 }, "2", ["10", "", "-1", "x", "1.5", "00", "+1"]),
        ] {
            assert!(knob.takes(fine));
            for not in not {
                assert!(!knob.takes(not), "{knob:?} {not}");
            }
        }
    }
}
