//! Controllers: pure state machines, `step(observation, now) -> action`.
