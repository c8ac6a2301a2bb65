//! What a session finds in its model's pool, and that it changes no bit.

use autoglm_core::KvFormat;

use super::*;
use crate::{OpenOptions, Precision, Thinking};

fn model(precision: Option<Precision>, format: Option<KvFormat>) -> Model {
    let options = OpenOptions::default().threads(2).precision(precision).kv_format(format);
    Model::open_embedded(autoglm_tiny::FILES, &options).unwrap()
}

fn quick() -> Generate {
    Generate::default().thinking(Thinking::Skipped).max_new_tokens(24)
}

/// Says `parts` and drains the reply. → rows of the prompt, and how many of them were known.
fn ask(session: &mut Session, parts: Vec<Part>) -> (usize, usize) {
    for part in parts {
        session.push(part).unwrap();
    }
    let mut reply = session.reply(quick()).unwrap();
    for piece in reply.by_ref() {
        piece.unwrap();
    }
    (reply.stats().prompt_tokens, reply.stats().reused_tokens)
}

/// Bits of the logits after the conversation so far, as its model's pool gives them.
fn logits(session: &mut Session) -> (Vec<u32>, usize) {
    let (assembly, _) = session.assemble().unwrap();
    let awake = session.model.lease().unwrap();
    let known = session.begin(&awake, assembly).unwrap();
    session.prefill(&awake).unwrap();
    (session.next_logits(&awake).unwrap().into_iter().map(f32::to_bits).collect(), known)
}

/// A session with the turns of `other`, on a model where nothing was computed.
fn cold(other: &Session, fresh: &Model) -> Session {
    let mut session = fresh.session();
    session.messages.clone_from(&other.messages);
    session.media.clone_from(&other.media);
    session
}

#[test]
fn two_sessions_share_what_they_begin_with_and_tenants_do_not() {
    let model = model(None, None);
    let mut one = model.session();
    one.system("You tap on phones. ".repeat(20));
    let (rows, known) = ask(&mut one, vec![Part::text("go back")]);
    assert_eq!(known, 0);
    let mut two = model.session();
    two.system("You tap on phones. ".repeat(20));
    let (again, known) = ask(&mut two, vec![Part::text("go home")]);
    assert!(known > 100 && known < again.min(rows), "{known} of {again}");
    let mut other = model.session().of_tenant([1; 32]);
    other.system("You tap on phones. ".repeat(20));
    assert_eq!(ask(&mut other, vec![Part::text("go back")]).1, 0);
    // The same prompt again needs its last row alone.
    let mut three = model.session();
    three.system("You tap on phones. ".repeat(20));
    assert_eq!(ask(&mut three, vec![Part::text("go back")]), (rows, rows - 1));
    let stats = model.pool_stats();
    assert!(stats.hit_rate() > 0.3 && stats.reused_rows < stats.asked_rows, "{stats:?}");
}

#[test]
fn a_pinned_prompt_outlasts_what_needs_its_memory() {
    let shape = |model: &Model| *model.lease().unwrap().past.pool().shape();
    let budget = shape(&model(None, None)).bytes(320);
    let options = OpenOptions::default().threads(2).kv_budget(budget);
    let model = Model::open_embedded(autoglm_tiny::FILES, &options).unwrap();
    let mut common = model.session();
    assert!(matches!(common.pin("common"), Err(Error::Pool(_))));
    ask(&mut common, vec![Part::text("打开相机")]);
    let pinned = common.pin("common").unwrap();
    drop(common);
    let common = model.session();
    let stranger = model.session().of_tenant([3; 32]);
    assert!(!stranger.unpin("common"), "a name is a tenant's own");
    for i in 0..6 {
        ask(&mut model.session(), vec![Part::text(format!("{i} ").repeat(60))]);
    }
    let stats = model.pool_stats();
    assert!(stats.evicted > 0 && stats.peak <= budget, "{stats:?}");
    let (rows, known) = ask(&mut model.session(), vec![Part::text("打开相机")]);
    assert_eq!(known, rows - 1);
    assert!(pinned > known && common.unpin("common") && !common.unpin("common"));
    // More than the budget holds is an error that says so, and the session goes on.
    let mut large = model.session();
    large.push(Part::text("1 ".repeat(500))).unwrap();
    let refused = large.reply(quick()).unwrap().find_map(std::result::Result::err).unwrap();
    assert!(matches!(refused, Error::Text(_) | Error::Core(_)), "{refused:?}");
    assert!(refused.to_string().contains("budget"), "{refused}");
}

#[test]
fn forks_of_a_conversation_do_not_touch_each_other() {
    let model = model(None, None);
    let mut one = model.session();
    ask(&mut one, vec![Part::text("返回上一页")]);
    let mut two = one.fork();
    one.push(Part::text("go home")).unwrap();
    two.push(Part::text("wait a moment")).unwrap();
    for session in [&mut one, &mut two] {
        let (warm, known) = logits(session);
        assert!(known > 0);
        assert_eq!(warm, logits(&mut cold(session, &self::model(None, None))).0);
    }
}

#[test]
fn further_short_turns_are_quick_ones_and_so_is_everything_when_little_is_left() {
    let model = model(None, None);
    let mut session = model.session();
    session.tier(Tier::Auto);
    assert_eq!(session.tier_of(None), Tier::Deep, "the first step");
    ask(&mut session, vec![Part::text("go back")]);
    session.push(Part::text("go home")).unwrap();
    assert_eq!(session.tier_of(None), Tier::Fast);
    assert_eq!(session.tier_of(Some(Tier::Deep)), Tier::Deep, "a reply's own tier");
    session.push(Part::text("打开相机，".repeat(20))).unwrap();
    assert_eq!(session.tier_of(None), Tier::Deep, "a long turn");
    session.outlook(Outlook { charge: Some(0.1), ..Outlook::default() });
    assert_eq!([session.tier_of(None), session.fork().tier_of(None)], [Tier::Fast; 2]);
}

#[cfg(feature = "power")]
#[test]
fn a_conversation_goes_on_after_a_sleep_with_the_same_bits() {
    for precision in [None, Precision::named("int8"), Precision::named("mixed")] {
        let (rested, awake) = (model(precision, None), model(precision, None));
        let [mut one, mut other] = [&rested, &awake].map(Model::session);
        for words in ["go back", "打开相机", "wait a moment"] {
            for session in [&mut one, &mut other] {
                if cfg!(feature = "vision") {
                    session.push(Part::image(autoglm_tiny::SCREENS[0].1)).unwrap();
                }
                session.push(Part::text(words)).unwrap();
            }
            assert!(rested.sleep().unwrap() && rested.is_asleep());
            assert_eq!((one.kv_bytes(), rested.pool_stats().used), (0, 0), "a session's keys and values sleep, too");
            let (bits, known) = logits(&mut one);
            assert!(bits == logits(&mut other).0, "{precision:?} {words}");
            assert_eq!(known, 0, "nothing was pinned");
            // The turn's answer.
            assert_eq!(ask(&mut one, vec![]).0, ask(&mut other, vec![]).0);
        }
        // What others share, copies and forgets while it sleeps is sound.
        assert!(rested.sleep().unwrap());
        let mut fork = one.fork();
        one.forget_images();
        other.forget_images();
        assert!(matches!(one.pin("late"), Err(Error::Pool(_))));
        assert!(rested.is_asleep(), "none of this needs weights");
        for session in [&mut one, &mut other, &mut fork] {
            session.push(Part::text("go home")).unwrap();
        }
        assert!(logits(&mut one).0 == logits(&mut other).0);
        logits(&mut fork);
    }
}

#[test]
fn what_is_saved_is_found_in_another_process_and_damage_is_computed_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("system.kv");
    let system = "今天的日期是 2026-11-25。你是一个智能体。".repeat(8);
    let fresh = || {
        let mut session = model(None, None).session();
        session.system(&system);
        session
    };
    let mut first = fresh();
    assert!(matches!(first.save(&path, None), Err(Error::Pool(_))));
    let computed = first.anticipate(|| true).unwrap();
    assert_eq!(first.save(&path, None).unwrap(), computed);
    let mut warm = fresh();
    assert_eq!(warm.load("system", &path, None).unwrap(), computed);
    warm.push(Part::text("go back")).unwrap();
    let (bits, known) = logits(&mut warm);
    assert_eq!(known, computed);
    assert_eq!(bits, logits(&mut cold(&warm, &model(None, None))).0);
    // Another format, another precision, another tenant: refused, and the session goes on.
    let mut others = vec![model(None, Some(KvFormat::Bf16)).session(), model(None, None).session().of_tenant([9; 32])];
    if cfg!(feature = "quant") {
        others.push(model(Precision::named("int8"), Some(KvFormat::F32)).session());
    }
    let mut damaged = std::fs::read(&path).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    others.push(fresh());
    for mut other in others {
        let refused = other.load("system", &path, None).unwrap_err();
        assert!(matches!(&refused, Error::Pool(autoglm_kvcache::Error::Snapshot { .. })), "{refused:?}");
        assert_eq!(ask(&mut other, vec![Part::text("go back")]).1, 0);
    }
}

#[test]
fn a_checkpoint_that_changed_is_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("checkpoint");
    std::fs::create_dir(&checkpoint).unwrap();
    for (name, bytes) in autoglm_tiny::FILES {
        std::fs::write(checkpoint.join(name), bytes).unwrap();
    }
    let path = folder.path().join("system.kv");
    let open = || Model::open(&checkpoint).unwrap().session();
    let mut session = open();
    ask(&mut session, vec![Part::text("go back")]);
    let rows = session.save(&path, None).unwrap();
    assert_eq!(open().load("system", &path, None).unwrap(), rows);
    let weights = checkpoint.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let refused = open().load("system", &path, None).unwrap_err();
    assert!(std::error::Error::source(&refused).unwrap().to_string().contains("another checkpoint"), "{refused:?}");
}

#[test]
fn keys_and_values_in_eight_bits_change_logits_by_less_than_a_hundredth() {
    let numbers = |format| {
        let mut session = model(None, Some(format)).session();
        session.system("今天的日期是 2026-11-25。你是一个智能体。".repeat(8));
        let mut all = Vec::new();
        for text in ["打开相机", "go back", "回到桌面", "wait a moment"] {
            session.push(Part::text(text)).unwrap();
            all.extend(logits(&mut session).0.into_iter().map(|bits| f64::from(f32::from_bits(bits))));
        }
        all
    };
    let (exact, rounded) = (numbers(KvFormat::F32), numbers(KvFormat::Int8));
    let square = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>();
    let error = square(&mut exact.iter().zip(&rounded).map(|(a, b)| a - b)) / square(&mut exact.iter().copied());
    assert!(error > 0.0 && error.sqrt() < 0.01, "{}", error.sqrt());
}

#[cfg(feature = "vision")]
mod seeing {
    use super::*;

    /// Conversations whose logits are computed twice.
    const WARM: usize = 520;

    fn screen(i: usize) -> Part {
        Part::image(autoglm_tiny::SCREENS[i % autoglm_tiny::SCREENS.len()].1)
    }

    /// Rows before the first picture and the marker that opens it.
    fn before_the_picture(session: &Session) -> usize {
        session.computed.assembly.units().take_while(|unit| matches!(unit, Unit::Token(_))).count() - 1
    }

    #[test]
    fn an_agent_computes_its_last_turn_its_answer_and_the_new_screen_alone() {
        for ahead in [false, true] {
            let model = model(None, None);
            let mut session = model.session();
            session.system("今天的日期是 2026-11-25。你是一个智能体。".repeat(8));
            let mut before = 0;
            for step in 0..20 {
                let (_, known) = ask(&mut session, vec![screen(step), Part::text("打开相机")]);
                // Everything up to the last picture was computed before, and with a look ahead everything
                // up to this one.
                let here = before_the_picture(&session);
                assert_eq!(
                    known,
                    if step == 0 {
                        0
                    } else if ahead {
                        here
                    } else {
                        before
                    },
                    "step {step}"
                );
                before = here;
                session.forget_images();
                let bytes = model.lease().unwrap().past.pool().shape().bytes(before);
                let used = model.pool_stats().used;
                assert!(used == bytes, "freed at once: step {step}, ahead {ahead}, {used} of {bytes}");
                if ahead {
                    assert_eq!(session.anticipate(|| false).unwrap(), 0);
                    let computed = session.anticipate(|| true).unwrap();
                    assert!(computed > 0);
                }
            }
        }
    }

    #[test]
    fn an_unchanged_screen_is_not_encoded_again_and_a_changed_pixel_is_a_miss() {
        let model = model(None, None);
        let pixels = |changed: Option<usize>, (width, height): (u32, u32)| {
            let mut rgb = vec![90u8; (width * height * 3) as usize];
            changed.into_iter().for_each(|at| rgb[at] += 1);
            Part::pixels(width, height, rgb)
        };
        let known = |part: Part| {
            let (rows, known) = ask(&mut model.session(), vec![part, Part::text("go back")]);
            (known + 1 == rows, model.pictures_encoded())
        };
        assert_eq!(known(pixels(None, (168, 336))), (false, 1));
        assert_eq!(known(pixels(None, (168, 336))), (true, 1));
        assert_eq!(known(pixels(Some(77_777), (168, 336))), (false, 2));
        assert_eq!(known(pixels(None, (336, 168))), (false, 3));
    }

    /// A session of `model` that was shown a screen of which these rows stay.
    fn shown(model: &Model, keep: Option<Keep>) -> Session {
        let mut session = model.session();
        keep.into_iter().for_each(|keep| session.keep(keep));
        session.push(screen(0)).unwrap();
        session.push(Part::text("打开相机")).unwrap();
        session
    }

    #[test]
    fn a_picture_of_which_all_rows_stay_is_the_picture_to_the_bit() {
        let (plain, rows) = {
            let mut session = shown(&model(None, None), None);
            let bits = logits(&mut session).0;
            (bits, session.computed.assembly.len())
        };
        for keep in [Keep::share(1.0).unwrap(), Keep::share(0.999).unwrap()] {
            let mut session = shown(&model(None, None), Some(keep));
            assert_eq!(logits(&mut session).0, plain);
            assert_eq!(session.computed.assembly.len(), rows);
        }
        // The option of the model is what its conversations begin with.
        let options = OpenOptions::default().threads(2).keep(Keep::share(0.5).unwrap());
        let half = Model::open_embedded(autoglm_tiny::FILES, &options).unwrap();
        assert_eq!(shown(&half, None).assemble().unwrap().0.len(), rows - 36);
        assert_eq!(logits(&mut shown(&half, Some(Keep::ALL))).0, plain);
    }

    #[test]
    fn a_prefix_of_other_rows_of_the_same_picture_is_never_reused() {
        // The last two have as many rows as each other.
        let keeps = [Keep::ALL, Keep::share(0.25).unwrap(), Keep::share(0.5).unwrap(), Keep::evenly(0.5).unwrap()];
        let fresh = keeps.map(|keep| logits(&mut shown(&model(None, None), Some(keep))).0);
        for (i, j) in (0..4).flat_map(|i| (0..4).map(move |j| (i, j))) {
            let shared = model(None, None);
            let mut first = shown(&shared, Some(keeps[i]));
            logits(&mut first);
            first.commit(&shared.lease().unwrap());
            let mut second = shown(&shared, Some(keeps[j]));
            let (bits, known) = logits(&mut second);
            let before = before_the_picture(&second) + 1;
            let all = second.computed.assembly.len() - 1;
            assert_eq!(known, if i == j { all } else { before }, "{i} {j}");
            assert!(bits == fresh[j], "{i} {j}");
            // The tower saw the picture once: which of its rows are taken is decided behind it.
            assert_eq!(shared.pictures_encoded(), 1);
        }
    }

    #[test]
    fn a_thinned_picture_fits_where_the_whole_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in autoglm_tiny::FILES {
            let mut bytes = bytes.to_vec();
            if *name == "config.json" {
                let mut config: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                config["text_config"]["max_position_embeddings"] = 71.into();
                bytes = config.to_string().into_bytes();
            }
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        let mut session = Model::open(folder.path()).unwrap().session();
        assert!(matches!(session.push(screen(0)), Err(Error::Fusion(_))));
        session.keep(Keep::share(0.5).unwrap());
        session.push(screen(0)).unwrap();
        session.push(Part::text("打开相机")).unwrap();
        assert!(logits(&mut session).0.len() > 600);
    }

    #[test]
    fn a_conversation_with_thinned_pictures_is_saved_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seen.kv");
        let half = Some(Keep::share(0.5).unwrap());
        let mut first = shown(&model(None, None), half);
        let (bits, _) = logits(&mut first);
        let rows = first.save(&path, None).unwrap();
        let other = model(None, None);
        assert_eq!(other.session().load("seen", &path, None).unwrap(), rows);
        let mut again = shown(&other, half);
        assert_eq!(logits(&mut again), (bits, rows - 1));
        let mut whole = shown(&other, None);
        let known = logits(&mut whole).1;
        assert_eq!(known, before_the_picture(&whole) + 1);
    }

    #[test]
    fn warm_logits_are_bitwise_cold() {
        let formats = [
            (None, None),
            (None, Some(KvFormat::Int8)),
            #[cfg(feature = "quant")]
            (Some(Precision::Int8), None),
            #[cfg(feature = "quant")]
            (Some(Precision::Int8), Some(KvFormat::Int8)),
        ];
        let words = ["打开相机", "go back", "回到桌面", "wait a moment", "点击屏幕上的图标，然后返回。"];
        let mut rng = fastrand::Rng::with_seed(11);
        let mut tenants = 0u64;
        for (precision, format) in formats {
            let shared = model(precision, format);
            let mut sessions = [shared.session(), shared.session()];
            let mut reused = 0;
            for round in 0..WARM / formats.len() {
                let session = &mut sessions[rng.usize(0..2)];
                if round % 10 == 9 {
                    *session = shared.session();
                }
                match rng.u8(0..4) {
                    0 => session.forget_images(),
                    1 => drop(session.anticipate(|| true).unwrap()),
                    2 => *session = session.fork(),
                    _ => {}
                }
                if rng.bool() {
                    session.push(screen(rng.usize(0..3))).unwrap();
                }
                session.push(Part::text(words[rng.usize(0..words.len())])).unwrap();
                let (warm, known) = logits(session);
                reused += known;
                // A tenant of whom nothing is known.
                tenants += 1;
                let mut salt = [1; 32];
                salt[..8].copy_from_slice(&tenants.to_le_bytes());
                let mut cold = cold(session, &shared);
                cold = cold.of_tenant(salt);
                let (cold, none) = logits(&mut cold);
                assert_eq!(none, 0);
                assert!(warm == cold, "{precision:?} {format:?}: {known} rows were known");
                ask(session, vec![]);
            }
            assert!(reused > 0);
        }
    }
}
