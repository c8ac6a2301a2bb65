//! How much of the model a request gets: tiers, and thoughts that end at their limit.
#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use autoglm::{Error, Finish, Generate, Model, OpenOptions, Part, Session, Stats, Thinking, Tier};

const WORDS: &str = "等一下";

fn model() -> Model {
    Model::open_embedded(autoglm_tiny::FILES, &OpenOptions::default().threads(2)).unwrap()
}

fn how() -> Generate {
    Generate::default().max_new_tokens(60)
}

/// What a reply to `words` says, in text and tokens, why it ended, and what it took.
fn reply(session: &mut Session, words: &str, how: Generate) -> (String, usize, Option<Finish>, Stats) {
    session.push(Part::text(words)).unwrap();
    let mut reply = session.reply(how).unwrap();
    let text = reply.by_ref().map(|piece| piece.unwrap().text).collect();
    (text, reply.tokens().len(), reply.finish(), reply.stats())
}

fn answer(how: Generate) -> (String, usize, Option<Finish>, Stats) {
    reply(&mut model().session(), WORDS, how)
}

/// Tokens between the markers of the thought that the model has of itself.
fn free_thought() -> usize {
    (1..60).find(|budget| answer(how().thinking_budget(*budget)).3.forced_tokens == 0).unwrap() - 1
}

#[test]
fn a_thought_is_closed_at_its_limit_and_the_model_answers() {
    let own = free_thought();
    assert!(own > 4, "{own}");
    let (free, all, _, _) = answer(how());
    for budget in 1..own {
        let (text, tokens, finish, stats) = answer(how().thinking_budget(budget));
        // `</think>`, the line break and `<answer>` are in the text, so that it reads as any other answer.
        let (thought, rest) = text.split_once("</think>\n<answer>").unwrap();
        assert!(thought.starts_with("<think>") && !rest.contains("think>"), "{text}");
        assert!(free.starts_with(thought), "{text} of {free}");
        assert_eq!(finish, Some(Finish::EndToken), "{text}");
        assert_eq!((stats.forced_tokens, stats.decode_tokens), (3, tokens));
        assert!(tokens > budget + 4 && tokens < all, "{tokens} of {all}");
    }
}

#[test]
fn a_limit_that_is_not_reached_or_just_reached_changes_nothing() {
    let own = free_thought();
    let (free, all, ..) = answer(how());
    for budget in [own, own + 1, 1_000] {
        let (text, tokens, ..) = answer(how().thinking_budget(budget));
        assert_eq!((text, tokens), (free.clone(), all), "{budget} of {own}");
    }
}

#[test]
fn a_limit_of_nothing_and_the_fast_tier_skip_the_thought() {
    let (skipped, ..) = answer(how().thinking(Thinking::Skipped));
    assert!(!skipped.contains("think"));
    assert_eq!(answer(how().thinking_budget(0)).0, skipped);
    assert_eq!(answer(how().tier(Tier::Fast)).0, skipped);
    assert_eq!(answer(how().tier(Tier::Fast).thinking_budget(5)).0, skipped);
    // The deep one takes nothing back that was asked for.
    assert_eq!(answer(how().tier(Tier::Deep).thinking(Thinking::Skipped)).0, skipped);
    let mut session = model().session();
    session.tier(Tier::Fast);
    assert_eq!(reply(&mut session, WORDS, how()).0, skipped);
    assert!(reply(&mut session, WORDS, how().tier(Tier::Deep)).0.starts_with("<think>"));
}

#[test]
fn what_closes_a_thought_counts_against_the_limit_of_new_tokens() {
    for (most, last) in [(4, "</think>"), (5, "\n"), (6, "<answer>")] {
        let (text, tokens, finish, _) = answer(how().thinking_budget(2).max_new_tokens(most));
        assert!(text.ends_with(last), "{most}: {text:?}");
        assert_eq!((tokens, finish), (most, Some(Finish::Length)));
    }
}

#[test]
fn a_stop_string_in_what_closes_a_thought_ends_the_reply() {
    for stop in ["</think>", "think>\n<", "<answer>"] {
        let (text, _, finish, _) = answer(how().thinking_budget(2).stop(vec![stop.into()]));
        assert_eq!(finish, Some(Finish::StopString), "{stop}");
        assert!(text.starts_with("<think>") && !text.contains(stop), "{text:?}");
    }
}

#[test]
fn a_conversation_goes_on_from_what_closed_a_thought() {
    let mut session = model().session();
    let (_, tokens, _, first) = reply(&mut session, WORDS, how().thinking_budget(3));
    let (_, _, _, second) = reply(&mut session, "go back", how().thinking(Thinking::Skipped));
    // All that was computed comes again; the last token of the answer was not computed yet.
    assert_eq!(second.reused_tokens, first.prompt_tokens + tokens - 1);
}

#[test]
fn a_context_that_is_full_ends_a_reply_among_forced_tokens() {
    let prompt = answer(how()).3.prompt_tokens;
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in autoglm_tiny::FILES {
        let mut bytes = bytes.to_vec();
        if *name == "config.json" {
            let mut config: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            // The prompt, `<think>`, two tokens of thought, and one of the three that close it.
            config["text_config"]["max_position_embeddings"] = (prompt + 4).into();
            bytes = config.to_string().into_bytes();
        }
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let mut session = Model::open(folder.path()).unwrap().session();
    let (text, tokens, finish, _) = reply(&mut session, WORDS, how().thinking_budget(2));
    assert_eq!((tokens, finish), (5, Some(Finish::Length)), "{text:?}");
    assert!(text.ends_with("</think>\n"), "{text:?}");
}

#[test]
fn a_tokenizer_without_markers_has_no_limit() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in autoglm_tiny::FILES {
        let text = String::from_utf8_lossy(bytes);
        let renamed = text.replace("</think>", "</thunk>");
        let bytes = if name.ends_with("safetensors") { bytes.to_vec() } else { renamed.into_bytes() };
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let mut session = Model::open(folder.path()).unwrap().session();
    session.push(Part::text(WORDS)).unwrap();
    let refused = session.reply(how().thinking_budget(2)).unwrap_err();
    assert!(matches!(&refused, Error::MissingToken { token: "</think>", .. }), "{refused:?}");
    assert!(session.reply(how()).is_ok());
}

#[cfg(feature = "vision")]
#[test]
fn the_fast_tier_shows_half_of_the_rows_of_the_pictures_that_follow() {
    let rows = |tier: Option<Tier>, keep: Option<f64>| {
        let mut session = model().session();
        tier.into_iter().for_each(|tier| session.tier(tier));
        keep.into_iter().for_each(|share| session.keep(autoglm::Keep::share(share).unwrap()));
        session.push(Part::image(autoglm_tiny::SCREENS[0].1)).unwrap();
        // The thought is part of the prompt where it is skipped, so it is here in each.
        reply(&mut session, WORDS, how().thinking(Thinking::Skipped)).3.prompt_tokens
    };
    let whole = rows(None, None);
    assert_eq!(rows(Some(Tier::Deep), None), whole);
    assert_eq!(rows(Some(Tier::Fast), None), whole - 36);
    assert_eq!(rows(Some(Tier::Fast), Some(0.25)), whole - 54, "a share that was asked for stands");
    assert_eq!(rows(Some(Tier::Auto), None), whole, "a first step is looked at closely");
}
