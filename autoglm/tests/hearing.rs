//! Sounds through the facade: spoken commands, transcripts, and what a model without ears says.
#![cfg(feature = "audio")]
#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use autoglm::{Error, Generate, Model, OpenOptions, Part, Session, Thinking};
use autoglm_testing::{Golden, speaking};

fn tiny() -> Model {
    Model::open_embedded(autoglm_tiny::FILES, &OpenOptions::default().threads(2)).unwrap()
}

/// GLM-ASR with random weights and a tokenizer.
fn asr() -> Model {
    let folder = tempfile::tempdir().unwrap();
    speaking("asr-legacy-names", folder.path());
    Model::open_with(folder.path(), &OpenOptions::default().threads(2)).unwrap()
}

fn reply(session: &mut Session) -> String {
    let how = Generate::default().thinking(Thinking::Skipped).max_new_tokens(48);
    session.reply(how).unwrap().map(|piece| piece.unwrap().text).collect()
}

fn voice() -> Vec<u8> {
    autoglm_tiny::VOICES[0].1.to_vec()
}

#[cfg(feature = "vision")]
#[test]
fn a_spoken_command_is_obeyed_like_a_written_one() {
    let model = tiny();
    assert!(model.hears());
    let answer = |command: Part| {
        let mut session = model.session();
        session.push(Part::image(autoglm_tiny::SCREENS[0].1)).unwrap();
        session.push(command).unwrap();
        reply(&mut session)
    };
    let written = answer(Part::text("打开相机"));
    assert_eq!(written, "do(action=\"Tap\", element=[640,130])");
    assert_eq!(answer(Part::audio(voice())), written);
}

#[cfg(feature = "vision")]
#[test]
fn a_screenshot_is_forgotten_and_the_command_is_not() {
    let model = tiny();
    let rows = |session: &mut Session| {
        session.push(Part::text("go back")).unwrap();
        let how = Generate::default().max_new_tokens(1);
        let mut reply = session.reply(how).unwrap();
        reply.next();
        reply.stats().prompt_tokens
    };
    let mut session = model.session();
    session.push(Part::image(autoglm_tiny::SCREENS[0].1)).unwrap();
    session.push(Part::audio(voice())).unwrap();
    session.forget_images();
    let mut heard_alone = model.session();
    heard_alone.push(Part::audio(voice())).unwrap();
    let mut deaf = model.session();
    let (after, alone, nothing) = (rows(&mut session), rows(&mut heard_alone), rows(&mut deaf));
    // A second of sound is 12 rows between two markers.
    assert_eq!((after, alone), (nothing + 14, nothing + 14));
}

#[cfg(feature = "kvcache")]
#[test]
fn a_sound_that_was_heard_is_not_encoded_again() {
    let model = tiny();
    let said = |sound: Part| {
        let mut session = model.session();
        session.push(sound).unwrap();
        reply(&mut session)
    };
    let first = said(Part::audio(voice()));
    assert_eq!(model.sounds_encoded(), 1);
    assert_eq!(said(Part::audio(voice())), first);
    assert_eq!(model.sounds_encoded(), 1);
    said(Part::samples(16_000, vec![0.01; 9_000]));
    assert_eq!(model.sounds_encoded(), 2);
}

#[cfg(feature = "vision")]
#[test]
fn a_recording_is_heard_as_the_sound_is_and_approximately_almost_so() {
    let model = tiny();
    let wav = voice();
    let (_, data) = wav.split_at(44);
    let samples: Vec<f32> =
        data.as_chunks::<2>().0.iter().map(|s| f32::from(i16::from_le_bytes(*s)) / 32_768.0).collect();
    let answer = |say: &dyn Fn(&mut Session)| {
        let mut session = model.session();
        session.push(Part::image(autoglm_tiny::SCREENS[0].1)).unwrap();
        say(&mut session);
        reply(&mut session)
    };
    let recorded = || {
        let mut recording = model.record().unwrap();
        samples.chunks(1_600).for_each(|piece| recording.push(piece).unwrap());
        assert_eq!(recording.samples(), samples.len());
        recording
    };
    let whole = answer(&|session| session.push(Part::samples(16_000, samples.clone())).unwrap());
    assert_eq!(answer(&|session| session.say(recorded()).unwrap()), whole);
    let approximate = answer(&|session| session.say_approximately(recorded()).unwrap());
    assert!(approximate.starts_with("do(action="), "{approximate}");
    let mut recording = model.record().unwrap();
    assert!(matches!(recording.push(&[f32::INFINITY]), Err(Error::Audio(_))));
    // 4096 positions are 327 seconds of 12.5 rows.
    assert!(matches!(recording.push(&vec![0.0; 330 * 16_000]), Err(Error::Fusion(_))));
    assert_eq!(recording.samples(), 0);
    let foreign = tiny().record().unwrap();
    assert!(matches!(model.session().say(foreign), Err(Error::OtherModel)));
}

#[test]
fn sounds_too_short_for_a_row_change_nothing_but_their_markers() {
    let model = tiny();
    for samples in [0, 1, 960] {
        let mut session = model.session();
        session.push(Part::samples(16_000, vec![0.0; samples])).unwrap();
        session.push(Part::text("go back")).unwrap();
        let how = Generate::default().thinking(Thinking::Skipped).max_new_tokens(4);
        let mut heard = session.reply(how).unwrap();
        assert!(heard.next().unwrap().is_ok());
        let rows = heard.stats().prompt_tokens;
        drop(heard);
        let mut other = model.session();
        other.push(Part::text("go back")).unwrap();
        let how = Generate::default().thinking(Thinking::Skipped).max_new_tokens(4);
        assert_eq!(rows, other.reply(how).unwrap().stats().prompt_tokens + 2, "{samples}");
    }
}

#[test]
fn what_is_asked_where_nothing_is_asked_is_a_transcript() {
    let model = asr();
    assert_eq!(model.transcription_prompt(), Some("Please transcribe this audio into text"));
    assert_eq!(tiny().transcription_prompt(), None);
    let sound = std::fs::read(Golden::case("asr-legacy-names").dir().join("english.wav")).unwrap();
    let words = model.transcribe(Part::audio(sound.clone())).unwrap();
    assert!(!words.is_empty() && words == words.trim(), "{words:?}");
    assert!(matches!(tiny().transcribe(Part::audio(voice())), Err(Error::NoTranscripts)));
    // A decoder that saw no row would write something all the same.
    assert_eq!(model.transcribe(Part::samples(16_000, vec![0.0; 960])).unwrap(), "");
    assert!(matches!(model.transcribe(Part::text("go back")), Err(Error::ModalityOff { .. })));
    // The same as a conversation.
    let mut session = model.session();
    session.push(Part::audio(sound)).unwrap();
    session.push(Part::text("Please transcribe this audio into text")).unwrap();
    let how = Generate::default().max_new_tokens(6_000);
    let text: String = session.reply(how).unwrap().map(|piece| piece.unwrap().text).collect();
    assert_eq!(words, text.trim());
}

#[test]
fn a_model_without_ears_says_so() {
    let model = Model::open(Golden::case("one-image").dir()).unwrap();
    assert!(!model.hears());
    let folder = tempfile::tempdir().unwrap();
    speaking("text-v5", folder.path());
    let deaf = Model::open(folder.path()).unwrap();
    let refused = deaf.session().push(Part::samples(16_000, vec![0.0; 16_000]));
    assert!(matches!(refused, Err(Error::ModalityOff { modality: "sounds", .. })), "{refused:?}");
    assert!(matches!(deaf.record(), Err(Error::ModalityOff { modality: "sounds", .. })));
}

#[test]
fn damaged_and_endless_sounds_are_refused_before_they_are_encoded() {
    let model = tiny();
    let refused = |part: Part| model.session().push(part).unwrap_err();
    assert!(matches!(refused(Part::audio(b"RIFF".to_vec())), Error::Audio(_)));
    assert!(matches!(refused(Part::samples(16_000, vec![f32::NAN; 10])), Error::Audio(_)));
    assert!(matches!(refused(Part::samples(0, vec![0.0; 10])), Error::Audio(_)));
    // 4096 positions are 327 seconds of 12.5 rows.
    let long = refused(Part::samples(16_000, vec![0.0; 340 * 16_000]));
    assert!(matches!(long, Error::Fusion(_)), "{long}");
}

#[cfg(feature = "vision")]
#[test]
fn a_token_that_stands_for_two_modalities_is_refused_when_the_model_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in autoglm_tiny::FILES {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let path = folder.path().join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("\"audio_token_id\": 655", "\"audio_token_id\": 649")).unwrap();
    let line = Model::open(folder.path()).unwrap_err().to_string();
    assert!(line.contains("audio_token_id") && line.contains("649"), "{line}");
}
