//! A GLM-4.1V checkpoint of 2.2 million weights that really taps and listens, as bytes.
//!
//! The files are those of a Hugging Face directory (`Glm4vForConditionalGeneration`), so whatever opens
//! the real model opens this one. It was trained on synthetic phone home screens: shown one and asked to
//! open an app, in writing or aloud, it answers in AutoGLM's grammar with a tap on that app's icon. That makes it the
//! default of demos and the thing that tests judge by behaviour. What it can do and cannot, and how it
//! was made, is in the README.
//!
//! A loader that takes a directory finds one by writing [`FILES`] into it:
//!
//! ```
//! let directory = std::env::temp_dir().join(format!("autoglm-tiny-{}", std::process::id()));
//! std::fs::create_dir_all(&directory)?;
//! for (name, bytes) in autoglm_tiny::FILES {
//!     std::fs::write(directory.join(name), bytes)?;
//! }
//! assert!(directory.join("model.safetensors").is_file());
//! # std::fs::remove_dir_all(&directory)?;
//! # Ok::<(), std::io::Error>(())
//! ```

/// Every file of the Hugging Face directory: its name and its bytes, sorted by name.
///
/// The weights are f16, 4.4 MB in one safetensors file.
pub const FILES: &[(&str, &[u8])] = &[
    ("chat_template.jinja", include_bytes!("../chat_template.jinja")),
    ("config.json", include_bytes!("../config.json")),
    ("generation_config.json", include_bytes!("../generation_config.json")),
    ("model.safetensors", include_bytes!("../model.safetensors")),
    ("preprocessor_config.json", include_bytes!("../preprocessor_config.json")),
    ("processor_config.json", include_bytes!("../processor_config.json")),
    ("tokenizer.json", include_bytes!("../tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../tokenizer_config.json")),
];

/// Sample screens the training never saw: file name and PNG bytes, 168 × 336 pixels of RGB each.
///
/// `01.png` shows a camera (相机). Where each icon lies is in [`ICONS`].
pub const SCREENS: &[(&str, &[u8])] = &[
    ("01.png", include_bytes!("../screens/01.png")),
    ("02.png", include_bytes!("../screens/02.png")),
    ("03.png", include_bytes!("../screens/03.png")),
    ("04.png", include_bytes!("../screens/04.png")),
    ("05.png", include_bytes!("../screens/05.png")),
    ("06.png", include_bytes!("../screens/06.png")),
    ("07.png", include_bytes!("../screens/07.png")),
    ("08.png", include_bytes!("../screens/08.png")),
    ("09.png", include_bytes!("../screens/09.png")),
    ("10.png", include_bytes!("../screens/10.png")),
    ("11.png", include_bytes!("../screens/11.png")),
    ("12.png", include_bytes!("../screens/12.png")),
    ("13.png", include_bytes!("../screens/13.png")),
    ("14.png", include_bytes!("../screens/14.png")),
    ("15.png", include_bytes!("../screens/15.png")),
    ("16.png", include_bytes!("../screens/16.png")),
    ("17.png", include_bytes!("../screens/17.png")),
    ("18.png", include_bytes!("../screens/18.png")),
    ("19.png", include_bytes!("../screens/19.png")),
    ("20.png", include_bytes!("../screens/20.png")),
];

/// Spoken commands in voices the training never heard, one for each of [`SCREENS`] in the same order: file name and
/// the bytes of a 16-bit WAV file of one channel, mostly 16 kHz.
///
/// `01.wav` says 打开相机.
pub const VOICES: &[(&str, &[u8])] = &[
    ("01.wav", include_bytes!("../voice/01.wav")),
    ("02.wav", include_bytes!("../voice/02.wav")),
    ("03.wav", include_bytes!("../voice/03.wav")),
    ("04.wav", include_bytes!("../voice/04.wav")),
    ("05.wav", include_bytes!("../voice/05.wav")),
    ("06.wav", include_bytes!("../voice/06.wav")),
    ("07.wav", include_bytes!("../voice/07.wav")),
    ("08.wav", include_bytes!("../voice/08.wav")),
    ("09.wav", include_bytes!("../voice/09.wav")),
    ("10.wav", include_bytes!("../voice/10.wav")),
    ("11.wav", include_bytes!("../voice/11.wav")),
    ("12.wav", include_bytes!("../voice/12.wav")),
    ("13.wav", include_bytes!("../voice/13.wav")),
    ("14.wav", include_bytes!("../voice/14.wav")),
    ("15.wav", include_bytes!("../voice/15.wav")),
    ("16.wav", include_bytes!("../voice/16.wav")),
    ("17.wav", include_bytes!("../voice/17.wav")),
    ("18.wav", include_bytes!("../voice/18.wav")),
    ("19.wav", include_bytes!("../voice/19.wav")),
    ("20.wav", include_bytes!("../voice/20.wav")),
];

/// JSON that says where the icons of [`SCREENS`] are.
///
/// `{"01.png": {"camera": {"zh": "相机", "en": "camera", "box": [left, top, right, bottom]}, …}, …}`,
/// boxes in pixels from the top left corner, edges included.
pub const ICONS: &str = include_str!("../screens/screens.json");

/// The bytes of one of [`FILES`], or nothing if the checkpoint has no file of that name.
///
/// ```
/// assert!(autoglm_tiny::file("config.json").is_some());
/// assert!(autoglm_tiny::file("model-00001-of-00002.safetensors").is_none());
/// ```
#[must_use]
pub fn file(name: &str) -> Option<&'static [u8]> {
    FILES.iter().find(|(there, _)| *there == name).map(|(_, bytes)| *bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISHABLE_BYTES: usize = 6_000_000;

    fn text(name: &str) -> &'static str {
        std::str::from_utf8(file(name).unwrap()).unwrap()
    }

    fn big_endian(bytes: &[u8]) -> u32 {
        u32::from_be_bytes(bytes.try_into().unwrap())
    }

    #[test]
    fn files_hold_what_a_hugging_face_loader_needs() {
        let names: Vec<_> = FILES.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            [
                "chat_template.jinja",
                "config.json",
                "generation_config.json",
                "model.safetensors",
                "preprocessor_config.json",
                "processor_config.json",
                "tokenizer.json",
                "tokenizer_config.json",
            ]
        );
        assert!(text("config.json").contains("\"Glm4vForConditionalGeneration\""));
        assert!(text("generation_config.json").contains("\"eos_token_id\""));
        assert!(text("preprocessor_config.json").contains("\"Glm4vImageProcessor\""));
        assert!(text("chat_template.jinja").contains("add_generation_prompt"));
        for marker in ["<|image|>", "<|audio|>", "<think>", "</answer>"] {
            assert!(text("tokenizer.json").contains(&format!("\"{marker}\"")), "{marker}");
        }
    }

    #[test]
    fn safetensors_header_covers_the_file_with_f16_tensors() {
        let bytes = file("model.safetensors").unwrap();
        let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
        let header = std::str::from_utf8(&bytes[8..8 + length]).unwrap();
        let last = header
            .split("\"data_offsets\":[")
            .skip(1)
            .map(|rest| rest.split([',', ']']).nth(1).unwrap().parse::<usize>().unwrap())
            .max();
        assert_eq!(last, Some(bytes.len() - 8 - length));
        assert_eq!(header.matches("\"dtype\":").count(), header.matches("\"dtype\":\"F16\"").count());
        for tensor in ["lm_head.weight", "model.visual.patch_embed.proj.weight", "model.language_model.norm.weight"] {
            assert!(header.contains(&format!("\"{tensor}\"")), "{tensor}");
        }
    }

    #[test]
    fn screens_are_numbered_pngs_of_one_size_with_known_icons() {
        assert_eq!(SCREENS.len(), 20);
        for (index, (name, png)) in SCREENS.iter().enumerate() {
            assert_eq!(*name, format!("{:02}.png", index + 1));
            assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n", "{name}");
            assert_eq!((big_endian(&png[16..20]), big_endian(&png[20..24])), (168, 336), "{name}");
            assert!(ICONS.contains(&format!("\"{name}\": {{")), "{name}");
        }
        let first = ICONS.lines().find(|line| line.starts_with("\"01.png\"")).unwrap();
        assert!(first.contains("\"camera\": {\"zh\": \"相机\""));
    }

    #[test]
    fn every_screen_has_a_spoken_command() {
        assert_eq!(VOICES.len(), SCREENS.len());
        for (index, (name, wav)) in VOICES.iter().enumerate() {
            assert_eq!(*name, format!("{:02}.wav", index + 1));
            assert_eq!((&wav[..4], &wav[8..16]), (&b"RIFF"[..], &b"WAVEfmt "[..]), "{name}");
        }
    }

    #[test]
    fn everything_together_stays_small_enough_to_publish() {
        let files: usize = FILES.iter().chain(SCREENS).chain(VOICES).map(|(_, bytes)| bytes.len()).sum();
        assert!(files + ICONS.len() < PUBLISHABLE_BYTES, "{files} bytes");
    }
}
