//! A stretch of computing for one request. A conductor hears of it where there is one; where there is none it is nothing.

use autoglm_core::cache::Step;
use autoglm_core::{KvCache, Run};
use candle_core::Tensor;

use crate::Model;

/// A request, from its first row to its last. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Stint {
    #[cfg(feature = "power")]
    request: Option<crate::conduct::Request>,
}

/// What a request computed.
#[derive(Debug, Clone, Copy, Default)]
#[cfg_attr(not(feature = "power"), allow(dead_code, reason = "nobody keeps a budget"))]
pub(crate) struct Counts {
    /// Rows of pictures and sounds.
    pub(crate) media: usize,
    /// Other rows of the prompt.
    pub(crate) text: usize,
    /// Tokens that were generated.
    pub(crate) new: usize,
}

/// What is computed just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// A picture or a sound, of which nobody tells how far it is.
    Encoder,
    /// So many rows through the decoder.
    Rows(usize),
}

/// Energy of the stretches that belong to one reply; unknown as soon as that of one is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EnergyTold {
    told: Option<(f64, &'static str)>,
    unknown: bool,
}

impl Stint {
    /// A request begins. Before its lease: waking is part of it.
    pub(crate) fn begin(_model: &Model) -> Self {
        Self {
            #[cfg(feature = "power")]
            request: _model.inner.podium.request(),
        }
    }

    /// It ends. → energy in J and who told, where somebody could.
    pub(crate) fn end(self, _counts: Counts) -> Option<(f64, &'static str)> {
        #[cfg(feature = "power")]
        return self.request.and_then(|request| request.end(_counts));
        #[cfg(not(feature = "power"))]
        None
    }
}

impl EnergyTold {
    pub(crate) fn add(&mut self, one: Option<(f64, &'static str)>) {
        match (one, &mut self.told) {
            // A sum of what two meters told that do not see the same is no figure.
            (Some((joules, source)), Some(told)) if told.1 == source => told.0 += joules,
            (Some(one), None) => self.told = Some(one),
            _ => self.unknown = true,
        }
    }

    /// In J, and who told.
    pub(crate) fn told(self) -> Option<(f64, &'static str)> {
        self.told.filter(|_| !self.unknown)
    }
}

/// Something is being computed for as long as this lives.
#[derive(Debug)]
pub(crate) struct Scope {
    #[cfg(feature = "power")]
    at: Option<crate::conduct::Stage>,
}

impl Scope {
    pub(crate) fn enter(_model: &Model, _load: Load) -> Self {
        Self {
            #[cfg(feature = "power")]
            at: _model.inner.podium.enter(_load),
        }
    }

    /// So many rows passed a layer.
    fn passed(&self, _rows: usize) {
        #[cfg(feature = "power")]
        if let Some(at) = &self.at {
            at.passed(_rows);
        }
    }

    /// The cache, which tells how far a step is: a step of many rows takes seconds, and each layer asks the cache once.
    pub(crate) fn heard<'a>(&'a self, cache: &'a mut dyn KvCache) -> Heard<'a> {
        Heard { scope: self, cache }
    }
}

/// A cache that tells each layer's rows.
pub(crate) struct Heard<'a> {
    scope: &'a Scope,
    cache: &'a mut dyn KvCache,
}

impl KvCache for Heard<'_> {
    fn len(&self, layer: usize) -> usize {
        self.cache.len(layer)
    }

    fn attend(&mut self, run: &Run<'_>, layer: usize, step: Step<'_>) -> autoglm_core::Result<Tensor> {
        let rows = step.k.dims().first().copied().unwrap_or(0);
        let attended = self.cache.attend(run, layer, step)?;
        self.scope.passed(rows);
        Ok(attended)
    }

    fn truncate(&mut self, len: usize) -> autoglm_core::Result<()> {
        self.cache.truncate(len)
    }

    fn bytes(&self) -> u64 {
        self.cache.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn energy_is_known_where_all_of_it_is() {
        let spent = |all: &[Option<(f64, &'static str)>]| {
            let mut spent = EnergyTold::default();
            all.iter().for_each(|one| spent.add(*one));
            spent.told()
        };
        assert_eq!(spent(&[]), None);
        assert_eq!(spent(&[Some((1.0, "a")), Some((2.0, "a"))]), Some((3.0, "a")));
        assert_eq!(spent(&[Some((1.0, "a")), None]), None);
        assert_eq!(spent(&[None, Some((1.0, "a"))]), None);
        assert_eq!(spent(&[Some((1.0, "a")), Some((1.0, "b"))]), None);
    }
}
