//! Smaller vocabularies of the tiny checkpoint, with tokens that nothing needs, and of golden cases.

mod tokenizers;

use std::fs;

use autoglm::{Generate, OpenOptions, Part, Session};

use super::*;
use crate::prune::tests::{Tensors, prune, read, tiny};
use crate::{error, workspace};

fn tiny_file() -> Value {
    read(&tiny().join("tokenizer.json"))
}

/// Commands that the tests prune for: with a screen for the model to look at, and without.
fn commands(folder: &Path) -> PathBuf {
    let corpus = folder.join("corpus");
    fs::create_dir(&corpus).unwrap();
    let asked = json!({ "text": "tap the calendar icon", "image": tiny().join("screens/01.png") });
    fs::write(corpus.join("asked.jsonl"), format!("{asked}\n{}\n", json!({ "text": "打开相机" }))).unwrap();
    fs::write(corpus.join("read.txt"), "open maps\n  go back, <|user|> please\r\n点击相机").unwrap();
    fs::write(corpus.join("picture.png"), [0xff]).unwrap();
    corpus
}

/// The tiny checkpoint with tokens that nobody says: some joined from letters, some that nothing makes, between the others
/// and behind them. Ids move up, and rows with them.
fn planted(model: &Path) {
    fs::create_dir(model).unwrap();
    for (name, content) in autoglm_tiny::FILES {
        fs::write(model.join(name), content).unwrap();
    }
    let mut file = tiny_file();
    let old: Vec<(String, u32)> = {
        let vocab = file["model"]["vocab"].as_object().unwrap();
        let mut all: Vec<_> = vocab.iter().map(|(piece, id)| (piece.clone(), id.as_u64().unwrap() as u32)).collect();
        all.sort_by_key(|(_, id)| *id);
        all
    };
    // By new id, which old row it has; nothing for what is planted.
    let (mut vocab, mut rows) = (serde_json::Map::new(), Vec::new());
    for (piece, id) in &old {
        if id % 40 == 39 {
            vocab.insert(format!("never said {id}"), json!(rows.len()));
            rows.push(None);
        }
        vocab.insert(piece.clone(), json!(rows.len()));
        rows.push(Some(*id));
    }
    for piece in ["QZ", "ZQ", "QZX", "ZQQZX"] {
        vocab.insert(piece.to_owned(), json!(rows.len()));
        rows.push(None);
    }
    let rules = file["model"]["merges"].as_array_mut().unwrap();
    rules.insert(0, json!(["Q", "Z"]));
    rules.insert(100, json!(["QZ", "X"]));
    rules.extend([json!(["Z", "Q"]), json!(["ZQ", "QZX"])]);
    file["model"]["vocab"] = json!(vocab);
    // Added tokens and the padding behind them.
    rows.extend((640..704).map(Some));
    let new: HashMap<u32, u32> = rows.iter().zip(0..).filter_map(|(old, new)| Some(((*old)?, new))).collect();
    for token in file["added_tokens"].as_array_mut().unwrap() {
        ids::renumber_one(&mut token["id"], &new);
    }
    let put = |name: &str, content: &Value| fs::write(model.join(name), content.to_string()).unwrap();
    put("tokenizer.json", &file);
    for name in ["config.json", "generation_config.json"] {
        let mut content = read(&model.join(name));
        ids::renumber(&mut content, &new);
        if name == "config.json" {
            content["text_config"]["vocab_size"] = json!(rows.len());
        }
        put(name, &content);
    }
    let mut config = read(&model.join("tokenizer_config.json"));
    config["added_tokens_decoder"] = json!({ (new[&647].to_string()): { "content": "<|begin_of_image|>" } });
    put("tokenizer_config.json", &config);
    put("added_tokens.json", &json!({ "<think>": new[&656] }));
    put("vocab.json", &file["model"]["vocab"]);
    fs::write(model.join("merges.txt"), pieces::merges_text(&file)).unwrap();
    let mut tensors = Tensors::of(model);
    let at = |scale: f32| rows.iter().map(move |old| old.map_or((77, scale), |old| (old as usize, 1.0)));
    tensors.gather("model.language_model.embed_tokens.weight", &at(-3.0).collect::<Vec<_>>(), None);
    tensors.gather("lm_head.weight", &at(0.25).collect::<Vec<_>>(), None);
    tensors.write(model);
}

fn open(model: &Path) -> Model {
    Model::open_with(model, &OpenOptions::default().threads(2)).unwrap()
}

fn tokenizer(model: &Path) -> Tokenizer {
    Tokenizer::from_json(&fs::read(model.join("tokenizer.json")).unwrap()).unwrap()
}

/// Logits of a prompt in text, with a picture where it says so.
fn logits(model: &Path, prompt: &str) -> Vec<Vec<f32>> {
    let ids = tokenizer(model).encode_segments(&[Segment::Literal(prompt)]).unwrap();
    let config = read(&model.join("config.json"));
    let v = config.pointer("/text_config/vocab_size").unwrap_or(&config["vocab_size"]).as_u64().unwrap() as usize;
    let pictures = if prompt.contains("<|image|>") { vec!["screens/01.png"] } else { vec![] };
    let pictures = pictures.into_iter().map(|name| Ok::<_, autoglm::Error>(fs::read(tiny().join(name)).unwrap()));
    let model = open(model);
    let mut prompt = model.prompt(&ids, pictures, std::iter::empty::<autoglm::Result<Vec<u8>>>()).unwrap();
    let mut rows = Vec::new();
    prompt
        .logits(|logits| {
            rows.extend(logits.chunks_exact(v).map(<[f32]>::to_vec));
            Ok::<_, autoglm::Error>(())
        })
        .unwrap();
    rows
}

fn said(mut session: Session) -> String {
    let reply = session.reply(Generate::default().max_new_tokens(48)).unwrap();
    reply.map(|piece| piece.unwrap().text).collect()
}

/// The greedy answers to the lines that are put to the model. To others it may answer with words that are gone.
fn answers(model: &Path) -> Vec<String> {
    let model = open(model);
    let asked = [("tap the calendar icon", Some("screens/01.png")), ("打开相机", None)];
    let answer = |(text, picture): (&str, Option<&str>)| {
        let mut session = model.session();
        if let Some(picture) = picture {
            session.push(Part::image(fs::read(tiny().join(picture)).unwrap())).unwrap();
        }
        session.push(Part::text(text)).unwrap();
        said(session)
    };
    asked.into_iter().map(answer).collect()
}

const PROMPTS: [&str; 2] = [
    "[gMASK]<sop><|user|>\n<|begin_of_image|><|image|><|end_of_image|>tap the calendar icon<|assistant|>\n",
    "[gMASK]<sop><|user|>\nopen maps\n打开相机\nW<|assistant|>\n<think>",
];

#[test]
fn planted_tokens_go_and_nothing_else_changes() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = commands(folder.path());
    let (model, out, plain) = (folder.path().join("planted"), folder.path().join("out"), folder.path().join("without"));
    planted(&model);
    prune(&model, &out, &format!("--vocab {}", corpus.display())).unwrap();
    prune(&tiny(), &plain, &format!("--vocab {}", corpus.display())).unwrap();

    // Whatever was planted, what is left is the same.
    for name in ["tokenizer.json", "config.json", "generation_config.json"] {
        assert_eq!(read(&out.join(name)), read(&plain.join(name)), "{name}");
    }
    assert!(fs::read(out.join("model.safetensors")).unwrap() == fs::read(plain.join("model.safetensors")).unwrap());

    let map = Map::of(&out).unwrap().unwrap();
    let n = map.old_ids.len();
    assert!(n < 640 && n > 256 + 20, "{n}");
    let tokens: HashMap<u32, String> = tiny_file()["model"]["vocab"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(p, id)| (id.as_u64().unwrap() as u32, p.clone()))
        .collect();
    let after = tokenizer(&out);
    let report = read(&out.join("prune.json"));
    assert_eq!(report["steps"], json!([{ "op": "vocab", "layer": null, "kept": n }]));
    assert_eq!(read(&out.join("config.json"))["text_config"]["vocab_size"], n);
    assert_eq!(after.max_id().0 as usize, n - 1);
    let plain_map = Map::of(&plain).unwrap().unwrap();
    let written = read(&out.join("tokenizer.json"));
    for (id, old) in plain_map.old_ids.iter().enumerate().filter(|(_, old)| **old < 640) {
        assert_eq!(written["model"]["vocab"][&tokens[old]], id, "the map says which piece it was");
    }

    // Numbers in the files beside are the new ones.
    let marker = |content: &str| after.token_id(content).unwrap().0;
    let config = read(&out.join("tokenizer_config.json"));
    assert!(config["added_tokens_decoder"].get(marker("<|begin_of_image|>").to_string()).is_some(), "{config}");
    assert_eq!(read(&out.join("added_tokens.json")), json!({ "<think>": marker("<think>") }));
    assert_eq!(read(&out.join("vocab.json")), written["model"]["vocab"]);
    assert_eq!(fs::read_to_string(out.join("merges.txt")).unwrap(), pieces::merges_text(&written));
    let ends = json!(["<|endoftext|>", "<|user|>", "</answer>"].map(marker));
    assert_eq!(read(&out.join("generation_config.json"))["eos_token_id"], ends);

    // Lines of the corpus are the same pieces, and the model says the same of them.
    let before = tokenizer(&model);
    for line in ["tap the calendar icon", "打开相机", "open maps", "  go back, <|user|> please", "点击相机"] {
        let ids =
            |tokenizer: &Tokenizer| tokenizer.encode_text(line).unwrap().iter().map(|id| id.0).collect::<Vec<_>>();
        assert_eq!(ids(&after).iter().map(|id| map.old(*id)).collect::<Vec<_>>(), ids(&before), "{line}");
    }
    for prompt in PROMPTS {
        let (before, after) = (logits(&model, prompt), logits(&out, prompt));
        assert_eq!(before.len(), after.len(), "{prompt}");
        for (before, after) in before.iter().zip(&after) {
            let before: Vec<f32> = map.old_ids.iter().map(|id| before[*id as usize]).collect();
            assert!(before == *after, "{prompt}");
        }
    }
    let said = answers(&model);
    assert!(said[0].contains("do(action=\"Tap\""), "{said:?}");
    assert_eq!(answers(&out), said);
}

#[test]
fn a_smaller_vocabulary_is_compared_token_by_token() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = commands(folder.path());
    let (out, lines) = (folder.path().join("out"), folder.path().join("held-out.jsonl"));
    // A word of which nothing is in the corpus, so that some of its tokens are gone.
    fs::write(&lines, format!("{}\n", json!({ "text": "browser message" }))).unwrap();
    let (corpus, lines) = (corpus.display(), lines.display());
    prune(&tiny(), &out, &format!("--vocab {corpus} --eval {lines}")).unwrap();
    let eval = read(&out.join("prune.json"))["eval"].clone();
    assert_eq!(
        (&eval["kl"], &eval["greedy_agreement"], &eval["ppl_before"]),
        (&json!(0.0), &json!(1.0), &eval["ppl_after"])
    );
    assert!(eval["tokens_gone"].as_u64().unwrap() > 0, "{eval}");
    // Together with everything else.
    let small = folder.path().join("small");
    let all =
        format!("--vocab {corpus} --drop vision --layers 3 --ffn 304 --ffn-multiple 8 --lines 2 --seed 3 --calib");
    let calib = folder.path().join("calib.jsonl");
    fs::write(&calib, "{\"text\": \"open maps\"}\n{\"text\": \"打开相机\"}\n").unwrap();
    prune(&tiny(), &small, &format!("{all} {} --eval {lines}", calib.display())).unwrap();
    let report = read(&small.join("prune.json"));
    assert!(
        report["eval"]["kl"].as_f64().unwrap() > 0.0 && report["eval"]["tokens_gone"] == eval["tokens_gone"],
        "{report}"
    );
    let config = read(&small.join("config.json"));
    let end = tokenizer(&small).token_id("<|endoftext|>").unwrap().0;
    assert_eq!((&config["model_type"], &config["pad_token_id"]), (&json!("glm4"), &json!(end)));
    assert_eq!(config["vocab_size"], tokenizer(&small).max_id().0 + 1);
    assert_eq!(logits(&small, PROMPTS[1])[0].len(), config["vocab_size"].as_u64().unwrap() as usize);
}

/// A golden case, which has no tokenizer, with one of bytes, words that nobody says, and twenty markers from 300 on.
fn with_tokenizer(case: &str, model: &Path) {
    fs::create_dir(model).unwrap();
    for file in fs::read_dir(workspace::root().join("goldens/cases").join(case)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), model.join(file.file_name())).unwrap();
    }
    let mut file = tiny_file();
    let letters = (0..=255).map(|byte| crate::synth::tokenizer::letter_of(byte).to_string());
    let vocab: serde_json::Map<String, Value> = letters
        .chain((256..300).map(|id| format!("word{id}")))
        .zip(0..)
        .map(|(piece, id)| (piece, json!(id)))
        .collect();
    (file["model"]["vocab"], file["model"]["merges"]) = (json!(vocab), json!([]));
    for (token, id) in file["added_tokens"].as_array_mut().unwrap().iter_mut().zip(300..) {
        token["id"] = json!(id);
    }
    fs::write(model.join("tokenizer.json"), file.to_string()).unwrap();
}

#[test]
fn one_table_for_both_ends_and_a_model_of_sounds_are_gathered_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("a.txt");
    fs::write(&text, "aé word257").unwrap();
    // An end of a reply may be anything: here it is one of the words.
    for (case, stay) in [("tied", 256 + 20), ("asr", 256 + 20), ("text-v5", 256 + 20 + 1)] {
        let (model, out) = (folder.path().join(case), folder.path().join(format!("{case}-out")));
        with_tokenizer(case, &model);
        prune(&model, &out, &format!("--vocab {}", text.display())).unwrap();
        let map = Map::of(&out).unwrap().unwrap();
        assert_eq!((map.old_ids.len(), map.old_ids.is_sorted()), (stay, true), "{case}");
        let [before, after] = [&model, &out].map(|model| logits(model, "<|user|>aé word257"));
        let before: Vec<Vec<f32>> =
            before.iter().map(|row| map.old_ids.iter().map(|id| row[*id as usize]).collect()).collect();
        assert!(before == after, "{case}");
        let named = |path: &Path| ids::named(&read(&path.join("config.json")));
        assert_eq!(named(&out).iter().map(|id| map.old(*id)).collect::<Vec<_>>(), named(&model), "{case}");
    }
    let lines = folder.path().join("a.jsonl");
    fs::write(&lines, "{\"text\": \"a\"}").unwrap();
    let out = folder.path().join("none");
    let failure = prune(&folder.path().join("asr"), &out, &format!("--vocab {}", lines.display())).unwrap_err();
    assert!(failure.status() == 2 && error::one_line(&failure).contains("only sounds"), "{failure}");
}

#[test]
fn a_vocabulary_made_smaller_twice_has_the_ids_it_began_with() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let corpus = commands(folder.path()).join("read.txt");
    fs::write(at("less.txt"), "go back").unwrap();
    prune(&tiny(), &at("once"), &format!("--vocab {}", corpus.display())).unwrap();
    prune(&at("once"), &at("deaf"), "--drop audio").unwrap();
    prune(&at("deaf"), &at("twice"), &format!("--vocab {}", at("less.txt").display())).unwrap();
    let map = Map::of(&at("twice")).unwrap().unwrap();
    assert!(map.old_ids.len() < Map::of(&at("deaf")).unwrap().unwrap().old_ids.len());
    let (old, new) = (tiny_file(), read(&at("twice").join("tokenizer.json")));
    for (piece, id) in new["model"]["vocab"].as_object().unwrap() {
        assert_eq!(json!(map.old(id.as_u64().unwrap() as u32)), old["model"]["vocab"][piece], "{piece}");
    }
    let markers = |file: &Value| file["added_tokens"].as_array().unwrap().clone();
    for (was, is) in markers(&old).iter().zip(markers(&new)) {
        assert_eq!(json!(map.old(is["id"].as_u64().unwrap() as u32)), was["id"]);
    }
}

#[test]
fn a_corpus_that_is_none_is_one_line_and_status_two_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("binary.txt"), b"fine\n\xff\xfe\n").unwrap();
    fs::write(at("empty.txt"), "").unwrap();
    fs::write(at("damaged.jsonl"), "{\"text\": \"a\"}\n{\"txt\": \"b\"}\n").unwrap();
    fs::write(at("long.txt"), format!("short\n{}\n", "a".repeat((1 << 20) + 1))).unwrap();
    fs::write(at("spaces.txt"), format!("short\n{}x\n", " ".repeat(1_010_000))).unwrap();
    fs::create_dir(at("folder")).unwrap();
    fs::write(at("folder/picture.png"), "a").unwrap();
    let files = fs::read_dir(folder.path()).unwrap().count();
    let refused = |model: &Path, corpus: &Path, expected: &str| {
        let failure = prune(model, &at("out"), &format!("--vocab {}", corpus.display())).unwrap_err();
        let line = error::one_line(&failure);
        assert!(line.contains(expected) && !line.contains('\n'), "{}: {line}", corpus.display());
        assert_eq!(failure.status(), 2, "{line}");
    };
    for (corpus, expected) in [
        (at("nowhere.txt"), "nowhere.txt"),
        (at("binary.txt"), "line 2 is no UTF-8"),
        (at("empty.txt"), "has no line"),
        (at("damaged.jsonl"), "line 2 of"),
        (at("long.txt"), "line 2 has more than"),
        (at("spaces.txt"), "from line 2 of"),
        (at("folder"), "ends in .txt or .jsonl"),
        ("/dev/zero".into(), "no regular file"),
    ] {
        refused(&tiny(), &corpus, expected);
    }
    fs::write(at("a.txt"), "a").unwrap();
    refused(&workspace::root().join("goldens/cases/text-v5"), &at("a.txt"), "no tokenizer.json");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), files + 1);
    // Letters that nothing spells would be lost.
    let mut spelling = tokenizers::spelling_file();
    spelling["model"]["byte_fallback"] = json!(false);
    let failure = Pieces::of(spelling).indispensable().unwrap_err();
    assert!(failure.status() == 2 && failure.to_string().contains("spelled"), "{failure}");
    // A token that is said and has no row.
    let file = tiny_file();
    let failure = Reduced::of(Pieces::of(file), &[639].into(), 639).unwrap_err();
    assert!(failure.status() == 2 && failure.to_string().contains("639"), "{failure}");
}

#[test]
fn a_plan_counts_rows_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (corpus, out) = (commands(folder.path()), folder.path().join("out"));
    let plan = |vocab: &Path| {
        let model = tiny();
        let line = ["prune", "--plan", "--model", model.to_str().unwrap(), "--vocab", vocab.to_str().unwrap()];
        crate::prune::make(&crate::prune::tests::arguments(&line)).unwrap()
    };
    let report = plan(&corpus);
    prune(&tiny(), &out, &format!("--vocab {}", corpus.display())).unwrap();
    assert_eq!(report, read(&out.join("prune.json")));
    // Text alone is read, and not answered.
    let read = plan(&corpus.join("read.txt"));
    assert!(read["steps"][0]["kept"].as_u64() < report["steps"][0]["kept"].as_u64(), "{read}");
}
