//! Volts and watts out of numbers that should be micro-units and sometimes are milli-units.

/// What a battery may be thought to give while a device runs, in W. One cell (below 6 V) is a phone's, which takes from 10 mW
/// asleep to 30 W; more of them are a laptop's or tablet's, which takes from 100 mW to what docks and gaming laptops reach.
fn plausible(watts: f64, volts: Option<f64>) -> bool {
    match volts {
        Some(volts) if volts < 6.0 => (0.01..=30.0).contains(&watts),
        Some(_) => (0.1..=300.0).contains(&watts),
        None => (0.01..=300.0).contains(&watts),
    }
}

/// The voltage of a battery in `voltage_now`: the kernel's rule is µV, and some drivers say mV. From 2 V to 100 V the two
/// cannot be mistaken for each other.
pub(super) fn volts(voltage_now: i64) -> Option<f64> {
    match voltage_now {
        2_000..=100_000 => Some(voltage_now as f64 / 1e3),
        2_000_000..=100_000_000 => Some(voltage_now as f64 / 1e6),
        _ => None,
    }
}

/// The power in `power_now`: the kernel's rule is µW, which mW is taken for only where µW would be implausibly little.
pub(super) fn watts_of_power(power_now: i64, volts: Option<f64>) -> Option<f64> {
    let magnitude = power_now.unsigned_abs() as f64;
    [1e-6, 1e-3].iter().map(|unit| magnitude * unit).find(|watts| plausible(*watts, volts))
}

/// The unit of one battery's `current_now`: the kernel's rule is µA, and some phones say mA.
///
/// A current of more than 50 000 is 50 A in mA, so that a battery which says so, and plausibly, counts in µA; three of them
/// in a row settle it for good. Until then a smaller number is taken for mA where that is plausible, since a device that is
/// awake to ask draws more than some milliamperes.
#[derive(Debug, Default)]
pub(super) struct CurrentUnit {
    micro: u8,
}

/// Currents in µA above which no battery counts in mA.
const NO_MILLI: u64 = 50_000;
/// How many of them settle it.
const SETTLED: u8 = 3;

impl CurrentUnit {
    /// The power behind a current, whatever its sign, at a voltage; none where neither unit makes it plausible.
    pub(super) fn watts(&mut self, current_now: i64, volts: f64) -> Option<f64> {
        let magnitude = current_now.unsigned_abs();
        let in_unit = |unit: f64| Some(magnitude as f64 * unit * volts).filter(|watts| plausible(*watts, Some(volts)));
        let micro = in_unit(1e-6);
        if self.micro < SETTLED {
            self.micro = if magnitude > NO_MILLI && micro.is_some() { self.micro + 1 } else { 0 };
        }
        if magnitude > NO_MILLI || self.micro == SETTLED { micro } else { in_unit(1e-3).or(micro) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watts(current_now: i64, voltage_now: i64) -> Option<f64> {
        CurrentUnit::default().watts(current_now, volts(voltage_now).unwrap())
    }

    #[test]
    fn milliamperes_beside_microvolts_are_milliamperes() {
        let taken = watts(898, 11_829_000).unwrap();
        assert!((taken - 10.622).abs() < 0.001, "{taken}");
    }

    #[test]
    fn the_sign_of_a_current_does_not_matter() {
        assert_eq!(watts(-898, 11_829_000), watts(898, 11_829_000));
        assert_eq!(watts(i64::MIN, 3_800_000), None);
    }

    #[test]
    fn both_units_of_both_quantities_are_told_apart() {
        for (current, voltage) in [(450_000, 3_800_000), (450, 3_800_000), (450_000, 3_800), (450, 3_800)] {
            let taken = watts(current, voltage).unwrap();
            assert!((taken - 1.71).abs() < 1e-9, "{current} {voltage}: {taken}");
        }
    }

    #[test]
    fn a_battery_that_was_seen_to_count_in_microamperes_keeps_to_them() {
        let mut unit = CurrentUnit::default();
        // As mA this would be 19 W, which a phone can take.
        assert!(unit.watts(5_000, 3.8).unwrap() > 18.0);
        for _ in 0..3 {
            unit.watts(450_000, 3.8);
        }
        assert!((unit.watts(5_000, 3.8).unwrap() - 0.019).abs() < 1e-9);
    }

    #[test]
    fn one_odd_current_does_not_settle_the_unit() {
        let mut unit = CurrentUnit::default();
        for current in [65_535, 65_535, 400, 65_535, 65_535] {
            unit.watts(current, 3.8);
        }
        assert!((unit.watts(400, 3.8).unwrap() - 1.52).abs() < 1e-9);
    }

    #[test]
    fn nothing_plausible_is_nothing() {
        for (current, voltage) in [(0, 3_800_000), (i64::MAX, 3_800_000), (100_000_000, 3_800_000), (1, 3_800_000)] {
            assert_eq!(watts(current, voltage), None, "{current}");
        }
        for voltage in [0, -3_800_000, 3, 1_999, 100_001, 1_999_999, 100_000_001, i64::MAX] {
            assert_eq!(volts(voltage), None, "{voltage}");
        }
    }

    #[test]
    fn power_is_microwatts_unless_that_is_too_little() {
        assert_eq!(watts_of_power(12_500_000, Some(11.4)), Some(12.5));
        assert_eq!(watts_of_power(-12_500_000, Some(11.4)), Some(12.5));
        assert_eq!(watts_of_power(12_500, Some(11.4)), Some(12.5));
        assert_eq!(watts_of_power(0, Some(11.4)), None);
        assert_eq!(watts_of_power(i64::MIN, None), None);
    }
}
