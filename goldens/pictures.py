"""Pictures that resizing can get wrong: gradients, hard edges, and glyph-like strokes one pixel wide.

Everything is drawn from numpy alone, so the pixels depend on no font and on no drawing library.
"""

import zlib

import numpy as np
from PIL import Image


def generator(seed: int, name: str) -> np.random.Generator:
    """A stream of its own per (seed, name), so that adding one consumer moves no other."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def glyphs(canvas: np.ndarray, draw: np.random.Generator, ink: tuple[int, int, int]) -> None:
    """Cover `canvas` (h, w, 3) with lines of random 5×7 letters."""
    h, w, _ = canvas.shape
    for top in range(2, h - 7, 10):
        for left in range(2, w - 5, 6):
            if draw.random() < 0.15:  # a space between words
                continue
            letter = draw.random((7, 5)) < 0.45
            canvas[top : top + 7, left : left + 5][letter] = ink


def text_page(h: int, w: int, seed: int) -> Image.Image:
    """Black letters on white with a coloured rule: the sharpest edges a screenshot has."""
    draw = generator(seed, "text_page")
    canvas = np.full((h, w, 3), 255, np.uint8)
    glyphs(canvas, draw, (0, 0, 0))
    canvas[h // 2] = (200, 0, 40)
    canvas[:, w // 3] = (0, 90, 220)
    return Image.fromarray(canvas)


def screen(h: int, w: int, seed: int) -> Image.Image:
    """A gradient with blocks of flat colour, some letters and a little noise."""
    draw = generator(seed, "screen")
    corners = draw.integers(0, 256, (2, 2, 3)).astype(np.float64)
    y = np.linspace(0, 1, h)[:, None, None]
    x = np.linspace(0, 1, w)[None, :, None]
    top = corners[0, 0] * (1 - x) + corners[0, 1] * x
    bottom = corners[1, 0] * (1 - x) + corners[1, 1] * x
    canvas = top * (1 - y) + bottom * y
    canvas += draw.normal(0, 6, canvas.shape)
    canvas = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    for _ in range(6):
        block_h, block_w = draw.integers(2, max(3, h // 3)), draw.integers(2, max(3, w // 3))
        top_edge, left_edge = draw.integers(0, h), draw.integers(0, w)
        canvas[top_edge : top_edge + block_h, left_edge : left_edge + block_w] = draw.integers(0, 256, 3)
    glyphs(canvas[h // 3 : h // 3 + 12], draw, (255, 255, 255))
    return Image.fromarray(canvas)


def noise(h: int, w: int, seed: int) -> Image.Image:
    """Independent pixels: every tap of a resampling kernel shows."""
    return Image.fromarray(generator(seed, "noise").integers(0, 256, (h, w, 3)).astype(np.uint8))
