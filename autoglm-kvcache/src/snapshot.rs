//! Computed prefixes on disk, so that they outlive the process.
//!
//! ```text
//! magic (8)  version (u32)  header length (u32)  header (JSON)
//! units                                          [tag (16), where it is sealed]
//! block 0, block 1, …                            [tag (16) behind each]
//! BLAKE3 (32) of everything before
//! ```
//!
//! Numbers are little-endian. The header names everything that the keys and values depend on; whoever
//! loads a snapshot says what these must be, and anything else is refused by name. A sealed snapshot is
//! XChaCha20-Poly1305 under the caller's key, chunk by chunk: the nonce is sixteen random bytes and the
//! number of the chunk, and the header is authenticated with each of them. Keys and values can be turned
//! back into the prompt, so a snapshot is as private as what it was computed from.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use autoglm_core::Unit;

use crate::block::Block;
use crate::cache::rows_of;
use crate::{Error, Identity, Pool, PooledCache, Result, Root, unit};

mod error;
pub(crate) mod file;
mod header;
mod seal;

pub use error::SnapshotError;
pub use seal::Seal;

use header::Header;

/// What every snapshot begins with.
const MAGIC: [u8; 8] = *b"autoglKV";

/// Changed with the layout of the file.
const VERSION: u32 = 1;

/// A header takes some hundred bytes, of which the decoder's configuration are most.
const HEADER_BYTES: usize = 1 << 16;

/// Bytes of units: a context of the longest model of the family in tokens, many times over.
const UNITS_BYTES: u64 = 64 << 20;

/// Whatever is wrong with a snapshot, as a result.
type Outcome<T> = std::result::Result<T, SnapshotError>;

impl PooledCache {
    /// Saves the keys and values of `units`, which are all of its rows or a beginning of them, to `path`. `identity` says
    /// what they depend on, with a digest of the weights that holds in another process, too. Another file
    /// of this name is replaced, all at once: whenever the process ends, one of the two is there and whole.
    ///
    /// # Errors
    /// [`Error::Units`] when the cache has fewer rows, [`Error::Snapshot`] when the system refuses.
    pub fn save(&self, units: &[Unit], identity: &Identity, path: &Path, seal: Option<&Seal>) -> Result<()> {
        let (rows, shape) = (rows_of(units), *self.pool().shape());
        if rows == 0 {
            return Err(Error::Nothing);
        }
        if rows > self.rows() {
            return Err(Error::Units { units: units.len(), rows, held: self.rows() });
        }
        let write = |file: &mut File| {
            let mut to = Digesting { inner: BufWriter::new(file), digest: blake3::Hasher::new() };
            let mut bytes = Vec::new();
            units.iter().for_each(|unit| unit::write(unit, &mut bytes));
            let header = Header::new(identity, &shape, rows, bytes.len(), seal.map(Seal::nonce).transpose()?);
            let header_bytes = header.to_bytes();
            to.write_all(&MAGIC)?;
            to.write_all(&VERSION.to_le_bytes())?;
            to.write_all(&(header_bytes.len() as u32).to_le_bytes())?;
            to.write_all(&header_bytes)?;
            let mut chunk = |index: u64, bytes: &mut Vec<u8>| {
                if let Some((seal, nonce)) = seal.zip(header.nonce()) {
                    seal.close(nonce, index, &header_bytes, bytes)?;
                }
                to.write_all(bytes).map_err(SnapshotError::Write)
            };
            chunk(0, &mut bytes)?;
            for (index, block) in self.blocks[..header.blocks()].iter().enumerate() {
                bytes.clear();
                block.write_rows(&shape, index, header.rows_of(index), &mut bytes);
                chunk(index as u64 + 1, &mut bytes)?;
            }
            let digest = to.digest.finalize();
            to.inner.write_all(digest.as_bytes())?;
            Ok(to.inner.flush()?)
        };
        file::replace(path, write).map_err(|source| Error::Snapshot { path: path.to_owned(), source })
    }
}

impl Pool {
    /// Loads what [`PooledCache::save`] wrote, for sequences under `root`. `identity` says what the keys and
    /// values must depend on. → a cache that holds them, and their units. Nothing of a file that is not
    /// whole, or is of something else, gets into the pool. What is sound, or sealed and changed by somebody
    /// who made the digest anew, may push out prefixes that nobody uses.
    ///
    /// # Errors
    /// - [`Error::Snapshot`] for a file that cannot be read, is damaged, or is of other weights, another
    ///   configuration, tenant, precision or format.
    /// - [`Error::Core`] when the budget has no room for it.
    pub fn load(
        &self,
        identity: &Identity,
        root: Root,
        limit: usize,
        path: &Path,
        seal: Option<&Seal>,
    ) -> Result<(PooledCache, Vec<Unit>)> {
        let refuse = |source| Error::Snapshot { path: path.to_owned(), source };
        let (units, blocks, rows) = match self.read(identity, limit, path, seal) {
            Ok(read) => read,
            Err(SnapshotError::Room(source)) => return Err(Error::Core(source)),
            Err(other) => return Err(refuse(other)),
        };
        let blocks = blocks.into_iter().map(std::sync::Arc::new).collect();
        let mut cache = PooledCache::new(self.clone(), root, blocks, rows, None, limit);
        cache.commit(&units)?;
        Ok((cache, units))
    }

    fn read(
        &self,
        identity: &Identity,
        limit: usize,
        path: &Path,
        seal: Option<&Seal>,
    ) -> Outcome<(Vec<Unit>, Vec<Block>, usize)> {
        let file = File::open(path).map_err(SnapshotError::Read)?;
        let size = file.metadata().map_err(SnapshotError::Read)?.len();
        let mut from = Digesting { inner: BufReader::new(file), digest: blake3::Hasher::new() };
        let mut start = [0; 16];
        from.read_exact(&mut start).map_err(SnapshotError::Read)?;
        let [magic, sizes] = [&start[..8], &start[8..]];
        if magic != MAGIC {
            return Err(SnapshotError::Magic);
        }
        let number = |at: usize| u32::from_le_bytes([sizes[at], sizes[at + 1], sizes[at + 2], sizes[at + 3]]);
        if number(0) != VERSION {
            return Err(SnapshotError::Version { got: number(0), known: VERSION });
        }
        let mut header_bytes =
            vec![0; Some(number(4) as usize).filter(|n| *n <= HEADER_BYTES).ok_or(SnapshotError::Damaged)?];
        from.read_exact(&mut header_bytes).map_err(SnapshotError::Read)?;
        let header = Header::from_bytes(&header_bytes)?;
        header.check(identity, self.shape(), limit)?;
        let opened = match (seal, header.nonce()) {
            (None, None) => None,
            (Some(seal), Some(nonce)) => Some((seal, nonce)),
            (None, Some(_)) => return Err(SnapshotError::Sealed),
            (Some(_), None) => return Err(SnapshotError::NotSealed),
        };
        // All sizes are known to be small here, so that a file cannot ask for more memory than it has bytes.
        let tag = if opened.is_some() { seal::TAG_BYTES as u64 } else { 0 };
        let ends = (start.len() + header_bytes.len() + blake3::OUT_LEN) as u64;
        let whole = header.payload(self.shape(), tag).and_then(|payload| payload.checked_add(ends));
        let whole = whole.ok_or(SnapshotError::Damaged)?;
        if whole != size {
            return Err(SnapshotError::Size { expected: whole, got: size });
        }
        let needed = self.shape().bytes(header.rows());
        let budget = self.stats().budget;
        if needed > budget {
            return Err(SnapshotError::Room(autoglm_core::Error::CacheFull { needed, used: 0, budget }));
        }
        // What is damaged is known before room is made for it.
        intact(from.inner.get_mut(), size)?;
        let mut chunk = |index: u64, len: u64| {
            let mut bytes = vec![0; (len + tag) as usize];
            from.read_exact(&mut bytes).map_err(SnapshotError::Read)?;
            if let Some((seal, nonce)) = opened {
                seal.open(nonce, index, &header_bytes, &mut bytes)?;
            }
            Ok::<_, SnapshotError>(bytes)
        };
        let units = unit::read_all(&chunk(0, header.units_bytes())?).ok_or(SnapshotError::Damaged)?;
        // Positions are counted in 32 bits.
        let end = units.iter().try_fold(0u32, |end, unit| end.checked_add(unit.advance()));
        if end.is_none() || rows_of(&units) != header.rows() {
            return Err(SnapshotError::Damaged);
        }
        let mut blocks = Vec::with_capacity(header.blocks());
        for index in 0..header.blocks() {
            let bytes = chunk(index as u64 + 1, self.shape().block_bytes(index))?;
            let mut block = self.block(index).map_err(SnapshotError::Room)?;
            block.read(&bytes);
            blocks.push(block);
        }
        let digest = from.digest.finalize();
        let mut stored = [0; 32];
        from.inner.read_exact(&mut stored).map_err(SnapshotError::Read)?;
        // Compared in constant time, as a key would be.
        if digest != blake3::Hash::from_bytes(stored) {
            return Err(SnapshotError::Damaged);
        }
        Ok((units, blocks, header.rows()))
    }
}

/// Whether the last bytes of a file are the digest of the others. The file stands afterwards where it stood.
fn intact(file: &mut File, size: u64) -> Outcome<()> {
    let at = file.stream_position().map_err(SnapshotError::Read)?;
    let check = |file: &mut File| {
        file.seek(SeekFrom::Start(0))?;
        let mut hasher = blake3::Hasher::new();
        std::io::copy(&mut Read::by_ref(file).take(size - blake3::OUT_LEN as u64), &mut hasher)?;
        let mut stored = [0; blake3::OUT_LEN];
        file.read_exact(&mut stored)?;
        file.seek(SeekFrom::Start(at))?;
        Ok(hasher.finalize() == blake3::Hash::from_bytes(stored))
    };
    if check(file).map_err(SnapshotError::Read)? { Ok(()) } else { Err(SnapshotError::Damaged) }
}

/// Whatever passes is digested.
struct Digesting<T> {
    inner: T,
    digest: blake3::Hasher,
}

impl<T: Write> Digesting<T> {
    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.digest.update(bytes);
        self.inner.write_all(bytes)
    }
}

impl<T: Read> Digesting<T> {
    fn read_exact(&mut self, bytes: &mut [u8]) -> std::io::Result<()> {
        self.inner.read_exact(bytes)?;
        self.digest.update(bytes);
        Ok(())
    }
}
