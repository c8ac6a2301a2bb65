//! The format of this project: matrices as the kernels read them.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use autoglm::Inventory;
use autoglm_core::checkpoint::Dtype;
use autoglm_core::{Checkpoint, FloatType, Member, Run, TensorSpec};
use autoglm_kernels::Isa;
use autoglm_quant::{Feedback, Format, Manifest, Packed, Packing, Parts, Placement};

use super::Progress;
use super::calibrated::Calibrated;
use crate::error::{Error, Result};
use crate::shards::bytes as bytes_of;
use crate::tensor_file::{Place, TensorFile};

/// Something that is written in one piece.
enum Item<'a> {
    /// Maps side by side, packed.
    Packed { members: &'a [Member], packing: Packing, placement: Box<Placement> },
    /// A tensor as it is stored, in `as_f16` made narrower.
    Plain { tensor: &'a TensorSpec, stored: Dtype, as_f16: bool },
}

impl Item<'_> {
    fn tensors(&self) -> Vec<TensorSpec> {
        match self {
            Self::Packed { placement, .. } => placement.tensors().cloned().collect(),
            Self::Plain { tensor, stored, as_f16 } => {
                vec![(*tensor).clone().stored_as(if *as_f16 { Dtype::F16 } else { *stored })]
            }
        }
    }

    fn weights(&self) -> u64 {
        match self {
            Self::Packed { members, .. } => members.iter().map(|m| m.out as u64 * m.inp as u64).sum(),
            Self::Plain { tensor, .. } => tensor.shape.iter().map(|d| *d as u64).product(),
        }
    }
}

/// Writes the weights of `inventory` to `path`, packed as `manifest` says. → bytes of weights.
///
/// # Errors
/// A weight is no number, the model cannot be calibrated, or the file cannot be written.
pub(super) fn write(
    inventory: &Inventory,
    manifest: &Manifest,
    run: &Run<'_>,
    calibrated: &mut Option<Calibrated<'_>>,
    path: &Path,
) -> Result<u64> {
    let items = items(inventory, manifest)?;
    let tensors: Vec<TensorSpec> = items.iter().flat_map(Item::tensors).collect();
    let bytes = tensors.iter().map(bytes_of).sum();
    let failed = |source| Error::File { action: "write", path: path.to_owned(), source };
    let mut file = TensorFile::create(path, tensors.into_iter(), Place::Aligned).map_err(failed)?;
    let mut progress = Progress::new(items.iter().map(Item::weights).sum());
    for item in &items {
        match item {
            Item::Packed { members, packing, placement } => {
                progress.step(0, &placement.codes.name);
                let feedback = match (&mut *calibrated, members.first()) {
                    (Some(calibrated), Some(member)) => calibrated.feedback(member)?,
                    _ => None,
                };
                let how = (*packing, manifest, feedback.as_deref());
                let packed = quantised(&inventory.checkpoint, members, how, run)?;
                let bias = bias(&inventory.checkpoint, members)?;
                write_packed(&mut file, &packed, bias.as_deref()).map_err(failed)?;
            }
            Item::Plain { tensor, as_f16, .. } => {
                progress.step(0, &tensor.name);
                if *as_f16 {
                    let columns = tensor.shape.iter().skip(1).product();
                    let matrix = inventory.checkpoint.matrix(&tensor.name, tensor.shape[0], columns)?;
                    let write = |file: &mut dyn Write| {
                        let (mut row, mut narrow) = (Vec::new(), Vec::new());
                        (0..matrix.rows()).try_for_each(|at| {
                            matrix.widen(at, &mut row);
                            narrow.clear();
                            FloatType::F16.narrow(&row, &mut narrow);
                            file.write_all(&narrow)
                        })
                    };
                    file.tensor(write).map_err(failed)?;
                } else {
                    let bytes = inventory.checkpoint.bytes(&tensor.name)?;
                    file.tensor(|file| file.write_all(&bytes)).map_err(failed)?;
                }
            }
        }
        progress.step(item.weights(), "");
    }
    file.finish().map_err(failed)?;
    Ok(bytes)
}

/// What is written, in the order it is loaded; what is not loaded as a map comes first.
fn items<'a>(inventory: &'a Inventory, manifest: &Manifest) -> Result<Vec<Item<'a>>> {
    let (mut packed, mut covered, mut narrowed) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for members in &inventory.maps {
        let format = members.first().map_or(Format::Dense, |member| manifest.scheme.format(&member.name));
        let Format::Packed(packing) = format else {
            narrowed.extend(members.iter().map(|member| format!("{}.weight", member.name)));
            continue;
        };
        // The rows of a tied embedding are looked up as well, so they stay.
        let covers = members.iter().filter(|member| !member.name.ends_with("embed_tokens"));
        covered.extend(covers.flat_map(|member| [format!("{}.weight", member.name), format!("{}.bias", member.name)]));
        let placement = Box::new(Placement::new(members, packing, manifest.layout)?);
        packed.push(Item::Packed { members, packing, placement });
    }
    let mut items = Vec::new();
    for tensor in inventory.tensors.iter().filter(|tensor| !covered.contains(&tensor.name)) {
        let stored = inventory.checkpoint.info(&tensor.name)?.dtype;
        let as_f16 = stored == Dtype::F32 && narrowed.contains(&tensor.name);
        items.push(Item::Plain { tensor, stored, as_f16 });
    }
    items.append(&mut packed);
    Ok(items)
}

fn quantised(
    checkpoint: &Arc<Checkpoint>,
    members: &[Member],
    (packing, manifest, feedback): (Packing, &Manifest, Option<&Feedback>),
    run: &Run<'_>,
) -> Result<Packed> {
    let matrix = |member: &Member| {
        let name = format!("{}.weight", member.name);
        let matrix = checkpoint.matrix(&name, member.out, member.inp)?;
        Ok::<_, Error>((name, matrix))
    };
    let parts = Parts::new(members.iter().map(matrix).collect::<Result<_>>()?, members.first().map_or(0, |m| m.inp))?;
    let (layout, rotated) = (manifest.layout, manifest.scheme.rotated());
    Ok(Packed::quantise_for(layout, run, Isa::best(), packing, rotated, &parts, feedback, &|_| {})?)
}

/// The members' biases one after the other; a member without one has zeros beside one that has.
fn bias(checkpoint: &Checkpoint, members: &[Member]) -> Result<Option<Vec<f32>>> {
    if members.iter().all(|member| !member.bias) {
        return Ok(None);
    }
    let mut all = Vec::new();
    for member in members {
        let end = all.len() + member.out;
        if member.bias {
            let name = format!("{}.bias", member.name);
            checkpoint.info(&name)?.float()?.widen(&checkpoint.bytes(&name)?, &mut all);
        }
        all.resize(end, 0.0);
    }
    Ok(Some(all))
}

fn write_packed(file: &mut TensorFile, packed: &Packed, bias: Option<&[f32]>) -> io::Result<()> {
    file.tensor(|file| file.write_all(packed.codes()))?;
    file.tensor(|file| write_floats(file, packed.channel()))?;
    if packed.packing().group().is_some() {
        file.tensor(|file| file.write_all(&packed.factor_bytes()))?;
    }
    match bias {
        Some(bias) => file.tensor(|file| write_floats(file, bias)),
        None => Ok(()),
    }
}

fn write_floats(file: &mut dyn Write, values: &[f32]) -> io::Result<()> {
    values.iter().try_for_each(|value| file.write_all(&value.to_le_bytes()))
}
