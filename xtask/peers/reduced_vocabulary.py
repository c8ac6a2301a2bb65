"""Hold a checkpoint of `cargo xtask prune --vocab CORPUS` against the one it was made of, in Hugging Face transformers.

    cargo xtask prune --model models/autoglm-tiny --vocab xtask/calibration/default.jsonl --out SMALL
    python xtask/peers/reduced_vocabulary.py models/autoglm-tiny SMALL xtask/calibration/default.jsonl

Every line of the corpus, a text or the `text` of a calibration line, is encoded by both tokenizers, alone and as a user's
turn; ids are compared by SMALL's `vocab_map.json`. Both models are then evaluated in f32 on the first --count turns, and the
logits of the tokens that are left are compared. Needs what goldens/requirements.txt lists.

Exits with 1 if an id or a text differs, or a logit by more than --bound.
"""

import argparse
import json
from pathlib import Path

import torch
import transformers


def read_lines(corpus: Path) -> list[str]:
    lines = [line for line in corpus.read_text().splitlines() if line.strip()]
    return [json.loads(line)["text"] for line in lines] if corpus.suffix == ".jsonl" else lines


def load_model(directory: Path) -> transformers.PreTrainedModel:
    """The model in f32, but for ears beside eyes, which transformers has no class for."""
    [architecture] = json.loads((directory / "config.json").read_text())["architectures"]
    model, info = getattr(transformers, architecture).from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    ears = ("model.audio_tower.", "model.multi_modal_projector.")
    problems = {kind: [key for key in keys if not str(key).startswith(ears)] for kind, keys in info.items()}
    if any(problems.values()):
        raise SystemExit(f"transformers does not load all of {directory}: {problems}")
    return model.eval()


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("original", type=Path, metavar="ORIGINAL")
    parser.add_argument("small", type=Path, metavar="SMALL")
    parser.add_argument("corpus", type=Path, metavar="CORPUS")
    parser.add_argument("--count", type=int, default=20, help="turns that the models read (default %(default)s)")
    parser.add_argument("--bound", type=float, default=1e-4, help="largest difference of a logit (default %(default)s)")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    old_ids = json.loads((arguments.small / "vocab_map.json").read_text())["old_ids"]
    before, after = (transformers.AutoTokenizer.from_pretrained(path) for path in [arguments.original, arguments.small])
    lines = read_lines(arguments.corpus)
    turns = [
        before.apply_chat_template([{"role": "user", "content": line}], add_generation_prompt=True, tokenize=False)
        for line in lines
    ]
    wrong = 0
    for text in lines + turns:
        ids = after.encode(text, add_special_tokens=False)
        same = [old_ids[id] for id in ids] == before.encode(text, add_special_tokens=False)
        wrong += not (same and after.decode(ids) == text)
    print(f"{len(after)} tokens of {len(before)}; {len(lines + turns) - wrong} of {len(lines + turns)} texts have the same")

    models = [load_model(path) for path in [arguments.original, arguments.small]]
    worst, rows = 0.0, 0
    for turn in turns[: arguments.count]:
        asked = [torch.tensor([tokenizer.encode(turn, add_special_tokens=False)]) for tokenizer in [before, after]]
        logits = [model(input_ids=ids, use_cache=False).logits[0] for model, ids in zip(models, asked)]
        worst = max(worst, (logits[0][:, old_ids] - logits[1]).abs().max().item())
        rows += len(logits[1])
    print(f"{rows} rows: logits differ by {worst:.2e} at most")
    # NaN compares as neither larger nor smaller; it must not pass.
    if wrong or not worst <= arguments.bound:
        raise SystemExit("the vocabularies differ" if wrong else f"the difference exceeds {arguments.bound}")


if __name__ == "__main__":
    main()
