//! The header of a safetensors file, held against the file before any number of it is used.
//!
//! The format (safetensors' own README): eight bytes of header length, little-endian; a JSON object
//! from tensor names to `dtype`, `shape` and `data_offsets`; the numbers. The safetensors crate
//! parses it too, but keeps one of two tensors with the same name without a word and does not say
//! which tensor of which file is at fault; both matter here.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use safetensors::Dtype;
use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::json::{JsonError, Named, add, duplicate, of_name};
use super::printable::printable;

/// Bytes of the header's length.
const LENGTH: usize = 8;

/// The longest header: the limit of the safetensors crate, so that no file opens here alone.
const LONGEST: u64 = 100_000_000;

/// Most dimensions of one tensor. Models use five; the bound keeps a shape from growing the header
/// it is written in eightfold in memory.
const MOST_DIMENSIONS: usize = 32;

/// The key that holds free text about the file instead of a tensor.
const METADATA: &str = "__metadata__";

/// Why a file is not a safetensors file that can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// Shorter than the header's length field.
    #[error("{len} bytes are too few for a header")]
    Short {
        /// Size of the file.
        len: usize,
    },
    /// The header claims more than any header may have.
    #[error("header of {header} bytes, at most {LONGEST} are allowed")]
    Long {
        /// Claimed size of the header.
        header: u64,
    },
    /// The header claims more than the file has.
    #[error("header of {header} bytes in a file of {len}")]
    BeyondFile {
        /// Claimed size of the header.
        header: u64,
        /// Size of the file.
        len: usize,
    },
    /// The header is not a JSON object from its first byte on, as the format demands.
    #[error("header does not start with `{{`")]
    NotAnObject,
    /// The header is not text.
    #[error("header is not UTF-8 from byte {valid} on")]
    NotUtf8 {
        /// Bytes of it that are.
        valid: usize,
    },
    /// The header is not the JSON it has to be.
    #[error("header: {0}")]
    Json(JsonError),
    /// A number format of another version of the format, or of none.
    #[error("tensor `{}` has the unknown dtype `{}`", printable(.tensor), printable(.dtype))]
    Dtype {
        /// The tensor.
        tensor: String,
        /// What it says.
        dtype: String,
    },
    /// The size of a tensor does not fit into the machine's integers.
    #[error("tensor `{}` has the shape {shape:?}, whose size in bytes overflows", printable(.tensor))]
    Overflow {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// Numbers smaller than a byte that do not fill their last byte.
    #[error("tensor `{}` of {dtype} {shape:?} ends within a byte", printable(.tensor))]
    PartialByte {
        /// The tensor.
        tensor: String,
        /// Its format.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A tensor that ends before it starts.
    #[error("tensor `{}` starts at {start} and ends at {end}", printable(.tensor))]
    Reversed {
        /// The tensor.
        tensor: String,
        /// First byte.
        start: usize,
        /// First byte behind it.
        end: usize,
    },
    /// A tensor whose place is larger or smaller than its numbers.
    #[error("tensor `{}` of {dtype} {shape:?} needs {needed} bytes and has {got}", printable(.tensor))]
    Size {
        /// The tensor.
        tensor: String,
        /// Its format.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<usize>,
        /// Bytes its numbers fill.
        needed: usize,
        /// Bytes between its offsets.
        got: usize,
    },
    /// Bytes between two tensors that belong to none.
    #[error("tensor `{}` starts at {start}, {} bytes behind the one before", printable(.tensor), .start - .before)]
    Gap {
        /// The later tensor.
        tensor: String,
        /// Its first byte.
        start: usize,
        /// Where the tensor before ends.
        before: usize,
    },
    /// Two tensors that share bytes.
    #[error("tensor `{}` starts at {start}, within the one before, which ends at {before}", printable(.tensor))]
    Overlap {
        /// The later tensor.
        tensor: String,
        /// Its first byte.
        start: usize,
        /// Where the tensor before ends.
        before: usize,
    },
    /// A tensor that reaches beyond the end of the file.
    #[error("tensor `{}` ends at byte {end} of the {len} that follow the header", printable(.tensor))]
    BeyondEnd {
        /// The tensor.
        tensor: String,
        /// First byte behind it.
        end: usize,
        /// Bytes behind the header.
        len: usize,
    },
    /// Bytes behind the last tensor.
    #[error("{extra} bytes follow the last tensor")]
    Trailing {
        /// How many.
        extra: usize,
    },
}

/// One tensor's place in its file, checked.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Bytes of the file, from its first.
    pub(crate) range: Range<usize>,
}

/// The tensors of `file`, a whole safetensors file, in the order they lie in it.
pub(crate) fn parse(file: &[u8]) -> Result<Vec<Placed>, HeaderError> {
    let (length, rest) = file.split_first_chunk::<LENGTH>().ok_or(HeaderError::Short { len: file.len() })?;
    let header = u64::from_le_bytes(*length);
    if header > LONGEST {
        return Err(HeaderError::Long { header });
    }
    let (text, data) = usize::try_from(header)
        .ok()
        .and_then(|header| rest.split_at_checked(header))
        .ok_or(HeaderError::BeyondFile { header, len: file.len() })?;
    if !text.starts_with(b"{") {
        return Err(HeaderError::NotAnObject);
    }
    // A copy: the file may be mapped and change between the check that it is text and its use as text.
    let text =
        String::from_utf8(text.to_vec()).map_err(|e| HeaderError::NotUtf8 { valid: e.utf8_error().valid_up_to() })?;
    let Header(tensors) = serde_json::from_str(&text).map_err(|e| HeaderError::Json(e.into()))?;
    place(tensors, file.len() - data.len(), data.len())
}

/// Checks that `tensors` tile `data` bytes behind the first `start` of a file: in order, without
/// gap, overlap or rest.
fn place(tensors: BTreeMap<String, Claim>, start: usize, data: usize) -> Result<Vec<Placed>, HeaderError> {
    let mut tensors: Vec<(String, Claim)> = tensors.into_iter().collect();
    // Stable, so that empty tensors at one offset stay ordered by name.
    tensors.sort_by_key(|(_, claim)| claim.data_offsets);
    let mut placed = Vec::with_capacity(tensors.len());
    let mut covered = 0;
    for (tensor, claim) in tensors {
        let dtype = claim.dtype(&tensor)?;
        let (from, to) = claim.data_offsets;
        let needed = size(&tensor, dtype, &claim.shape.0)?;
        if to < from {
            return Err(HeaderError::Reversed { tensor, start: from, end: to });
        }
        if to - from != needed {
            return Err(HeaderError::Size { tensor, dtype, shape: claim.shape.0, needed, got: to - from });
        }
        if from < covered {
            return Err(HeaderError::Overlap { tensor, start: from, before: covered });
        }
        if from > covered {
            return Err(HeaderError::Gap { tensor, start: from, before: covered });
        }
        if to > data {
            return Err(HeaderError::BeyondEnd { tensor, end: to, len: data });
        }
        covered = to;
        placed.push(Placed { name: tensor, dtype, shape: claim.shape.0, range: start + from..start + to });
    }
    match data - covered {
        0 => Ok(placed),
        extra => Err(HeaderError::Trailing { extra }),
    }
}

/// Bytes of a tensor. Dimensions of zero do not hide an overflow of the others, so that whoever
/// multiplies some of them later need not fear one.
fn size(tensor: &str, dtype: Dtype, shape: &[usize]) -> Result<usize, HeaderError> {
    let bits = shape.iter().filter(|d| **d > 0).try_fold(dtype.bitsize(), |n, d| n.checked_mul(*d));
    let bits = bits.ok_or_else(|| HeaderError::Overflow { tensor: tensor.to_owned(), shape: shape.to_vec() })?;
    let bits = if shape.contains(&0) { 0 } else { bits };
    if bits % 8 != 0 {
        return Err(HeaderError::PartialByte { tensor: tensor.to_owned(), dtype, shape: shape.to_vec() });
    }
    Ok(bits / 8)
}

/// The header as JSON.
struct Header(BTreeMap<String, Claim>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tensors;

        impl<'de> Visitor<'de> for Tensors {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut tensors = BTreeMap::new();
                let mut metadata = None;
                while let Some(name) = map.next_key::<String>()? {
                    if name == METADATA {
                        let text = map.next_value::<Named<String>>().map_err(|why| of_name(&name, &why))?;
                        if metadata.replace(text).is_some() {
                            return Err(duplicate(&name));
                        }
                        continue;
                    }
                    let claim = map.next_value().map_err(|why| of_name(&name, &why))?;
                    add(&mut tensors, name, claim)?;
                }
                Ok(Header(tensors))
            }
        }

        deserializer.deserialize_map(Tensors)
    }
}

/// What the header claims about one tensor. A field this reader does not know might change what the
/// numbers mean, so it is an error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    dtype: String,
    shape: Shape,
    data_offsets: (usize, usize),
}

impl Claim {
    fn dtype(&self, tensor: &str) -> Result<Dtype, HeaderError> {
        let unknown =
            |_: serde::de::value::Error| HeaderError::Dtype { tensor: tensor.to_owned(), dtype: self.dtype.clone() };
        Dtype::deserialize(StrDeserializer::new(&self.dtype)).map_err(unknown)
    }
}

/// Dimensions, of a bounded number.
struct Shape(Vec<usize>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Dimensions;

        impl<'de> Visitor<'de> for Dimensions {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut shape = Vec::new();
                while let Some(dimension) = seq.next_element()? {
                    if shape.len() == MOST_DIMENSIONS {
                        return Err(A::Error::custom(format_args!("more than {MOST_DIMENSIONS} dimensions")));
                    }
                    shape.push(dimension);
                }
                Ok(Shape(shape))
            }
        }

        deserializer.deserialize_seq(Dimensions)
    }
}
