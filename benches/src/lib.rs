//! What the benchmarks share: checkpoints of random numbers in memory.

use std::sync::Arc;

use autoglm_core::{Checkpoint, DenseSource, FloatType, TensorSpec};

/// A source over random tensors of these shapes, stored as `kind`.
///
/// # Panics
/// As for [`random_checkpoint`].
#[must_use]
pub fn random_source(specs: &[TensorSpec], kind: FloatType) -> DenseSource {
    DenseSource::new(random_checkpoint(specs, kind), None)
}

/// Random tensors of these shapes, stored as `kind`. Numbers are small enough that activations stay
/// finite through any number of layers.
///
/// # Panics
/// When the shapes overflow; they are the benchmarks' own.
#[must_use]
pub fn random_checkpoint(specs: &[TensorSpec], kind: FloatType) -> Arc<Checkpoint> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for spec in specs {
        let count: usize = spec.shape.iter().product();
        let start = data.len();
        let scale = 1.0 / (spec.shape.last().copied().unwrap_or(1) as f32).sqrt();
        let values: Vec<f32> = (0..count).map(|_| (random.f32() - 0.5) * 2.0 * scale).collect();
        kind.narrow(&values, &mut data);
        let dtype = kind.name().to_uppercase();
        header.insert(
            spec.name.clone(),
            serde_json::json!({"dtype": dtype, "shape": spec.shape, "data_offsets": [start, data.len()]}),
        );
    }
    let mut header = serde_json::Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.append(&mut header);
    file.append(&mut data);
    Arc::new(Checkpoint::from_bytes(file).expect("a well-formed file"))
}

/// Random rows (n, c).
///
/// # Panics
/// Never: the data fill the shape.
#[must_use]
pub fn random_rows(shape: &[usize]) -> candle_core::Tensor {
    let mut random = fastrand::Rng::with_seed(11);
    let values = (0..shape.iter().product()).map(|_| random.f32() - 0.5).collect();
    autoglm_core::rows::from_rows(values, shape).expect("the data fill the shape")
}
