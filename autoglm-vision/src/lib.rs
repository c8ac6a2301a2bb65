//! Turn pictures into embedding rows a text decoder can read: the vision side of GLM-4.1V.
//!
//! A picture passes through, in this order: [`mod@decode`] (a file into RGB, within limits),
//! [`resize`] (to a whole number of patches, as torchvision does it), [`preprocess`] (normalised
//! patches and their digest), [`tower`] (the vision transformer and its merger). [`config`] reads the blueprint.
//!
//! ```
//! use autoglm_core::{Run, Workers};
//! use autoglm_vision::{PreprocessConfig, Rgb, VisionConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tower = VisionConfig::from_json(&serde_json::json!({}))?;
//! let config = PreprocessConfig::from_json(None, &tower)?;
//! let workers = Workers::new(1)?;
//! let picture = Rgb::new(100, 60, vec![200; 100 * 60 * 3])?;
//! let patches = config.patches(&Run::new(&workers), &picture)?;
//! assert_eq!((patches.grid().h, patches.grid().w), (4, 8)); // 56 by 112 pixels
//! assert_eq!((patches.len(), patches.width()), (32, 3 * 2 * 14 * 14));
//! # Ok(())
//! # }
//! ```

mod block;
pub mod config;
pub mod decode;
mod error;
mod merger;
mod position;
pub mod preprocess;
pub mod resize;
pub mod tower;

pub use config::VisionConfig;
pub use decode::{Limits, Rgb, decode};
pub use error::{Error, Result};
pub use preprocess::{Patches, PreprocessConfig};
pub use tower::VisionTower;
