"""Asks transformers for this checkpoint's greedy answers: the goldens that depend on the weights.

    python evaluate.py                       recompute every golden, print the hits, fail if one differs
    python evaluate.py --write               write them: the one command to run after the weights changed
    python evaluate.py --count 1000 --seed 5 --out DIR
                                             another set of questions, written to a directory of its own

The goldens are `screens/` (20 sample screens, where their icons are, one question each) and `eval/`
(100 screens, one question each). The weights are widened to f32, attention is transformers' own
("eager"), the picture goes through the checkpoint's image processor and the words through its chat
template. One thread: sums are then formed in one order, and two runs write the same files.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from random import Random
from typing import NamedTuple

import torch
import transformers
from PIL import Image
from transformers import AutoProcessor, Glm4vForConditionalGeneration

from dialogue import QUICK, ask
from screens import APPS, HEIGHT, WIDTH, Icon, save, screen, shows

HERE = Path(__file__).resolve().parent
# Training draws its screens from seed 1 and is watched on seed 999.
EVALUATION_SEED = 2026
EVALUATION_COUNT = 100
# The first seed from 2027 on whose 40 answers all keep SAMPLES_LEAD.
SAMPLES_SEED = 2033
SAMPLES_COUNT = 20
# Logits here have a standard deviation of 5, f32 rounding moves them by 1e-5. Coordinates are rounded to 10, so a place
# between two multiples is close to a draw; tests that ask for exact ids of the samples shall not hang on one.
SAMPLES_LEAD = 0.02
# Three times the longest answer there is, a listing of 11 apps.
LONGEST_ANSWER = 512
TAP = re.compile(r'do\(action="Tap", element=\[(\d+),(\d+)\]\)')


class Eyes(Glm4vForConditionalGeneration):
    """The checkpoint without its ears, of which transformers' class for it knows nothing; `ears.py` has them."""

    _keys_to_ignore_on_load_unexpected = [r"\.audio_tower\.", r"\.multi_modal_projector\."]


class Answer(NamedTuple):
    ids: list[int]  # from the first generated id to the stop token, which is included
    text: str  # the same, without the stop token
    lead: float  # the smallest distance between the best and the second best logit


class Question(NamedTuple):
    image: Image.Image
    icons: dict[str, Icon]
    app: str
    request: str

    def hit_by(self, answer: Answer) -> bool:
        """Whether the answer taps inside the icon of the app that was asked for."""
        tap = TAP.search(answer.text)
        if tap is None:
            return False
        x, y = int(tap[1]) / 1000 * WIDTH, int(tap[2]) / 1000 * HEIGHT
        return self.icons[self.app].holds(x, y)


def questions(seed: int, count: int) -> list[Question]:
    """Screens of one stream, each with one of its apps asked for in one of six ways."""
    rng = Random(seed)
    drawn = []
    for _ in range(count):
        image, icons = screen(rng)
        app = rng.choice(list(icons))
        drawn.append(Question(image, icons, app, ask(rng, app)))
    return drawn


def samples() -> list[Question]:
    """The sample screens, each with "打开…" for the app on it that was asked for least often so far.

    The first screen that shows a camera comes first: the README opens with "打开相机".
    """
    rng = Random(SAMPLES_SEED)
    screens = [screen(rng) for _ in range(SAMPLES_COUNT)]
    first = next(index for index, (_, icons) in enumerate(screens) if "camera" in icons)
    screens.insert(0, screens.pop(first))
    asked = dict.fromkeys(APPS, 0)
    drawn = []
    for image, icons in screens:
        app = "camera" if not drawn else min(icons, key=lambda app: (asked[app], list(APPS).index(app)))
        asked[app] += 1
        drawn.append(Question(image, icons, app, f"打开{APPS[app].zh}"))
    return drawn


def answer(model, processor, question: Question, quick: bool, longest: int = LONGEST_ANSWER) -> Answer:
    """The greedy answer: left alone, or after an empty thought that is forced on the model as ids."""
    content = [{"type": "image", "image": question.image}, {"type": "text", "text": question.request}]
    return complete(model, processor, [{"role": "user", "content": content}], quick, longest)


def complete(model, processor, messages: list[dict], quick: bool, longest: int = LONGEST_ANSWER) -> Answer:
    """The greedy continuation of a conversation, in at most `longest` tokens."""
    inputs = processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    return go_on(model, processor, inputs, quick, longest)


@torch.no_grad()
def go_on(model, processor, inputs, quick: bool, longest: int) -> Answer:
    """The greedy continuation of a prompt that the processor has prepared."""
    if quick:
        forced = torch.tensor([quick_ids(processor)])
        inputs["input_ids"] = torch.cat([inputs["input_ids"], forced], 1)
        for key, value in ("attention_mask", 1), ("mm_token_type_ids", 0):
            inputs[key] = torch.cat([inputs[key], torch.full_like(forced, value)], 1)
    made = model.generate(
        **inputs,
        max_new_tokens=longest,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
    )
    ids = made.sequences[0, inputs["input_ids"].shape[1] :].tolist()
    best = torch.cat(made.logits).topk(2).values
    stopped = ids[-1] in model.generation_config.eos_token_id
    return Answer(ids, processor.tokenizer.decode(ids[:-1] if stopped else ids), (best[:, 0] - best[:, 1]).min().item())


def quick_ids(processor) -> list[int]:
    return processor.tokenizer.encode(QUICK, add_special_tokens=False)


class Goldens:
    """Writes files, or compares what it would write with what is there."""

    def __init__(self, write: bool):
        self.write = write
        self.stale: list[Path] = []

    def picture(self, path: Path, image: Image.Image) -> None:
        if self.write:
            path.parent.mkdir(parents=True, exist_ok=True)
            save(image, path)
        elif not shows(path, image):
            self.stale.append(path)

    def text(self, path: Path, text: str) -> None:
        if self.write:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            self.stale.append(path)


def one_per_line(opening: str, items: list[str], closing: str) -> str:
    """JSON whose diffs can be read: one screen, one line."""
    return opening + "\n" + ",\n".join(items) + "\n" + closing + "\n"


def dumps(value) -> str:
    return json.dumps(value, ensure_ascii=False)


class Asked(NamedTuple):
    records: list[dict]  # what the goldens keep of each question
    hits: dict[str, int]  # by mode
    lead: float  # the smallest of all answers


def ask_all(name: str, model, processor, asked: list[Question]) -> Asked:
    hits = {"think": 0, "no_think": 0}
    leads = []
    records = []
    for question in asked:
        record = {"prompt": question.request, "target": question.app, "box": question.icons[question.app].box}
        for mode, quick in ("think", False), ("no_think", True):
            given = answer(model, processor, question, quick)
            hits[mode] += question.hit_by(given)
            leads.append(given.lead)
            record[mode] = {"ids": given.ids, "text": given.text}
        records.append(record)
    print(
        f"{name}: of {len(asked)} icons {hits['think']} tapped with thinking, {hits['no_think']} without; "
        f"smallest lead of a greedy token {min(leads):.3f}",
        flush=True,
    )
    return Asked(records, hits, min(leads))


def origin(model, processor) -> dict:
    """How the answers that follow were made, for whoever compares with them."""
    return {
        "transformers": transformers.__version__,
        "no_think_prefix": quick_ids(processor),
        "stop": model.generation_config.eos_token_id,
    }


def make_evaluation(goldens: Goldens, folder: Path, model, processor, seed: int, count: int) -> None:
    asked = questions(seed, count)
    records, hits, _ = ask_all(folder.name, model, processor, asked)
    digits = max(3, len(str(count - 1)))
    lines = []
    for index, (question, record) in enumerate(zip(asked, records)):
        file = f"{index:0{digits}}.png"
        goldens.picture(folder / file, question.image)
        lines.append(dumps({"file": file, **record}))
    head = {"seed": seed, "count": count, **origin(model, processor), "hits": hits}
    goldens.text(folder / "eval.json", one_per_line(dumps(head)[:-1] + ', "screens": [', lines, "]}"))


def make_samples(goldens: Goldens, folder: Path, model, processor) -> None:
    asked = samples()
    records, _, lead = ask_all(folder.name, model, processor, asked)
    if lead < SAMPLES_LEAD:
        print(f"a sample's answer leads by {lead:.3f} only; try another SAMPLES_SEED", file=sys.stderr)
    places, answers = [], []
    for index, (question, record) in enumerate(zip(asked, records)):
        file = f"{index + 1:02}.png"
        goldens.picture(folder / file, question.image)
        apps = {app: {"zh": APPS[app].zh, "en": APPS[app].en, "box": icon.box} for app, icon in question.icons.items()}
        places.append(f"{dumps(file)}: {dumps(apps)}")
        answers.append(f"{dumps(file)}: {dumps(record)}")
    goldens.text(folder / "screens.json", one_per_line("{", places, "}"))
    head = origin(model, processor)
    goldens.text(folder / "answers.json", one_per_line(dumps(head)[:-1] + ', "screens": {', answers, "}}"))


def load(directory: Path):
    model = Eyes.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
    return model, AutoProcessor.from_pretrained(directory)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--write", action="store_true", help="write the goldens instead of comparing with them")
    arguments.add_argument("--model", type=Path, default=HERE, help="a Hugging Face directory")
    arguments.add_argument("--out", type=Path, help="write another set of questions here")
    arguments.add_argument("--count", type=int, default=EVALUATION_COUNT, help="of the other set")
    arguments.add_argument("--seed", type=int, default=EVALUATION_SEED, help="of the other set")
    options = arguments.parse_args()
    if options.out is None and (options.count, options.seed) != (EVALUATION_COUNT, EVALUATION_SEED):
        arguments.error("the goldens have a count and a seed of their own: give --out DIR for another set")
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    model, processor = load(options.model)
    if options.out is not None:
        make_evaluation(Goldens(write=True), options.out, model, processor, options.seed, options.count)
        return 0
    goldens = Goldens(options.write)
    make_samples(goldens, HERE / "screens", model, processor)
    make_evaluation(goldens, HERE / "eval", model, processor, EVALUATION_SEED, EVALUATION_COUNT)
    for path in goldens.stale:
        print(f"{path.relative_to(HERE)} is not what the weights say; run with --write", file=sys.stderr)
    return 1 if goldens.stale else 0


if __name__ == "__main__":
    sys.exit(main())
