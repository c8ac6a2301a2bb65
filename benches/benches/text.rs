//! The decoder: one token and a prompt chunk through one layer of the real shape, and the sampler
//! over the real vocabulary.

use std::hint::black_box;

use autoglm_core::{FloatType, KvCache, KvFormat, Run, TokenId, Want, Workers};
use autoglm_text::{Decoder, Sampler, Sampling, TextConfig};
use benches::random_source;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn layer(criterion: &mut Criterion) {
    let config = TextConfig::from_json(&serde_json::json!({
        "model_type": "glm4v", "vocab_size": 512, "hidden_size": 4096, "intermediate_size": 13696, "num_hidden_layers": 1,
        "num_attention_heads": 32, "num_key_value_heads": 2, "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "mrope_section": [8, 12, 12], "partial_rotary_factor": 0.5}
    }))
    .expect("the real shape");
    let source = random_source(&config.expected_tensors(), FloatType::Bf16);
    let decoder = Decoder::load(&source, config).expect("all tensors are there");
    let workers = Workers::new(2).expect("two threads");
    let run = Run::new(&workers);
    let mut group = criterion.benchmark_group("decoder_layer/glm-4.1v-9b/bf16/2t");
    group.sample_size(10);
    for n in [1usize, 128] {
        let ids: Vec<TokenId> = (0..n as u32).map(TokenId).collect();
        let input = decoder.text_input(&ids, 0, Want::Nothing).expect("ids of the table");
        let mut cache = decoder.dense_cache(256, KvFormat::F32);
        decoder.forward(&run, &input, &mut cache).expect("it runs");
        assert_eq!(cache.len(0), n);
        group.throughput(Throughput::Elements(n as u64));
        group.bench_function(format!("{n}_rows"), |b| {
            b.iter(|| {
                cache.truncate(0).expect("zero rows are always there");
                decoder.forward(&run, black_box(&input), &mut cache)
            });
        });
    }
}

fn sample(criterion: &mut Criterion) {
    let mut random = fastrand::Rng::with_seed(3);
    let logits: Vec<f32> = (0..151_552).map(|_| random.f32() * 20.0 - 10.0).collect();
    let mut group = criterion.benchmark_group("sample/151552");
    for (name, sampling) in [
        ("greedy", Sampling::greedy()),
        ("top_p", Sampling::greedy().temperature(0.8).top_p(0.85).seed(1)),
        ("top_k", Sampling::greedy().temperature(0.8).top_k(40).seed(1)),
    ] {
        let mut sampler = Sampler::new(sampling, &[]).expect("sensible values");
        group.bench_function(name, |b| b.iter(|| sampler.sample(&mut logits.clone())));
    }
}

criterion_group!(benches, layer, sample);
criterion_main!(benches);
