//! One conversation: what was said, what the cache holds of it, and how to go on.

use std::time::Duration;

use autoglm_core::{Embeds, Keep, KvCache, Modality, TokenId, Unit, Want};
use autoglm_fusion::Assembly;
use autoglm_text::{Content, Message, Role};
use candle_core::Tensor;

use crate::awake::Awake;
use crate::past::{Cache, Past};
use crate::prompt::PREFILL_ROWS;
use crate::seat::Seat;
use crate::stint::{Counts, EnergyTold, Load, Scope, Stint};
use crate::{Error, Generate, Model, Outlook, Part, Reply, Request, Result, Tier};

/// A conversation with a model. It owns everything that changes: the turns, the pictures' rows, and
/// the cache with what has been computed of them.
///
/// ```
/// # fn main() -> Result<(), autoglm::Error> {
/// # let model = autoglm::Model::open_embedded(autoglm_tiny::FILES, &Default::default())?;
/// use autoglm::{Answer, Generate, Part, Thinking};
///
/// let mut session = model.session();
/// # #[cfg(feature = "vision")]
/// session.push(Part::image(autoglm_tiny::SCREENS[0].1))?;
/// session.push(Part::text("打开相机"))?;
/// let mut text = String::new();
/// for piece in session.reply(Generate::default().thinking(Thinking::Skipped).max_new_tokens(64))? {
///     text += &piece?.text;
/// }
/// # #[cfg(feature = "vision")]
/// println!("{:?}", Answer::parse(&text));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Session {
    pub(crate) model: Model,
    messages: Vec<Message>,
    media: Vec<Embeds>,
    pub(crate) computed: Computed,
    pub(crate) vision: Duration,
    pub(crate) audio: Duration,
    /// Energy of what was encoded since the last reply.
    pub(crate) spent: EnergyTold,
    /// Which rows of the next pictures stay, where the tier does not say it.
    keep: Keep,
    tier: Tier,
    outlook: Outlook,
    /// Keeps the prompts of tenants apart.
    pub(crate) salt: [u8; 32],
}

/// What the cache holds.
#[derive(Debug)]
pub(crate) struct Computed {
    /// The prompt whose rows were fed.
    pub(crate) assembly: Assembly,
    /// How many of its rows every layer has.
    pub(crate) rows: usize,
    /// None of them where it is empty.
    pub(crate) cache: Seat,
}

impl Computed {
    fn nothing(model: &Model) -> Self {
        Self { assembly: Assembly::new(model.context()), rows: 0, cache: model.inner.seats.take(None) }
    }
}

/// Rows that are computed ahead of a turn at once: a fraction of a second, after which the caller is asked
/// whether to go on.
const AHEAD_ROWS: usize = PREFILL_ROWS / 4;

impl Session {
    pub(crate) fn new(model: Model) -> Self {
        let computed = Computed::nothing(&model);
        Self {
            keep: model.keep(),
            tier: Tier::default(),
            outlook: Outlook::default(),
            model,
            messages: Vec::new(),
            media: Vec::new(),
            computed,
            vision: Duration::ZERO,
            audio: Duration::ZERO,
            spent: EnergyTold::default(),
            salt: [0; 32],
        }
    }

    /// Makes this a session of the tenant with this salt: it finds only what sessions of the same salt
    /// computed, and what it computes no others find. To be set before anything is said.
    #[cfg(feature = "kvcache")]
    #[must_use]
    pub fn of_tenant(mut self, salt: [u8; 32]) -> Self {
        if salt != self.salt {
            self.salt = salt;
            // What was computed under another salt stays there.
            self.computed = Computed::nothing(&self.model);
        }
        self
    }

    /// Sets the system message. It goes before everything else.
    pub fn system(&mut self, text: impl Into<String>) {
        self.messages.retain(|m| m.role != Role::System);
        self.messages.insert(0, Message { role: Role::System, content: vec![Content::Text(text.into())] });
    }

    /// Says which rows stay of the pictures that are added from here on, as [`OpenOptions::keep`](crate::OpenOptions::keep)
    /// does for all conversations. What was added before stays as it is.
    pub fn keep(&mut self, keep: Keep) {
        self.keep = keep;
    }

    /// Says how much of the model pictures and replies get from here on; all of it where nothing is said. Pictures are
    /// encoded when they are pushed, so this goes before them, and with [`Tier::Auto`] the words do, too: a picture without
    /// words is judged by the outlook alone.
    pub fn tier(&mut self, tier: Tier) {
        self.tier = tier;
    }

    /// Says what is left for requests, for [`Tier::Auto`]. What is not said here, the model's conductor says where it has one
    /// (feature `power`).
    pub fn outlook(&mut self, outlook: Outlook) {
        self.outlook = outlook;
    }

    /// Fast or deep: the session's own tier, or `other` in its place, for the user's turn so far.
    pub(crate) fn tier_of(&self, other: Option<Tier>) -> Tier {
        let said = self.messages.last().filter(|message| message.role == Role::User);
        let words = |content: &Content| if let Content::Text(text) = content { text.chars().count() } else { 0 };
        let request = Request {
            first: self.messages.iter().all(|message| message.role != Role::Assistant),
            characters: said.map_or(0, |message| message.content.iter().map(words).sum()),
        };
        let tier = other.unwrap_or(self.tier);
        if tier == Tier::Auto { tier.for_request(&request, &self.known_outlook()) } else { tier }
    }

    /// What is left as the caller said, and as the model's conductor knows where the caller did not.
    fn known_outlook(&self) -> Outlook {
        #[cfg(feature = "power")]
        if self.outlook.charge.is_none() || self.outlook.budget_left.is_none() {
            let known = self.model.outlook();
            let Outlook { charge, budget_left } = self.outlook;
            return Outlook { charge: charge.or(known.charge), budget_left: budget_left.or(known.budget_left) };
        }
        self.outlook
    }

    /// Adds to the user's turn. Pictures and sounds are decoded and encoded here.
    ///
    /// # Errors
    /// - [`Error::ModalityOff`] for a picture or a sound that this build or this checkpoint cannot take.
    /// - `Error::Vision` and `Error::Audio` for one that is damaged or too large.
    /// - [`Error::Fusion`] for one of more rows than the context holds.
    /// - [`Error::MissingFile`] when the checkpoint has no tokenizer.
    pub fn push(&mut self, part: Part) -> Result<()> {
        // Encoding a picture takes long; whether there can be a reply at all is known before.
        self.model.chat()?;
        match part {
            Part::Text(text) => self.add(Content::Text(text)),
            picture @ (Part::Image(_) | Part::Pixels { .. }) => {
                let keep = self.tier_of(None).keep(self.keep);
                let (embeds, took) = self.encode(|awake, salt| awake.see(salt, &picture, keep, 0))?;
                self.vision += took;
                self.media.push(embeds);
                self.add(Content::Image);
            }
            sound @ (Part::Audio(_) | Part::Samples { .. }) => {
                let (embeds, took) = self.encode(|awake, salt| awake.hear(salt, &sound, 0))?;
                self.add_sound(embeds, took);
            }
        }
        Ok(())
    }

    /// Runs an encoder for this session's tenant.
    fn encode<T>(&mut self, encode: impl FnOnce(&Awake, [u8; 32]) -> Result<T>) -> Result<T> {
        let stint = Stint::begin(&self.model);
        let awake = self.model.lease()?;
        let encoded = {
            let _scope = Scope::enter(&self.model, Load::Encoder);
            encode(&awake, self.salt)?
        };
        self.spent.add(stint.end(Counts::default()));
        Ok(encoded)
    }

    /// Adds the rows of a sound to the user's turn.
    pub(crate) fn add_sound(&mut self, rows: Embeds, took: Duration) {
        self.audio += took;
        self.media.push(rows);
        self.add(Content::Audio);
    }

    /// Rows of all pictures and sounds so far.
    pub(crate) fn media_rows(&self) -> usize {
        self.media.iter().map(Embeds::len).sum()
    }

    fn add(&mut self, content: Content) {
        match self.messages.last_mut() {
            Some(Message { role: Role::User, content: said }) => said.push(content),
            _ => self.messages.push(Message { role: Role::User, content: vec![content] }),
        }
    }

    /// Takes all pictures out of the turns so far, as the phone agent does before it shows the next
    /// screenshot. Words and sounds stay. What stands before the first picture stays computed; with the feature `kvcache` the
    /// memory of the rest is free for others at once.
    pub fn forget_images(&mut self) {
        if self.media.iter().all(|medium| medium.modality() != Modality::Image) {
            return;
        }
        for message in &mut self.messages {
            message.content.retain(|c| !matches!(c, Content::Image));
        }
        self.messages.retain(|m| !m.content.is_empty());
        self.media.retain(|medium| medium.modality() != Modality::Image);
        self.vision = Duration::ZERO;
        // What the turns have in common with what they were: a picture's marker goes with it.
        let left = self.written(&self.messages, false);
        let left = left.map_or_else(|_| Assembly::new(self.model.context()), |(left, _)| left);
        let kept = self.computed.assembly.common_rows(&left).min(self.computed.rows);
        let mut seat = self.computed.cache.lock();
        if let Some(cache) = &mut *seat
            && Past::forget(cache, kept).is_err()
        {
            // Cannot be: it has these rows. Were it so, everything would be computed anew.
            *seat = None;
        }
        self.computed.rows = if seat.is_some() { kept } else { 0 };
        drop(seat);
        self.computed.assembly = left;
    }

    /// Starts the model's turn. The iterator computes as it is pulled, the prompt at the first pull;
    /// dropping it ends the turn with what was generated so far. A reply that generated nothing, or that
    /// failed, leaves the turn with the user, so that it can be asked for again.
    ///
    /// # Errors
    /// - [`Error::NothingSaid`] when the user's turn is empty.
    /// - [`Error::MissingFile`] when the checkpoint has no tokenizer.
    /// - [`autoglm_fusion::Error::Oversize`] when the conversation exceeds the context.
    pub fn reply(&mut self, how: impl Into<Generate>) -> Result<Reply<'_>> {
        let how = how.into();
        if self.messages.last().is_none_or(|m| m.role != Role::User) {
            return Err(Error::NothingSaid);
        }
        Reply::start(self, how)
    }

    /// The conversation as a prompt that ends where the model's turn begins.
    pub(crate) fn assemble(&self) -> Result<(Assembly, Vec<TokenId>)> {
        self.written(&self.messages, true)
    }

    /// The conversation so far, without the beginning of another turn.
    pub(crate) fn said(&self) -> Result<Assembly> {
        if self.messages.is_empty() {
            return Err(Error::NothingSaid);
        }
        Ok(self.written(&self.messages, false)?.0)
    }

    /// Turns as a prompt, with or without the beginning of the model's next one.
    fn written(&self, messages: &[Message], models_turn: bool) -> Result<(Assembly, Vec<TokenId>)> {
        let chat = self.model.chat()?;
        let ids = chat.template.apply(&chat.tokenizer, messages, models_turn)?;
        let mut assembly = Assembly::new(self.model.context());
        assembly.append(&ids, &self.media, self.model.placeholders())?;
        Ok((assembly, ids))
    }

    /// Makes `assembly` the prompt and keeps what the cache already has of it. → rows that were kept.
    pub(crate) fn begin(&mut self, awake: &Awake, assembly: Assembly) -> Result<usize> {
        let all_but_last = assembly.len().saturating_sub(1);
        let own = self.computed.assembly.common_rows(&assembly).min(self.computed.rows).min(all_but_last);
        let units: Vec<Unit> = assembly.units().collect();
        let (known, rows) = awake.past.open(self.salt, &units, all_but_last);
        let mut seat = self.computed.cache.lock();
        let kept = match &mut *seat {
            Some(cache) if own >= rows => {
                cache.truncate(own)?;
                own
            }
            other => {
                *other = Some(known);
                rows
            }
        };
        drop(seat);
        self.computed.assembly = assembly;
        self.computed.rows = kept;
        Ok(kept)
    }

    /// Computes all rows of the prompt but the last, some at a time.
    pub(crate) fn prefill(&mut self, awake: &Awake) -> Result<()> {
        let all_but_last = self.computed.assembly.len().saturating_sub(1);
        while self.computed.rows < all_but_last {
            let end = (self.computed.rows + PREFILL_ROWS).min(all_but_last);
            self.feed(awake, end, Want::Nothing)?;
        }
        Ok(())
    }

    /// Feeds the last row and returns its logits.
    pub(crate) fn next_logits(&mut self, awake: &Awake) -> Result<Vec<f32>> {
        let logits = self.feed(awake, self.computed.assembly.len(), Want::Last)?;
        let logits = logits.map(|l| l.flatten_all()?.to_vec1::<f32>()).transpose()?;
        Ok(logits.unwrap_or_default())
    }

    /// Computes the rows up to `end` that are not computed yet.
    fn feed(&mut self, awake: &Awake, end: usize, want: Want) -> Result<Option<Tensor>> {
        let Computed { assembly, rows, cache } = &mut self.computed;
        let mut seat = cache.lock();
        let cache = match &mut *seat {
            Some(cache) => cache,
            empty => empty.insert(awake.past.open(self.salt, &[], 0).0),
        };
        // A step that failed may have left some layers ahead of the others.
        cache.truncate(*rows)?;
        let input = assembly.input(*rows..end, awake.decoder.embed_tokens(), want)?;
        let scope = Scope::enter(&self.model, Load::Rows(input.len()));
        let logits = awake.decoder.forward(&awake.run_for(input.len()), &input, &mut scope.heard(cache))?;
        *rows = end;
        Ok(logits)
    }

    /// Ends the model's turn with these ids, and makes known what was computed.
    pub(crate) fn close_turn(&mut self, awake: &Awake, ids: Vec<TokenId>) {
        self.commit(awake);
        self.messages.push(Message { role: Role::Assistant, content: vec![Content::Tokens(ids)] });
    }

    fn commit(&mut self, awake: &Awake) {
        let units: Vec<Unit> = self.computed.assembly.units().collect();
        if let Some(cache) = &mut *self.computed.cache.lock() {
            awake.past.commit(cache, &units);
        }
    }

    /// Computes what the next prompt will begin with: the turns so far and the marker of the user's next
    /// one. To be called while the phone acts on an answer, after [`Session::forget_images`]; the next reply
    /// then computes little more than its new picture. `go_on` is asked between pieces of a fraction of a
    /// second. → rows that were computed.
    ///
    /// # Errors
    /// - [`Error::MissingFile`] when the checkpoint has no tokenizer.
    /// - [`autoglm_fusion::Error::Oversize`] when the conversation exceeds the context.
    /// - [`Error::Text`] when keys and values exceed their budget.
    pub fn anticipate(&mut self, mut go_on: impl FnMut() -> bool) -> Result<usize> {
        // Whatever the user may say next, the prompt begins with what two different words have in common.
        let [one, other] = ["a", "0"].map(|word| {
            let user = Message { role: Role::User, content: vec![Content::Text(word.to_owned())] };
            let messages: Vec<Message> = self.messages.iter().cloned().chain([user]).collect();
            self.written(&messages, false)
        });
        let (_, mut ids) = one?;
        let common = ids.iter().zip(&other?.1).take_while(|(a, b)| a == b).count();
        ids.truncate(common);
        let mut assembly = Assembly::new(self.model.context());
        assembly.append(&ids, &self.media, self.model.placeholders())?;
        if assembly.is_empty() {
            return Ok(0);
        }
        let stint = Stint::begin(&self.model);
        let awake = self.model.lease()?;
        let before = self.begin(&awake, assembly)?;
        let all = self.computed.assembly.len();
        while self.computed.rows < all && go_on() {
            self.feed(&awake, (self.computed.rows + AHEAD_ROWS).min(all), Want::Nothing)?;
        }
        self.commit(&awake);
        let text = self.computed.rows - before;
        stint.end(Counts { text, ..Counts::default() });
        Ok(text)
    }

    /// Keeps what was computed of the conversation so far under a name, whatever else needs the memory:
    /// the prompts of common questions. → rows that are kept.
    ///
    /// # Errors
    /// [`Error::Pool`] when nothing was computed since the model woke.
    #[cfg(feature = "kvcache")]
    pub fn pin(&self, name: &str) -> Result<usize> {
        let unknown = || autoglm_kvcache::Error::Unknown { name: name.to_owned() };
        // A pin that is made while the model goes to sleep would not be saved.
        let _awake = self.model.inner.gate.held().ok_or_else(unknown)?;
        let seat = self.computed.cache.lock();
        Ok(seat.as_ref().ok_or_else(unknown)?.pin(name)?)
    }

    /// Ends a pin of this tenant's. → whether there was one.
    #[cfg(feature = "kvcache")]
    pub fn unpin(&self, name: &str) -> bool {
        self.model.inner.unpin(self.salt, name)
    }

    /// A second conversation that begins like this one, for another sample of the same reply. What was
    /// computed is shared until one of them goes on.
    #[must_use]
    pub fn fork(&self) -> Self {
        let Computed { assembly, rows, cache } = &self.computed;
        // No copy is made behind the back of a model that goes to sleep.
        let awake = self.model.inner.gate.held();
        let copy = cache.lock().as_ref().filter(|_| awake.is_some()).map(Cache::fork);
        let rows = if copy.is_some() { *rows } else { 0 };
        let computed = Computed { assembly: assembly.clone(), rows, cache: self.model.inner.seats.take(copy) };
        Self {
            model: self.model.clone(),
            messages: self.messages.clone(),
            media: self.media.clone(),
            computed,
            vision: Duration::ZERO,
            audio: Duration::ZERO,
            spent: EnergyTold::default(),
            keep: self.keep,
            tier: self.tier,
            outlook: self.outlook,
            salt: self.salt,
        }
    }

    /// Bytes that the cache holds.
    pub(crate) fn kv_bytes(&self) -> u64 {
        self.computed.cache.lock().as_ref().map_or(0, |cache| cache.bytes())
    }
}

#[cfg(test)]
#[cfg(feature = "kvcache")]
mod tests;
