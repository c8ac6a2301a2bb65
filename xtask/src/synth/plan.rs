//! Which tensors a checkpoint has, in the order they are stored, and how each is drawn.

use autoglm::{Architecture, Shape};

/// A tensor to be drawn: normal numbers of the given mean and standard deviation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) mean: f32,
    pub(crate) sd: f32,
}

impl Tensor {
    pub(crate) fn values(&self) -> u64 {
        self.shape.iter().map(|size| *size as u64).product()
    }
}

/// Spread of norm weights around 1 and of biases around 0: enough that leaving one out is seen in
/// the logits.
const SMALL: f32 = 0.1;

/// All tensors of `shape`. Activations stay near unit size through any depth: each map keeps the
/// size of what goes in, and what a layer adds has just been normalised.
pub(crate) fn tensors(shape: &Shape) -> Vec<Tensor> {
    let mut plan = Plan::default();
    match shape.architecture {
        Architecture::Glm4v => decoder(shape, &mut plan),
        Architecture::GlmAsr => llama(shape, &mut plan),
    }
    if shape.vision.depth > 0 {
        tower(shape, &mut plan);
    }
    if shape.audio.depth > 0 {
        ears(shape, &mut plan);
    }
    plan.tensors
}

/// GLM-ASR's decoder, under the names that its files have.
fn llama(shape: &Shape, plan: &mut Plan) {
    let Shape { vocab, hidden, intermediate, .. } = *shape;
    let kv = shape.kv_heads * shape.head_dim();
    plan.table("language_model.model.embed_tokens.weight", [vocab, hidden]);
    for layer in 0..shape.layers {
        let at = |rest: &str| format!("language_model.model.layers.{layer}.{rest}");
        plan.norm(at("input_layernorm.weight"), hidden);
        for (map, out) in [("q_proj", hidden), ("k_proj", kv), ("v_proj", kv), ("o_proj", hidden)] {
            plan.map(at(&format!("self_attn.{map}.weight")), &[out, hidden]);
        }
        plan.norm(at("post_attention_layernorm.weight"), hidden);
        plan.map(at("mlp.gate_proj.weight"), &[intermediate, hidden]);
        plan.map(at("mlp.up_proj.weight"), &[intermediate, hidden]);
        plan.map(at("mlp.down_proj.weight"), &[hidden, intermediate]);
    }
    plan.norm("language_model.model.norm.weight", hidden);
    plan.map("language_model.lm_head.weight", &[vocab, hidden]);
}

/// An audio tower and its adapter: below `model.` beside eyes, as fused checkpoints have them, and at the top of
/// GLM-ASR.
fn ears(shape: &Shape, plan: &mut Plan) {
    const TAPS: usize = 3;
    const BANDS: usize = 128;
    let top = match shape.architecture {
        Architecture::Glm4v => "model.",
        Architecture::GlmAsr => "",
    };
    let (width, out) = (shape.audio.hidden, shape.hidden);
    let inner = 4 * width;
    for (conv, inp) in [("conv1", BANDS), ("conv2", width)] {
        plan.map(format!("{top}audio_tower.{conv}.weight"), &[width, inp, TAPS]);
        plan.bias(format!("{top}audio_tower.{conv}.bias"), width);
    }
    for layer in 0..shape.audio.depth {
        let at = |rest: &str| format!("{top}audio_tower.layers.{layer}.{rest}");
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            plan.norm(at(&format!("{norm}.weight")), width);
            plan.bias(at(&format!("{norm}.bias")), width);
        }
        for map in ["q_proj", "k_proj", "v_proj", "o_proj"] {
            plan.map(at(&format!("self_attn.{map}.weight")), &[width, width]);
            if map != "k_proj" {
                plan.bias(at(&format!("self_attn.{map}.bias")), width);
            }
        }
        for (map, to, from) in [("fc1", inner, width), ("fc2", width, inner)] {
            plan.map(at(&format!("mlp.{map}.weight")), &[to, from]);
            plan.bias(at(&format!("mlp.{map}.bias")), to);
        }
    }
    plan.norm(format!("{top}audio_tower.norm.weight"), width);
    plan.bias(format!("{top}audio_tower.norm.bias"), width);
    for (map, to, from) in [("linear_1", 2 * out, inner), ("linear_2", out, 2 * out)] {
        plan.map(format!("{top}multi_modal_projector.{map}.weight"), &[to, from]);
        plan.bias(format!("{top}multi_modal_projector.{map}.bias"), to);
    }
}

fn decoder(shape: &Shape, plan: &mut Plan) {
    let Shape { vocab, hidden, intermediate, .. } = *shape;
    let kv = shape.kv_heads * shape.head_dim();
    plan.table("model.language_model.embed_tokens.weight", [vocab, hidden]);
    for layer in 0..shape.layers {
        let at = |rest: &str| format!("model.language_model.layers.{layer}.{rest}");
        plan.norm(at("input_layernorm.weight"), hidden);
        for (map, out) in [("q_proj", hidden), ("k_proj", kv), ("v_proj", kv)] {
            plan.map(at(&format!("self_attn.{map}.weight")), &[out, hidden]);
            plan.bias(at(&format!("self_attn.{map}.bias")), out);
        }
        plan.map(at("self_attn.o_proj.weight"), &[hidden, hidden]);
        plan.norm(at("post_self_attn_layernorm.weight"), hidden);
        plan.norm(at("post_attention_layernorm.weight"), hidden);
        plan.map(at("mlp.gate_up_proj.weight"), &[2 * intermediate, hidden]);
        plan.map(at("mlp.down_proj.weight"), &[hidden, intermediate]);
        plan.norm(at("post_mlp_layernorm.weight"), hidden);
    }
    plan.norm("model.language_model.norm.weight", hidden);
    plan.map("lm_head.weight", &[vocab, hidden]);
}

fn tower(shape: &Shape, plan: &mut Plan) {
    let vision = &shape.vision;
    // A block's inner layer is `out_hidden_size` wide, which is the decoder's width.
    let (width, out) = (vision.hidden, shape.hidden);
    let at = |rest: &str| format!("model.visual.{rest}");
    plan.map(
        at("patch_embed.proj.weight"),
        &[width, Shape::CHANNELS, Shape::TEMPORAL_PATCH, Shape::PATCH, Shape::PATCH],
    );
    plan.bias(at("patch_embed.proj.bias"), width);
    plan.norm(at("post_conv_layernorm.weight"), width);
    let side = vision.image_size / Shape::PATCH;
    plan.table(at("embeddings.position_embedding.weight"), [side * side, width]);
    for block in 0..vision.depth {
        let at = |rest: &str| format!("model.visual.blocks.{block}.{rest}");
        plan.norm(at("norm1.weight"), width);
        plan.map(at("attn.qkv.weight"), &[3 * width, width]);
        plan.map(at("attn.proj.weight"), &[width, width]);
        plan.norm(at("norm2.weight"), width);
        plan.map(at("mlp.gate_proj.weight"), &[out, width]);
        plan.map(at("mlp.up_proj.weight"), &[out, width]);
        plan.map(at("mlp.down_proj.weight"), &[width, out]);
    }
    plan.norm(at("post_layernorm.weight"), width);
    plan.map(at("downsample.weight"), &[out, width, Shape::MERGE, Shape::MERGE]);
    plan.bias(at("downsample.bias"), out);
    plan.map(at("merger.proj.weight"), &[out, out]);
    plan.norm(at("merger.post_projection_norm.weight"), out);
    plan.bias(at("merger.post_projection_norm.bias"), out);
    plan.map(at("merger.gate_proj.weight"), &[vision.intermediate, out]);
    plan.map(at("merger.up_proj.weight"), &[vision.intermediate, out]);
    plan.map(at("merger.down_proj.weight"), &[out, vision.intermediate]);
}

#[derive(Default)]
struct Plan {
    tensors: Vec<Tensor>,
}

impl Plan {
    fn push(&mut self, name: impl Into<String>, shape: &[usize], mean: f32, sd: f32) {
        self.tensors.push(Tensor { name: name.into(), shape: shape.to_vec(), mean, sd });
    }

    /// A linear map or a convolution, `(out, in…)`.
    fn map(&mut self, name: impl Into<String>, shape: &[usize]) {
        let fan_in: usize = shape[1..].iter().product();
        self.push(name, shape, 0.0, 1.0 / (fan_in as f32).sqrt());
    }

    /// Rows that are looked up and not multiplied.
    fn table(&mut self, name: impl Into<String>, shape: [usize; 2]) {
        self.push(name, &shape, 0.0, 1.0);
    }

    fn norm(&mut self, name: impl Into<String>, width: usize) {
        self.push(name, &[width], 1.0, SMALL);
    }

    fn bias(&mut self, name: impl Into<String>, width: usize) {
        self.push(name, &[width], 0.0, SMALL);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn parameters(shape: &Shape) -> u64 {
        tensors(shape).iter().map(Tensor::values).sum()
    }

    #[test]
    fn the_large_shape_has_the_tensors_and_parameters_of_the_real_model() {
        let shape = Shape::named("glm-4.1v-9b").unwrap();
        let tensors = tensors(&shape);
        let in_tower = |tensor: &&Tensor| tensor.name.starts_with("model.visual.");
        assert_eq!(tensors.iter().filter(in_tower).count(), 181);
        assert_eq!(tensors.len(), 523 + 181);
        assert_eq!(tensors.iter().filter(in_tower).map(Tensor::values).sum::<u64>(), 892_498_432);
        assert_eq!(parameters(&shape), 10_292_777_472);
    }

    #[test]
    fn glm_asr_has_the_parameters_of_the_real_model() {
        let shape = Shape::named("glm-asr-nano").unwrap();
        // With the separate output layer that its file carries.
        assert_eq!(parameters(&shape), 635_048_960 + 29_366_272 + 1_593_427_968);
    }

    #[test]
    fn the_narrowed_shape_is_as_large_as_its_name_says() {
        let decoder_and_tower = parameters(&Shape::named("glm-4.1v-0.9b").unwrap());
        assert!((900_000_000..1_100_000_000).contains(&decoder_and_tower), "{decoder_and_tower}");
    }

    #[test]
    fn names_are_unique_and_fewer_layers_keep_the_rest() {
        let full = Shape::named("tiny").unwrap();
        let mut short = full.clone();
        (short.layers, short.vision.depth) = (1, 1);
        let names = |shape: &Shape| tensors(shape).into_iter().map(|tensor| tensor.name).collect::<Vec<_>>();
        let (all, kept) = (names(&full), names(&short));
        let unique: BTreeSet<_> = all.iter().collect();
        assert_eq!(unique.len(), all.len());
        assert!(kept.len() < all.len() && kept.iter().all(|name| unique.contains(name)));
    }
}
