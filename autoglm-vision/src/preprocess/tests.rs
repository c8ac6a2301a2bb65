//! Patches against the processor's, and configurations that ask for the impossible.

use autoglm_core::Workers;
use autoglm_testing::{Golden, assert_close};

use super::*;
use crate::{Error, Limits, decode};

/// The same three operations in f32 on the same integers.
const SAME: f64 = 0.0;

fn config(file: &Value) -> Result<PreprocessConfig> {
    PreprocessConfig::from_json(Some(file), &VisionConfig::from_json(&json!({})).unwrap())
}

fn digest_of(config: &PreprocessConfig, picture: &Rgb) -> MediaDigest {
    let workers = Workers::new(1).unwrap();
    config.patches(&Run::new(&workers), picture).unwrap().digest()
}

#[test]
fn patches_are_those_of_the_processor_to_the_bit() {
    let workers = Workers::new(2).unwrap();
    let mut pictures = 0;
    for name in Golden::cases() {
        let golden = Golden::case(&name);
        let request = golden.json("request.json");
        let Some(images) = request["images"].as_array() else { continue };
        let tower = VisionConfig::from_json(&golden.json("config.json")["vision_config"]).unwrap();
        let config = PreprocessConfig::from_json(Some(&golden.json("preprocessor_config.json")), &tower).unwrap();
        for (i, image) in images.iter().enumerate() {
            let file = std::fs::read(golden.dir().join(image.as_str().unwrap())).unwrap();
            let picture = decode(&file, &Limits::default()).unwrap();
            let patches = config.patches(&Run::new(&workers), &picture).unwrap();
            let what = format!("{name}: patches of {image}");
            let run = Run::new(&workers);
            let rows = patches.rows(&run, 0, patches.len()).unwrap();
            assert_close(&what, &rows, &golden.tensor(&format!("patches.{i}")), SAME);
            let some = patches.rows(&run, 3, 5).unwrap();
            assert_close(&what, &some, &rows.narrow(0, 3, 5).unwrap(), SAME);
            assert_eq!(patches.grid().patches().unwrap(), patches.len());
            assert!(patches.rows(&run, patches.len(), 1).is_err());
            assert!(patches.rows(&run, usize::MAX, 2).is_err());
            pictures += 1;
        }
    }
    assert!(pictures >= 8, "only {pictures} pictures among the goldens");
}

#[test]
fn absent_fields_are_the_processor_s_defaults() {
    let tower = VisionConfig::from_json(&json!({})).unwrap();
    let defaults = PreprocessConfig::from_json(None, &tower).unwrap();
    assert_eq!(defaults, config(&json!({})).unwrap());
    assert_eq!(
        defaults,
        config(&json!({"do_resize": true, "resample": 3, "rescale_factor": 1.0 / 255.0, "size": null})).unwrap()
    );
    assert_eq!((defaults.min_pixels, defaults.max_pixels), (12_544, 11_760_000));
    assert_eq!((defaults.patch_size, defaults.temporal_patch_size, defaults.merge_size), (14, 2, 2));
    assert_eq!(defaults.mean, [0.481_454_66f32 * 255.0, 0.457_827_5 * 255.0, 0.408_210_73 * 255.0]);
}

#[test]
fn bounds_are_read_from_size_or_from_the_older_fields() {
    let both = |c: PreprocessConfig| (c.min_pixels, c.max_pixels);
    assert_eq!(
        both(config(&json!({"size": {"shortest_edge": 784, "longest_edge": 9_633_792}})).unwrap()),
        (784, 9_633_792)
    );
    assert_eq!(both(config(&json!({"min_pixels": 784, "max_pixels": 100_352})).unwrap()), (784, 100_352));
    let size_wins = json!({"min_pixels": 1, "max_pixels": 2, "size": {"shortest_edge": 784, "longest_edge": 100_352}});
    assert_eq!(both(config(&size_wins).unwrap()), (784, 100_352));
    let bounded = config(&json!({})).unwrap().with_max_pixels(5_000_000).unwrap();
    assert_eq!(bounded.smart_resize().target(2400, 1080).unwrap(), (2352, 1036));
}

#[test]
fn what_this_crate_does_not_do_is_refused_by_the_field_s_name() {
    let cases = [
        ("do_resize", json!(false)),
        ("do_rescale", json!(false)),
        ("do_normalize", json!(false)),
        ("do_convert_rgb", json!(false)),
        ("do_resize", json!("yes")),
        ("resample", json!(2)),
        ("patch_size", json!(16)),
        ("patch_size", json!(0)),
        ("temporal_patch_size", json!(1)),
        ("merge_size", json!(4)),
        ("merge_size", json!(-2)),
        ("rescale_factor", json!(0.0)),
        ("rescale_factor", json!(1e-60)),
        ("image_mean", json!([0.5, 0.5])),
        ("image_mean", json!([1e300, 0, 0])),
        ("image_std", json!([0.5, 0.0, 0.5])),
        ("image_std", json!("0.5")),
        ("longest_edge", json!({"shortest_edge": 3136})),
        ("shortest_edge", json!({"longest_edge": 3136})),
        ("longest_edge", json!({"shortest_edge": 3136, "longest_edge": 3135})),
        ("longest_edge", json!({"shortest_edge": 1, "longest_edge": 1u64 << 40})),
        ("min_pixels", json!(1u64 << 60)),
        ("max_pixels", json!(0)),
    ];
    for (field, value) in cases {
        let key = if field.ends_with("_edge") { "size" } else { field };
        let refused = config(&json!({key: value.clone()}));
        let named = matches!(&refused, Err(Error::Core(autoglm_core::Error::Config { field: f, .. })) if *f == field);
        assert!(named, "{field} = {value}: {refused:?}");
    }
    for max_pixels in [0, 12_543, u64::MAX] {
        assert!(config(&json!({})).unwrap().with_max_pixels(max_pixels).is_err());
    }
}

#[test]
fn a_digest_changes_with_every_thing_the_patches_are_made_of() {
    let plain = config(&json!({})).unwrap();
    let pixels = vec![100; 112 * 112 * 3];
    let picture = Rgb::new(112, 112, pixels.clone()).unwrap();
    let mut other = pixels.clone();
    other[20_000] += 1;
    let one_sample = Rgb::new(112, 112, other).unwrap();
    // The same samples in another shape.
    let long = Rgb::new(224, 56, pixels).unwrap();
    let small = json!({"size": {"shortest_edge": 784, "longest_edge": 9_633_792}});
    let digests = [
        digest_of(&plain, &picture),
        digest_of(&plain, &one_sample),
        digest_of(&plain, &long),
        digest_of(&config(&json!({"image_mean": [0.5, 0.5, 0.5]})).unwrap(), &picture),
        digest_of(&config(&json!({"image_std": [0.5, 0.5, 0.5]})).unwrap(), &picture),
        digest_of(&config(&json!({"rescale_factor": 0.01})).unwrap(), &picture),
        digest_of(&config(&small).unwrap(), &Rgb::new(56, 112, vec![100; 56 * 112 * 3]).unwrap()),
    ];
    for (i, a) in digests.iter().enumerate() {
        assert!(digests[..i].iter().all(|b| a != b), "digest {i} is an earlier one");
    }
    // Bounds that lead to the same pixels lead to the same rows.
    assert_eq!(digests[0], digest_of(&config(&small).unwrap(), &picture));
    assert_eq!(digests[0], digest_of(&plain, &picture));
}

#[test]
fn pictures_of_absurd_shapes_are_patches_or_named_errors() {
    let workers = Workers::new(1).unwrap();
    let plain = config(&json!({})).unwrap();
    for (width, height) in [(1, 1), (1, 2), (1, 200), (200, 1), (3, 3), (27, 29), (1, 201), (10_000, 1), (1, 10_000)] {
        let picture = Rgb::new(width, height, vec![7; (width * height * 3) as usize]).unwrap();
        let patches = plain.patches(&Run::new(&workers), &picture);
        if width.max(height) > 200 * width.min(height) {
            assert!(matches!(patches, Err(Error::Aspect { limit: 200, .. })), "{width}x{height}");
        } else {
            let grid = patches.unwrap().grid();
            assert!(grid.h >= 2 && grid.w >= 2 && (grid.h | grid.w) & 1 == 0, "{width}x{height}: {grid:?}");
        }
    }
}
