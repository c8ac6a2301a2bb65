//! The frames of a patch, folded into one.
//!
//! The patch embedding is a convolution over `temporal_patch_size` frames, and a still picture is repeated in each of
//! them: W_0 x + W_1 x + … + b = (ΣW) x + b. What is left is a Glm4v checkpoint whose patches have one frame. It sees no
//! videos.

use std::path::Path;

use autoglm::Inventory;
use autoglm_core::{Checkpoint, Files, FloatType};
use autoglm_vision::{PreprocessConfig, VisionConfig};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::publish::write_file;

/// The convolution, (outputs, colours, frames, side, side).
pub(super) const KERNEL: &str = "model.visual.patch_embed.proj.weight";

/// The sum is kept in f32, which takes the bytes that two frames took in 16 bits: rounding it again would change what
/// the model sees by as much as storing it in 16 bits did in the first place.
pub(super) const STORED: FloatType = FloatType::F32;

/// Files beside the weights that speak of frames: the first two are written anew, the last is of no more use.
const PREPROCESSOR: &str = "preprocessor_config.json";
const PROCESSOR: &str = "processor_config.json";
const OF_VIDEOS: &str = "video_preprocessor_config.json";

/// Whether a file beside the weights goes along as it is.
pub(super) fn leaves_alone(name: &str) -> bool {
    ![PREPROCESSOR, PROCESSOR, OF_VIDEOS].contains(&name)
}

/// What is to be folded.
#[derive(Debug)]
pub(super) struct Fold {
    /// Frames of a patch.
    pub(super) frames: usize,
    /// The files that speak of them, as they will be.
    files: Vec<(&'static str, Value)>,
}

impl Fold {
    /// # Errors
    /// [`Error::Usage`] when a patch has one frame, or the bounds on a picture's size cannot be said of one.
    pub(super) fn of(files: &Files, inventory: &Inventory) -> Result<Self> {
        let vision = inventory.config.get("vision_config").filter(|vision| vision.is_object());
        let vision = vision.ok_or_else(|| Error::Usage("--fold: this checkpoint has no eyes".to_owned()))?;
        let tower = VisionConfig::from_json(vision).map_err(autoglm::Error::from)?;
        let frames = tower.temporal_patch_size;
        if frames <= 1 {
            return Err(Error::Usage("--fold: a patch of this checkpoint has one frame already".to_owned()));
        }
        let mut changed = Vec::new();
        let nested: Option<Value> = files.json(PROCESSOR)?;
        let pictures = nested.as_ref().and_then(|file| file.get("image_processor")).is_some();
        let own: Option<Value> = match files.json(PREPROCESSOR)? {
            // Without any file, readers would take two frames for granted.
            None if !pictures => Some(json!({ "image_processor_type": "Glm4vImageProcessor" })),
            file => file,
        };
        if let Some(mut file) = own {
            change(&mut file, frames, &tower)?;
            changed.push((PREPROCESSOR, file));
        }
        if let Some(mut file) = nested {
            if let Some(inner) = file.get_mut("image_processor") {
                change(inner, frames, &tower)?;
            }
            if let Some(all) = file.as_object_mut() {
                all.remove("video_processor");
            }
            changed.push((PROCESSOR, file));
        }
        Ok(Self { frames, files: changed })
    }

    /// Says it in `config.json`.
    pub(super) fn say(config: &mut Value) {
        if let Some(vision) = config.get_mut("vision_config").and_then(Value::as_object_mut) {
            vision.insert("temporal_patch_size".to_owned(), json!(1));
        }
    }

    /// The folded kernel of `rows` outputs and colours, each of which has its frames one after the other.
    ///
    /// # Errors
    /// The kernel is no tensor of floats, or its sum none of numbers.
    pub(super) fn kernel(&self, checkpoint: &Checkpoint, name: &str) -> Result<Vec<u8>> {
        let info = checkpoint.info(name)?;
        let (kind, area) = (info.float()?, info.shape.iter().rev().take(2).product::<usize>());
        let stored = checkpoint.bytes(name)?;
        let (mut values, mut bytes) = (Vec::new(), Vec::new());
        for frames in stored.chunks_exact((self.frames * area * kind.size()).max(1)) {
            values.clear();
            kind.widen(frames, &mut values);
            let sum = |at: usize| values.iter().skip(at).step_by(area).map(|x| f64::from(*x)).sum::<f64>() as f32;
            let folded: Vec<f32> = (0..area).map(sum).collect();
            if let Some(value) = folded.iter().find(|x| !x.is_finite()) {
                return Err(Error::Range { tensor: name.to_owned(), value: *value, format: "f32" });
            }
            STORED.narrow(&folded, &mut bytes);
        }
        Ok(bytes)
    }

    /// Writes the files beside the weights that speak of frames.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(super) fn write(&self, directory: &Path) -> Result<()> {
        self.files
            .iter()
            .try_for_each(|(name, file)| write_file(&directory.join(name), format!("{file:#}\n").as_bytes()))
    }
}

/// Says it in what describes how pictures become patches. Bounds on the size of a picture count the pixels of all its frames.
///
/// # Errors
/// [`Error::Usage`] when they cannot be said of one frame; it is no such description.
fn change(file: &mut Value, frames: usize, tower: &VisionConfig) -> Result<()> {
    let read = PreprocessConfig::from_json(Some(file), tower).map_err(autoglm::Error::from)?;
    let frames = frames as u64;
    for bound in [read.min_pixels, read.max_pixels] {
        if !bound.is_multiple_of(frames) {
            return Err(Error::Usage(format!(
                "--fold: {bound} pixels in {frames} frames, a bound on the size of pictures, are no whole number in one"
            )));
        }
    }
    let (least, most) = (read.min_pixels / frames, read.max_pixels / frames);
    let Some(fields) = file.as_object_mut() else { return Ok(()) };
    for (name, value) in [("min_pixels", least), ("max_pixels", most)] {
        if fields.contains_key(name) {
            fields.insert(name.to_owned(), json!(value));
        }
    }
    fields.insert("size".to_owned(), json!({ "shortest_edge": least, "longest_edge": most }));
    fields.insert("temporal_patch_size".to_owned(), json!(1));
    Ok(())
}
