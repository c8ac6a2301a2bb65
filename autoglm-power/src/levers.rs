//! What a process may change of its device, and how it is put back.
