//! What no table of a device says: how inference uses a processor.

/// What no table of a device says, each assumed, derived from the architecture of the model, or both. A sweep over all of
/// them is part of `cargo xtask campaign power`.
#[derive(Debug, Clone, PartialEq)]
pub struct Assumptions {
    /// Parameters of the decoder: GLM-4.1V-9B's, derived from its shape.
    pub parameters: f64,
    /// Share of them that is pruned away where a policy prunes: a fifth of the neurons. The tiny trained checkpoint taps as
    /// well without them; nobody has tried the published weights.
    pub pruned: f64,
    /// Bits per weight, factors included: of INT4 in groups of 32.
    pub bits_per_weight: f64,
    /// What a dot-product loop draws against the calibration loop of Android's power profiles.
    pub dot_product_draw: f64,
    /// Of that, what a core draws while it waits for memory, as a fraction.
    pub stalled_draw: f64,
    /// Interconnect and memory controller while anything is inferred, in W.
    pub uncore_w: f64,
    /// What a product with one row reaches of a core's operations in a product with many.
    pub one_row_efficiency: f64,
    /// How reading and computing overlap: (r⁴ + c⁴)^¼ for an exponent of 4, the longer of the two for a large one.
    pub overlap: f64,
    /// What is lost of the operations of all cores for each further cluster that takes part, as a fraction.
    pub mixing_loss: f64,
    /// Bytes of keys and values per token: 40 layers, two heads of 128, two halves of two bytes.
    pub kv_bytes_per_token: f64,
    /// Operations of attention per token and token before it: four for each of 32 · 128 channels of 40 layers.
    pub attention_ops: f64,
    /// Operations of the picture tower per visual token: four patches through 24 layers of 1536.
    pub tower_ops: f64,
    /// Operations of the tower's attention per visual token and visual token beside it.
    pub tower_attention_ops: f64,
    /// Words of a user's turn, which are computed anew when its picture is taken out.
    pub turn_tokens: f64,
    /// From an answer to the next screenshot of a task, in s.
    pub settle_s: f64,
    /// Rate at which weights are read back, in 1e9 bytes per second.
    pub storage_gb_s: f64,
    /// Share of [`Idle::resident_w`](super::Idle::resident_w) that keys and values take.
    pub kv_residency: f64,
    /// Share of it that a process without weights takes.
    pub process_residency: f64,
    /// What writing keys and values to disk and reading them back takes, in J.
    pub spill_j: f64,
    /// What starting the process takes beyond reading weights, in J.
    pub start_j: f64,
    /// Share of the screen's power that heats the body.
    pub screen_heat: f64,
    /// Temperature of the junction at which the device protects itself, whatever runs, in °C.
    pub vendor_trip_c: f64,
    /// Temperature at which it stops to, in °C.
    pub vendor_release_c: f64,
    /// Standard deviation of a reading of power, as a fraction.
    pub power_noise: f64,
    /// Standard deviation of a reading of temperature, in K.
    pub temperature_noise: f64,
    /// Time after which the gauge of power has followed a change to 63 %, in s.
    pub power_lag_s: f64,
}

impl Default for Assumptions {
    fn default() -> Self {
        Self {
            parameters: 9.4e9,
            pruned: 0.144,
            bits_per_weight: 4.5,
            dot_product_draw: 1.8,
            stalled_draw: 0.45,
            uncore_w: 0.55,
            one_row_efficiency: 0.21,
            overlap: 4.0,
            mixing_loss: 0.05,
            kv_bytes_per_token: 40_960.0,
            attention_ops: 4.0 * 4096.0 * 40.0,
            tower_ops: 4.0 * 2.0 * 24.0 * (4.0 * 1536.0 * 1536.0 + 3.0 * 1536.0 * 4096.0),
            tower_attention_ops: 4.0 * 4.0 * 4.0 * 1536.0 * 24.0,
            turn_tokens: 150.0,
            settle_s: 2.0,
            storage_gb_s: 3.3,
            kv_residency: 0.1,
            process_residency: 0.05,
            spill_j: 0.4,
            start_j: 1.5,
            screen_heat: 0.5,
            vendor_trip_c: 95.0,
            vendor_release_c: 85.0,
            power_noise: 0.03,
            temperature_noise: 0.1,
            power_lag_s: 0.0,
        }
    }
}

/// A field of [`Assumptions`] and the range that it is swept over.
pub type Swept = (&'static str, fn(&mut Assumptions) -> &mut f64, [f64; 2]);

impl Assumptions {
    /// Parameters of the decoder, pruned or not.
    #[must_use]
    pub fn parameters(&self, pruned: bool) -> f64 {
        self.parameters * if pruned { 1.0 - self.pruned } else { 1.0 }
    }

    /// Bytes of weights.
    #[must_use]
    pub fn weights_bytes(&self, pruned: bool) -> f64 {
        self.parameters(pruned) * self.bits_per_weight / 8.0
    }

    /// Every assumed constant with the lowest and the highest value that seem possible.
    #[must_use]
    pub fn swept() -> Vec<Swept> {
        vec![
            ("parameters", |a| &mut a.parameters, [4.0e9, 9.4e9]),
            ("pruned", |a| &mut a.pruned, [0.0, 0.2]),
            ("bits_per_weight", |a| &mut a.bits_per_weight, [4.25, 8.5]),
            ("dot_product_draw", |a| &mut a.dot_product_draw, [1.2, 2.5]),
            ("stalled_draw", |a| &mut a.stalled_draw, [0.25, 0.7]),
            ("uncore_w", |a| &mut a.uncore_w, [0.3, 1.1]),
            ("one_row_efficiency", |a| &mut a.one_row_efficiency, [0.14, 0.33]),
            ("overlap", |a| &mut a.overlap, [2.0, 8.0]),
            ("mixing_loss", |a| &mut a.mixing_loss, [0.0, 0.15]),
            ("tower_ops", |a| &mut a.tower_ops, [2.0e9, 8.0e9]),
            ("kv_bytes_per_token", |a| &mut a.kv_bytes_per_token, [2.0e4, 1.6e5]),
            ("attention_ops", |a| &mut a.attention_ops, [3.3e5, 1.3e6]),
            ("tower_attention_ops", |a| &mut a.tower_attention_ops, [1.2e6, 4.7e6]),
            ("vendor_release_c", |a| &mut a.vendor_release_c, [75.0, 93.0]),
            ("turn_tokens", |a| &mut a.turn_tokens, [50.0, 400.0]),
            ("settle_s", |a| &mut a.settle_s, [0.5, 5.0]),
            ("storage_gb_s", |a| &mut a.storage_gb_s, [0.8, 4.0]),
            ("kv_residency", |a| &mut a.kv_residency, [0.02, 0.3]),
            ("process_residency", |a| &mut a.process_residency, [0.0, 0.1]),
            ("spill_j", |a| &mut a.spill_j, [0.1, 1.0]),
            ("start_j", |a| &mut a.start_j, [0.5, 4.0]),
            ("screen_heat", |a| &mut a.screen_heat, [0.3, 1.0]),
            ("vendor_trip_c", |a| &mut a.vendor_trip_c, [85.5, 105.0]),
            ("power_noise", |a| &mut a.power_noise, [0.0, 0.1]),
            ("temperature_noise", |a| &mut a.temperature_noise, [0.0, 0.5]),
            ("power_lag_s", |a| &mut a.power_lag_s, [0.0, 10.0]),
        ]
    }
}
