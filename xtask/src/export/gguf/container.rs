//! The container: named values, where the tensors are, and the tensors, as the GGUF specification lays them out.
//!
//! ```text
//! "GGUF"  version 3, numbers of tensors and of values
//!         name, type, value                                   of each value
//!         name, dimensions (innermost first), type, offset    of each tensor
//! …       the tensors, each at a multiple of 32 bytes
//! ```
//!
//! Everything is little-endian. A string is its length in 8 bytes and its bytes; a list is the type of its entries,
//! their number and they themselves. Offsets count from the first tensor.

use std::io;
use std::path::Path;

use super::kind::Kind;
use crate::tensor_file::TensorFile;

/// Where a tensor may start, where no value of the file says something else.
const ALIGN: u64 = 32;

/// A named value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
    Texts(Vec<String>),
}

impl Value {
    /// A size. Those of a configuration are bounded far below what 32 bits hold when it is read.
    pub(super) fn size(n: usize) -> Self {
        Self::U32(u32::try_from(n).unwrap_or(u32::MAX))
    }
}

/// Values in the order they are written.
pub(super) type Values = Vec<(String, Value)>;

/// A tensor before its numbers are there.
#[derive(Debug)]
pub(super) struct Announced<'a> {
    pub(super) name: &'a str,
    /// Dimensions, outermost first.
    pub(super) shape: &'a [usize],
    pub(super) kind: Kind,
}

impl Announced<'_> {
    /// Bytes of the whole tensor.
    pub(super) fn bytes(&self) -> u64 {
        self.kind.bytes(self.shape.iter().map(|d| *d as u64).product())
    }
}

/// Creates a file of `values` whose `tensors` follow in this order.
///
/// # Errors
/// The file exists or cannot be written.
pub(super) fn create(path: &Path, values: &Values, tensors: &[Announced<'_>]) -> io::Result<TensorFile> {
    let mut header = b"GGUF".to_vec();
    header.extend(3u32.to_le_bytes());
    header.extend((tensors.len() as u64).to_le_bytes());
    header.extend((values.len() as u64).to_le_bytes());
    for (name, value) in values {
        string(&mut header, name);
        write_value(&mut header, value);
    }
    let (mut offset, mut sizes) = (0u64, Vec::new());
    for tensor in tensors {
        string(&mut header, tensor.name);
        header.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|size| header.extend((*size as u64).to_le_bytes()));
        header.extend(tensor.kind.id().to_le_bytes());
        header.extend(offset.to_le_bytes());
        let bytes = tensor.bytes();
        let padding = bytes.next_multiple_of(ALIGN) - bytes;
        offset += bytes + padding;
        sizes.push((bytes, padding as usize));
    }
    header.resize(header.len().next_multiple_of(ALIGN as usize), 0);
    TensorFile::behind(path, &header, sizes)
}

fn string(into: &mut Vec<u8>, text: &str) {
    into.extend((text.len() as u64).to_le_bytes());
    into.extend(text.as_bytes());
}

/// The type of a value and the value itself.
fn write_value(into: &mut Vec<u8>, value: &Value) {
    const LIST: u32 = 9;
    match value {
        Value::U32(number) => {
            into.extend(4u32.to_le_bytes());
            into.extend(number.to_le_bytes());
        }
        Value::F32(number) => {
            into.extend(6u32.to_le_bytes());
            into.extend(number.to_le_bytes());
        }
        Value::Bool(truth) => {
            into.extend(7u32.to_le_bytes());
            into.push(u8::from(*truth));
        }
        Value::Text(text) => {
            into.extend(8u32.to_le_bytes());
            string(into, text);
        }
        Value::I32s(list) => {
            [LIST, 5].iter().for_each(|id| into.extend(id.to_le_bytes()));
            into.extend((list.len() as u64).to_le_bytes());
            list.iter().for_each(|number| into.extend(number.to_le_bytes()));
        }
        Value::F32s(list) => {
            [LIST, 6].iter().for_each(|id| into.extend(id.to_le_bytes()));
            into.extend((list.len() as u64).to_le_bytes());
            list.iter().for_each(|number| into.extend(number.to_le_bytes()));
        }
        Value::Texts(list) => {
            [LIST, 8].iter().for_each(|id| into.extend(id.to_le_bytes()));
            into.extend((list.len() as u64).to_le_bytes());
            list.iter().for_each(|text| string(into, text));
        }
    }
}
