//! The index of a sharded checkpoint: which tensor lies in which file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::files::{Files, is_plain};
use super::json::Named;
use super::printable::{Names, printable};
use crate::{Error, Result};

/// Most shards of one checkpoint: several times what the largest published ones have. Each costs a
/// mapping.
const MOST_SHARDS: usize = 1024;

/// Why an index cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// A shard whose name is not a plain one that ends in `.safetensors`.
    #[error("`{}` is not the plain name of a safetensors file", printable(.shard))]
    ShardName {
        /// The name.
        shard: String,
    },
    /// More shards than any checkpoint has.
    #[error("{shards} shards, at most {MOST_SHARDS} are opened")]
    TooManyShards {
        /// How many it lists.
        shards: usize,
    },
    /// An index without tensors.
    #[error("it lists no tensor")]
    Empty,
    /// A shard that is not there.
    #[error("shard `{shard}` is missing")]
    MissingShard {
        /// The shard.
        shard: String,
    },
    /// Tensors that are not in the shard they are listed for.
    #[error("not in the shards they are listed for: {}", Names(.tensors))]
    NotInShard {
        /// The tensors.
        tensors: Vec<String>,
    },
    /// Tensors in a shard that the index does not list.
    #[error("shard `{shard}` holds tensors that are not listed: {}", Names(.tensors))]
    Unlisted {
        /// The shard.
        shard: String,
        /// The tensors.
        tensors: Vec<String>,
    },
    /// One tensor in two shards.
    #[error("tensor `{}` is in two shards, `{first}` and `{second}`", printable(.tensor))]
    TwoShards {
        /// The tensor.
        tensor: String,
        /// One shard.
        first: String,
        /// The other.
        second: String,
    },
}

/// An index whose shard names were checked.
#[derive(Debug)]
pub(crate) struct Index {
    /// Where the index lies, for messages.
    pub(crate) path: PathBuf,
    /// The shards, ordered by name.
    pub(crate) shards: Vec<String>,
    /// The number of each tensor's shard.
    pub(crate) tensors: BTreeMap<String, usize>,
}

impl Index {
    /// What is wrong, with the file it is wrong in.
    pub(crate) fn fault(&self, source: IndexError) -> Error {
        Error::Index { path: self.path.clone(), source }
    }

    /// Checks that a shard holds nothing but listed tensors.
    pub(crate) fn lists_all<'a>(&self, shard: usize, held: impl Iterator<Item = &'a str>) -> Result<()> {
        let tensors: Vec<String> = held.filter(|name| !self.tensors.contains_key(*name)).map(str::to_owned).collect();
        if tensors.is_empty() {
            Ok(())
        } else {
            Err(self.fault(IndexError::Unlisted { shard: self.shards[shard].clone(), tensors }))
        }
    }

    /// The error for one tensor in two shards.
    pub(crate) fn held_twice(&self, tensor: &str, first: usize, second: usize) -> Error {
        let shard = |number: usize| self.shards[number].clone();
        self.fault(IndexError::TwoShards { tensor: tensor.to_owned(), first: shard(first), second: shard(second) })
    }

    /// Checks that every listed tensor is in its shard, given the shard each was found in.
    pub(crate) fn is_met_by(&self, found: impl Fn(&str) -> Option<usize>) -> Result<()> {
        let absent = self.tensors.iter().filter(|(name, shard)| found(name) != Some(**shard));
        let tensors: Vec<String> = absent.map(|(name, _)| name.clone()).collect();
        if tensors.is_empty() { Ok(()) } else { Err(self.fault(IndexError::NotInShard { tensors })) }
    }
}

/// The file as JSON.
#[derive(Deserialize)]
struct Document {
    weight_map: Named<String>,
    #[serde(rename = "metadata")]
    _metadata: Option<IgnoredAny>,
}

/// Reads the index `name`; nothing when there is no such file.
pub(crate) fn read(files: &Files, name: &str) -> Result<Option<Index>> {
    let Some(Document { weight_map: Named(map), .. }) = files.json(name)? else {
        return Ok(None);
    };
    let path = files.path(name);
    let numbered = number(map).map_err(|source| Error::Index { path: path.clone(), source });
    numbered.map(|(shards, tensors)| Some(Index { path, shards, tensors }))
}

/// Replaces shard names by their numbers in an ordered list.
fn number(map: BTreeMap<String, String>) -> std::result::Result<(Vec<String>, BTreeMap<String, usize>), IndexError> {
    if map.is_empty() {
        return Err(IndexError::Empty);
    }
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    for shard in map.values() {
        if !is_plain(shard) || !shard.ends_with(".safetensors") {
            return Err(IndexError::ShardName { shard: shard.clone() });
        }
        numbers.entry(shard.clone()).or_default();
    }
    if numbers.len() > MOST_SHARDS {
        return Err(IndexError::TooManyShards { shards: numbers.len() });
    }
    numbers.values_mut().enumerate().for_each(|(i, number)| *number = i);
    let tensors = map.into_iter().map(|(tensor, shard)| (tensor, numbers[&shard])).collect();
    Ok((numbers.into_keys().collect(), tensors))
}
