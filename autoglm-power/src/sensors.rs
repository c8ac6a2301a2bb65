//! What the kernel's files say, with what is implausible, stuck or gone taken for silence.
