"""The golden cases: which tiny checkpoint each one is, and which request it answers.

A case is small on purpose (a failing stage can be printed whole) and differs from its neighbours
in as many dimensions as possible, so that two mistakes rarely cancel in all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

import pictures
import sounds

# Ordinary text ids are below this; the ids above it play the part of GLM's special tokens.
TEXT_IDS = 300
VOCAB = 320

EOS, GMASK, SOP, SYSTEM, USER, ASSISTANT, OBSERVATION = range(300, 307)
IMAGE_START, IMAGE_END, VIDEO_START, VIDEO_END, IMAGE, VIDEO = range(307, 313)
AUDIO_START, AUDIO_END, AUDIO = range(313, 316)
EOS_IDS = (EOS, USER, OBSERVATION)

# GLM-4.1V's lower bound on 2·h·w; the cases that want fewer patches lower it in their own files.
SHORTEST_EDGE = 112 * 112
LONGEST_EDGE = 9_633_792

GREEDY = 12


@dataclass(frozen=True)
class Text:
    """The decoder's shape. `head_dim` is written to the config only where the format has the key."""

    hidden: int = 64
    heads: int = 4
    kv_heads: int = 2
    layers: int = 2
    intermediate: int = 90  # 90 is no multiple of 32, as the real 13696 is none of 256
    head_dim: int | None = None
    mrope_section: tuple[int, int, int] = (1, 2, 1)
    # A smaller base turns faster, so that a picture of a few tokens feels its h and w positions.
    rope_theta: float = 10_000.0
    tied: bool = False
    embedding_std: float = 1.0

    @property
    def head_width(self) -> int:
        return self.head_dim or self.hidden // self.heads


@dataclass(frozen=True)
class Vision:
    """The tower's shape. Its blocks' MLP is as wide as the decoder; `intermediate` is the merger's."""

    hidden: int = 32
    heads: int = 2
    depth: int = 2
    intermediate: int = 44
    image_size: int = 112  # 8×8 learned positions; 336 gives the real 24×24
    shortest_edge: int = SHORTEST_EDGE
    longest_edge: int = LONGEST_EDGE


@dataclass(frozen=True)
class Audio:
    """The tower's shape, which hears windows of `chunk` seconds. Its MLP is four times as wide."""

    hidden: int = 32
    heads: int = 2
    layers: int = 2
    chunk: int = 30
    # Where the feature extractor's settings lie: nested in the processor's file, or alone.
    file: str = "processor_config.json"
    # transformers 5 holds `model.audio_tower.…`, and saves it as `audio_tower.…` unless told not to.
    legacy_names: bool = False


@dataclass(frozen=True)
class Picture:
    file: str
    paint: Callable[[], Image.Image]


@dataclass(frozen=True)
class Sound:
    file: str
    play: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Case:
    name: str
    seed: int
    text: Text = field(default_factory=Text)
    vision: Vision | None = field(default_factory=Vision)
    # How config.json is written: "v5" as transformers 5 saves it, "flat-and-nested" and "flat" as
    # the two faces of July 2025, "glm4" as GLM-4-9B-0414, "asr" as GLM-ASR, "ears" as "v5" with audio.
    config: str = "v5"
    dtype: str = "float32"
    shards: int = 1
    # Runs of ordinary text round the pictures and then the sounds: one length more than these.
    runs: tuple[int, ...] = (20,)
    pictures: tuple[Picture, ...] = ()
    audio: Audio | None = None
    sounds: tuple[Sound, ...] = ()
    eos_ids: tuple[int, ...] = EOS_IDS

    def prompt(self) -> list[int]:
        """The request's ids: one placeholder per picture or sound, between its start and end marker."""
        draw = pictures.generator(self.seed, "prompt")
        media = [[IMAGE_START, IMAGE, IMAGE_END]] * len(self.pictures)
        media += [[AUDIO_START, AUDIO, AUDIO_END]] * len(self.sounds)
        ids = [GMASK, SOP, USER]
        for i, length in enumerate(self.runs):
            ids += draw.integers(0, TEXT_IDS, length).tolist()
            if i < len(media):
                ids += media[i]
        return ids + [ASSISTANT]


CASES = [
    Case(
        "text-v5",
        seed=1,
        text=Text(layers=3),
        runs=(24,),
        # 258 is the fifth greedy id: whoever stops at an EOS returns too few.
        eos_ids=(EOS, USER, 258),
    ),
    Case(
        "text-legacy",
        seed=20605,
        text=Text(kv_heads=1, intermediate=96, rope_theta=500.0),
        config="flat-and-nested",
        dtype="bfloat16",
        runs=(22,),
    ),
    Case(
        "one-image",
        seed=304,
        text=Text(heads=2, kv_heads=1, mrope_section=(2, 3, 3)),
        vision=Vision(image_size=336),
        runs=(5, 8),
        # 50×70 has too few pixels and grows to 84×112.
        pictures=(Picture("screen.png", lambda: pictures.screen(50, 70, seed=31)),),
    ),
    Case(
        "two-images",
        seed=41000,
        text=Text(mrope_section=(2, 1, 1), rope_theta=100.0),
        vision=Vision(hidden=48, heads=3, depth=3, image_size=168),
        dtype="float16",
        runs=(4, 3, 6),
        pictures=(
            Picture("square.png", lambda: pictures.screen(61, 64, seed=41)),
            # 130×66 becomes 140×56: taller and narrower at once. Stored as greyscale.
            Picture("grey.png", lambda: pictures.screen(130, 66, seed=42).convert("L")),
        ),
    ),
    Case(
        "extreme-aspect",
        seed=507,
        text=Text(heads=2, kv_heads=1, mrope_section=(2, 3, 3)),
        # 2·28·420 exactly: the wide picture just fits, the tall one is cut down.
        vision=Vision(longest_edge=23_520, image_size=168),
        dtype="bfloat16",
        runs=(3, 2, 5),
        pictures=(
            Picture("wide.png", lambda: pictures.text_page(20, 300, seed=51)),
            Picture("tall.png", lambda: pictures.screen(280, 7, seed=52)),
        ),
    ),
    Case(
        "downscale",
        seed=607,
        vision=Vision(longest_edge=25_088, image_size=168),
        dtype="bfloat16",
        runs=(4, 7),
        pictures=(Picture("page.png", lambda: pictures.text_page(400, 240, seed=61)),),
    ),
    Case(
        "sharded-bf16",
        seed=712,
        text=Text(hidden=128, intermediate=120, mrope_section=(2, 3, 3)),
        vision=Vision(heads=4, intermediate=70, shortest_edge=3136),
        dtype="bfloat16",
        shards=3,
        runs=(6, 6),
        pictures=(Picture("screen.png", lambda: pictures.screen(60, 80, seed=71)),),
    ),
    Case(
        "f16",
        seed=80101,
        text=Text(mrope_section=(1, 1, 2), rope_theta=100.0),
        vision=Vision(shortest_edge=3136),
        dtype="float16",
        runs=(6, 6),
        # Already a whole number of patches, so nothing is resized. Stored with a palette.
        pictures=(Picture("palette.png", lambda: pictures.screen(84, 56, seed=81).quantize(64)),),
    ),
    Case(
        "tied",
        seed=910,
        # A tied head sees the embedding it came from: at full size every token would answer itself.
        text=Text(tied=True, embedding_std=0.25, rope_theta=100.0),
        vision=Vision(shortest_edge=3136),
        dtype="float16",
        runs=(6, 6),
        # An alpha channel that is opaque everywhere.
        pictures=(Picture("opaque.png", lambda: pictures.screen(60, 60, seed=91).convert("RGBA")),),
    ),
    Case(
        "glm4",
        seed=1000,
        # The heads are together twice as wide as the model: head_dim must be read, not derived.
        text=Text(head_dim=32),
        vision=None,
        config="glm4",
        dtype="bfloat16",
        runs=(24,),
    ),
    Case(
        "one-image-legacy",
        seed=110701,
        text=Text(intermediate=100, rope_theta=100.0),
        # 70×98 lies half-way in both directions: 2.5 rounds to 2 and 3.5 to 4.
        vision=Vision(shortest_edge=3136),
        config="flat",
        dtype="bfloat16",
        runs=(5, 6),
        pictures=(Picture("screen.png", lambda: pictures.screen(70, 98, seed=111)),),
    ),
    Case(
        "asr",
        seed=1379,
        text=Text(layers=3, tied=True, embedding_std=0.5, intermediate=96),
        vision=None,
        config="asr",
        dtype="bfloat16",
        audio=Audio(),
        runs=(3, 6),
        sounds=(Sound("long.wav", sounds.long),),
    ),
    Case(
        "asr-legacy-names",
        seed=1328,
        text=Text(layers=3, kv_heads=1),
        vision=None,
        config="asr",
        dtype="float16",
        audio=Audio(hidden=48, heads=3, file="preprocessor_config.json", legacy_names=True),
        runs=(2, 4, 7),
        sounds=(
            Sound("english.wav", sounds.english),
            # 27 011 samples: no whole number of frames.
            Sound("mandarin.wav", lambda: sounds.mandarin()[:27_011]),
        ),
    ),
    Case(
        "ears",
        seed=1425,
        text=Text(mrope_section=(1, 1, 2), rope_theta=100.0),
        vision=Vision(shortest_edge=3136),
        config="ears",
        audio=Audio(heads=4, chunk=2),
        runs=(4, 3, 2, 5),
        pictures=(Picture("screen.png", lambda: pictures.screen(60, 80, seed=141)),),
        sounds=(
            # 2.7 seconds are two windows, the second of them soft.
            Sound("english.wav", lambda: sounds.layered(43_200, [(0, sounds.english(), 12)])),
            Sound("short.wav", lambda: sounds.mandarin()[4_000:14_001]),
        ),
    ),
]
