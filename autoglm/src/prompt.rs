//! A prompt given as token ids, for comparing numbers with another implementation.

use autoglm_core::{DenseCache, Embeds, KvCache, TokenId, Want};
use autoglm_fusion::Assembly;
use autoglm_text::{Sampler, Sampling};
use candle_core::Tensor;

use crate::{Model, Result};

/// Rows that go through the decoder at once: enough for a matrix product to pay, few enough that the
/// widest activation of a 9-billion-parameter model stays below 64 MB.
pub(crate) const PREFILL_ROWS: usize = 512;

/// A laid-out prompt and the cache that its evaluation fills.
#[derive(Debug)]
pub struct Prompt {
    model: Model,
    assembly: Assembly,
    cache: DenseCache,
    next: Option<Tensor>,
}

impl Prompt {
    pub(crate) fn new(model: Model, ids: &[TokenId], media: &[Embeds]) -> Result<Self> {
        let limit = model.context();
        let mut assembly = Assembly::new(limit);
        assembly.append(ids, media, model.image_token())?;
        let cache = model.decoder().dense_cache(limit)?;
        Ok(Self { model, assembly, cache, next: None })
    }

    /// Rows after expansion of the placeholders.
    #[must_use]
    pub fn len(&self) -> usize {
        self.assembly.len()
    }

    /// Whether the prompt has no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.assembly.is_empty()
    }

    /// Position of every row, n × \[t, h, w\].
    #[must_use]
    pub fn positions(&self) -> &[[u32; 3]] {
        self.assembly.positions().as_slice()
    }

    /// Computes the logits of every row, in order, and lends them to `each`, some rows at a time:
    /// row-major, a multiple of the vocabulary long. Starts over when called again.
    ///
    /// # Errors
    /// What the decoder or `each` reports.
    pub fn logits<E: From<crate::Error>>(
        &mut self,
        mut each: impl FnMut(&[f32]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let core = |error: autoglm_core::Error| crate::Error::from(error);
        self.cache.truncate(0).map_err(core)?;
        self.next = None;
        for start in (0..self.len()).step_by(PREFILL_ROWS) {
            let end = (start + PREFILL_ROWS).min(self.len());
            let logits = self.forward(start, end, Want::All)?;
            if let Some(logits) = logits {
                autoglm_core::rows::with_rows(&logits, &mut each).map_err(core)??;
                self.next = Some(logits.narrow(0, end - start - 1, 1).map_err(crate::Error::from)?);
            }
        }
        Ok(())
    }

    /// The `count` most probable next tokens, one after the other, not stopping at an end token.
    ///
    /// # Errors
    /// What the decoder reports: a full context, or logits that are not numbers.
    pub fn greedy(&mut self, count: usize) -> Result<Vec<TokenId>> {
        if self.next.is_none() {
            self.logits(|_| Ok::<_, crate::Error>(()))?;
        }
        let mut sampler = Sampler::new(Sampling::greedy(), &[])?;
        let mut picked = Vec::new();
        while let (true, Some(logits)) = (picked.len() < count, &self.next) {
            let id = sampler.sample(&mut logits.flatten_all()?.to_vec1::<f32>()?)?;
            picked.push(id);
            if picked.len() < count {
                self.assembly.push(id)?;
                self.next = self.forward(self.len() - 1, self.len(), Want::Last)?;
            }
        }
        Ok(picked)
    }

    fn forward(&mut self, start: usize, end: usize, want: Want) -> Result<Option<Tensor>> {
        let decoder = self.model.decoder();
        let input = self.assembly.input(start..end, decoder.embed_tokens(), want)?;
        Ok(decoder.forward(&self.model.run(), &input, &mut self.cache)?)
    }
}
