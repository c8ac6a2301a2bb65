//! Tests of `sampler`.
