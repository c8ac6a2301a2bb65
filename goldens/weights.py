"""Random weights that a mistake cannot hide behind.

The usual initialisation (std 0.02, norms of one, biases of zero) makes attention uniform and norms
invisible: a wrong position or a forgotten bias would move the logits by less than rounding does.
Here projections keep the variance of what they read, queries and keys are large enough for
attention to choose, and norm weights and biases differ from channel to channel.
"""

import numpy as np
import torch

import pictures
from configs import Case

# Standard deviation of a projection's output for an input of unit variance.
GAIN = 1.2
# Scores are products of a query and a key, so this gain enters them squared.
QUERY_KEY_GAIN = 1.5
# silu(gate)·up has about half the variance of its factors, which the way down makes good.
DOWN_GAIN = 1.8
# LayerNorm's epsilon of 1e-5 shows only beside a small variance, so the audio tower starts from one.
CONV2_SCALE = 0.03


def draw(case: Case, name: str, shape: torch.Size) -> np.ndarray:
    normal = pictures.generator(case.seed, name).standard_normal(tuple(shape))
    if "conv2" in name:
        normal = CONV2_SCALE * normal
    if name.endswith(".bias"):
        return 0.3 * normal
    if len(shape) == 1:  # the weights of a norm
        return 1 + 0.3 * normal
    if "embed_tokens" in name:
        return case.text.embedding_std * normal
    if "position_embedding" in name:
        return 0.7 * normal
    fan_in = int(np.prod(shape[1:]))
    scale = np.full((shape[0],) + (1,) * (len(shape) - 1), GAIN)
    if "q_proj" in name or "k_proj" in name:
        scale[:] = QUERY_KEY_GAIN
    elif "attn.qkv" in name:
        scale[: 2 * shape[0] // 3] = QUERY_KEY_GAIN
    elif "down_proj" in name:
        scale[:] = DOWN_GAIN
    return scale * normal / np.sqrt(fan_in)


@torch.no_grad()
def fill(model: torch.nn.Module, case: Case) -> None:
    """Overwrite every parameter; a tied parameter is visited once, under its first name."""
    for name, parameter in model.named_parameters():
        values = draw(case, name, parameter.shape).astype(np.float32)
        parameter.copy_(torch.from_numpy(values))
