//! Every stage against transformers, and what a tower refuses.

use std::sync::Arc;

use autoglm_core::{Checkpoint, DenseSource, Files, KvFormat, Workers};
use autoglm_testing::{Golden, assert_close, assert_same, distance};

use super::*;
use crate::{Limits, PreprocessConfig, decode};

/// f32 sums of up to 1176 products in another order, through three blocks; in standard deviations of
/// the stage. Evaluating in f64 moves the reference itself by as much.
const F32_STAGE: f64 = 2e-5;

const PREFIX: &str = "model.visual";

struct Case {
    name: String,
    golden: Golden,
    tower: VisionTower,
    pictures: Vec<Patches>,
}

/// The golden cases with pictures.
fn cases(run: &Run<'_>) -> Vec<Case> {
    let with_pictures = |name: &String| Golden::case(name).has("patches.0");
    Golden::cases().into_iter().filter(with_pictures).map(|name| Case::open(name, run)).collect()
}

impl Case {
    fn open(name: String, run: &Run<'_>) -> Self {
        let golden = Golden::case(&name);
        let files = Files::directory(golden.dir()).unwrap();
        let checkpoint = Arc::new(Checkpoint::open(&files).unwrap());
        let config = VisionConfig::from_json(&golden.json("config.json")["vision_config"]).unwrap();
        let others = ["lm_head", "model.language_model", "model.audio_tower", "model.multi_modal_projector"];
        checkpoint.verify(&config.expected_tensors(PREFIX), &others, false).unwrap();
        let tower = VisionTower::load(&DenseSource::new(checkpoint, None), &config, PREFIX).unwrap();
        let preprocess = PreprocessConfig::from_json(Some(&golden.json("preprocessor_config.json")), &config).unwrap();
        let pictures = golden.json("request.json")["images"]
            .as_array()
            .unwrap()
            .iter()
            .map(|image| {
                let file = std::fs::read(golden.dir().join(image.as_str().unwrap())).unwrap();
                preprocess.patches(run, &decode(&file, &Limits::default()).unwrap()).unwrap()
            })
            .collect();
        Self { name, golden, tower, pictures }
    }

    fn check(&self, stage: &str, picture: usize, got: &Tensor) {
        let want = self.golden.tensor(&format!("vision.{stage}.{picture}"));
        let bound = F32_STAGE;
        println!("{} {stage}.{picture}: {:.1e}", self.name, distance(got, &want));
        assert_close(&format!("{} {stage}.{picture}", self.name), got, &want, bound);
    }
}

fn rows(chunks: &[Chunk]) -> Tensor {
    let rows: Vec<&Tensor> = chunks.iter().map(|chunk| &chunk.rows).collect();
    Tensor::cat(&rows, 0).unwrap()
}

#[test]
fn every_stage_is_that_of_transformers() {
    let workers = Workers::new(2).unwrap();
    let run = Run::new(&workers);
    let cases = cases(&run);
    assert!(cases.len() >= 6, "only {} cases with pictures", cases.len());
    for case in cases {
        let tower = &case.tower;
        for (i, patches) in case.pictures.iter().enumerate() {
            let embedded = tower.patch_embed.forward(&run, &patches.rows(&run, 0, patches.len()).unwrap()).unwrap();
            case.check("patch_embed", i, &embedded);
            let normed = tower.post_conv_layernorm.forward(&run, &embedded).unwrap();
            case.check("post_conv_layernorm", i, &normed);
            let mut chunks = tower.embed(&run, patches, ROWS_PER_CHUNK).unwrap();
            case.check("embeddings", i, &rows(&chunks));
            for (b, block) in tower.blocks.iter().enumerate() {
                block.forward(&run, &tower.rope, &mut chunks).unwrap();
                case.check(&format!("block.{b}"), i, &rows(&chunks));
            }
            let last = rows(&chunks);
            case.check("post_layernorm", i, &tower.post_layernorm.forward(&run, &last).unwrap());
            let folded = tower.fold(&run, &last).unwrap();
            case.check("downsample", i, &folded);
            case.check("merger", i, &tower.merger.forward(&run, &folded).unwrap());
            let embeds = tower.encode(&run, patches).unwrap();
            case.check("merger", i, embeds.rows());
        }
    }
}

#[test]
fn chunks_and_threads_change_no_bit() {
    let (one, three) = (Workers::new(1).unwrap(), Workers::new(3).unwrap());
    let run = Run::new(&one);
    for case in cases(&run) {
        let (tower, patches) = (&case.tower, &case.pictures[0]);
        let chunked = |run: &Run<'_>, size| {
            let mut chunks = tower.embed(run, patches, size).unwrap();
            for block in &tower.blocks {
                block.forward(run, &tower.rope, &mut chunks).unwrap();
            }
            rows(&chunks)
        };
        let whole = chunked(&run, 1 << 20);
        for size in [1, 8, 20] {
            assert_same(&case.name, &chunked(&Run::new(&three), size), &whole);
        }
    }
}

#[test]
fn attention_in_bf16_stays_near_the_exact_one() {
    // Queries, keys, values and weights of three blocks are rounded by 2^-9 each.
    const ROUNDED: f64 = 5e-2;
    let workers = Workers::new(2).unwrap();
    let run = Run::new(&workers);
    for case in cases(&run) {
        let exact = case.tower.encode(&run, &case.pictures[0]).unwrap();
        let rounded = case.tower.encode(&run.with_attention(KvFormat::Bf16), &case.pictures[0]).unwrap();
        println!("{}: {:e}", case.name, distance(rounded.rows(), exact.rows()));
        assert!(distance(rounded.rows(), exact.rows()) > 0.0);
        assert_close(&case.name, rounded.rows(), exact.rows(), ROUNDED);
    }
}

#[test]
fn rows_know_their_squares_and_their_picture() {
    let workers = Workers::new(1).unwrap();
    let run = Run::new(&workers);
    let case = Case::open("extreme-aspect".into(), &run);
    for patches in &case.pictures {
        let embeds = case.tower.encode(&run, patches).unwrap();
        let merged = patches.grid().merged(2).unwrap();
        let want: Vec<[u32; 3]> = (0..merged.h).flat_map(|y| (0..merged.w).map(move |x| [0, y, x])).collect();
        assert_eq!(embeds.coords(), want);
        assert_eq!(embeds.advance(), merged.h.max(merged.w));
        let (digest, modality, tokens) = (patches.digest(), Modality::Image, want.len());
        let (extent, keep) = ([1, merged.h, merged.w], autoglm_core::Keep::ALL);
        assert_eq!(embeds.unit(), autoglm_core::Unit::Media { digest, modality, tokens, extent, keep });
    }
}

#[test]
fn patches_cut_for_another_tower_are_refused() {
    let workers = Workers::new(1).unwrap();
    let run = Run::new(&workers);
    let case = Case::open("one-image".into(), &run);
    let other = VisionConfig::from_json(&serde_json::json!({"patch_size": 16})).unwrap();
    let preprocess = PreprocessConfig::from_json(None, &other).unwrap();
    let picture = crate::Rgb::new(64, 64, vec![0; 64 * 64 * 3]).unwrap();
    let refused = case.tower.encode(&run, &preprocess.patches(&run, &picture).unwrap()).unwrap_err();
    assert!(matches!(refused, Error::Patches { expected: 1176, got: 1536, .. }), "{refused}");
    let squares = VisionConfig::from_json(&serde_json::json!({"spatial_merge_size": 1})).unwrap();
    let preprocess = PreprocessConfig::from_json(None, &squares).unwrap();
    let refused = case.tower.encode(&run, &preprocess.patches(&run, &picture).unwrap()).unwrap_err();
    assert!(matches!(refused, Error::Patches { expected_merge: 2, got_merge: 1, .. }), "{refused}");
}

#[test]
fn a_tensor_that_does_not_fit_is_named() {
    let golden = Golden::case("one-image");
    let files = Files::directory(golden.dir()).unwrap();
    let source = DenseSource::new(Arc::new(Checkpoint::open(&files).unwrap()), None);
    let mut file = golden.json("config.json")["vision_config"].clone();
    file["image_size"] = 112.into();
    let refused = VisionTower::load(&source, &VisionConfig::from_json(&file).unwrap(), PREFIX).unwrap_err();
    assert!(refused.to_string().contains("model.visual.embeddings.position_embedding.weight"), "{refused}");
    let config = VisionConfig::from_json(&golden.json("config.json")["vision_config"]).unwrap();
    let refused = VisionTower::load(&source, &config, "model.vision").unwrap_err();
    assert!(refused.to_string().contains("`model.vision."), "{refused}");
}

#[test]
fn a_tower_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<VisionTower>();
}
