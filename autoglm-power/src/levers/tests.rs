//! Levers on a phone of files and threads that are no threads.

pub(crate) mod phone;
