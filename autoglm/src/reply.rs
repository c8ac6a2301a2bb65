//! The model's turn as an iterator over pieces of text.

use std::time::{Duration, Instant};

use autoglm_core::TokenId;
use autoglm_text::{Sampler, StopStrings, TextStream};

use crate::awake::Lease;
use crate::stint::{Counts, EnergyTold, Stint};
use crate::thought::{Markers, Thought};
use crate::{Error, Generate, Result, Session, Thinking, Tier};

/// Some text of a reply, never part of a character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The text.
    pub text: String,
}

/// Why a reply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model said so, with an end token.
    EndToken,
    /// A stop string appeared.
    StopString,
    /// The limit of new tokens or the context is used up.
    Length,
}

/// What a reply took.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stats {
    /// Rows of the prompt, picture rows and forced tokens included.
    pub prompt_tokens: usize,
    /// Rows of the prompt that were already computed.
    pub reused_tokens: usize,
    /// Time in the vision preprocessing and tower for pictures pushed since the last reply.
    pub vision: Duration,
    /// Time in decoding, resampling, and the audio tower for sounds pushed since the last reply.
    pub audio: Duration,
    /// Time of the rows that were not computed yet, up to the first token.
    pub prefill: Duration,
    /// Time spent on the tokens after the first.
    pub decode: Duration,
    /// Tokens generated, an end token included.
    pub decode_tokens: usize,
    /// Those of them that a thinking budget forced, which took no step of the decoder each.
    pub forced_tokens: usize,
    /// Time from the first pushed part's encoding to the first token: vision, audio and prefill.
    pub time_to_first_token: Duration,
    /// Bytes of keys and values in the cache.
    pub kv_bytes: u64,
    /// What the whole device took, in J, for the pictures and sounds pushed since the last reply and from this one's beginning to
    /// its end, pauses between two pieces and a waking of the model included; its screen and other programs are not taken off.
    /// None until the reply has ended, without the feature `power` and a conductor (`Model::conduct`), where no sensor could
    /// tell all of it, and where the model had another request meanwhile.
    pub energy_j: Option<f64>,
    /// Who told the energy, such as `battery`.
    pub energy_source: Option<&'static str>,
}

/// The model's turn. Pull it for pieces; drop it to stop.
#[derive(Debug)]
pub struct Reply<'a> {
    session: &'a mut Session,
    /// The model stays awake as long as there is a reply.
    awake: Lease,
    how: Generate,
    sampler: Sampler,
    /// Gone once the last text was handed out.
    text: Option<(TextStream, StopStrings)>,
    /// Tokens that were forced before the first piece: part of the turn, not of the pieces.
    forced: Vec<TokenId>,
    /// Where thinking has a limit.
    thought: Option<Thought>,
    generated: Vec<TokenId>,
    finish: Option<Finish>,
    failed: bool,
    stats: Stats,
    /// Until the last row is computed.
    stint: Option<Stint>,
    spent: EnergyTold,
}

impl<'a> Reply<'a> {
    pub(crate) fn start(session: &'a mut Session, how: Generate) -> Result<Self> {
        let chat = session.model.chat()?;
        let text = Some((TextStream::new(&chat.tokenizer), StopStrings::new(how.stop.clone())?));
        // Whichever of the three asks for less is heard.
        let skipped = how.thinking == Thinking::Skipped
            || session.tier_of(how.tier) == Tier::Fast
            || how.thinking_budget == Some(0);
        let forced = match skipped {
            true => Markers::of(&chat.tokenizer, "answering without thinking")?.empty_thought(),
            false => Vec::new(),
        };
        let limit = how.thinking_budget.filter(|_| !skipped);
        let limit = limit.map(|limit| Ok::<_, Error>((Markers::of(&chat.tokenizer, "a thinking budget")?, limit)));
        let limit = limit.transpose()?;
        let (mut assembly, mut prompt) = session.assemble()?;
        assembly.append(&forced, &[], autoglm_fusion::Placeholders::default())?;
        prompt.extend_from_slice(&forced);
        let thought = limit.map(|(markers, limit)| Thought::new(markers, limit, &prompt));
        let sampler = Sampler::new(how.sampling, &prompt)?;
        let prompt_tokens = assembly.len();
        let stint = Some(Stint::begin(&session.model));
        let awake = session.model.lease()?;
        let reused_tokens = session.begin(&awake, assembly)?;
        let vision = std::mem::take(&mut session.vision);
        let audio = std::mem::take(&mut session.audio);
        let stats = Stats { prompt_tokens, reused_tokens, vision, audio, ..Stats::default() };
        let spent = std::mem::take(&mut session.spent);
        let (generated, finish, failed) = (Vec::new(), None, false);
        Ok(Self { session, awake, how, sampler, text, forced, thought, generated, finish, failed, stats, stint, spent })
    }

    /// Why the reply ended; none while it goes on.
    #[must_use]
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// The tokens generated so far, an end token included, and with them those that closed a thought at its limit; what
    /// skips a thought is not among them.
    #[must_use]
    pub fn tokens(&self) -> &[TokenId] {
        &self.generated
    }

    /// What the reply took so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats { decode_tokens: self.generated.len(), kv_bytes: self.session.kv_bytes(), ..self.stats }
    }

    /// Generates one token. → its text, where it completes any.
    fn advance(&mut self) -> Result<Option<String>> {
        if self.generated.len() >= self.how.max_new_tokens {
            return self.end(Finish::Length);
        }
        let id = match self.thought.as_mut().and_then(Thought::forced) {
            // Its row is computed with the next one's.
            Some(id) => {
                self.sampler.count(id);
                self.stats.forced_tokens += 1;
                id
            }
            None => self.choose()?,
        };
        self.thought.iter_mut().for_each(|thought| thought.push(id));
        self.generated.push(id);
        if self.session.model.stop_ids().contains(&id) {
            return self.end(Finish::EndToken);
        }
        let Some((stream, stop)) = &mut self.text else {
            return Ok(None);
        };
        let piece = stream.push(id)?.map(|piece| stop.push(&piece)).filter(|piece| !piece.is_empty());
        if stop.is_stopped() {
            self.finish = Some(Finish::StopString);
        } else if self.session.computed.assembly.push(id).is_err() {
            // The context is full: the token was generated, but nothing can follow it.
            return self.end_after(piece.unwrap_or_default(), Finish::Length);
        }
        Ok(piece)
    }

    /// Computes what is not computed yet, and has the model choose the next token.
    fn choose(&mut self) -> Result<TokenId> {
        let before = Instant::now();
        self.session.prefill(&self.awake)?;
        let mut logits = self.session.next_logits(&self.awake)?;
        let id = self.sampler.sample(&mut logits)?;
        if self.generated.is_empty() {
            self.stats.prefill = before.elapsed();
            self.stats.time_to_first_token = self.stats.vision + self.stats.audio + self.stats.prefill;
        } else {
            self.stats.decode += before.elapsed();
        }
        Ok(id)
    }

    /// Ends the reply; → text that was held back.
    fn end(&mut self, finish: Finish) -> Result<Option<String>> {
        self.end_after(String::new(), finish)
    }

    /// Nothing more is computed.
    fn settle(&mut self) {
        let Some(stint) = self.stint.take() else { return };
        let rows = self.stats.prompt_tokens - self.stats.reused_tokens;
        let media = self.session.media_rows().min(rows);
        self.spent.add(stint.end(Counts { media, text: rows - media, new: self.generated.len() }));
        let told = self.spent.told();
        self.stats.energy_j = told.map(|(joules, _)| joules);
        self.stats.energy_source = told.map(|(_, source)| source);
    }

    fn end_after(&mut self, mut text: String, finish: Finish) -> Result<Option<String>> {
        self.finish = Some(finish);
        if let Some((stream, mut stop)) = self.text.take() {
            if let Some(piece) = stream.finish()? {
                text += &stop.push(&piece);
            }
            text += &stop.finish();
        }
        Ok(Some(text).filter(|text| !text.is_empty()))
    }
}

impl Iterator for Reply<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.finish.is_none() && !self.failed {
            let advanced = self.advance();
            if self.finish.is_some() || advanced.is_err() {
                self.settle();
            }
            match advanced {
                Ok(Some(text)) => return Some(Ok(Piece { text })),
                Ok(None) => {}
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl Drop for Reply<'_> {
    fn drop(&mut self) {
        self.settle();
        if self.failed || self.generated.is_empty() {
            return;
        }
        // An end token such as `</answer>` closes what the model wrote and belongs to its turn; one
        // such as `<|user|>` opens the next turn, which the template writes itself.
        let ended = self.finish == Some(Finish::EndToken);
        let mut turn = std::mem::take(&mut self.forced);
        turn.append(&mut self.generated);
        if let (true, Some(last), Ok(chat)) = (ended, turn.last(), self.session.model.chat())
            && !chat.tokenizer.markers().any(|(text, id)| id == *last && text.starts_with("</"))
        {
            turn.pop();
        }
        self.session.close_turn(&self.awake, turn);
    }
}

#[cfg(test)]
mod tests {
    use autoglm_text::{Sampling, TextStream};

    use crate::{Generate, Model, Part};

    #[test]
    fn penalties_take_notice_of_what_closes_a_thought() {
        let model = Model::open_embedded(autoglm_tiny::FILES, &Default::default()).unwrap();
        let mut session = model.session();
        session.push(Part::text("打开相机")).unwrap();
        let sampling = Sampling::greedy().presence_penalty(1.0);
        let how = Generate { sampling, ..Generate::default().thinking_budget(1).max_new_tokens(8) };
        let mut reply = session.reply(how).unwrap();
        reply.by_ref().for_each(|piece| assert!(piece.is_ok()));
        let close = model.chat().unwrap().tokenizer.token_id("</think>").unwrap();
        assert!(reply.tokens().contains(&close));
        let mut logits = vec![0.0; model.vocab_size()];
        logits[close.0 as usize] = 0.5;
        assert_ne!(reply.sampler.sample(&mut logits).unwrap(), close);
    }

    #[test]
    fn a_character_that_is_cut_is_shown_as_broken_before_what_closes_the_thought() {
        let model = Model::open_embedded(autoglm_tiny::FILES, &Default::default()).unwrap();
        let tokenizer = &model.chat().unwrap().tokenizer;
        let character = tokenizer.encode_text("龘").unwrap();
        assert!(character.len() > 1);
        let mut stream = TextStream::new(tokenizer);
        assert_eq!(stream.push(character[0]).unwrap(), None);
        let close = tokenizer.token_id("</think>").unwrap();
        assert_eq!(stream.push(close).unwrap().as_deref(), Some("\u{fffd}</think>"));
    }
}
