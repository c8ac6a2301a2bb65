//! `autoglm bench --agent-loop`: what each step of a phone agent takes with what was computed before, and
//! without.

use autoglm::{AgentStep, Model};
use serde_json::json;

use crate::bench::picture;
use crate::error::Error;

/// Replays `steps` steps with a new picture of `size` at each. → what is to be printed.
pub(crate) fn replay(model: &Model, steps: u16, size: Option<(u32, u32)>, as_json: bool) -> Result<String, Error> {
    let mut conversation = model.agent_loop();
    let mut taken = Vec::new();
    for step in 1..=u32::from(steps) {
        let picture = size.map(|(width, height)| picture(width, height, step));
        taken.push(conversation.step(picture.as_ref())?);
        crate::tell(&format!("step {step} of {steps}"));
    }
    let stats = model.pool_stats();
    if as_json {
        let steps: Vec<_> = taken.iter().map(of_step).collect();
        let object = json!({
            "steps": steps,
            "pool_peak_bytes": stats.peak,
            "weights_bytes": model.weights_bytes(),
            "isa": model.isa(),
            "threads": model.threads(),
        });
        return Ok(format!("{object}\n"));
    }
    let mut text = "step  prompt  reused    warm s    cold s   of cold  vision s     KV GB\n".to_owned();
    for step in &taken {
        let (warm, cold) = (step.ttft_warm.as_secs_f64(), step.ttft_cold.as_secs_f64());
        text += &format!(
            "{:4} {:7} {:7} {:9.2} {:9.2} {:7.0} % {:9.2} {:9.3}\n",
            step.step,
            step.prompt_tokens,
            step.reused_tokens,
            warm,
            cold,
            warm / cold * 100.0,
            step.vision.as_secs_f64(),
            step.kv_bytes as f64 / 1e9
        );
    }
    Ok(text)
}

fn of_step(step: &AgentStep) -> serde_json::Value {
    json!({
        "step": step.step,
        "prompt_tokens": step.prompt_tokens,
        "reused_tokens": step.reused_tokens,
        "ttft_warm_s": step.ttft_warm.as_secs_f64(),
        "ttft_cold_s": step.ttft_cold.as_secs_f64(),
        "vision_s": step.vision.as_secs_f64(),
        "kv_bytes": step.kv_bytes,
    })
}
