//! Tests of `chat`.
