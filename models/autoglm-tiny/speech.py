"""Speaks the commands of `dialogue.ask` with espeak-ng, and makes a recording of what it says.

A voice is an accent, one of espeak's variants of it, a pitch and a speed. Training and evaluation share
no variant and no speed. What espeak says is free of noise and starts at once; `record` adds what a
microphone would: silence before and after, a level, a hiss or a hum.
"""

import io
import subprocess
from random import Random
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from screens import APPS

SAMPLE_RATE = 16_000
# As the feature extractor cuts: no command is longer than one window.
WINDOW = 4 * SAMPLE_RATE

# espeak-ng reads 音乐 as yīnlè and 地图 as detú, and says the 览 of 浏览器 twice. It is given the syllables instead.
PINYIN = {
    "camera": "xiang4ji1", "calendar": "ri4li4", "maps": "di4tu2", "music": "yin1yue4", "settings": "she4zhi4",
    "phone": "dian4hua4", "messages": "duan3xin4", "weather": "tian1qi4", "clock": "shi2zhong1",
    "photos": "xiang4ce4", "mail": "you2jian4", "browser": "liu2lan3qi4",
}  # fmt: skip
# `cmn` alone would read the tone's digit in English: "da three kai one".
MANDARIN = ["cmn-latn-pinyin"]
ENGLISH = ["en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029", "en-us-nyc"]

# Neither list has robots, whisperers or the few that espeak itself distorts (Demonic, Marco, croak, robosoft).
VARIANTS = [
    "Alex", "Alicia", "Andy", "Annie", "Denis", "Diogo", "Gene", "Henrique", "Jacky", "Lee", "Mario", "Michael",
    "Nguyen", "adam", "anika", "antonio", "aunty", "belinda", "benjamin", "boris", "caleb", "david", "ed", "f1", "f3",
    "f5", "grandma", "grandpa", "gustave", "iven", "iven3", "john", "klatt2", "klatt4", "m1", "m3", "m5", "m7", "m8",
    "marcelo", "max", "michel", "norbert", "pablo", "paul", "quincy", "robert", "sandro", "shelby", "steph", "travis",
    "victor", "zac",
]  # fmt: skip
UNSEEN_VARIANTS = ["Andrea", "Gene2", "Hugo", "Mike", "edward", "f2", "f4", "iven2", "linda", "m2", "m4", "m6"]
# Words a minute, as espeak counts them. It ends at 80; below 120 the longest command leaves the window.
SPEEDS = [*range(122, 130), *range(137, 147), *range(154, 164), *range(171, 181), *range(188, 206)]
UNSEEN_SPEEDS = [133, 150, 167, 184]
PITCHES = range(30, 71)
# How a command is recorded unless told otherwise: the loudest noise, and the time before and after the words.
QUIETEST_DB = 8
SILENCE = 0.02, 0.5


class Spoken(NamedTuple):
    """What is said, as it is written and as espeak is told."""

    app: str
    language: str
    text: str
    sounds: str


class Voice(NamedTuple):
    accent: str
    variant: str
    pitch: int
    speed: int


def wordings(app: str) -> list[Spoken]:
    """The six ways to ask for an app, as `dialogue.ask` has them."""
    zh, en, _ = APPS[app]
    pinyin = PINYIN[app]
    mandarin = [
        (f"打开{zh}", f"da3kai1 {pinyin}"),
        (f"启动{zh}", f"qi3dong4 {pinyin}"),
        (f"点击{zh}图标", f"dian3ji1 {pinyin} tu2biao1"),
    ]
    english = [f"open {en}", f"tap the {en} icon", f"launch {en}"]
    return [Spoken(app, "zh", *words) for words in mandarin] + [Spoken(app, "en", text, text) for text in english]


def voice(rng: Random, language: str, unseen: bool) -> Voice:
    return Voice(
        rng.choice(MANDARIN if language == "zh" else ENGLISH),
        rng.choice(UNSEEN_VARIANTS if unseen else VARIANTS),
        rng.choice(PITCHES),
        rng.choice(UNSEEN_SPEEDS if unseen else SPEEDS),
    )


def synthesise(spoken: Spoken, voice: Voice) -> tuple[np.ndarray, int]:
    """espeak's samples in -1..1 without the silence around them, and their rate."""
    command = ["espeak-ng", "-v", f"{voice.accent}+{voice.variant}", "-p", str(voice.pitch), "-s", str(voice.speed)]
    wave = subprocess.run([*command, "--stdout", spoken.sounds], check=True, capture_output=True).stdout
    # Written to a pipe, the header tells no length: the samples are what follows its 44 bytes.
    samples = np.frombuffer(wave[44:], "<i2").astype(np.float32) / 32768
    heard = np.flatnonzero(np.abs(samples) > 0.01)
    return samples[heard[0] : heard[-1] + 1], int.from_bytes(wave[24:28], "little")


def resampled(samples: np.ndarray, rate: int) -> np.ndarray:
    return samples if rate == SAMPLE_RATE else soxr.resample(samples, rate, SAMPLE_RATE, quality="VHQ")


def speak(spoken: Spoken, voice: Voice) -> np.ndarray:
    """The same at 16 kHz."""
    return resampled(*synthesise(spoken, voice))


def pink_noise(generator: np.random.Generator, length: int) -> np.ndarray:
    """Noise of unit power whose energy falls with frequency, as a room's does."""
    spectrum = np.fft.rfft(generator.standard_normal(length))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
    noise = np.fft.irfft(spectrum, length)
    return noise / noise.std()


class Noise:
    """Ten seconds each of white and pink noise, to cut pieces from: drawing them anew costs more than the tower."""

    def __init__(self, seed: int):
        generator = np.random.default_rng(seed)
        length = 10 * SAMPLE_RATE
        self.kinds = [generator.standard_normal(length), pink_noise(generator, length)]

    def piece(self, rng: Random, length: int) -> np.ndarray:
        noise = rng.choice(self.kinds)
        start = rng.randrange(len(noise) - length)
        return noise[start : start + length]


def record(
    rng: Random,
    noise: Noise,
    speech: np.ndarray,
    rate: int = SAMPLE_RATE,
    quietest_db: float = QUIETEST_DB,
    silence: tuple[float, float] = SILENCE,
) -> np.ndarray:
    """A recording of at most one window in 16-bit samples.

    One in four has no noise; the others have it `quietest_db` to 45 dB below the speech. `silence` is the
    shortest and the longest time before and after the words, in seconds.
    """
    before, after = [int(rng.uniform(*silence) * rate) for _ in range(2)]
    sound = np.concatenate([np.zeros(before), speech, np.zeros(after)])[: WINDOW * rate // SAMPLE_RATE]
    if rng.random() > 0.25:
        below = rng.uniform(quietest_db, 45)
        loudness = np.sqrt(np.mean(speech**2)) * 10 ** (-below / 20)
        sound = sound + noise.piece(rng, len(sound)) * loudness
    level = 10 ** (rng.uniform(-26, -4) / 20)
    return np.round(sound / np.abs(sound).max() * level * 32767).astype(np.int16)


def encoded(samples: np.ndarray, kind: str, rate: int = SAMPLE_RATE) -> bytes:
    """A file of 16-bit samples in one channel; `kind` is WAV or FLAC."""
    file = io.BytesIO()
    smallest = {"compression_level": 1.0} if kind == "FLAC" else {}
    soundfile.write(file, samples, rate, format=kind, subtype="PCM_16", **smallest)
    return file.getvalue()
