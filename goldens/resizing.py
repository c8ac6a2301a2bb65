"""Component goldens of image preprocessing: target sizes and resized pixels."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import Glm4vImageProcessor
from transformers.image_utils import PILImageResampling, SizeDict
from transformers.image_processing_backends import TorchvisionBackend
from transformers.models.glm4v.image_processing_glm4v import smart_resize

import pictures
from configs import LONGEST_EDGE, SHORTEST_EDGE

FACTOR = 28
# A picture counts as two frames, one temporal patch.
FRAMES = 2
# What transformers assumes when preprocessor_config.json names no size.
CLASS_LONGEST_EDGE = 28 * 28 * 15000


def target(h: int, w: int, shortest: int, longest: int) -> list[int]:
    return list(
        smart_resize(
            num_frames=FRAMES,
            height=h,
            width=w,
            temporal_factor=FRAMES,
            factor=FACTOR,
            min_pixels=shortest,
            max_pixels=longest,
        )
    )


def sizes() -> list[tuple[int, int, int, int]]:
    """(h, w, shortest_edge, longest_edge) to ask about."""
    real = (SHORTEST_EDGE, LONGEST_EDGE)
    screenshots = [
        (2400, 1080), (2340, 1080), (2688, 1216), (2800, 1260), (3200, 1440), (1920, 1080),
        (1600, 720), (56, 56), (112, 112), (336, 336), (20, 300), (4000, 3000),
    ]  # fmt: skip
    asked = [(h, w, *real) for h, w in screenshots]
    asked += [(w, h, *real) for h, w in screenshots if h != w]
    asked += [(h, w, SHORTEST_EDGE, 5_000_000) for h, w in screenshots]
    asked += [(h, w, SHORTEST_EDGE, CLASS_LONGEST_EDGE) for h, w in screenshots]
    # Half-way between two multiples, where Python rounds to the even one.
    halves = [42, 70, 98, 126, 154, 182, 210]
    asked += [(h, w, 784, LONGEST_EDGE) for h in halves for w in halves if h <= w]
    # A side below 28 is scaled up first, and the other with it, truncated.
    asked += [(h, 150, *real) for h in range(1, 28)]
    asked += [(200, w, *real) for w in range(1, 28)]
    asked += [(1, 1, *real), (1, 2, *real), (27, 27, *real), (27, 28, *real), (13, 17, 784, LONGEST_EDGE)]
    # The steepest ratio that is still allowed, before and after scaling up.
    asked += [(28, 5600, *real), (5600, 28, *real), (1, 200, *real), (200, 1, *real), (30, 6000, 784, 12544)]
    # Exactly at a limit nothing is rescaled, one step beyond everything is.
    asked += [(h, 280, SHORTEST_EDGE, 2 * 280 * 280) for h in (265, 266, 280, 293, 294, 295)]
    asked += [(h, 112, 2 * 112 * 112, LONGEST_EDGE) for h in (97, 98, 99, 112, 126, 127)]
    # A strip over its budget loses length alone, since neither side may go below one block.
    asked += [(28, 1120, SHORTEST_EDGE, 23_520), (1120, 28, SHORTEST_EDGE, 23_520), (28, 1120, 784, 1568)]
    asked += [(20_000, 20_000, *real), (100_000, 600, *real)]
    draw = pictures.generator(0, "smart_resize")
    for _ in range(80):
        h, w = np.exp(draw.uniform(np.log(2), np.log(5000), 2)).astype(int).tolist()
        if max(h, w) / min(h, w) < 150:
            shortest = int(draw.choice([784, 3136, SHORTEST_EDGE, 100_352]))
            longest = int(draw.choice([112_896, 1_000_000, LONGEST_EDGE, CLASS_LONGEST_EDGE]))
            asked.append((h, w, shortest, longest))
    return asked


REFUSED = [(0, 10), (10, 0), (0, 0), (28, 5601), (5601, 28), (1, 201), (201, 1), (100, 20_001), (27, 5500)]


def write_sizes(path: Path) -> None:
    answers, errors = [], []
    for h, w, shortest, longest in sizes():
        answers.append({"h": h, "w": w, "min": shortest, "max": longest, "out": target(h, w, shortest, longest)})
    for h, w in REFUSED:
        try:
            target(h, w, SHORTEST_EDGE, LONGEST_EDGE)
        except (ValueError, ZeroDivisionError):
            errors.append({"h": h, "w": w, "min": SHORTEST_EDGE, "max": LONGEST_EDGE})
        else:
            raise ValueError(f"transformers accepts {h}×{w}")
    lines = [",\n    ".join(json.dumps(row) for row in rows) for rows in (answers, errors)]
    path.write_text(
        f'{{\n  "factor": {FACTOR},\n  "frames": {FRAMES},\n'
        f'  "cases": [\n    {lines[0]}\n  ],\n  "errors": [\n    {lines[1]}\n  ]\n}}\n'
    )
    print(f"smart_resize: {len(answers)} sizes, {len(errors)} refused")


def taps(old: int, new: int) -> np.ndarray:
    """Weights (new, old) of one axis: cubic with a = -0.5, widened when shrinking, in 16-bit steps.

    The step is the finest power of two at which the largest weight still fits a signed 16-bit
    integer; weights are rounded to it, halves away from zero.
    """
    a, scale = -0.5, old / new
    stretch = max(scale, 1.0)
    weights = np.zeros((new, old))
    for i in range(new):
        center = (i + 0.5) * scale
        first = max(int(center - 2 * stretch + 0.5), 0)
        last = min(int(center + 2 * stretch + 0.5), old)
        x = np.abs(np.arange(first, last) + 0.5 - center) / stretch
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = (((x - 5) * x + 8) * x - 4) * a
        row = np.where(x < 1, near, np.where(x < 2, far, 0.0))
        weights[i, first:last] = row / row.sum()
    bits = max(bits for bits in range(22) if np.floor(weights.max() * 2**bits + 0.5) < 2**15)
    return np.copysign(np.floor(np.abs(weights) * 2**bits + 0.5), weights) / 2**bits


def recipe(image: np.ndarray, h: int, w: int) -> np.ndarray:
    """What torchvision computes for u8 (h, w, 3), said plainly: width first, u8 between the passes.

    Here only to prove that the description is exact; the goldens come from torchvision.
    """

    def to_u8(x: np.ndarray) -> np.ndarray:
        return np.clip(np.floor(x + 0.5), 0, 255)

    rows = image.astype(np.float64)  # every product and sum below is exact in f64
    if w != rows.shape[1]:
        rows = to_u8(np.einsum("ow,hwc->hoc", taps(rows.shape[1], w), rows))
    if h != rows.shape[0]:
        rows = to_u8(np.einsum("oh,hwc->owc", taps(rows.shape[0], h), rows))
    return rows.astype(np.uint8)


def write_resized(folder: Path) -> None:
    """Each file: `input` and `output`, u8 (h, w, 3), as the processor's own resize makes them."""
    processor = Glm4vImageProcessor()

    def rows(image: Image.Image) -> torch.Tensor:
        return processor.process_image(image, do_convert_rgb=True)[None]  # (1, 3, h, w)

    def write(name: str, image: Image.Image, output: torch.Tensor) -> None:
        pair = {"input": rows(image), "output": output}
        pair = {key: value[0].permute(1, 2, 0).contiguous() for key, value in pair.items()}
        expected = recipe(pair["input"].numpy(), *output.shape[2:])
        if not np.array_equal(expected, pair["output"].numpy()):
            raise ValueError(f"resize_{name}: torchvision no longer follows the recipe")
        save_file(pair, folder / f"resize_{name}.safetensors")
        print(f"resize_{name}: {tuple(pair['input'].shape)} → {tuple(pair['output'].shape)}")

    # Through smart-resize, as a request would be.
    fitted = {
        "up_screen": (pictures.screen(50, 70, 1), LONGEST_EDGE),
        "up_tiny": (pictures.noise(3, 5, 2), LONGEST_EDGE),
        "down_text": (pictures.text_page(150, 120, 3), SHORTEST_EDGE),
        "down_noise": (pictures.noise(150, 120, 4), SHORTEST_EDGE),
        "mixed_noise": (pictures.noise(130, 66, 5), LONGEST_EDGE),
        "wide_text": (pictures.text_page(20, 200, 6), LONGEST_EDGE),
    }
    for name, (image, longest) in fitted.items():
        output = processor.resize(
            images=rows(image),
            size=SizeDict(shortest_edge=SHORTEST_EDGE, longest_edge=longest),
            resample=PILImageResampling.BICUBIC,
            factor=FACTOR,
            temporal_factor=FRAMES,
        )
        write(name, image, output)
    # To given sizes, which may be odd and may leave one axis alone.
    given = {
        "odd_text": (pictures.text_page(64, 48, 7), (17, 97)),
        "odd_noise": (pictures.noise(37, 53, 8), (31, 61)),
        "width_only": (pictures.noise(40, 41, 9), (40, 23)),
        "height_only": (pictures.noise(41, 40, 10), (67, 40)),
    }
    for name, (image, (h, w)) in given.items():
        output = TorchvisionBackend.resize(
            processor, rows(image), SizeDict(height=h, width=w), resample=PILImageResampling.BICUBIC
        )
        write(name, image, output)
