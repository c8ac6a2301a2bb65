"""Sounds that a front end can get wrong: speech, tones, clicks, silence, and lengths around an edge.

Everything is a run of 16-bit samples. Speech comes from `sounds/`, where espeak-ng said it once
(`espeak-ng -v cmn -s 160 请打开微信`, `espeak-ng -v en-gb -s 165 "Open the settings and turn on dark
mode."`, resampled from 22 050 Hz by scipy's `resample_poly(x, 320, 441)`); the rest is integer
arithmetic, so that no sample depends on a library.
"""

import wave
from pathlib import Path

import numpy as np

RATE = 16_000
RECORDED = Path(__file__).parent / "sounds"


def read(path: Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.int16)


def write(path: Path, samples: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.astype("<i2").tobytes())


def floats(samples: np.ndarray) -> np.ndarray:
    """What every WAV reader makes of 16-bit samples."""
    return samples.astype(np.float32) / np.float32(32768)


def mandarin() -> np.ndarray:
    return read(RECORDED / "mandarin.wav")


def english() -> np.ndarray:
    return read(RECORDED / "english.wav")


def congruential(seed: int, count: int) -> np.ndarray:
    """Noise that is louder and softer from second to second, in integers that any language has.

    state = (1103515245·state + 12345) mod 2³¹ gives each sample ⌊state / 2¹⁵⌋ − 32768, which second
    s of the sound shifts right (towards −∞) by s mod 8; where s mod 8 is 7 there is digital silence.
    """
    samples, state = np.empty(count, np.int64), seed
    for i in range(count):
        state = (1103515245 * state + 12345) & 0x7FFF_FFFF
        samples[i] = (state >> 15) - 32768
    shifts = np.arange(count) // RATE % 8
    return np.where(shifts == 7, 0, samples >> shifts).astype(np.int16)


def clicks(count: int) -> np.ndarray:
    """Lone full-scale samples: at both ends, where reflection doubles them or leaves them, and around
    the edges of frames, where the window is zero or nearly so."""
    samples = np.zeros(count, np.int16)
    # Frame f covers 160f − 200 … 160f + 199, so frame 10 begins at 1400 and frame 8 ends at 1479.
    places = [0, 199, 200, 201, 1400, 1479, 1480, 4000, 8079, 8081, count - 201, count - 2, count - 1]
    samples[places] = [-32768 if i % 3 == 1 else 32767 for i in range(len(places))]
    return samples


def square(count: int) -> np.ndarray:
    """A square wave of 80 samples at full scale, as clipping leaves it."""
    return np.where(np.arange(count) % 80 < 40, 32767, -32768).astype(np.int16)


def layered(count: int, parts: list[tuple[int, np.ndarray, int]]) -> np.ndarray:
    """Parts (where they begin, samples, gain in sixteenths) added up and clipped."""
    total = np.zeros(count, np.int64)
    for begin, samples, gain in parts:
        fits = samples[: count - begin].astype(np.int64)
        total[begin : begin + len(fits)] += fits * gain >> 4
    return np.clip(total, -32768, 32767).astype(np.int16)


def long() -> np.ndarray:
    """31.3 seconds: loud and soft speech, some of it across the edge of the first window, a stretch of
    noise and long silence. The second window is soft, so that each window must have its own loudest
    frame."""
    zh, en = mandarin(), english()
    parts = [(RATE * at // 10, zh if i % 2 else en, gain) for i, (at, gain) in enumerate(PHRASES)]
    parts.append((RATE * 12, congruential(7, RATE * 2), 2))
    return layered(RATE * 313 // 10, parts)


# Tenths of a second where a phrase begins, and its gain in sixteenths.
PHRASES = [(3, 16), (37, 12), (66, 4), (90, 16), (161, 8), (192, 15), (231, 3), (285, 2)]
