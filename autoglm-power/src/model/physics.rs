//! How fast a configuration is, what it draws, and how that heats the device.

use super::{Assumptions, Device};
use crate::Configuration;
use crate::control::{Phase, Point};

/// Device and assumptions, as the laws of what follows.
#[derive(Debug, Clone)]
pub(crate) struct Physics<'a> {
    pub(crate) device: &'a Device,
    pub(crate) assumed: &'a Assumptions,
}

impl Physics<'_> {
    /// 1e9 integer operations per second of all cores that take part.
    fn operations(&self, on: &Configuration) -> f64 {
        let shares = self.device.clusters.iter().zip(&on.shares).filter(|(_, share)| share.cores > 0);
        let (sum, clusters) = shares.fold((0.0, 0), |(sum, clusters), (table, share)| {
            (sum + share.cores as f64 * table.gops[share.clock], clusters + 1)
        });
        sum * (1.0 - self.assumed.mixing_loss * f64::from((clusters - 1).max(0))).max(0.1)
    }

    /// Draw of the cores that take part, all of them busy, in W.
    fn draw(&self, on: &Configuration) -> f64 {
        let shares = self.device.clusters.iter().zip(&on.shares);
        let sum: f64 = shares.map(|(table, share)| share.cores as f64 * table.watt_per_core[share.clock]).sum();
        sum * self.assumed.dot_product_draw
    }

    /// Rate and power of a configuration in a phase: 1e9 operations per second of [`Phase::Compute`] and 1e9 bytes of
    /// [`Phase::Decode`], and what inference adds to an idle phone.
    pub(crate) fn point(&self, on: &Configuration, phase: Phase) -> Point {
        let Assumptions { uncore_w, one_row_efficiency, overlap, stalled_draw, .. } = *self.assumed;
        let operations = self.operations(on);
        match phase {
            Phase::Compute => Point { rate: operations, watts: self.draw(on) + uncore_w },
            Phase::Decode => {
                let bytes_per_operation = self.assumed.bits_per_weight / 8.0 / 2.0;
                let read_s = 1.0 / self.device.memory.gb_s;
                let compute_s = 1.0 / (operations * one_row_efficiency * bytes_per_operation);
                let seconds = (read_s.powf(overlap) + compute_s.powf(overlap)).powf(1.0 / overlap);
                let busy = (compute_s / seconds).min(1.0);
                let draw = self.draw(on) * (stalled_draw + (1.0 - stalled_draw) * busy);
                let rate = 1.0 / seconds;
                Point { rate, watts: draw + uncore_w + rate * 1e9 * self.device.memory.j_per_byte }
            }
        }
    }
}

/// Temperatures of the two nodes, in °C.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Heat {
    pub(crate) body_c: f64,
    pub(crate) junction_c: f64,
}

impl Heat {
    /// In balance with the air.
    pub(crate) fn at(ambient_c: f64) -> Self {
        Self { body_c: ambient_c, junction_c: ambient_c }
    }

    /// `seconds` of the processor drawing `soc_w` while `body_w` in all heat the body. Both nodes are solved exactly for
    /// a constant power, so that long idle stretches are as right as short ones; the junction follows the body's end.
    pub(crate) fn pass(&mut self, device: &Device, ambient_c: f64, soc_w: f64, body_w: f64, seconds: f64) {
        let super::Thermal { body_r, body_c, junction_r, junction_tau } = device.thermal;
        let settles_at = ambient_c + body_w * body_r;
        self.body_c = settles_at + (self.body_c - settles_at) * (-seconds / (body_r * body_c)).exp();
        let above = self.body_c + soc_w * junction_r;
        self.junction_c = above + (self.junction_c - above) * (-seconds / junction_tau).exp();
    }
}
