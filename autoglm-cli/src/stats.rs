//! The line of JSON that `--stats` prints.

use autoglm::{Model, Stats};
use serde_json::json;

/// One JSON object on one line. What this machine does not tell is null.
pub(crate) fn line(model: &Model, stats: &Stats) -> String {
    json!({
        "prompt_tokens": stats.prompt_tokens,
        "reused_tokens": stats.reused_tokens,
        "vision_s": stats.vision.as_secs_f64(),
        "audio_s": stats.audio.as_secs_f64(),
        "prefill_s": stats.prefill.as_secs_f64(),
        "decode_s": stats.decode.as_secs_f64(),
        "decode_tokens": stats.decode_tokens,
        "forced_tokens": stats.forced_tokens,
        "ttft_s": stats.time_to_first_token.as_secs_f64(),
        "weights_bytes": model.weights_bytes(),
        "kv_bytes": stats.kv_bytes,
        "peak_rss_bytes": peak_rss_bytes(),
        "isa": model.isa(),
        "threads": model.threads(),
        "energy_j": stats.energy_j,
        "energy_source": stats.energy_source.map(|source| format!("measured: {source}")),
    })
    .to_string()
}

/// The largest resident size of this process so far, where the system keeps it (`VmHWM` on Linux).
pub(crate) fn peak_rss_bytes() -> Option<u64> {
    of_status("VmHWM:")
}

/// The resident size of this process now, mapped files included, where the system keeps it (`VmRSS` on Linux).
#[cfg(all(feature = "quant", feature = "power"))]
pub(crate) fn resident_bytes() -> Option<u64> {
    of_status("VmRSS:")
}

fn of_status(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Lets the largest resident size begin anew, where the system does that (Linux). Elsewhere it goes on
/// from what was measured before.
#[cfg(feature = "quant")]
pub(crate) fn forget_peak_rss() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}
