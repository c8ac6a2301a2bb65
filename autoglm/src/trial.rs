//! A prompt of a given size, timed: what the benchmark command runs.

use std::ops::Range;
use std::time::{Duration, Instant};

use autoglm_core::{Embeds, KvCache, TokenId, Want};
use autoglm_fusion::{Assembly, Placeholders};

use crate::awake::{Awake, Lease};
use crate::machine::Reading;
use crate::past::Cache;
use crate::prompt::PREFILL_ROWS;
use crate::{Error, Model, Part, Result};

/// Rows of a made-up prompt and the cache that their evaluation fills. The model stays awake as long as there is one. What the model says to them
/// does not matter; how long it takes does.
#[derive(Debug)]
pub struct Trial {
    model: Model,
    awake: Lease,
    assembly: Assembly,
    cache: Cache,
    vision: Duration,
    audio: Duration,
    picture_rows: usize,
    sound_rows: usize,
}

impl Trial {
    /// A prompt of `rows` rows, of which pictures and sounds take as many as they have. They are encoded here.
    ///
    /// # Errors
    /// - [`Error::ModalityOff`] for a medium that this build or model cannot take.
    /// - [`Error::Rows`] when media alone have as many rows as the prompt, or more.
    /// - [`Error::Fusion`] when the rows do not fit the context.
    pub(crate) fn new(model: &Model, rows: usize, media: &[Part]) -> Result<Self> {
        let awake = model.lease()?;
        let cache = awake.past.empty();
        let assembly = Assembly::new(model.context());
        let mut trial = Self {
            model: model.clone(),
            awake,
            assembly,
            cache,
            vision: Duration::ZERO,
            audio: Duration::ZERO,
            picture_rows: 0,
            sound_rows: 0,
        };
        for medium in media {
            let embeds = trial.encode(medium)?;
            let taken = trial.picture_rows + trial.sound_rows;
            if taken >= rows {
                return Err(Error::Rows { rows, media: taken });
            }
            let placeholder = model.placeholders().of(embeds.modality());
            trial.assembly.append(&placeholder.into_iter().collect::<Vec<_>>(), &[embeds], model.placeholders())?;
        }
        trial.append(rows - trial.picture_rows - trial.sound_rows)?;
        Ok(trial)
    }

    /// The rows of a medium; how many there are and how long they took is added up.
    fn encode(&mut self, medium: &Part) -> Result<Embeds> {
        if matches!(medium, Part::Audio(_) | Part::Samples { .. }) {
            let (embeds, took) = self.awake.hear([0; 32], medium, 0)?;
            self.audio += took;
            self.sound_rows += embeds.len();
            return Ok(embeds);
        }
        let (embeds, took) = self.awake.see([0; 32], medium, self.model.keep(), 0)?;
        self.vision += took;
        self.picture_rows += embeds.len();
        Ok(embeds)
    }

    /// How long pictures took.
    #[must_use]
    pub fn vision(&self) -> Duration {
        self.vision
    }

    /// How long sounds took.
    #[must_use]
    pub fn audio(&self) -> Duration {
        self.audio
    }

    /// Rows of sounds.
    #[must_use]
    pub fn sound_rows(&self) -> usize {
        self.sound_rows
    }

    /// Rows of pictures.
    #[must_use]
    pub fn picture_rows(&self) -> usize {
        self.picture_rows
    }

    /// Bytes of keys and values.
    #[must_use]
    pub fn kv_bytes(&self) -> u64 {
        self.cache.bytes()
    }

    /// Computes all rows of the prompt anew. → how long that took.
    ///
    /// # Errors
    /// What the decoder reports.
    pub fn prefill(&mut self) -> Result<Duration> {
        self.cache.truncate(0)?;
        compute(&self.awake, &self.assembly, 0..self.assembly.len(), &mut self.cache)
    }

    /// Appends `tokens` tokens, one step each. → how long each step took.
    ///
    /// # Errors
    /// What the decoder reports.
    pub fn decode(&mut self, tokens: usize) -> Result<Vec<Duration>> {
        (0..tokens)
            .map(|_| {
                self.append(1)?;
                let rows = self.assembly.len();
                compute(&self.awake, &self.assembly, rows - 1..rows, &mut self.cache)
            })
            .collect()
    }

    /// As [`decode`](Self::decode), with a read of a gigabyte before and after each step. → how long each
    /// step took, and the mean of its two reads in 10⁹ bytes per second. Where neighbours take a share of
    /// the memory that changes from second to second, a step can only be held against what was to be had
    /// around it.
    ///
    /// # Errors
    /// [`Error::Memory`] when there is no room for the gigabyte, and what the decoder reports.
    pub fn decode_beside_reads(&mut self, tokens: usize) -> Result<Vec<(Duration, f64)>> {
        let model = self.model.clone();
        let awake = model.lease()?;
        // Reads use as many threads as steps of one row.
        let run = awake.run_for(1);
        let reading = Reading::new(&run)?;
        let mut before = reading.gbs(&run);
        let mut steps = Vec::with_capacity(tokens);
        for took in (0..tokens).map(|_| self.decode(1)) {
            let after = reading.gbs(&run);
            steps.extend(took?.into_iter().map(|took| (took, (before + after) / 2.0)));
            before = after;
        }
        Ok(steps)
    }

    /// How long a question of `rows` rows after everything that is computed takes to its answer's first
    /// token. The question is taken back.
    ///
    /// # Errors
    /// What the decoder reports.
    pub fn ask(&mut self, rows: usize) -> Result<Duration> {
        let before = self.assembly.clone();
        let computed = before.len();
        self.append(rows)?;
        let took = compute(&self.awake, &self.assembly, computed..computed + rows, &mut self.cache);
        self.assembly = before;
        self.cache.truncate(computed)?;
        took
    }

    /// Appends rows of text.
    fn append(&mut self, rows: usize) -> Result<()> {
        let start = self.assembly.len();
        let ids: Vec<TokenId> = (start..start + rows).map(token).collect();
        Ok(self.assembly.append(&ids, &[], Placeholders::default())?)
    }
}

/// Token `i` of a made-up text: ids that differ from each other, far from the special ones.
pub(crate) fn token(i: usize) -> TokenId {
    TokenId((i * 37 % 1000) as u32)
}

/// Computes rows of a prompt behind those that the cache has. → how long that took.
pub(crate) fn compute(awake: &Awake, assembly: &Assembly, rows: Range<usize>, cache: &mut Cache) -> Result<Duration> {
    let start = Instant::now();
    let end = rows.end;
    for first in rows.step_by(PREFILL_ROWS) {
        let last = (first + PREFILL_ROWS).min(end);
        let want = if last == end { Want::Last } else { Want::Nothing };
        let decoder = &awake.decoder;
        let input = assembly.input(first..last, decoder.embed_tokens(), want)?;
        decoder.forward(&awake.run_for(input.len()), &input, cache)?;
    }
    Ok(start.elapsed())
}
