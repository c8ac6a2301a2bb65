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
const REWRITTEN: [&str; 2] = ["preprocessor_config.json", "processor_config.json"];
const OF_VIDEOS: &str = "video_preprocessor_config.json";

/// Whether a file beside the weights goes along as it is.
pub(super) fn leaves_alone(name: &str) -> bool {
    name != OF_VIDEOS && !REWRITTEN.contains(&name)
}

/// What is to be folded.
#[derive(Debug)]
pub(super) struct Fold {
    /// Frames of a patch.
    pub(super) frames: usize,
    preprocess: PreprocessConfig,
}

impl Fold {
    /// # Errors
    /// [`Error::Usage`] when a patch has one frame, or the bounds on a picture's size cannot be said of one.
    pub(super) fn of(files: &Files, inventory: &Inventory) -> Result<Self> {
        let vision = inventory.config.get("vision_config").filter(|vision| vision.is_object());
        let vision = vision.ok_or_else(|| Error::Usage("--fold: this checkpoint has no eyes".to_owned()))?;
        let tower = VisionConfig::from_json(vision).map_err(autoglm::Error::from)?;
        let written: Option<Value> = files.json(REWRITTEN[0])?;
        let preprocess = PreprocessConfig::from_json(written.as_ref(), &tower).map_err(autoglm::Error::from)?;
        let frames = tower.temporal_patch_size;
        if frames <= 1 {
            return Err(Error::Usage("--fold: a patch of this checkpoint has one frame already".to_owned()));
        }
        for bound in [preprocess.min_pixels, preprocess.max_pixels] {
            if !bound.is_multiple_of(frames as u64) {
                return Err(Error::Usage(format!(
                    "--fold: {bound} pixels in {frames} frames, a bound on the size of pictures, are no whole number in one"
                )));
            }
        }
        Ok(Self { frames, preprocess })
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
    /// The kernel is no tensor of floats.
    pub(super) fn kernel(&self, checkpoint: &Checkpoint, name: &str) -> Result<Vec<u8>> {
        let info = checkpoint.info(name)?;
        let (kind, area) = (info.float()?, info.shape.iter().rev().take(2).product::<usize>());
        let stored = checkpoint.bytes(name)?;
        let (mut values, mut bytes) = (Vec::new(), Vec::new());
        for frames in stored.chunks_exact((self.frames * area * kind.size()).max(1)) {
            values.clear();
            kind.widen(frames, &mut values);
            let sum = |at: usize| values.iter().skip(at).step_by(area).map(|x| f64::from(*x)).sum::<f64>() as f32;
            STORED.narrow(&(0..area).map(sum).collect::<Vec<f32>>(), &mut bytes);
        }
        Ok(bytes)
    }

    /// Writes the files beside the weights that speak of frames. Bounds on the size of a picture count the pixels of all
    /// its frames.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub(super) fn write(&self, files: &Files, directory: &Path) -> Result<()> {
        for name in REWRITTEN {
            let mut file: Value = match files.json(name)? {
                Some(file) => file,
                // Without a file, readers would take two frames for granted.
                None if name == REWRITTEN[0] => json!({ "image_processor_type": "Glm4vImageProcessor" }),
                None => continue,
            };
            if name == REWRITTEN[0] {
                self.change(&mut file);
            } else if let Some(nested) = file.get_mut("image_processor") {
                self.change(nested);
            }
            if let Some(all) = file.as_object_mut() {
                all.remove("video_processor");
            }
            write_file(&directory.join(name), format!("{file:#}\n").as_bytes())?;
        }
        Ok(())
    }

    fn change(&self, file: &mut Value) {
        let Some(fields) = file.as_object_mut() else { return };
        let frames = self.frames as u64;
        let (least, most) = (self.preprocess.min_pixels / frames, self.preprocess.max_pixels / frames);
        for (name, value) in [("min_pixels", least), ("max_pixels", most)] {
            if fields.contains_key(name) {
                fields.insert(name.to_owned(), json!(value));
            }
        }
        fields.insert("size".to_owned(), json!({ "shortest_edge": least, "longest_edge": most }));
        fields.insert("temporal_patch_size".to_owned(), json!(1));
    }
}
