//! Where a packed matrix lies in a file: the names, shapes and formats of its tensors.
//!
//! ```text
//! {members}.codes    U8   [n / panel][k / …][panel][step]   the kernels' own order
//! {members}.channel  F32  [n]
//! {members}.factors  F16  [n / panel][groups][panel]        where the packing has groups
//! {members}.bias     F32  [n]                               where a member has one
//! ```
//!
//! `{members}` are the module paths of the maps that share one input, joined by `+`, in the order of
//! their outputs: what is packed together is told by the name and by nothing else. n and k are padded
//! in the codes as [`autoglm_kernels::layout`] says. Every tensor starts at a multiple of [`ALIGN`]
//! bytes in its file; [`PADDING`] tensors fill what is between.

use std::collections::{BTreeMap, BTreeSet};

use autoglm_core::checkpoint::Dtype;
use autoglm_core::{Checkpoint, Member, TensorSpec};
use autoglm_kernels::integer::Groups;
use autoglm_kernels::layout::{Bits, Layout, padded_inputs};

use crate::{Error, Format, Manifest, Packing, Result};

/// Every tensor of a packed file starts at a multiple of this many bytes: a cache line, and the widest
/// vector.
pub const ALIGN: usize = 64;

/// What the names of tensors that only fill space begin with.
pub const PADDING: &str = "_padding.";

/// What joins the names of maps that are packed together.
const JOINT: char = '+';

const CODES: &str = ".codes";

/// A packed matrix of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The tensor of the codes.
    pub codes: TensorSpec,
    /// The tensor of the scales of outputs.
    pub channel: TensorSpec,
    /// The tensor of the factors of groups, if there are groups.
    pub factors: Option<TensorSpec>,
    /// The tensor of the biases, if a member has one.
    pub bias: Option<TensorSpec>,
}

impl Placement {
    /// The tensors of `members` side by side.
    ///
    /// # Errors
    /// - [`Error::NoMembers`].
    /// - [`Error::Width`] when the members have inputs of different widths.
    /// - [`Error::Kernel`] for sizes that no packed matrix has.
    pub fn new(members: &[Member], packing: Packing, layout: Layout) -> Result<Self> {
        let first = members.first().ok_or(Error::NoMembers)?;
        if let Some(odd) = members.iter().find(|member| member.inp != first.inp) {
            return Err(Error::Width { tensor: odd.name.clone(), expected: first.inp, got: odd.inp });
        }
        let name = joined(members.iter().map(|member| member.name.as_str()));
        let n = members.iter().try_fold(0usize, |n, member| n.checked_add(member.out)).unwrap_or(usize::MAX);
        let (k, bits) = (first.inp, packing.bits());
        layout.bytes(bits, n, k).map_err(|source| Error::Kernel { tensor: name.clone(), source })?;
        let panels = layout.padded_outputs(n) / layout.panel();
        let per_byte = match bits {
            Bits::Eight => 1,
            Bits::Four => 2,
        };
        let codes = [panels, padded_inputs(k) / (layout.step() * per_byte), layout.panel(), layout.step()];
        let factors = packing.group().map(|size| {
            let shape = [panels, Groups::count(size, k), layout.panel()];
            TensorSpec::new(format!("{name}.factors"), shape).stored_as(Dtype::F16)
        });
        let bias = members.iter().any(|member| member.bias);
        Ok(Self {
            codes: TensorSpec::new(format!("{name}{CODES}"), codes).stored_as(Dtype::U8),
            channel: TensorSpec::new(format!("{name}.channel"), [n]).stored_as(Dtype::F32),
            factors,
            bias: bias.then(|| TensorSpec::new(format!("{name}.bias"), [n]).stored_as(Dtype::F32)),
        })
    }

    /// All tensors, in the order they lie in a file.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorSpec> {
        [Some(&self.codes), Some(&self.channel), self.factors.as_ref(), self.bias.as_ref()].into_iter().flatten()
    }
}

/// The name of maps that are packed together.
fn joined<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut all = String::new();
    for name in names {
        if !all.is_empty() {
            all.push(JOINT);
        }
        all.push_str(name);
    }
    all
}

/// The maps of a file that are packed together with `member`, if it is packed at all.
pub(crate) fn together<'a>(checkpoint: &'a Checkpoint, member: &str) -> Option<Vec<&'a str>> {
    groups(checkpoint).find(|group| group.contains(&member))
}

fn groups(checkpoint: &Checkpoint) -> impl Iterator<Item = Vec<&str>> {
    checkpoint.names().filter_map(|name| Some(name.strip_suffix(CODES)?.split(JOINT).collect()))
}

impl Manifest {
    /// The tensors that `checkpoint` must have, packed as it says, so that a model of the dense tensors
    /// `model` can be made of it. Which maps lie together the checkpoint's names tell; all else is what
    /// the model needs.
    #[must_use]
    pub fn expected(&self, checkpoint: &Checkpoint, model: &[TensorSpec]) -> Vec<TensorSpec> {
        let maps = self.maps(model);
        let mut found: BTreeSet<&str> = BTreeSet::new();
        let mut expected = Vec::new();
        for group in groups(checkpoint) {
            let members: Option<Vec<Member>> = group.iter().map(|name| maps.get(name).cloned()).collect();
            // A group that is none of the model's stays unexpected, and its maps are missing.
            let distinct = group.iter().collect::<BTreeSet<_>>().len() == group.len();
            let Some(members) = members.filter(|_| distinct && group.iter().all(|name| !found.contains(name))) else {
                continue;
            };
            let formats: Vec<Format> = group.iter().map(|name| self.scheme.format(name)).collect();
            let Some(Format::Packed(packing)) = formats.first().filter(|first| formats.iter().all(|f| f == *first))
            else {
                continue;
            };
            if let Ok(placement) = Placement::new(&members, *packing, self.layout) {
                expected.extend(placement.tensors().cloned());
                found.extend(group);
            }
        }
        for name in maps.keys().filter(|name| !found.contains(*name)) {
            expected.push(TensorSpec::new(format!("{name}{CODES}"), []));
        }
        let dense = model.iter().filter(|spec| match spec.name.rsplit_once('.') {
            // A tied embedding is there twice: packed as the head, and as rows to look up.
            Some((module, "weight")) => !maps.contains_key(module) || module.ends_with("embed_tokens"),
            Some((module, "bias")) => !maps.contains_key(module),
            _ => true,
        });
        expected.extend(dense.cloned());
        expected
    }

    /// The linear maps of a model of these tensors that are packed, by module path.
    fn maps<'a>(&self, model: &'a [TensorSpec]) -> BTreeMap<&'a str, Member> {
        let names: BTreeSet<&str> = model.iter().map(|spec| spec.name.as_str()).collect();
        let tied = names.iter().all(|name| !name.ends_with("lm_head.weight"));
        let map = |spec: &'a TensorSpec| {
            let module = spec.name.strip_suffix(".weight")?;
            let head = tied && module.ends_with("embed_tokens") && self.scheme.format(module) != Format::Dense;
            if !head && !self.scheme.packs(spec) {
                return None;
            }
            let (out, others) = spec.shape.split_first()?;
            let inp = others.iter().try_fold(1usize, |k, d| k.checked_mul(*d))?;
            let bias = names.contains(format!("{module}.bias").as_str());
            Some((module, Member::new(module, *out, inp).with_bias(bias)))
        };
        model.iter().filter_map(map).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Group, Scheme};

    #[test]
    fn shapes_are_those_of_the_kernels_orders() {
        let members = [Member::new("a.q", 70, 100).with_bias(true), Member::new("a.k", 3, 100)];
        for layout in [Layout::X86, Layout::Dotprod, Layout::I8mm] {
            for packing in [Packing::Eight { group: None }, Packing::Four { group: Group::G32 }] {
                let placement = Placement::new(&members, packing, layout).unwrap();
                let size = |spec: &TensorSpec| spec.shape.iter().product::<usize>();
                assert_eq!(placement.codes.name, "a.q+a.k.codes");
                assert_eq!(size(&placement.codes), layout.bytes(packing.bits(), 73, 100).unwrap());
                assert_eq!(placement.channel.shape, [73]);
                let factors = packing.group().map(|group| Groups::len(layout, group, 73, 100));
                assert_eq!(placement.factors.as_ref().map(size), factors);
                assert_eq!(placement.bias.as_ref().map(size), Some(73));
                assert_eq!(placement.tensors().count(), 3 + usize::from(factors.is_some()));
            }
        }
    }

    #[test]
    fn maps_that_do_not_belong_together_are_refused() {
        let packing = Packing::Eight { group: None };
        let new = |members: &[Member]| Placement::new(members, packing, Layout::X86).unwrap_err();
        assert!(matches!(new(&[]), Error::NoMembers));
        let apart = [Member::new("a", 1, 64), Member::new("b", 1, 65)];
        assert!(matches!(new(&apart), Error::Width { tensor, expected: 64, got: 65 } if tensor == "b"));
        assert!(matches!(new(&[Member::new("a", 1, 0)]), Error::Kernel { .. }));
        assert!(matches!(new(&[Member::new("a", usize::MAX, 8)]), Error::Kernel { .. }));
    }

    #[test]
    fn a_tied_embedding_is_expected_as_rows_and_as_the_head() {
        let empty = Checkpoint::from_bytes(safetensors::serialize([("x", view())], None).unwrap()).unwrap();
        let manifest = Manifest { precision: "int8".to_owned(), scheme: Scheme::int8(), layout: Layout::X86 };
        let names = |model: &[TensorSpec]| {
            let mut names: Vec<String> = manifest.expected(&empty, model).into_iter().map(|spec| spec.name).collect();
            names.sort_unstable();
            names
        };
        let embedding = TensorSpec::new("model.embed_tokens.weight", [8, 64]);
        let norm = TensorSpec::new("model.norm.weight", [64]);
        let head = TensorSpec::new("lm_head.weight", [8, 64]);
        let tied = ["model.embed_tokens.codes", "model.embed_tokens.weight", "model.norm.weight"];
        assert_eq!(names(&[embedding.clone(), norm.clone()]), tied);
        let untied = ["lm_head.codes", "model.embed_tokens.weight", "model.norm.weight"];
        assert_eq!(names(&[embedding, norm, head]), untied);
    }

    fn view() -> safetensors::tensor::TensorView<'static> {
        safetensors::tensor::TensorView::new(Dtype::U8, vec![1], &[0]).unwrap()
    }
}
