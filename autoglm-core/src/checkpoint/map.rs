//! The one place that maps memory: files, and large buffers.

use std::fs::File;
use std::io;

use memmap2::{Mmap, MmapMut};

/// Maps a regular file read-only and shared, so that its pages count as cache and not as memory in
/// use.
///
/// The system offers no way to freeze a file. When another process truncates it while it is mapped,
/// reading a page behind the new end ends this process with a bus error (`SIGBUS`); when another
/// process writes into it, the weights change. Neither can move a read out of the mapping: headers
/// are copied before they are parsed, and offsets are held from then on. Whoever replaces a
/// checkpoint in place should write a new file and rename it over the old one, which leaves a
/// mapping of the old file whole.
#[allow(unsafe_code)]
pub(crate) fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the mapping is only ever read as bytes, for which every value is valid, and each
    // reader copies what it checks before it checks it. A truncated file faults, as said above; it
    // does not give access to other memory.
    unsafe { Mmap::map(file) }
}

/// Maps `bytes` zeros, on huge pages where the system has them.
pub(crate) fn anonymous(bytes: usize) -> io::Result<MmapMut> {
    let map = MmapMut::map_anon(bytes)?;
    // A system without huge pages says so here and works all the same.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    Ok(map)
}
