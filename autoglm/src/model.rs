//! A handle on an opened checkpoint.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use autoglm_core::{Embeds, Files, Keep, Modality, TokenId};
use autoglm_fusion::Placeholders;

use crate::awake::{Awake, Lease};
use crate::chat::Chat;
#[cfg(feature = "quant")]
use crate::chat::TOKENIZER;
#[cfg(feature = "power")]
use crate::conduct::Podium;
use crate::gate::Gate;
#[cfg(feature = "kvcache")]
use crate::keep::Origin;
use crate::place::{Facts, Place};
use crate::seat::Seats;
#[cfg(feature = "power")]
use crate::sleep::Nights;
use crate::{Error, OpenOptions, Part, Prompt, Result, Session};

/// An opened checkpoint, ready to run. Cloning copies a handle; the weights, which stay in the mapped
/// file, and the worker threads are shared.
#[derive(Debug, Clone)]
pub struct Model {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    /// What is large, while it is in memory.
    pub(crate) gate: Arc<Gate<Awake>>,
    facts: Facts,
    pub(crate) place: Place,
    #[cfg(feature = "kvcache")]
    origin: Origin,
    /// Where the tokenizer would be if there is none.
    chat: std::result::Result<Chat, PathBuf>,
    pub(crate) seats: Seats,
    #[cfg(feature = "power")]
    pub(crate) nights: Nights,
    #[cfg(feature = "power")]
    pub(crate) podium: Podium,
}

impl Model {
    /// Opens a checkpoint directory in the Hugging Face layout.
    ///
    /// # Errors
    /// Names the file, the field or the tensors that are wrong; nothing of a bad checkpoint is used.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(dir, &OpenOptions::default())
    }

    /// Opens a checkpoint directory with options.
    ///
    /// # Errors
    /// As for [`Model::open`].
    pub fn open_with(dir: impl AsRef<Path>, options: &OpenOptions) -> Result<Self> {
        Self::from_files(&Files::directory(dir.as_ref())?, options)
    }

    /// Opens a checkpoint that is compiled into the program: its files by name.
    ///
    /// # Errors
    /// As for [`Model::open`].
    ///
    /// ```
    /// use autoglm::{Generate, Model, OpenOptions, Part, Thinking};
    ///
    /// let model = Model::open_embedded(autoglm_tiny::FILES, &OpenOptions::default())?;
    /// let mut session = model.session();
    /// session.push(Part::text("go back"))?;
    /// let reply = session.reply(Generate::default().thinking(Thinking::Skipped))?;
    /// let text: String = reply.map(|piece| piece.map(|p| p.text)).collect::<Result<_, _>>()?;
    /// assert_eq!(text, "do(action=\"Back\")");
    /// # Ok::<(), autoglm::Error>(())
    /// ```
    pub fn open_embedded(files: &'static [(&'static str, &'static [u8])], options: &OpenOptions) -> Result<Self> {
        Self::from_files(&Files::embedded(files), options)
    }

    fn from_files(files: &Files, options: &OpenOptions) -> Result<Self> {
        // Looked at before they are opened: whoever replaces them in between is noticed later.
        #[cfg(feature = "kvcache")]
        let origin = Origin::of(files);
        let place = Place::files(files.clone(), options.clone());
        let (facts, awake) = place.open()?;
        let chat = Chat::read(files, facts.family)?;
        let inner = Inner {
            gate: Gate::new(awake),
            facts,
            place,
            #[cfg(feature = "kvcache")]
            origin,
            chat,
            seats: Seats::default(),
            #[cfg(feature = "power")]
            nights: Nights::default(),
            #[cfg(feature = "power")]
            podium: Podium::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A model of random weights, made in memory in the precision asked for (bf16 where none is), for
    /// measuring how fast and how large one of this shape is. It has no tokenizer.
    ///
    /// # Errors
    /// - [`Error::Core`] when there is no room for the weights.
    /// - What the shape's own configuration reports, where its numbers do not fit each other.
    #[cfg(feature = "quant")]
    pub fn synthetic(shape: &crate::Shape, options: &OpenOptions) -> Result<Self> {
        let place = Place::random(shape, options.clone());
        let (facts, awake) = place.open()?;
        let inner = Inner {
            gate: Gate::new(awake),
            facts,
            place,
            #[cfg(feature = "kvcache")]
            origin: Origin::Unknown,
            chat: Err(PathBuf::from("(random weights)").join(TOKENIZER)),
            seats: Seats::default(),
            #[cfg(feature = "power")]
            nights: Nights::default(),
            #[cfg(feature = "power")]
            podium: Podium::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Holds the weights in memory, and opens them first where they sleep.
    ///
    /// # Errors
    /// Those of opening; never while the model is awake.
    pub(crate) fn lease(&self) -> Result<Lease> {
        self.inner.gate.lease(|| self.inner.open_again())
    }

    /// A prompt of `rows` rows of which pictures and sounds take as many as they have, for measuring.
    ///
    /// # Errors
    /// - [`Error::ModalityOff`] for a medium that this build or model cannot take.
    /// - [`Error::Rows`] when media alone have as many rows as the prompt, or more.
    /// - [`Error::Fusion`] when the rows do not fit the context.
    #[cfg(feature = "quant")]
    pub fn trial(&self, rows: usize, media: &[crate::Part]) -> Result<crate::Trial> {
        crate::Trial::new(self, rows, media)
    }

    /// A phone agent's conversation of made-up tokens, for measuring.
    #[cfg(all(feature = "quant", feature = "kvcache"))]
    #[must_use]
    pub fn agent_loop(&self) -> crate::AgentLoop {
        crate::AgentLoop::new(self)
    }

    /// A new conversation.
    #[must_use]
    pub fn session(&self) -> Session {
        Session::new(self.clone())
    }

    /// Lays out a prompt that is given as token ids, the placeholder of each picture and of each sound once, and
    /// encoded pictures and sounds, which are read and encoded one at a time: for comparing numbers with another
    /// implementation.
    ///
    /// # Errors
    /// - [`autoglm_fusion::Error`] when placeholders and media differ in number; none is read then.
    /// - [`Error::Picture`] and [`Error::Sound`] for one that is damaged, that this build or checkpoint cannot
    ///   take, or that does not fit the context beside what stands before it.
    /// - What `images` and `sounds` report.
    pub fn prompt<E: From<Error>>(
        &self,
        ids: &[TokenId],
        mut images: impl ExactSizeIterator<Item = std::result::Result<Vec<u8>, E>>,
        mut sounds: impl ExactSizeIterator<Item = std::result::Result<Vec<u8>, E>>,
    ) -> std::result::Result<Prompt, E> {
        let count = |modality| if modality == Modality::Image { images.len() } else { sounds.len() };
        let awake = self.lease().map_err(E::from)?;
        let order = self.placeholders().expect(ids, count).map_err(Error::from)?;
        let mut taken = ids.len() - order.len();
        let mut embeds: Vec<Embeds> = Vec::new();
        for modality in order {
            let number = 1 + embeds.iter().filter(|made| made.modality() == modality).count();
            let made = if modality == Modality::Image {
                let Some(bytes) = images.next() else { break };
                let seen = awake.see([0; 32], &Part::Image(bytes?), self.keep(), taken);
                seen.map_err(|e| Error::Picture { number, source: Box::new(e) })
            } else {
                let Some(bytes) = sounds.next() else { break };
                let heard = awake.hear([0; 32], &Part::Audio(bytes?), taken);
                heard.map_err(|e| Error::Sound { number, source: Box::new(e) })
            };
            let (made, _) = made?;
            taken += made.len();
            embeds.push(made);
        }
        Ok(Prompt::new(self.clone(), awake, ids, &embeds)?)
    }

    /// Positions the checkpoint was trained for: the largest context of a session.
    #[must_use]
    pub fn context(&self) -> usize {
        self.inner.facts.context
    }

    /// Width of the logits.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.facts.vocab_size
    }

    /// Bytes of the tensors that this model uses: as they lie in the checkpoint, or as they were
    /// converted to the wanted precision.
    #[must_use]
    pub fn weights_bytes(&self) -> u64 {
        self.inner.facts.weights_bytes
    }

    /// Bytes of weights that generating one token reads: the decoder's layers and its head.
    #[must_use]
    pub fn bytes_per_token(&self) -> u64 {
        self.inner.facts.bytes_per_token
    }

    /// What was odd about the checkpoint but is no error, on one line: with `allow_extra`, the tensors
    /// that nothing reads; weights that were packed for another processor.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.inner.facts.warning.as_deref()
    }

    /// The instruction set that products with the weights run on.
    #[must_use]
    pub fn isa(&self) -> &'static str {
        self.inner.facts.isa
    }

    /// Worker threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.inner.facts.threads
    }

    /// Whether it takes sounds itself.
    #[must_use]
    pub fn hears(&self) -> bool {
        self.inner.facts.hears
    }

    /// Which rows of pictures a conversation begins with.
    pub(crate) fn keep(&self) -> Keep {
        self.inner.place.options().keep
    }

    /// What the pool of keys and values holds, and how much of its prompts was known; since the model woke, and nothing while
    /// it sleeps.
    #[cfg(feature = "kvcache")]
    #[must_use]
    pub fn pool_stats(&self) -> autoglm_kvcache::PoolStats {
        self.inner.gate.look(|awake| awake.map(|awake| awake.past.pool().stats())).unwrap_or_default()
    }

    /// Pictures that went through the vision tower since the model woke; one that is shown again need not.
    #[cfg(all(feature = "kvcache", feature = "vision"))]
    #[must_use]
    pub fn pictures_encoded(&self) -> u64 {
        self.inner.gate.look(|awake| awake.map_or(0, |awake| awake.eyes.encoded()))
    }

    /// Whole sounds that went through the audio tower since the model woke; one that is played again need not. Recordings that are
    /// encoded while they grow do not count.
    #[cfg(all(feature = "kvcache", feature = "audio"))]
    #[must_use]
    pub fn sounds_encoded(&self) -> u64 {
        self.inner.gate.look(|awake| awake.map_or(0, |awake| awake.ears.encoded()))
    }

    /// Where the weights came from.
    #[cfg(feature = "kvcache")]
    pub(crate) fn origin(&self) -> &Origin {
        &self.inner.origin
    }

    pub(crate) fn placeholders(&self) -> Placeholders {
        self.inner.facts.placeholders
    }

    /// What to ask a model that writes down what it hears; nothing for one that does other things.
    #[must_use]
    pub fn transcription_prompt(&self) -> Option<&str> {
        self.inner.facts.transcription_prompt.as_deref()
    }

    /// Whether two handles are on the same opened checkpoint.
    #[cfg(feature = "audio")]
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(crate) fn stop_ids(&self) -> &[TokenId] {
        &self.inner.facts.stop_ids
    }

    pub(crate) fn chat(&self) -> Result<&Chat> {
        let missing = |path: &PathBuf| Error::MissingFile { path: path.clone(), purpose: "a conversation" };
        self.inner.chat.as_ref().map_err(missing)
    }
}

impl Inner {
    /// Whether opening makes weights instead of using those of the files.
    #[cfg(feature = "power")]
    pub(crate) fn converts(&self) -> bool {
        self.facts.converts
    }

    /// Opens what was opened before: never, where nothing sleeps.
    #[cfg(not(feature = "power"))]
    fn open_again(&self) -> Result<Awake> {
        self.place.reopen()
    }

    /// Ends a pin of the tenant of this salt, also one that sleeps. → whether there was one.
    #[cfg(feature = "kvcache")]
    pub(crate) fn unpin(&self, salt: [u8; 32], name: &str) -> bool {
        self.gate.settled(|awake| match awake {
            Some(Awake { past, .. }) => past.pool().unpin(past.root(salt), name),
            #[cfg(feature = "power")]
            None => self.nights.unpin(salt, name),
            #[cfg(not(feature = "power"))]
            None => false,
        })
    }
}
