"""The ways a port mishears: mistakes of the log-mel spectrogram, the audio tower and the projector.

Each takes the inputs as they should be and yields them as the mistaken program would see them, with
the model broken meanwhile. Those of the tower leave the inputs alone.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from transformers import GlmAsrModel, PreTrainedModel
from transformers.models.glmasr import modeling_glmasr
from transformers.models.whisper.feature_extraction_whisper import WhisperFeatureExtractor

import audio
import stages
from breakage import argument, interleaved, output
from configs import Case

Mishearing = Callable[[], AbstractContextManager[stages.Inputs]]


# Mistakes that later stages swallow are judged where they are made: the stage and how far it moves.
JUDGED_AT = {
    # The two GELUs differ by 5e-4 at most.
    "audio tanh gelu": ("audio.projector.0.0", 5e-4),
    # A window stretched by a four-hundredth changes little but what lies beside a loud tone.
    "mel: symmetric Hann": ("audio.conv1.0.0", 0.02),
}


def log_mel(
    waveforms: np.ndarray,
    window: torch.Tensor | None = None,
    whole_file: bool = False,
    floor: bool = True,
    drop_first: bool = False,
    power: float = 2.0,
) -> np.ndarray:
    """WhisperFeatureExtractor's spectrogram (w, 128, frames), with one thing or another done wrong."""
    filters = torch.from_numpy(WhisperFeatureExtractor(feature_size=audio.MELS).mel_filters).float()
    window = torch.hann_window(400) if window is None else window
    stft = torch.stft(torch.from_numpy(waveforms), 400, 160, window=window, return_complex=True)
    stft = stft[..., 1:] if drop_first else stft[..., :-1]
    mel = (filters.T @ stft.abs() ** power).clamp(min=1e-10).log10()
    if floor:
        loudest = mel.max() if whole_file else mel.amax((1, 2), keepdim=True)
        mel = torch.maximum(mel, loudest - 8)
    return ((mel + 4) / 4).numpy()


@contextmanager
def misheard(directory: Path, **mistake) -> Iterator[stages.Inputs]:
    def extract(_self, waveforms: np.ndarray, _device: str) -> np.ndarray:
        return log_mel(waveforms, **mistake)

    with patch.object(WhisperFeatureExtractor, "_torch_extract_fbank_features", extract):
        inputs = stages.prepare(directory)
    yield inputs


@contextmanager
def broken(inputs: stages.Inputs, *mistakes: AbstractContextManager) -> Iterator[stages.Inputs]:
    with ExitStack() as stack:
        for mistake in mistakes:
            stack.enter_context(mistake)
        yield inputs


def whole_head(tower: torch.nn.Module) -> AbstractContextManager:
    """Rotate every dimension of a head instead of the first half."""
    config = tower.config
    width = config.hidden_size // config.num_attention_heads
    steps = torch.arange(0, width, 2) / width
    return patch.object(tower.rotary_emb, "inv_freq", 10_000.0**-steps)


def masked_padding(tower: torch.nn.Module, inputs: stages.Inputs) -> AbstractContextManager:
    """Keep frames from attending to those that padding alone made."""
    mask = torch.cat([file.mask for file in inputs.heard])
    blocked = mask[:, ::2] == 0
    bias = torch.zeros(blocked.shape).masked_fill(blocked, float("-inf"))[:, None, None]

    stack = ExitStack()
    for layer in tower.layers:
        original = layer.self_attn.forward
        change = patch.object(
            layer.self_attn,
            "forward",
            lambda *args, original=original, **kwargs: original(*args, **kwargs | {"attention_mask": bias}),
        )
        stack.enter_context(change)
    return stack


def epsilon(tower: torch.nn.Module) -> AbstractContextManager:
    stack = ExitStack()
    for module in tower.modules():
        if isinstance(module, torch.nn.LayerNorm):
            stack.enter_context(patch.object(module, "eps", 1e-6))
    return stack


def stacked_by_channel(model: PreTrainedModel) -> AbstractContextManager:
    """Put the four frames of a token side by side channel for channel instead of one after another."""

    def change(rows: torch.Tensor) -> torch.Tensor:
        return rows.unflatten(-1, (audio.STACKED, -1)).transpose(-1, -2).flatten(-2)

    return argument(model.model.multi_modal_projector, change)


def tanh_gelu(model: PreTrainedModel) -> AbstractContextManager:
    gelu = partial(torch.nn.functional.gelu, approximate="tanh")
    stack = ExitStack()
    stack.enter_context(patch.object(torch.nn.functional, "gelu", gelu))
    stack.enter_context(patch.object(model.model.multi_modal_projector, "act", Function(gelu)))
    for layer in model.model.audio_tower.layers:
        stack.enter_context(patch.object(layer.mlp, "act_fn", Function(gelu)))
    return stack


class Function(torch.nn.Module):
    """A function in the place of a module."""

    def __init__(self, function: Callable) -> None:
        super().__init__()
        self.forward = function


def padding_kept(model: PreTrainedModel) -> AbstractContextManager:
    """Hand on the rows of padding too, so that every window but the first is read too early."""
    right = GlmAsrModel.get_audio_features

    def wrong(self, features: torch.Tensor, mask: torch.Tensor, **kwargs):
        kept = right(self, features, mask, **kwargs)
        everything = right(self, features, torch.ones_like(mask), **kwargs)
        everything.pooler_output = everything.pooler_output[: len(kept.pooler_output)]
        return everything

    return patch.object(type(model.model), "get_audio_features", wrong)


def mishearings(model: PreTrainedModel, case: Case, directory: Path, inputs: stages.Inputs) -> dict[str, Mishearing]:
    with misheard(directory) as nothing_wrong:
        for file, right in zip(nothing_wrong.heard, inputs.heard, strict=True):
            assert torch.allclose(file.features, right.features, atol=1e-5), "this file's log_mel differs"
    tower = model.model.audio_tower
    attention = tower.layers[0].self_attn
    # A symmetric window of 400 reaches its end one sample before the periodic one begins anew.
    symmetric = torch.hann_window(400, periodic=False)
    mistakes = {
        "audio rope interleaved": lambda: broken(inputs, patch.object(modeling_glmasr, "rotate_half", interleaved)),
        "audio rope on whole head": lambda: broken(inputs, whole_head(tower)),
        "audio k with a bias": lambda: broken(
            inputs, output(attention.k_proj, lambda _args, out: out + attention.v_proj.bias)
        ),
        "audio no q bias": lambda: broken(
            inputs, output(attention.q_proj, lambda _args, out: out - attention.q_proj.bias)
        ),
        "audio norm eps 1e-6": lambda: broken(inputs, epsilon(tower)),
        "audio no last norm": lambda: broken(inputs, output(tower.norm, lambda args, _out: args[0])),
        "frames stacked by channel": lambda: broken(inputs, stacked_by_channel(model)),
        "padding masked": lambda: broken(inputs, masked_padding(tower, inputs)),
        "mel: symmetric Hann": lambda: misheard(directory, window=symmetric),
        "mel: no floor of max − 8": lambda: misheard(directory, floor=False),
        "mel: first frame dropped": lambda: misheard(directory, drop_first=True),
        "mel: no power of two": lambda: misheard(directory, power=1.0),
        "audio tanh gelu": lambda: broken(inputs, tanh_gelu(model)),
    }
    if any(len(file.rows()) > 1 for file in inputs.heard):
        mistakes["mel: max of whole file"] = lambda: misheard(directory, whole_file=True)
    masks = torch.cat([file.mask for file in inputs.heard])
    if not masks[:-1].all():  # rows of padding at the very end would be cut off
        mistakes["projector keeps padding"] = lambda: broken(inputs, padding_kept(model))
    return mistakes
