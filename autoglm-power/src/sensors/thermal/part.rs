//! Which part of a device a thermal zone stands for, by its type.

/// The part of a device that a thermal zone is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// What a hand touches, or a place on the board that was chosen to stand for it.
    Skin,
    /// The rest of the board, which is hotter: for phones that have nothing better.
    Board,
    /// The battery.
    Battery,
    /// The processor and what is on one die with it.
    Processor,
    /// What the firmware of a PC tells, which is often a constant: the last resort for a processor.
    Firmware,
}

/// Beginnings of types. Underscores count as hyphens, and capitals as small letters.
const BEGINNINGS: &[(Part, &[&str])] = &[
    // On Snapdragons `quiet_therm` is away from whatever heats, and what the phone itself takes for its skin.
    // MediaTek names its battery and board zones `mtkts…`; `tskn` and `tcpu` are of Intel's laptops.
    (Part::Battery, &["batt", "bms", "maxfg", "mtktsbattery"]),
    (
        Part::Skin,
        &["skin", "virtual-skin", "shell", "case-therm", "back-therm", "front-therm", "surface", "tskn", "quiet-therm"],
    ),
    (Part::Board, &["xo-therm", "neutral-therm", "mtktsap"]),
    (
        Part::Processor,
        &["cpu", "soc", "x86-pkg-temp", "tsens", "tj-thermal", "gpu", "g3d", "npu", "nsp", "tpu", "tcpu", "mtktscpu"],
    ),
    (Part::Firmware, &["acpitz"]),
];

/// Types that are a part's only as a whole: on Google's processors, zones are named for the clusters.
const WHOLE: &[(Part, &[&str])] = &[(Part::Processor, &["big", "mid", "little"])];

impl Part {
    /// The part that a zone's type stands for; none for all that tell nothing about body or processor, such as modems,
    /// chargers and radios, and for those whose name nobody here has met.
    pub(super) fn of(kind: &str) -> Option<Self> {
        let kind = kind.to_ascii_lowercase().replace('_', "-");
        let begins = |(_, names): &&(Self, &[&str])| names.iter().any(|name| kind.starts_with(name));
        let is = |(_, names): &&(Self, &[&str])| names.contains(&kind.as_str());
        BEGINNINGS.iter().find(begins).or_else(|| WHOLE.iter().find(is)).map(|(part, _)| *part)
    }

    /// Whether this part answers to the power that is taken within seconds, and not within minutes.
    pub(super) fn is_quick(self) -> bool {
        matches!(self, Self::Processor | Self::Firmware)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_devices_have_are_of_their_parts() {
        for (part, kinds) in [
            (Part::Skin, &["skin_therm", "VIRTUAL-SKIN", "quiet_therm", "quiet-therm-usr", "TSKN"][..]),
            (Part::Board, &["xo_therm", "xo-therm-adc", "neutral_therm"]),
            (Part::Battery, &["battery", "Battery", "batt_therm", "mtktsbattery"]),
            (Part::Processor, &["cpu-1-2-0", "cpu-thermal", "CPU-therm", "x86_pkg_temp", "tsens_tz_sensor4", "BIG"]),
            (Part::Firmware, &["acpitz"]),
        ] {
            for kind in kinds {
                assert_eq!(Part::of(kind), Some(part), "{kind}");
            }
        }
        for kind in ["", "iwlwifi_1", "PMIC-Die", "modem0-pa0", "pm8998_tz", "usb-therm", "bigger", "INT3400 Thermal"] {
            assert_eq!(Part::of(kind), None, "{kind}");
        }
    }
}
