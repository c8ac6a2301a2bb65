//! Calls to the operating system that the standard library has no word for: the only `unsafe` of this crate.
