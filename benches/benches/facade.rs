//! The whole way with the tiny checkpoint: opening it, and one screenshot to one action.

use autoglm::{Generate, Model, OpenOptions, Part, Thinking};
use criterion::{Criterion, criterion_group, criterion_main};

fn whole(criterion: &mut Criterion) {
    let open = || {
        Model::open_embedded(autoglm_tiny::FILES, &OpenOptions::default().threads(2)).expect("the built-in checkpoint")
    };
    criterion.bench_function("open/autoglm-tiny", |b| b.iter(open));
    let model = open();
    let answer = || {
        let mut session = model.session();
        session.push(Part::image(autoglm_tiny::SCREENS[0].1)).expect("a sample screen");
        session.push(Part::text("打开相机")).expect("text");
        let how = Generate::default().thinking(Thinking::Skipped).max_new_tokens(64);
        let reply = session.reply(how).expect("a reply");
        reply.map(|piece| piece.expect("a piece").text).collect::<String>()
    };
    assert!(answer().starts_with("do(action=\"Tap\""));
    criterion.bench_function("screenshot_to_action/autoglm-tiny", |b| b.iter(answer));
}

criterion_group!(benches, whole);
criterion_main!(benches);
