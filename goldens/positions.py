"""Component goldens of everything that depends on where a row sits: M-RoPE, rotary tables, ViT table."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Glm4vConfig
from transformers.models.glm4v.configuration_glm4v import Glm4vVisionConfig
from transformers.models.glm4v.modeling_glm4v import (
    Glm4vModel,
    Glm4vTextRotaryEmbedding,
    Glm4vVisionEmbeddings,
    Glm4vVisionRotaryEmbedding,
)
from transformers.vision_utils import get_vision_position_ids

import checkpoint
import configs
import pictures

MERGE = 2

# Prompts as runs: a number is that many text tokens, a pair is a picture of (h, w) patches.
PROMPTS = {
    "no image": [9],
    "one text token": [1],
    "one image": [5, (4, 6), 1],
    "wide image": [3, (2, 30), 4],
    "tall image": [3, (30, 2), 4],
    "smallest image": [4, (2, 2), 2],
    "image first": [(6, 4), 3],
    "image last": [3, (6, 4)],
    "image alone": [(8, 8)],
    "two images": [4, (6, 6), 3, (10, 4), 5],
    "two images one token apart": [2, (4, 4), 1, (2, 6), 2],
    "three images": [7, (4, 8), 2, (2, 2), 2, (12, 6), 30],
    "screenshot": [6, (24, 12), 20],
}


def write_mrope(path: Path) -> None:
    """`runs` of [token type, length] and patch `grids` [t, h, w] → `position_ids` (3, n) and `delta`.

    The position of the k-th token after the prompt is the prompt's length + k + delta on all axes.
    """
    model = Glm4vModel(checkpoint.v5_config(configs.CASES[0]))
    cases = []
    for name, prompt in PROMPTS.items():
        runs, grids = [], []
        for part in prompt:
            if isinstance(part, int):
                runs.append([0, part])
            else:
                h, w = part
                runs.append([1, h * w // MERGE**2])
                grids.append([1, h, w])
        types = torch.tensor([[kind for kind, length in runs for _ in range(length)]])
        ids, delta = model.get_rope_index(
            input_ids=types, mm_token_type_ids=types, image_grid_thw=torch.tensor(grids) if grids else None
        )
        cases.append(
            {"name": name, "runs": runs, "grids": grids, "position_ids": ids[:, 0].tolist(), "delta": delta.item()}
        )
    lines = ",\n    ".join(json.dumps(case) for case in cases)
    path.write_text(f'{{\n  "spatial_merge_size": {MERGE},\n  "cases": [\n    {lines}\n  ]\n}}\n')
    print(f"mrope: {len(cases)} prompts")


# Patch grids (h, w); 24×24 is the table's own size, 172×78 a full screenshot.
GRIDS = [(24, 24), (2, 2), (2, 30), (30, 2), (6, 6), (10, 4), (36, 48), (172, 78)]
TABLE_SIDE = 24
TABLE_WIDTH = 4


@torch.no_grad()
def write_position_table(path: Path) -> None:
    """`table` (576, c) and for each grid `embeds.HxW` (h·w, c), rows in merge-block order.

    Channel 0 of the table is 24h + w, so that a reader sees the interpolated place itself.
    """
    config = Glm4vVisionConfig(hidden_size=TABLE_WIDTH, image_size=14 * TABLE_SIDE, patch_size=14)
    embeddings = Glm4vVisionEmbeddings(config)
    table = pictures.generator(0, "pos_embed").standard_normal((TABLE_SIDE**2, TABLE_WIDTH))
    table[:, 0] = range(TABLE_SIDE**2)
    embeddings.position_embedding.weight.copy_(torch.from_numpy(table))
    out = {"table": embeddings.position_embedding.weight.detach().clone()}
    for h, w in GRIDS:
        grid = torch.tensor([[1, h, w]])
        places = get_vision_position_ids(grid, MERGE)
        rows = torch.zeros(h * w, TABLE_WIDTH)
        out[f"embeds.{h}x{w}"] = embeddings(rows, [h * w], grid, places[:, 0], places[:, 1]).contiguous()
    save_file(out, path)
    print(f"pos_embed: {len(GRIDS)} grids")


# (t, h, w) of text rows, and (h, w) of patches.
TEXT_POSITIONS = [
    (0, 0, 0), (1, 1, 1), (2, 2, 2), (7, 7, 7), (40, 40, 40), (5, 5, 7), (5, 6, 5), (12, 90, 51), (300, 311, 338),
    (4095, 4096, 4097), (25_479, 25_479, 25_479), (65_000, 65_085, 65_038), (65_535, 65_535, 65_535),
]  # fmt: skip
PATCH_POSITIONS = [(0, 0), (0, 1), (1, 0), (1, 1), (3, 17), (85, 40), (171, 77), (227, 101), (1000, 3), (65_535, 65_535)]


@torch.no_grad()
def write_rope(path: Path) -> None:
    """Tables of the real model's shape, in the layouts transformers uses.

    `text.cos`, `text.sin` (n, 64): dimensions 2j and 2j+1 hold the same angle j. `vision.cos`,
    `vision.sin` (n, 128): 32 angles of h, 32 of w, and both once more. Angles are f32 products,
    so at position 65 535 they stand up to 4e-3 rad off the real ones.
    """
    config = Glm4vConfig(
        text_config={
            "hidden_size": 4096,
            "num_attention_heads": 32,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 0.5,
                "mrope_section": [8, 12, 12],
            },
        },
        vision_config={"hidden_size": 1536, "num_heads": 12},
    )
    text, vision = Glm4vTextRotaryEmbedding(config.text_config), Glm4vVisionRotaryEmbedding(config.vision_config)
    like = torch.zeros(1)  # carries the dtype alone
    positions = torch.tensor(TEXT_POSITIONS).T.contiguous()
    text_cos, text_sin = text(like, positions[:, None])
    places = torch.tensor(PATCH_POSITIONS)
    vision_cos, vision_sin = vision(like, places)
    out = {
        "text.position_ids": positions,  # (3, n)
        "text.inv_freq": text.inv_freq,
        "text.cos": text_cos[0],
        "text.sin": text_sin[0],
        "vision.position_ids": places,  # (n, 2)
        "vision.inv_freq": vision.inv_freq,
        "vision.cos": vision_cos,
        "vision.sin": vision_sin,
    }
    save_file({key: value.detach().contiguous().clone() for key, value in out.items()}, path)
    print(f"rope: {len(TEXT_POSITIONS)} text and {len(PATCH_POSITIONS)} patch positions")
