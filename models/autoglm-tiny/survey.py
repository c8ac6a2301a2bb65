"""What the checkpoint can and cannot do, in figures: `python survey.py [--count 200] [--seed 3000]`.

The README's table comes from here. Every line asks `count` questions about unseen screens, in both modes
where there are two. Much of it is outside of what the training showed, on purpose.
"""

import argparse
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import torch
import transformers
from PIL import Image

from dialogue import BLIND, LISTING, SWIPE_UP, ask, reply
from evaluate import HERE, Answer, Question, answer, complete, load, questions
from screens import APPS, HEIGHT, WIDTH, screen

SYSTEM = "今天的日期是: 2026年01月01日 星期四\n你是手机助手，每一步先看屏幕，再给出一个动作。"
ENTRY = re.compile(r"([^\s\[\]\"]+)\[(\d+),(\d+)\]")
# One messages list, and whether an answer to it is right.
Case = tuple[list[dict], Callable[[Answer], bool]]


def user(image: Image.Image | None, request: str) -> dict:
    picture = [] if image is None else [{"type": "image", "image": image}]
    return {"role": "user", "content": [*picture, {"type": "text", "text": request}]}


def assistant(text: str) -> dict:
    # Text parts rather than a string: transformers' processors index into the content.
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


def says(action: str) -> Callable[[Answer], bool]:
    return lambda given: given.text.endswith(action)


def taps(seed: int, count: int) -> Iterator[Case]:
    for question in questions(seed, count):
        yield [user(question.image, question.request)], question.hit_by


def absent(seed: int, count: int) -> Iterator[Case]:
    rng = Random(seed)
    for _ in range(count):
        image, icons = screen(rng)
        app = rng.choice([app for app in APPS if app not in icons])
        yield [user(image, ask(rng, app))], says(SWIPE_UP)


def blind(seed: int, count: int) -> Iterator[Case]:
    rng = Random(seed)
    for _ in range(count):
        image, _ = screen(rng)
        request, action = rng.choice(BLIND)
        yield [user(image, request)], says(action)


def reworded(seed: int, count: int) -> Iterator[Case]:
    rng = Random(seed)
    for question in questions(seed, count):
        zh, en, _ = APPS[question.app]
        request = rng.choice([f"请帮我打开{zh}", f"我想用{zh}", f"please open the {en} app", f"start {en}"])
        yield [user(question.image, request)], question.hit_by


def agent_request(seed: int, count: int) -> Iterator[Case]:
    """A system prompt and the screen's state below the task, as an AutoGLM client sends them."""
    for question in questions(seed, count):
        system = {"role": "system", "content": [{"type": "text", "text": SYSTEM}]}
        request = f'{question.request}\n\n{{"current_app": "System Home"}}'
        yield [system, user(question.image, request)], question.hit_by


def second_question(seed: int, count: int) -> Iterator[Case]:
    """The same screen, after one request was answered rightly."""
    rng = Random(seed)
    for question in questions(seed, count):
        other = rng.choice(list(question.icons))
        history = [user(question.image, ask(rng, other)), assistant(reply(question.icons, other, think=True))]
        yield [*history, user(None, question.request)], question.hit_by


def second_screen(seed: int, count: int) -> Iterator[Case]:
    """A new screen in the second turn, the first one gone from the history, as agents send them."""
    for question in questions(seed, count):
        history = [user(None, "go home"), assistant('<think></think><answer>do(action="Home")</answer>')]
        yield [*history, user(question.image, question.request)], question.hit_by


def enlarged(seed: int, count: int) -> Iterator[Case]:
    """The screen as a phone's 1080 × 2160 pixels; the image processor brings them down to 224 × 448."""
    for question in questions(seed, count):
        yield [user(question.image.resize((1080, 2160)), question.request)], question.hit_by


SUBJECTS = {
    "tap the icon that is asked for": taps,
    "swipe when the app is not there": absent,
    "back, home, wait": blind,
    "tap, second question about the same screen": second_question,
    "tap, new screen in the second turn": second_screen,
    "tap, other wording": reworded,
    "tap, system prompt and screen state around the request": agent_request,
    "tap, screen enlarged to 1080 × 2160": enlarged,
}


def listings(model, processor, seed: int, count: int) -> tuple[int, int, int]:
    """Icons there are, icons that are named with a place inside them, and entries that are neither."""
    rng = Random(seed)
    keys = {app.zh: key for key, app in APPS.items()}
    there = right = wrong = 0
    for _ in range(count):
        image, icons = screen(rng)
        given = answer(model, processor, Question(image, icons, "", rng.choice(LISTING)), quick=True)
        there += len(icons)
        named = set()
        for name, x, y in ENTRY.findall(given.text):
            key = keys.get(name)
            if key in icons and icons[key].holds(int(x) / 1000 * WIDTH, int(y) / 1000 * HEIGHT):
                named.add(key)
            else:
                wrong += 1
        right += len(named)
    return there, right, wrong


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--model", type=Path, default=HERE, help="a Hugging Face directory")
    arguments.add_argument("--count", type=int, default=200)
    arguments.add_argument("--seed", type=int, default=3000)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    model, processor = load(options.model)
    for number, (name, cases) in enumerate(SUBJECTS.items()):
        right = {"thinking": 0, "quick": 0}
        for messages, is_right in cases(options.seed + number, options.count):
            for mode in right:
                right[mode] += is_right(complete(model, processor, messages, quick=mode == "quick"))
        print(f"{name}: thinking {right['thinking']}, quick {right['quick']} of {options.count}", flush=True)
    there, right, wrong = listings(model, processor, options.seed + len(SUBJECTS), options.count)
    print(f"listing: {right} of {there} icons named with a place inside them, {wrong} entries wrong")


if __name__ == "__main__":
    main()
