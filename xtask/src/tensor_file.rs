//! A file of tensors written front to back, so that no more than one tensor need be in memory: a safetensors file, or any
//! header and what it announces.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use autoglm_core::TensorSpec;
use autoglm_core::checkpoint::Dtype;
use autoglm_quant::{ALIGN, PADDING};
use serde_json::{Map, Value, json};

/// Where tensors may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// One right behind the other, as everyone writes them.
    Tight,
    /// At multiples of [`ALIGN`] bytes of the file. The format allows no gaps, so tensors of bytes,
    /// whose names begin with [`PADDING`], fill them.
    Aligned,
}

/// A file whose header is written and whose tensors follow in the order they were announced in.
#[derive(Debug)]
pub(crate) struct TensorFile {
    file: Counted,
    sizes: std::vec::IntoIter<(u64, usize)>,
}

/// Bytes of each tensor, and of the padding behind it, which is less than [`ALIGN`].
pub(crate) type Sizes = Vec<(u64, usize)>;

#[derive(Debug)]
struct Counted {
    file: BufWriter<File>,
    written: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl TensorFile {
    /// Creates a file of `tensors`, each of which says what it is stored as.
    ///
    /// # Errors
    /// The file exists, cannot be written, or has a tensor without a format.
    pub(crate) fn create(path: &Path, tensors: impl Iterator<Item = TensorSpec>, place: Place) -> io::Result<Self> {
        let (header, sizes) = header(tensors, place)?;
        Self::behind(path, &header, sizes)
    }

    /// Creates a file of another format: `header`, and tensors of `sizes` behind it.
    ///
    /// # Errors
    /// The file exists or cannot be written.
    pub(crate) fn behind(path: &Path, header: &[u8], sizes: Sizes) -> io::Result<Self> {
        let mut file = BufWriter::with_capacity(1 << 20, File::create_new(path)?);
        file.write_all(header)?;
        Ok(Self { file: Counted { file, written: 0 }, sizes: sizes.into_iter() })
    }

    /// Lets `write` write the next tensor.
    ///
    /// # Errors
    /// The disk is full, or what was written is not what was announced.
    pub(crate) fn tensor(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let (bytes, padding) = self.sizes.next().ok_or_else(|| io::Error::other("one tensor too many"))?;
        let before = self.file.written;
        write(&mut self.file)?;
        let written = self.file.written - before;
        if written != bytes {
            return Err(io::Error::other(format!("{written} bytes of a tensor of {bytes}")));
        }
        self.file.write_all(&[0; ALIGN][..padding])
    }

    /// Waits until all of it is on the disk.
    ///
    /// # Errors
    /// The disk is full, or tensors are missing.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        match self.sizes.next() {
            None => self.file.file.into_inner()?.sync_all(),
            Some(_) => Err(io::Error::other("a tensor is missing")),
        }
    }
}

/// The length (8 bytes) and the JSON that a safetensors file begins with, padded with blanks so that
/// the first tensor starts where it should.
fn header(tensors: impl Iterator<Item = TensorSpec>, place: Place) -> io::Result<(Vec<u8>, Sizes)> {
    let mut entries = Map::new();
    // transformers reads no file that does not say this.
    entries.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let (mut offset, mut sizes) = (0, Vec::new());
    for tensor in tensors {
        let dtype = tensor.dtype.ok_or_else(|| io::Error::other(format!("`{}` has no format", tensor.name)))?;
        let values: u64 = tensor.shape.iter().map(|d| *d as u64).product();
        let bytes = values * dtype.bitsize() as u64 / 8;
        let padding = match place {
            Place::Tight => 0,
            Place::Aligned => bytes.next_multiple_of(ALIGN as u64) - bytes,
        };
        let mut entry = |name: String, dtype: Dtype, shape: &[usize], bytes: u64| {
            let offsets = [offset, offset + bytes];
            offset += bytes;
            entries.insert(name, json!({ "dtype": dtype.to_string(), "shape": shape, "data_offsets": offsets }));
        };
        entry(tensor.name, dtype, &tensor.shape, bytes);
        if padding > 0 {
            entry(format!("{PADDING}{}", sizes.len()), Dtype::U8, &[padding as usize], padding);
        }
        sizes.push((bytes, padding as usize));
    }
    let mut json = Value::Object(entries).to_string().into_bytes();
    let first = match place {
        Place::Tight => (8 + json.len()).next_multiple_of(8),
        Place::Aligned => (8 + json.len()).next_multiple_of(ALIGN),
    };
    json.resize(first - 8, b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.append(&mut json);
    Ok((header, sizes))
}

#[cfg(test)]
mod tests {
    use autoglm_core::{Checkpoint, Files};

    use super::*;

    fn spec(name: &str, bytes: usize) -> TensorSpec {
        TensorSpec::new(name, [bytes]).stored_as(Dtype::U8)
    }

    #[test]
    fn aligned_tensors_start_at_whole_lines_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let sizes = [1usize, 64, 0, 129, 63];
        let specs = sizes.iter().enumerate().map(|(i, bytes)| spec(&format!("t{i}"), *bytes));
        let mut file = TensorFile::create(&path, specs, Place::Aligned).unwrap();
        for (i, bytes) in sizes.iter().enumerate() {
            file.tensor(|file| file.write_all(&vec![i as u8 + 1; *bytes])).unwrap();
        }
        file.finish().unwrap();
        let checkpoint = Checkpoint::open(&Files::directory(folder.path()).unwrap()).unwrap();
        for (i, bytes) in sizes.iter().enumerate() {
            let name = format!("t{i}");
            assert_eq!(checkpoint.info(&name).unwrap().offset() % ALIGN, 0, "{name}");
            assert_eq!(checkpoint.bytes(&name).unwrap()[..], vec![i as u8 + 1; *bytes]);
        }
    }

    #[test]
    fn what_was_not_announced_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let create = |name: &str| {
            TensorFile::create(&folder.path().join(name), [spec("a", 2)].into_iter(), Place::Tight).unwrap()
        };
        assert!(create("short").tensor(|file| file.write_all(&[1])).is_err());
        assert!(create("missing").finish().is_err());
        let mut file = create("more");
        file.tensor(|file| file.write_all(&[1, 2])).unwrap();
        assert!(file.tensor(|_| Ok(())).is_err());
        assert!(
            TensorFile::create(&folder.path().join("b"), [TensorSpec::new("a", [1])].into_iter(), Place::Tight)
                .is_err()
        );
    }
}
