"""Goldens of the log-mel spectrogram: sound → what GLM-ASR's processor makes of it.

The processor cuts a sound into windows, pads the last with zeros and asks WhisperFeatureExtractor for
each window's spectrogram. Frames are counted on through the windows: frame f of window w is frame
w·F + f, where F is a window's length in frames.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import WhisperFeatureExtractor

import audio
import sounds

# Beyond this many frames, only some are kept.
KEPT = 250
NOISE_SEED = 2026


def sine(count: int) -> np.ndarray:
    seconds = np.arange(count) / sounds.RATE
    return np.rint(16384 * np.sin(2 * np.pi * 440 * seconds)).astype(np.int16)


def noise(count: int) -> np.ndarray:
    return sounds.congruential(NOISE_SEED, count)


# File → seconds of a window, the sound.
SOUNDS: dict[str, tuple[int, Callable[[], np.ndarray]]] = {
    "mandarin": (30, sounds.mandarin),
    "english": (30, sounds.english),
    "mandarin_4s": (4, sounds.mandarin),
    # A whole window of 2 s and a part of one; the first window's last frames see speech reflected.
    "english_2s": (2, sounds.english),
    "sine": (30, lambda: sine(sounds.RATE)),
    "silence": (30, lambda: np.zeros(8_000, np.int16)),
    "clicks": (30, lambda: sounds.clicks(12_345)),
    # Fills its window, so that the last click is reflected.
    "clicks_2s": (2, lambda: sounds.clicks(32_000)),
    "square": (30, lambda: sounds.square(9_600)),
    "samples_1": (30, lambda: np.full(1, 32767, np.int16)),
    "samples_399": (30, lambda: noise(399)),
    "samples_400": (30, lambda: noise(400)),
    "samples_401": (30, lambda: noise(401)),
    # 6 frames make no token, 7 make one.
    "samples_960": (30, lambda: noise(960)),
    "samples_961": (30, lambda: noise(961)),
    "samples_479999": (30, lambda: noise(479_999)),
    "samples_480000": (30, lambda: noise(480_000)),
    "samples_480001": (30, lambda: noise(480_001)),
}


def frames_kept(total: int, window: int, valid: list[int]) -> list[int]:
    """All frames of a small file, else both ends, the surroundings of every edge, and a spread."""
    if total <= 2 * KEPT:
        return list(range(total))
    kept = set(range(5)) | set(range(total - 5, total))
    for w, count in enumerate(valid):
        kept |= set(range(w * window, w * window + 5)) | set(range((w + 1) * window - 5, (w + 1) * window))
        end = w * window + count
        kept |= set(range(max(0, end - 5), min(total, end + 5)))
        kept |= set(range(w * window, end, max(1, count // KEPT)))
    # Digital silence to the end of a window is one value.
    kept |= set(range(0, total, total // 20))
    return sorted(kept)


def log_mel(samples: np.ndarray, chunk: int) -> dict[str, torch.Tensor]:
    extractor = WhisperFeatureExtractor(feature_size=audio.MELS, chunk_length=chunk)
    heard = audio.hear(sounds.floats(samples), extractor)
    valid = heard.mask.sum(-1).tolist()
    window = heard.features.shape[-1]
    features = torch.cat(list(heard.features), -1)
    frames = torch.tensor(frames_kept(features.shape[-1], window, valid))
    return {
        "chunk": torch.tensor([chunk]),
        "frames": frames,
        "log_mel": features[:, frames].contiguous(),
        "valid": torch.tensor(valid),
        "rows": torch.tensor(heard.rows()),
    }


def write(folder: Path) -> None:
    for name, (chunk, play) in SOUNDS.items():
        samples = play()
        tensors = log_mel(samples, chunk)
        if len(samples) < 100_000:
            tensors["samples"] = torch.from_numpy(sounds.floats(samples))
        else:  # a megabyte of noise that a loop of three lines makes
            tensors["noise"] = torch.tensor([NOISE_SEED, len(samples)])
        save_file(tensors, folder / f"log_mel_{name}.safetensors")
    filters = WhisperFeatureExtractor(feature_size=audio.MELS).mel_filters
    assert filters.shape == (201, audio.MELS) and filters.dtype == np.float64
    save_file({"mel_filters": torch.from_numpy(filters).float()}, folder / "mel_filters.safetensors")
