//! Prompts given as ids: what is computed in pieces, what starts over, what is refused.
#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use autoglm::{Error, Model, OpenOptions, Prompt, TokenId};

fn model() -> Model {
    Model::open_embedded(autoglm_tiny::FILES, &OpenOptions::default().threads(2)).unwrap()
}

fn prompt(model: &Model, n: u32) -> Prompt {
    let ids: Vec<TokenId> = (0..n).map(|i| TokenId((i * 37 + i * i * 7) % 600)).collect();
    model.prompt(&ids, std::iter::empty::<Result<Vec<u8>, Error>>(), std::iter::empty()).unwrap()
}

fn logits(prompt: &mut Prompt) -> Vec<f32> {
    let mut all = Vec::new();
    prompt
        .logits(|rows| {
            all.extend_from_slice(rows);
            Ok::<_, Error>(())
        })
        .unwrap();
    all
}

#[test]
fn logits_of_a_long_prompt_do_not_depend_on_where_its_chunks_end() {
    let model = model();
    let long = logits(&mut prompt(&model, 1_100));
    let short = logits(&mut prompt(&model, 700));
    assert_eq!(long.len(), 1_100 * model.vocab_size());
    // Rows 512 to 699 come from the second chunk of both, which end at different rows.
    for (i, (a, b)) in long.iter().zip(&short).enumerate() {
        assert!(a.to_bits() == b.to_bits(), "{i}: {a} {b}");
    }
}

#[test]
fn greedy_tokens_leave_the_prompt_as_it_was() {
    let model = model();
    let mut prompt = prompt(&model, 40);
    let before = logits(&mut prompt);
    let picked = prompt.greedy(6).unwrap();
    assert_eq!((picked.len(), prompt.len()), (6, 40));
    assert_eq!(prompt.greedy(6).unwrap(), picked);
    assert_eq!(prompt.greedy(2).unwrap(), picked[..2]);
    assert_eq!(logits(&mut prompt), before);
}

#[test]
fn an_interrupted_evaluation_starts_over() {
    let model = model();
    let mut prompt = prompt(&model, 1_100);
    let picked = prompt.greedy(3).unwrap();
    let mut chunks = 0;
    let stopped = prompt.logits(|_| {
        chunks += 1;
        if chunks == 2 { Err(Error::NothingSaid) } else { Ok(()) }
    });
    assert!(matches!(stopped, Err(Error::NothingSaid)));
    assert_eq!(prompt.greedy(3).unwrap(), picked);
}

#[test]
fn pictures_without_placeholders_are_refused_before_one_is_read() {
    let model = model();
    let images = (0..3).map(|_| -> Result<Vec<u8>, Error> { panic!("a picture was read") });
    let refused = model.prompt(&[TokenId(1)], images, std::iter::empty());
    assert!(matches!(refused, Err(Error::Fusion(_))));
}

#[test]
fn a_converted_checkpoint_counts_its_converted_bytes() {
    let stored = model();
    let wide = OpenOptions::default().precision(autoglm::Precision::F32);
    let wide = Model::open_embedded(autoglm_tiny::FILES, &wide).unwrap();
    let ratio = wide.weights_bytes() as f64 / stored.weights_bytes() as f64;
    // Norms and biases stay f16; they are one percent.
    assert!(ratio > 1.97 && ratio < 2.0, "{ratio}");
    // f16 widens exactly, in the file as in registers.
    assert_eq!(logits(&mut prompt(&stored, 30)), logits(&mut prompt(&wide, 30)));
}
