"""What deliberate mistakes are made of: wrong rotations, and hooks that change what modules pass on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


def half_split(x: torch.Tensor) -> torch.Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([-b, a], -1)


def interleaved(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([-x[..., 1::2], x[..., 0::2]], -1).flatten(-2)


@contextmanager
def output(module: torch.nn.Module, change: Callable) -> Iterator[None]:
    """Replace what `module` returns by `change(args, out)`."""
    handle = module.register_forward_hook(lambda _module, args, out: change(args, out))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def argument(module: torch.nn.Module, change: Callable) -> Iterator[None]:
    """Replace the first argument of `module`."""
    handle = module.register_forward_pre_hook(lambda _module, args: (change(args[0]), *args[1:]))
    try:
        yield
    finally:
        handle.remove()
