//! A build without ears opens what has them, leaves them unread, and says so when it is spoken to.
#![cfg(not(feature = "audio"))]
#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use autoglm::{Error, Model, OpenOptions, Part};

#[test]
fn sounds_are_refused_and_the_tensors_that_would_hear_them_are_not_read() {
    let model = Model::open_embedded(autoglm_tiny::FILES, &OpenOptions::default().threads(1)).unwrap();
    assert!(!model.hears() && model.warning().is_none());
    for sound in [Part::audio(autoglm_tiny::VOICES[0].1), Part::samples(16_000, vec![0.0; 16_000])] {
        let refused = model.session().push(sound);
        assert!(matches!(refused, Err(Error::ModalityOff { modality: "sounds", .. })), "{refused:?}");
    }
    // The audio tower and its adapter take more than a megabyte in f16.
    let file = autoglm_tiny::file("model.safetensors").unwrap().len() as u64;
    assert!(model.weights_bytes() + 1_000_000 < file, "{} of {file}", model.weights_bytes());
}
