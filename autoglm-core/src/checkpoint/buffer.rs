//! Memory for weights that are made at run time.

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use memmap2::MmapMut;

use super::TensorBytes;
use super::bytes::Backing;
use super::map::anonymous;

/// From this size on a buffer is a mapping of its own. Whole pages are wasted below it, and huge
/// pages, which are of 2 MiB, cannot help.
const MAPPED: usize = 4 << 20;

/// Zeroed bytes that become [`TensorBytes`] once they are written.
///
/// A large buffer is an anonymous mapping for which huge pages are asked: a forward pass reads
/// gigabytes of weights once, in order, and would otherwise look up an address every 4 KiB.
#[derive(Debug)]
pub struct Buffer(Memory);

#[derive(Debug)]
enum Memory {
    Mapped(MmapMut),
    Owned(Vec<u8>),
}

impl Buffer {
    /// A buffer of `bytes` zeros.
    ///
    /// # Errors
    /// The system's reason for not giving that much.
    pub fn zeroed(bytes: usize) -> io::Result<Self> {
        if bytes >= MAPPED {
            return Ok(Self(Memory::Mapped(anonymous(bytes)?)));
        }
        let mut owned = Vec::new();
        owned.try_reserve_exact(bytes).map_err(|source| io::Error::new(io::ErrorKind::OutOfMemory, source))?;
        owned.resize(bytes, 0);
        Ok(Self(Memory::Owned(owned)))
    }

    /// The bytes as they are now, which nobody can change any more.
    ///
    /// # Errors
    /// The system's reason for not taking the right to write back.
    pub fn freeze(self) -> io::Result<TensorBytes> {
        match self.0 {
            Memory::Mapped(map) => {
                let range = 0..map.len();
                Ok(TensorBytes::new(Backing::Mapped(Arc::new(map.make_read_only()?)), range))
            }
            Memory::Owned(bytes) => Ok(TensorBytes::from(bytes)),
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Memory::Mapped(map) => map,
            Memory::Owned(bytes) => bytes,
        }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Memory::Mapped(map) => map,
            Memory::Owned(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_frozen_at_every_size() {
        for bytes in [0, 1, MAPPED - 1, MAPPED, MAPPED + 4097] {
            let mut buffer = Buffer::zeroed(bytes).unwrap();
            assert!(buffer.len() == bytes && buffer.iter().all(|byte| *byte == 0));
            buffer.iter_mut().enumerate().for_each(|(i, byte)| *byte = i as u8);
            let frozen = buffer.freeze().unwrap();
            assert!(frozen.len() == bytes && frozen.iter().enumerate().all(|(i, byte)| *byte == i as u8));
        }
    }

    #[test]
    fn more_than_there_can_be_is_an_error() {
        assert!(Buffer::zeroed(isize::MAX as usize).is_err());
        assert!(Buffer::zeroed(usize::MAX).is_err());
    }
}
