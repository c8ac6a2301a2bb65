//! Rows that begin with somebody else's keys and values come out as if they had been computed alone, bit
//! for bit: whatever was shared, split, forked, forgotten or evicted before, and in whatever chunks.

use std::sync::OnceLock;

use autoglm_core::cache::Step;
use autoglm_core::rows::from_rows;
use autoglm_core::{Error, Keep, KvCache, KvFormat, MediaDigest, Modality, Run, TokenId, Unit, Workers};
use autoglm_kvcache::{Identity, Pool, PooledCache, Root, Shape};
use candle_core::Tensor;
use proptest::prelude::*;

const LAYERS: usize = 2;
const KV_HEADS: usize = 2;
const GROUP: usize = 2;
const D: usize = 8;

fn run() -> Run<'static> {
    static WORKERS: OnceLock<Workers> = OnceLock::new();
    Run::new(WORKERS.get_or_init(|| Workers::new(2).expect("two threads")))
}

fn shape(format: KvFormat) -> Shape {
    Shape::new(LAYERS, KV_HEADS, D, format).expect("a shape")
}

fn root(format: KvFormat) -> Root {
    let identity = Identity { salt: [3; 32], weights: [4; 32], precision: "f32".into(), config: "1".into() };
    identity.root(&shape(format))
}

/// A prompt, and a seed for each row that depends on everything up to it, as a decoder's rows do.
struct Prompt {
    units: Vec<Unit>,
    seeds: Vec<u64>,
}

impl Prompt {
    fn new(numbers: &[u8]) -> Self {
        let units: Vec<Unit> = numbers
            .iter()
            .map(|n| match n {
                0..=2 => Unit::Token(TokenId(u32::from(*n))),
                n => Unit::Media {
                    digest: MediaDigest([*n; 32]),
                    modality: Modality::Image,
                    tokens: usize::from(*n),
                    extent: [1, 2, 3],
                    keep: Keep::ALL,
                },
            })
            .collect();
        let mut seed = 1u64;
        let mut seeds = Vec::new();
        for (unit, number) in units.iter().zip(numbers) {
            for _ in 0..unit.rows() {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(u64::from(*number) + 1);
                seeds.push(seed);
            }
        }
        Self { units, seeds }
    }

    /// Numbers of the rows from `from` on.
    fn tensor(&self, rows: std::ops::Range<usize>, heads: usize, what: u64) -> Tensor {
        let numbers = self.seeds[rows.clone()].iter().flat_map(|seed| {
            let mut rng = fastrand::Rng::with_seed(seed ^ what.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            (0..heads * D).map(move |_| rng.f32() * 4.0 - 2.0)
        });
        from_rows(numbers.collect(), &[rows.len(), heads, D]).expect("a tensor")
    }

    /// Computes the rows from those that the cache has up to `end`, `chunk` at a time. → bits of the answers.
    fn compute(&self, cache: &mut PooledCache, end: usize, chunk: usize) -> autoglm_core::Result<Vec<u32>> {
        let mut bits = Vec::new();
        while cache.rows() < end {
            let rows = cache.rows()..(cache.rows() + chunk).min(end);
            for layer in 0..LAYERS {
                let tensor = |heads, what| self.tensor(rows.clone(), heads, what + 10 * layer as u64);
                let (q, k, v) = (tensor(KV_HEADS * GROUP, 1), tensor(KV_HEADS, 2), tensor(KV_HEADS, 3));
                let answer = cache.attend(&run(), layer, Step { q: &q, k: &k, v: &v, scale: 0.4 })?;
                let answer: Vec<f32> = answer.flatten_all()?.to_vec1()?;
                bits.extend(answer.iter().map(|x| x.to_bits()));
            }
        }
        Ok(bits)
    }

    /// The bits of rows `from..end` on a pool of their own, computed in one piece; those of each layer.
    fn cold(&self, format: KvFormat, from: usize, end: usize) -> Vec<u32> {
        let pool = Pool::new(shape(format), 1 << 30).expect("a budget");
        let (mut cache, rows) = pool.open(root(format), &self.units, 0, 10_000);
        assert_eq!(rows, 0);
        self.compute(&mut cache, from, self.seeds.len().max(1)).expect("room");
        self.compute(&mut cache, end, self.seeds.len().max(1)).expect("room")
    }
}

/// The bits of chunks, row by row, as those of one piece: each chunk has all of its layers.
fn by_layer(bits: &[u32], from: usize, end: usize, chunk: usize) -> Vec<u32> {
    let row = KV_HEADS * GROUP * D;
    let mut layers = vec![Vec::new(); LAYERS];
    let mut at = 0;
    for start in (from..end).step_by(chunk) {
        let rows = (end - start).min(chunk);
        for layer in &mut layers {
            layer.extend_from_slice(&bits[at..at + rows * row]);
            at += rows * row;
        }
    }
    layers.concat()
}

fn numbers() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![8 => 0u8..3, 1 => 3u8..70], 1..50)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn warm_is_bitwise_cold(
        prompts in prop::collection::vec((numbers(), 1usize..80, 0usize..4, 0usize..100), 1..7),
        format in prop_oneof![Just(KvFormat::F32), Just(KvFormat::Bf16), Just(KvFormat::Int8)],
        blocks in 6u64..60,
    ) {
        // A budget that is sometimes too small for two prompts: then others are given up.
        let pool = Pool::new(shape(format), blocks * shape(format).block_bytes(0)).expect("a budget");
        let mut living = Vec::new();
        for (numbers, chunk, fate, keep) in &prompts {
            let prompt = Prompt::new(numbers);
            let all = prompt.seeds.len();
            let (mut cache, reused) = pool.open(root(format), &prompt.units, all - 1, 10_000);
            let warm = match prompt.compute(&mut cache, all, *chunk) {
                Ok(bits) => bits,
                Err(Error::CacheFull { .. }) => {
                    living.clear();
                    continue;
                }
                Err(other) => panic!("{other}"),
            };
            prop_assert_eq!(by_layer(&warm, reused, all, *chunk), prompt.cold(format, reused, all));
            cache.commit(&prompt.units).expect("as many rows as units");
            match fate {
                0 => cache.forget((*keep).min(all)).expect("fewer rows"),
                1 => living.push(cache),
                2 => {
                    // A fork is cut and computes the same rows again, while the other one lives on.
                    let mut twin = cache.fork();
                    let kept = (*keep).min(all - 1);
                    twin.truncate(kept).expect("fewer rows");
                    living.push(cache);
                    if let Ok(again) = prompt.compute(&mut twin, all, 7) {
                        prop_assert_eq!(by_layer(&again, kept, all, 7), prompt.cold(format, kept, all));
                    }
                }
                _ => {}
            }
            prop_assert!(pool.stats().peak <= pool.stats().budget);
        }
        drop(living);
    }
}

#[test]
fn a_prompt_of_a_step_before_is_found_but_for_its_last_row() {
    let format = KvFormat::Bf16;
    let pool = Pool::new(shape(format), 1 << 24).expect("a budget");
    let prompt = Prompt::new(&[1, 2, 40, 0, 1, 2]);
    let all = prompt.seeds.len();
    let (mut cache, _) = pool.open(root(format), &prompt.units, all - 1, 10_000);
    prompt.compute(&mut cache, all, 100).expect("room");
    cache.commit(&prompt.units).expect("rows");
    let longer = Prompt::new(&[1, 2, 40, 0, 1, 2, 2, 2]);
    assert_eq!(pool.open(root(format), &prompt.units, all - 1, 10_000).1, all - 1);
    assert_eq!(pool.open(root(format), &longer.units, all + 1, 10_000).1, all);
    // The picture is whole or not there.
    assert_eq!(pool.open(root(format), &longer.units, 41, 10_000).1, 2);
    assert_eq!(pool.open(root(format), &longer.units, 42, 10_000).1, 42);
}
