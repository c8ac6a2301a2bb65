"""Gives the trained checkpoint ears: `python listen.py OUT [--steps 2000] [--seed 0] [--threads 1]`.

OUT gets `ears.safetensors` with f32 weights; `pack.py --ears OUT` adds them to the published checkpoint.
Nothing that was there before is trained: eyes, words and decoder stay as they are, bit by bit, and
the ears learn to speak the language that the decoder already reads.

The first part of the run needs no decoder. A screen and nothing but " phone phone phone…" make the
decoder tap the telephone as surely as "open phone" does, so every row of a clip is pulled towards the
embedding of its app's English name. The second part asks for the answers themselves, through the frozen
decoder, which is what in the end counts.
"""

import argparse
import math
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from torch.nn import functional
from transformers.modeling_outputs import BaseModelOutputWithPooling

import evaluate
from dialogue import QUICK, reply
from ears import PREFIX, Ears, configuration
from screens import APPS, Icon, screen
from speech import Noise, record, speak, voice, wordings
from train import EMBEDDING_RMS, GRID_H, GRID_W, IGNORED, ROWS_PER_SCREEN, SPECIAL, patches

# Ways in which each of the 72 wordings is spoken.
VOICES_PER_WORDING = 80
SCREENS = 2000
# The part of the run that needs no decoder, and how many clips or questions a step has in each part.
WITHOUT_DECODER = 0.5
CLIPS = 32
QUESTIONS = 16
PEAK_LEARNING_RATE = 1.5e-3
WARM_UP_STEPS = 100
THINK_SHARE = 0.5
# The rest ask for any of the 12 apps, so that the answer for an absent one is not forgotten.
PRESENT_SHARE = 0.75
# Squared distances between two names are near 115: with a tenth of them as logits the first guesses are open.
SHARPNESS = 0.1
REPORT_EVERY = 50
EVALUATE_EVERY = 200
WATCHED_SEED = 999


class Clip(NamedTuple):
    app: str
    speech: np.ndarray


def train_clips(seed: int, count: int, unseen: bool = False) -> list[Clip]:
    """Every wording in `count` voices, without noise or silence yet."""
    rng = Random(seed)
    clips = []
    for app in APPS:
        for spoken in wordings(app):
            for _ in range(count):
                clips.append(Clip(app, speak(spoken, voice(rng, spoken.language, unseen)).astype(np.float16)))
    return clips


def kept(path: Path, seed: int) -> list[Clip]:
    """The clips of a former run with the same seed, or new ones: espeak takes minutes to say them all."""
    if not path.exists():
        path.write_bytes(pickle.dumps(train_clips(seed, VOICES_PER_WORDING)))
    return pickle.loads(path.read_bytes())


def recorded(rng: Random, noise: Noise, clip: Clip) -> np.ndarray:
    return record(rng, noise, clip.speech.astype(np.float32))


class Seen(NamedTuple):
    """A screen as the frozen eyes see it."""

    rows: torch.Tensor
    icons: dict[str, Icon]


@torch.no_grad()
def look(model, seed: int, count: int) -> list[Seen]:
    rng = Random(seed)
    seen = []
    for _ in range(count):
        image, icons = screen(rng)
        grid = torch.tensor([[1, GRID_H, GRID_W]])
        seen.append(Seen(model.model.visual(torch.from_numpy(patches(image)), grid).pooler_output, icons))
    return seen


class Teacher:
    """The frozen decoder, and what it expects to read."""

    def __init__(self, model, tokenizer):
        self.model = model.requires_grad_(False)
        self.tokenizer = tokenizer
        self.id = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
        names = [self.encode(f" {app.en}") for app in APPS.values()]
        # Each name is one token: the vocabulary was learnt from these very requests.
        self.names = model.get_input_embeddings().weight[[name for (name,) in names]]

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def prompt(self, audio_rows: int) -> list[int]:
        line_break = self.encode("\n")
        picture = [self.id["<|image|>"]] * ROWS_PER_SCREEN
        sound = [self.id["<|audio|>"]] * audio_rows
        return [
            *(self.id["[gMASK]"], self.id["<sop>"], self.id["<|user|>"], *line_break),
            *(self.id["<|begin_of_image|>"], *picture, self.id["<|end_of_image|>"]),
            *(self.id["<|begin_of_audio|>"], *sound, self.id["<|end_of_audio|>"]),
            *(self.id["<|assistant|>"], *line_break),
        ]

    def likeness(self, rows: torch.Tensor) -> torch.Tensor:
        """How near each row is to the name of each app."""
        return -(rows[:, None] - self.names).pow(2).sum(-1) * SHARPNESS

    def loss(self, ears: Ears, screens: list[Seen], rows: list[torch.Tensor], answers: list[str]) -> torch.Tensor:
        """Of the next token of the answers, over prompts with a picture and a sound and no words."""
        sequences = []
        for sound, answer in zip(rows, answers):
            prompt = self.prompt(len(sound))
            if answer.startswith(QUICK):
                # The empty thought is the caller's choice, as in `train.py`.
                prompt += self.encode(QUICK)
            answered = self.encode(answer.removeprefix(QUICK))
            sequences.append((prompt + answered, [IGNORED] * len(prompt) + answered))
        shape = len(sequences), max(len(ids) for ids, _ in sequences)
        ids = torch.full(shape, self.id["<|endoftext|>"])
        labels = torch.full(shape, IGNORED)
        attention = torch.zeros(shape, dtype=torch.long)
        for row, (own, expected) in enumerate(sequences):
            ids[row, : len(own)] = torch.tensor(own)
            labels[row, : len(own)] = torch.tensor(expected)
            attention[row, : len(own)] = 1
        pictures = BaseModelOutputWithPooling(pooler_output=[one.rows for one in screens])
        with ears.heard_by(self.model, self.id["<|audio|>"], torch.cat(rows)):
            return self.model(
                input_ids=ids,
                attention_mask=attention,
                labels=labels,
                mm_token_type_ids=(ids == self.id["<|image|>"]).long(),
                image_grid_thw=torch.tensor([[1, GRID_H, GRID_W]] * len(screens)),
                mm_encoder_outputs={"image": pictures},
            ).loss


@torch.no_grad()
def initialise(ears: Ears, clips: list[np.ndarray]) -> None:
    for weight in ears.parameters():
        if weight.ndim >= 2:
            # As in `train.py`: narrow maps need louder weights than 0.02.
            weight.normal_(0, 1 / math.sqrt(weight[0].numel()))
    # Rows of sound enter the decoder as loud as words do.
    loudness = torch.cat(ears(clips)).pow(2).mean().sqrt().item()
    ears.multi_modal_projector.linear_2.weight.mul_(EMBEDDING_RMS / loudness)


def learning_rate(step: int, done: float) -> float:
    """A short warm-up, then a cosine down to 3 % of the peak."""
    return PEAK_LEARNING_RATE * min(1, (step + 1) / WARM_UP_STEPS) * (0.485 * (1 + math.cos(math.pi * done)) + 0.03)


def training(
    ears: Ears, teacher: Teacher, clips: list[Clip], screens: list[Seen], steps: int, seed: int
) -> Iterator[tuple[int, str, float]]:
    """Takes one step after another, and says which loss it lowered."""
    rng = Random(seed + 3)
    noise = Noise(seed)
    keys = list(APPS)
    by_app = {app: [clip for clip in clips if clip.app == app] for app in keys}
    optimiser = torch.optim.AdamW(ears.parameters(), lr=PEAK_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    for step in range(steps):
        done = step / steps
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, done)
        if done < WITHOUT_DECODER:
            name = "names"
            chosen = rng.sample(clips, CLIPS)
            rows = ears([recorded(rng, noise, clip) for clip in chosen])
            apps = torch.cat([torch.full((len(own),), keys.index(clip.app)) for own, clip in zip(rows, chosen)])
            rows = torch.cat(rows)
            loss = functional.cross_entropy(teacher.likeness(rows), apps)
            loss = loss + functional.mse_loss(rows, teacher.names[apps])
        else:
            name = "answers"
            shown = rng.sample(screens, QUESTIONS)
            asked = [rng.choice(list(one.icons) if rng.random() < PRESENT_SHARE else keys) for one in shown]
            answers = [reply(one.icons, app, rng.random() < THINK_SHARE) for one, app in zip(shown, asked)]
            rows = ears([recorded(rng, noise, rng.choice(by_app[app])) for app in asked])
            loss = teacher.loss(ears, shown, rows, answers)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(ears.parameters(), 1.0)
        optimiser.step()
        yield step + 1, name, loss.item()


@torch.no_grad()
def named(ears: Ears, teacher: Teacher, clips: list[Clip], noise: Noise) -> float:
    """The share of clips whose rows are, taken together, nearest to the name of the app they ask for."""
    rng = Random(WATCHED_SEED)
    hits = 0
    for clip in clips:
        (rows,) = ears([recorded(rng, noise, clip)])
        hits += list(APPS)[teacher.likeness(rows).sum(0).argmax()] == clip.app
    return hits / len(clips)


@torch.no_grad()
def answered(ears: Ears, teacher: Teacher, clips: list[Clip], screens: list[Seen], noise: Noise) -> float:
    """The loss of the next token of answers to clips in unseen voices."""
    rng = Random(WATCHED_SEED)
    losses = []
    for start in range(0, len(screens), QUESTIONS):
        shown = screens[start : start + QUESTIONS]
        asked = [rng.choice([clip for clip in clips if clip.app in one.icons]) for one in shown]
        answers = [reply(one.icons, clip.app, rng.random() < 0.5) for one, clip in zip(shown, asked)]
        losses.append(teacher.loss(ears, shown, ears([recorded(rng, noise, clip) for clip in asked]), answers).item())
    return float(np.mean(losses))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("out", type=Path, help="the directory to write")
    arguments.add_argument("--steps", type=int, default=2000)
    arguments.add_argument("--seed", type=int, default=0, help="of the weights, the voices and the screens")
    arguments.add_argument("--threads", type=int, default=1, help="another number rounds sums differently")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    transformers.utils.logging.disable_progress_bar()
    options.out.mkdir(parents=True, exist_ok=True)

    model, processor = evaluate.load(evaluate.HERE)
    teacher = Teacher(model, processor.tokenizer)
    clips = kept(options.out / f"clips-{options.seed}.pickle", options.seed + 5)
    watched = train_clips(WATCHED_SEED, 2, unseen=True)
    screens = look(model, options.seed + 7, SCREENS)
    watched_screens = look(model, WATCHED_SEED, 64)
    noise = Noise(WATCHED_SEED)
    ears = Ears(configuration(model.config.text_config.hidden_size))
    rng = Random(options.seed)
    initialise(ears, [recorded(rng, noise, clip) for clip in rng.sample(clips, CLIPS)])
    print(f"{len(clips)} clips, {sum(weight.numel() for weight in ears.parameters())} parameters", flush=True)

    def save() -> None:
        weights = {PREFIX + name: weight.contiguous() for name, weight in ears.state_dict().items()}
        save_file(weights, options.out / "ears.safetensors")

    begun = time.monotonic()
    for step, name, loss in training(ears, teacher, clips, screens, options.steps, options.seed):
        if step % REPORT_EVERY == 0:
            print(f"step {step}: {name} {loss:.3f}, {time.monotonic() - begun:.0f} s", flush=True)
        if step % EVALUATE_EVERY == 0:
            right = named(ears, teacher, watched, noise)
            loss = answered(ears, teacher, watched, watched_screens, noise)
            print(f"step {step}: unseen voices: {right:.1%} of {len(watched)} named, answers {loss:.3f}", flush=True)
            save()
    save()


if __name__ == "__main__":
    main()
