//! Where the sessions of a model keep what they computed: in a pool that all of them share, or, without
//! the feature `kvcache`, each in a cache of its own.

#[cfg(feature = "kvcache")]
pub(crate) use pooled::{Cache, Past};
#[cfg(not(feature = "kvcache"))]
pub(crate) use single::{Cache, Past};

#[cfg(feature = "kvcache")]
mod pooled {
    use autoglm_core::{KvFormat, Unit};
    use autoglm_kvcache::{Identity, Pool, Root, Shape};
    use autoglm_text::TextConfig;

    use crate::{OpenOptions, Result};

    /// One session's past.
    pub(crate) type Cache = autoglm_kvcache::PooledCache;

    /// The pool of a model.
    #[derive(Debug)]
    pub(crate) struct Past {
        pool: Pool,
        identity: Identity,
        limit: usize,
    }

    impl Past {
        /// `files` are the texts of configuration files. `numbers` names everything besides them that changes
        /// bits: precision and, where it does, the instruction set. `opening` is the number of the opening, which stands for
        /// the weights.
        pub(crate) fn new(
            config: &TextConfig,
            (format, numbers): (KvFormat, String),
            files: &[String],
            (options, opening): (&OpenOptions, u64),
        ) -> Result<Self> {
            let mut weights = [0; 32];
            weights[..8].copy_from_slice(&opening.to_le_bytes());
            let format = options.kv_format.unwrap_or(format);
            let shape = Shape::new(config.num_hidden_layers, config.num_key_value_heads, config.head_dim, format)?;
            let limit = config.max_position_embeddings;
            // A session that goes on in the middle of a block holds a copy of it beside the one that is known.
            let block = shape.block_bytes(0).max(shape.block_bytes(1));
            let whole = || shape.bytes(limit).saturating_add(block);
            let pool = Pool::new(shape, options.kv_budget.unwrap_or_else(whole))?;
            let mut described = autoglm_kvcache::digest::Hasher::new();
            described.update("decoder", format!("{config:?}").as_bytes());
            files.iter().for_each(|file| described.update("file", file.as_bytes()));
            let config = autoglm_kvcache::digest::hex(&described.finish());
            let identity = Identity { salt: [0; 32], weights, precision: numbers, config };
            Ok(Self { pool, identity, limit })
        }

        pub(crate) fn pool(&self) -> &Pool {
            &self.pool
        }

        pub(crate) fn identity(&self) -> &Identity {
            &self.identity
        }

        /// Rows that a sequence may have.
        #[cfg(feature = "power")]
        pub(crate) fn limit(&self) -> usize {
            self.limit
        }

        /// Where the prefixes of a tenant begin.
        pub(crate) fn root(&self, salt: [u8; 32]) -> Root {
            Identity { salt, ..self.identity.clone() }.root(self.pool.shape())
        }

        /// An empty cache for a whole context.
        pub(crate) fn empty(&self) -> Cache {
            self.open([0; 32], &[], 0).0
        }

        /// A cache with what is known of `units`, at most `most` rows. → the cache and its rows.
        pub(crate) fn open(&self, salt: [u8; 32], units: &[Unit], most: usize) -> (Cache, usize) {
            self.pool.open(self.root(salt), units, most, self.limit)
        }

        /// Makes known what the cache has of `units`, in whole units.
        pub(crate) fn commit(&self, cache: &mut Cache, units: &[Unit]) {
            // Cannot fail: these units are rows of the cache.
            let _ = cache.commit(cache.held(units));
        }

        /// Forgets all but the first `keep` rows, for others as well where nobody uses the rest.
        pub(crate) fn forget(cache: &mut Cache, keep: usize) -> Result<()> {
            Ok(cache.forget(keep)?)
        }
    }
}

#[cfg(not(feature = "kvcache"))]
mod single {
    use autoglm_core::{KvCache, KvFormat, Unit};
    use autoglm_text::TextConfig;

    use crate::{OpenOptions, Result};

    /// One session's past.
    pub(crate) type Cache = autoglm_core::DenseCache;

    /// What every session begins with.
    #[derive(Debug)]
    pub(crate) struct Past {
        empty: Cache,
    }

    impl Past {
        pub(crate) fn new(
            config: &TextConfig,
            (format, _): (KvFormat, String),
            _: &[String],
            _: (&OpenOptions, u64),
        ) -> Result<Self> {
            let TextConfig { num_hidden_layers, num_key_value_heads, head_dim, max_position_embeddings, .. } = *config;
            let empty = Cache::new(num_hidden_layers, num_key_value_heads, head_dim, max_position_embeddings, format);
            Ok(Self { empty })
        }

        /// An empty cache for a whole context.
        pub(crate) fn empty(&self) -> Cache {
            self.empty.fork()
        }

        /// Nothing is known of any prompt: the session's own cache is all there is.
        pub(crate) fn open(&self, _: [u8; 32], _: &[Unit], _: usize) -> (Cache, usize) {
            (self.empty(), 0)
        }

        pub(crate) fn commit(&self, _: &mut Cache, _: &[Unit]) {}

        pub(crate) fn forget(cache: &mut Cache, keep: usize) -> Result<()> {
            Ok(cache.truncate(keep)?)
        }
    }
}
