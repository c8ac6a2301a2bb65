"""Prompts some of whose picture rows were left out, evaluated by transformers at the places that stayed.

The decoder is given rows and positions, and no pictures: `inputs_embeds` without the rows left out, and the
`position_ids` of those that stay as `get_rope_index` gives them for the whole prompt. Which rows stay is said
here once more, in plain Python over lists of places, as the documentation of `autoglm_core::Keep` says it.
"""

import math
from pathlib import Path

import torch
from safetensors.torch import save_file

import checkpoint
import configs
import stages

# Case and share, and whether what differs stays or rows are spread evenly.
PROMPTS = [
    ("two-images", 0.5, "differing"),
    ("two-images", 0.5, "even"),
    ("extreme-aspect", 0.4, "differing"),
    ("downscale", 0.7, "differing"),
]
# Distances are sums in f32: rows that are as good as equally far could change places elsewhere.
SMALLEST_GAP = 1e-4


def dither(y: int, x: int) -> list[int]:
    """Bayer's order, as digits that compare like a number: the finest difference counts most."""
    return [[0, 2, 3, 1][2 * (y >> bit & 1) + (x >> bit & 1)] for bit in range(16)]


def choose(rows: torch.Tensor, h: int, w: int, share: float, how: str) -> list[int]:
    """Indices of the rows of a picture (h · w, c) that stay."""
    places = [(y, x) for y in range(h) for x in range(w)]
    stay = math.ceil(round(share * 1_000_000) * len(places) / 1_000_000)
    order = sorted(range(len(places)), key=lambda i: dither(*places[i]))
    if how == "even":
        return sorted(order[:stay])
    step = 2
    while 2 * math.ceil(h / step) * math.ceil(w / step) > stay and step < max(h, w):
        step *= 2
    lattice = {(y, x): rows[y * w + x].double() for y, x in places if y % step == 0 and x % step == 0}
    far = {}
    for i, (y, x) in enumerate(places):
        if (y, x) not in lattice:
            around = [row for (a, b), row in lattice.items() if abs(a - y) < step and abs(b - x) < step]
            far[i] = 1 - max(torch.cosine_similarity(rows[i].double(), row, 0).item() for row in around)
    others = sorted((i for i in order if i in far), key=lambda i: -far[i])
    room = stay - len(lattice)
    if 0 < room < len(others) and far[others[room - 1]] - far[others[room]] < SMALLEST_GAP:
        raise ValueError("the choice hangs on rounding; change the share")
    return sorted([y * w + x for y, x in lattice] + others[:room])


@torch.no_grad()
def write(folder: Path, name: str, share: float, how: str) -> None:
    """`share` i64 in millionths, `position_ids` (3, n) and `logits` (n, v) of the rows that stay."""
    case = next(case for case in configs.CASES if case.name == name)
    directory = folder.parent / "cases" / name
    inputs = stages.prepare(directory)
    model = checkpoint.read(case, directory)
    whole = stages.evaluate(model, case, inputs)
    pictures = torch.split(torch.arange(len(inputs.ids[0]))[inputs.ids[0] == configs.IMAGE],
                           [count // stages.MERGED for count in inputs.patch_counts()])  # fmt: skip
    stays = torch.ones(len(inputs.ids[0]), dtype=torch.bool)
    for rows, (_, h, w) in zip(pictures, inputs.grids.tolist()):
        kept = choose(whole["text.embeds"][rows], h // 2, w // 2, share, how)
        stays[rows] = False
        stays[rows[kept]] = True
    out = {"share": torch.tensor([round(share * 1_000_000)]), "position_ids": whole["position_ids"][:, stays]}
    hidden = model.model.language_model(
        inputs_embeds=whole["text.embeds"][None, stays],
        position_ids=out["position_ids"][:, None],
        use_cache=False,
    ).last_hidden_state
    out["logits"] = model.lm_head(hidden)[0]
    apart = (out["logits"] - whole["logits"][stays]).abs().max() / out["logits"].std()
    print(f"keep {name} {share} {how}: {len(out['logits'])} of {len(stays)} rows; the whole prompt's differ by {apart:.2f} sd")
    path = folder / f"keep_{name}_{how}.safetensors"
    save_file({key: value.contiguous().clone() for key, value in out.items()}, path)
    path.chmod(0o644)


def make(folder: Path) -> None:
    for name, share, how in PROMPTS:
        write(folder, name, share, how)
