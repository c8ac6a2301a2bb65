"""Trains autoglm-tiny from nothing: `python train.py OUT [--steps 4766] [--seed 0] [--threads 2]`.

OUT becomes a Hugging Face directory with f32 weights; `pack.py` turns it into the f16 one that is
published. Two runs with the same steps, seed, thread count, torch release and kind of CPU write the same
weights. The full run takes about an hour on two CPU cores.

A model this narrow does not learn to read a screen from the usual recipe: left at 0.02 weights, plain
next-token loss and one question per screen it stays at chance for hours. Each departure below says
what it is there for.
"""

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from torch.nn import functional
from transformers import AutoProcessor, GenerationConfig, Glm4vConfig, Glm4vForConditionalGeneration

import evaluate
import pack
from dialogue import LISTING, QUICK, listing, turn
from screens import APPS, HEIGHT, WIDTH, Icon, screen

PATCH = 14
MERGE = 2
# One row of the merger's output covers this many pixels in each direction.
CELL = PATCH * MERGE
GRID_H, GRID_W = HEIGHT // PATCH, WIDTH // PATCH
ROWS_PER_SCREEN = GRID_H * GRID_W // MERGE**2
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)

# The markers of audio are of no use here: `listen.py` gives the trained model its ears.
SPECIAL = [
    "<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>",
    "<|begin_of_image|>", "<|end_of_image|>", "<|image|>", "<|begin_of_video|>", "<|end_of_video|>", "<|video|>",
    "<|begin_of_audio|>", "<|end_of_audio|>", "<|audio|>", "<think>", "</think>", "<answer>", "</answer>",
]  # fmt: skip
# The vocabulary belongs to the format, not to a run: it is the same whatever the seed of the weights.
VOCABULARY_SEED = 7
IGNORED = -100  # transformers' label for "no loss here"

BATCH = 16
TURNS_PER_SCREEN = 4
PEAK_LEARNING_RATE = 1.5e-3
WARM_UP_STEPS = 150
# The auxiliary losses fade to nothing at this fraction of the run.
AUXILIARY_UNTIL = 0.7
# Root mean square of a row that enters the decoder, be it a word or a piece of the picture.
EMBEDDING_RMS = 0.7
REPORT_EVERY = 50
EVALUATE_EVERY = 500
# Unseen screens: the training stream starts from another seed.
EVALUATION_SEED = 999
# Twice what a thought and a tap take. A model that has not learnt to stop would go on for much longer.
LONGEST_TAP = 60


class Words:
    """The tokenizer, and the ids of its special tokens by name."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.id = {token: tokenizer.token_to_id(token) for token in SPECIAL}

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids


class Example(NamedTuple):
    patches: np.ndarray  # (GRID_H * GRID_W, 3 * 2 * 14 * 14)
    ids: list[int]
    labels: list[int]
    apps: np.ndarray  # (ROWS_PER_SCREEN,), index into APPS, or their count where there is none
    centres: np.ndarray  # (ROWS_PER_SCREEN, 2), x and y in -2..2


class Losses(NamedTuple):
    step: int
    words: float
    apps: float
    centres: float
    learning_rate: float


def make_tokenizer() -> Tokenizer:
    """A byte-level BPE of 640 tokens learnt from the dialogue itself, and the special tokens after them.

    Digits stay apart, so that a coordinate is always the same number of decisions.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    rng = Random(VOCABULARY_SEED)
    corpus = [*LISTING, 'finish(message="'] * 200
    for _ in range(3000):
        icons = {app: Icon(rng.randrange(10, 160), rng.randrange(20, 320), 13) for app in rng.sample(list(APPS), 8)}
        corpus += [*turn(rng, icons), listing(icons)]
    corpus += [
        "A virtual phone assistant reads the screen and answers with one action.",
        "语音 屏幕 应用 手机 助手 你好 你是谁 我是 AutoGLM",
    ] * 20
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        corpus,
        trainers.BpeTrainer(vocab_size=640, initial_alphabet=alphabet, special_tokens=[], show_progress=False),
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return tokenizer


def configuration(words: Words) -> Glm4vConfig:
    size = words.tokenizer.get_vocab_size()
    return Glm4vConfig(
        text_config={
            "vocab_size": (size + 63) // 64 * 64,
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 0.5,
                "mrope_section": [2, 3, 3],
            },
            "pad_token_id": words.id["<|endoftext|>"],
            "eos_token_id": [words.id["<|endoftext|>"], words.id["<|user|>"], words.id["</answer>"]],
        },
        vision_config={
            "depth": 3,
            "hidden_size": 128,
            "num_heads": 4,
            "out_hidden_size": 128,
            "intermediate_size": 256,
            "image_size": 168,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
        },
        image_token_id=words.id["<|image|>"],
        video_token_id=words.id["<|video|>"],
        image_start_token_id=words.id["<|begin_of_image|>"],
        image_end_token_id=words.id["<|end_of_image|>"],
        video_start_token_id=words.id["<|begin_of_video|>"],
        video_end_token_id=words.id["<|end_of_video|>"],
    )


def sine_cosine_positions(side: int = 12, width: int = 128) -> torch.Tensor:
    """(side², width): half of each row tells y, the other half x."""
    frequencies = 1 / (100 ** (torch.arange(width // 4) / (width // 4)))

    def waves(place: torch.Tensor) -> torch.Tensor:
        angles = place[:, None] * frequencies * 3
        return torch.cat([torch.sin(angles), torch.cos(angles)], 1)

    y, x = torch.meshgrid(torch.arange(side).float(), torch.arange(side).float(), indexing="ij")
    return torch.cat([waves(y.flatten()), waves(x.flatten())], 1)


@torch.no_grad()
def initialise(model: Glm4vForConditionalGeneration) -> None:
    for name, weight in model.named_parameters():
        if "position_embedding" in name:
            # Where a patch lies must be legible from the first step: a random table of 0.02 is noise under
            # pixels of unit size, and the coordinates hang on it.
            weight.copy_(sine_cosine_positions())
            continue
        if weight.ndim >= 2:
            # The usual 0.02 suits widths in the thousands. At width 128 it would shrink a signal to a fifth at
            # every map; 1/sqrt(fan in) keeps its size.
            weight.normal_(0, 1 / math.sqrt(weight[0].numel()))
        if "embed_tokens" in name:
            weight.normal_(0, EMBEDDING_RMS)
        if "lm_head" in name:
            # The first predictions are then nearly uniform, and the first steps are not spent on unlearning.
            weight.normal_(0, 0.02)
        if "post_self_attn_layernorm" in name or "post_mlp_layernorm" in name:
            # GLM's norms after attention and MLP make every update of the residual stream unit-sized, eight of them
            # here. At weight 1 they would drown what the embeddings say before any layer has learnt to read it.
            weight.fill_(0.25)


@torch.no_grad()
def level_picture_rows(model: Glm4vForConditionalGeneration) -> None:
    """Scale the merger so that rows of the picture enter the decoder as loud as words do.

    The decoder normalises before it attends but not what it carries along: rows a third the size of a
    word's are the first to be drowned.
    """
    seen = np.concatenate([patches(screen(Random(seed))[0]) for seed in range(4)])
    rows = model.model.visual(torch.from_numpy(seen), torch.tensor([[1, GRID_H, GRID_W]] * 4)).pooler_output
    model.model.visual.merger.down_proj.weight.mul_(EMBEDDING_RMS / rows.pow(2).mean().sqrt().item())


def patches(image) -> np.ndarray:
    """What Glm4vImageProcessor makes of a screen, without its detours: it needs no resizing."""
    pixels = ((np.asarray(image, np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)
    # A still picture is a film of two equal frames.
    film = np.stack([pixels, pixels])
    film = film.reshape(1, 2, 3, GRID_H // MERGE, MERGE, PATCH, GRID_W // MERGE, MERGE, PATCH)
    return film.transpose(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(GRID_H * GRID_W, 3 * 2 * PATCH * PATCH)


def picture_labels(icons: dict[str, Icon]) -> tuple[np.ndarray, np.ndarray]:
    """For each row of the merger's output: which app it shows, and where that app's centre is."""
    nothing = len(APPS)
    apps = np.full((HEIGHT // CELL, WIDTH // CELL), nothing)
    centres = np.zeros((*apps.shape, 2), np.float32)
    for app, icon in icons.items():
        left, top, right, bottom = icon.box
        for r, c in np.ndindex(apps.shape):
            across = min(right, (c + 1) * CELL) - max(left, c * CELL)
            down = min(bottom, (r + 1) * CELL) - max(top, r * CELL)
            # Five pixels of an icon are enough to know it by; where two icons meet, the one that has most of
            # itself here wins.
            mostly_here = across * down > 0.5 * (2 * icon.half) ** 2
            if across > 5 and down > 5 and (apps[r, c] == nothing or mostly_here):
                apps[r, c] = list(APPS).index(app)
                centres[r, c] = (icon.x / WIDTH * 4 - 2, icon.y / HEIGHT * 4 - 2)
    return apps.reshape(-1), centres.reshape(-1, 2)


def example(words: Words, rng: Random, listing_share: float) -> Example:
    """One screen and several questions about it.

    A screen costs far more than a question, and every answer is one more reason to read it. Only the first
    turn may ask for the listing, which names every icon with its place: nothing else teaches so many
    coordinates at once.
    """
    image, icons = screen(rng)
    line_break = words.encode("\n")
    ids = [words.id["[gMASK]"], words.id["<sop>"]]
    labels = [IGNORED] * len(ids)
    for index in range(TURNS_PER_SCREEN):
        request, answer = turn(rng, icons, listing_share if index == 0 else 0.0)
        prompt = [words.id["<|user|>"], *line_break]
        if index == 0:
            rows = [words.id["<|image|>"]] * ROWS_PER_SCREEN
            prompt += [words.id["<|begin_of_image|>"], *rows, words.id["<|end_of_image|>"]]
        prompt += [*words.encode(request), words.id["<|assistant|>"], *line_break]
        answered = words.encode(answer)
        if answer.startswith(QUICK):
            # The empty thought is the caller's choice, so it is part of the prompt. As a target it would teach
            # the model to leave out the thought whenever it is free to think.
            prompt += words.encode(QUICK)
            answered = words.encode(answer.removeprefix(QUICK))
        ids += prompt + answered
        labels += [IGNORED] * len(prompt) + answered
    return Example(patches(image), ids, labels, *picture_labels(icons))


def collate(words: Words, examples: list[Example]) -> dict[str, torch.Tensor]:
    shape = len(examples), max(len(example.ids) for example in examples)
    ids = torch.full(shape, words.id["<|endoftext|>"])
    labels = torch.full(shape, IGNORED)
    attention = torch.zeros(shape, dtype=torch.long)
    for row, one in enumerate(examples):
        ids[row, : len(one.ids)] = torch.tensor(one.ids)
        labels[row, : len(one.labels)] = torch.tensor(one.labels)
        attention[row, : len(one.ids)] = 1
    return {
        "input_ids": ids,
        "attention_mask": attention,
        "labels": labels,
        "pixel_values": torch.from_numpy(np.concatenate([one.patches for one in examples])),
        "image_grid_thw": torch.tensor([[1, GRID_H, GRID_W]] * len(examples)),
        "mm_token_type_ids": (ids == words.id["<|image|>"]).long(),
    }


def learning_rate(step: int, done: float) -> float:
    """A short warm-up, then a cosine down to 3 % of the peak."""
    warm = min(1, (step + 1) / WARM_UP_STEPS)
    return PEAK_LEARNING_RATE * warm * (0.5 * (1 + math.cos(math.pi * done)) * 0.97 + 0.03)


def listing_share(done: float) -> float:
    """Listings first, to learn where things are; single questions later, to learn to pick one."""
    return 0.5 if done < 0.3 else 0.3 if done < 0.7 else 0.15


def training(model: Glm4vForConditionalGeneration, words: Words, steps: int, seed: int) -> Iterator[Losses]:
    """Take one step after another; everything that varies over the run follows step / steps."""
    # What a row of the picture should know, asked of it directly: which app it shows and where that app's centre is.
    # Through the words alone the vision tower hears of its mistakes only after four decoder layers that cannot read
    # yet, and nothing starts to move. The heads are thrown away afterwards, and their losses fade out so that
    # the end of the run serves the words alone.
    width = model.config.text_config.hidden_size
    which, where = nn.Linear(width, len(APPS) + 1), nn.Linear(width, 2)
    seen = {}
    merger = model.model.visual.merger
    hook = merger.register_forward_hook(lambda module, inputs, rows: seen.__setitem__("rows", rows))

    parameters = [*model.parameters(), *which.parameters(), *where.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=PEAK_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    rng = Random(seed + 1)
    for step in range(steps):
        done = step / steps
        rate = learning_rate(step, done)
        for group in optimiser.param_groups:
            group["lr"] = rate
        examples = [example(words, rng, listing_share(done)) for _ in range(BATCH)]

        words_loss = model(**collate(words, examples)).loss
        rows = seen["rows"]
        apps = torch.from_numpy(np.concatenate([one.apps for one in examples]))
        centres = torch.from_numpy(np.concatenate([one.centres for one in examples]))
        apps_loss = functional.cross_entropy(which(rows), apps)
        shown = apps < len(APPS)
        centres_loss = functional.smooth_l1_loss(where(rows[shown]), centres[shown])
        loss = words_loss + max(0, 1 - done / AUXILIARY_UNTIL) * (apps_loss + centres_loss)

        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        yield Losses(step + 1, words_loss.item(), apps_loss.item(), centres_loss.item(), rate)
    hook.remove()


def untrained(words: Words, seed: int) -> Glm4vForConditionalGeneration:
    torch.manual_seed(seed)
    model = Glm4vForConditionalGeneration(configuration(words))
    text = model.config.text_config
    model.generation_config = GenerationConfig(
        eos_token_id=text.eos_token_id, pad_token_id=text.pad_token_id, do_sample=False
    )
    initialise(model)
    level_picture_rows(model)
    return model


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("out", type=Path, help="the directory to write")
    arguments.add_argument("--steps", type=int, default=4766, help="steps of 16 screens")
    arguments.add_argument("--seed", type=int, default=0, help="of the weights and of the screens")
    arguments.add_argument("--threads", type=int, default=2, help="another number rounds sums differently")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)

    words = Words(make_tokenizer())
    pack.copy_fixed_files(options.out)
    words.tokenizer.save(str(options.out / "tokenizer.json"))
    processor = AutoProcessor.from_pretrained(options.out)
    model = untrained(words, options.seed)
    print(f"{sum(weight.numel() for weight in model.parameters())} parameters", flush=True)

    def accuracy(count: int, quick: bool) -> float:
        model.eval()
        questions = evaluate.questions(EVALUATION_SEED, count)
        hits = 0
        for question in questions:
            hits += question.hit_by(evaluate.answer(model, processor, question, quick, LONGEST_TAP))
        model.train()
        return hits / count

    for losses in training(model, words, options.steps, options.seed):
        if losses.step % REPORT_EVERY == 0:
            print(
                f"step {losses.step}: words {losses.words:.3f}, apps {losses.apps:.3f}, "
                f"centres {losses.centres:.4f}, learning rate {losses.learning_rate:.1e}",
                flush=True,
            )
        if losses.step % EVALUATE_EVERY == 0:
            hit = accuracy(60, quick=True)
            print(f"step {losses.step}: quick answers tap {hit:.0%} of 60 unseen icons", flush=True)
            model.save_pretrained(options.out)
    model.save_pretrained(options.out)

    result = {
        "steps": options.steps,
        "seed": options.seed,
        "think": accuracy(200, quick=False),
        "no_think": accuracy(200, quick=True),
    }
    print(result)
    (options.out / "training.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
