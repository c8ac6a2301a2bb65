//! A prompt given as token ids, for comparing numbers with another implementation.

use autoglm_core::rows::with_rows;
use autoglm_core::{Embeds, KvCache, TokenId, Want};
use autoglm_fusion::Assembly;
use autoglm_text::{Sampler, Sampling};
use candle_core::Tensor;

use crate::awake::{Awake, Lease};
use crate::past::Cache;
use crate::{Error, Model, Result};

/// Rows that go through the decoder at once: enough for a matrix product to pay, few enough that the
/// widest activation of a 9-billion-parameter model, 28 MB, stays in a large cache and below the size from
/// which an allocator asks the system for fresh pages each time. Twice as many rows are an eighth slower.
pub(crate) const PREFILL_ROWS: usize = 256;

/// Logits that are held at once, in numbers: 64 MB. A row of the real model has 151 552.
const LOGITS_AT_ONCE: usize = 16 << 20;

/// A laid-out prompt and the cache that its evaluation fills. The model stays awake as long as there is one.
#[derive(Debug)]
pub struct Prompt {
    model: Model,
    awake: Lease,
    assembly: Assembly,
    cache: Cache,
    /// Logits after the last row, once all rows were computed.
    last: Option<Tensor>,
}

impl Prompt {
    pub(crate) fn new(model: Model, awake: Lease, ids: &[TokenId], media: &[Embeds]) -> Result<Self> {
        let limit = model.context();
        let mut assembly = Assembly::new(limit);
        assembly.append(ids, media, model.placeholders())?;
        let cache = awake.past.empty();
        Ok(Self { model, awake, assembly, cache, last: None })
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
    /// - [`Error::NotANumber`] when the model computes a NaN or an infinity.
    /// - What the decoder or `each` reports.
    pub fn logits<E: From<Error>>(
        &mut self,
        mut each: impl FnMut(&[f32]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.cache.truncate(0).map_err(Error::from)?;
        self.last = None;
        let vocab_size = self.model.vocab_size();
        let rows = (LOGITS_AT_ONCE / vocab_size).clamp(1, PREFILL_ROWS);
        for start in (0..self.len()).step_by(rows) {
            let end = (start + rows).min(self.len());
            let Some(logits) = forward(&self.awake, &self.assembly, &mut self.cache, start..end, Want::All)? else {
                continue;
            };
            with_rows(&logits, |numbers| {
                if let Some(at) = numbers.iter().position(|v| !v.is_finite()) {
                    let (row, token) = (start + at / vocab_size, at % vocab_size);
                    return Err(Error::NotANumber { row, token, value: numbers[at] }.into());
                }
                each(numbers)
            })
            .map_err(Error::from)??;
            if end == self.len() {
                self.last = Some(logits.narrow(0, end - start - 1, 1).map_err(Error::from)?);
            }
        }
        Ok(())
    }

    /// The `count` most probable next tokens, one after the other, not stopping at an end token. The
    /// prompt itself stays as it is.
    ///
    /// # Errors
    /// What the decoder reports: a full context, or logits that are not numbers.
    pub fn greedy(&mut self, count: usize) -> Result<Vec<TokenId>> {
        if self.last.is_none() {
            self.logits(|_| Ok::<_, Error>(()))?;
        }
        self.cache.truncate(self.len())?;
        let mut sampler = Sampler::new(Sampling::greedy(), &[])?;
        let (mut assembly, mut next, mut picked) = (self.assembly.clone(), self.last.clone(), Vec::new());
        while let (true, Some(logits)) = (picked.len() < count, &next) {
            let id = sampler.sample(&mut logits.flatten_all()?.to_vec1::<f32>()?)?;
            picked.push(id);
            if picked.len() < count {
                assembly.push(id)?;
                let last = assembly.len() - 1..assembly.len();
                next = forward(&self.awake, &assembly, &mut self.cache, last, Want::Last)?;
            }
        }
        Ok(picked)
    }
}

fn forward(
    awake: &Awake,
    assembly: &Assembly,
    cache: &mut Cache,
    rows: std::ops::Range<usize>,
    want: Want,
) -> Result<Option<Tensor>> {
    let decoder = &awake.decoder;
    let input = assembly.input(rows, decoder.embed_tokens(), want)?;
    Ok(decoder.forward(&awake.run_for(input.len()), &input, cache)?)
}
