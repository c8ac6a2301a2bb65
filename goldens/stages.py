"""Evaluate a case in transformers and keep what every stage produced."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from transformers import Glm4vImageProcessor, PreTrainedModel
from transformers.models.glm4 import modeling_glm4
from transformers.models.glm4v import modeling_glm4v
from transformers.models.llama import modeling_llama

import audio
import configs
import sounds
from configs import Case

MERGED = 4  # patches that become one token
LONGEST_WINDOW = 100  # frames of an audio window that are all kept


@dataclass
class Inputs:
    """What a forward pass takes: expanded ids (1, n), patch rows and grids of all pictures, sounds."""

    ids: torch.Tensor
    patches: torch.Tensor | None = None
    grids: torch.Tensor | None = None
    heard: list[audio.Heard] = field(default_factory=list)

    def arguments(self, ids: torch.Tensor, dtype: torch.dtype) -> dict:
        arguments = {"input_ids": ids}
        if self.grids is not None:
            arguments["pixel_values"] = self.patches
            arguments["image_grid_thw"] = self.grids
            arguments["mm_token_type_ids"] = (ids == configs.IMAGE).int()
        if self.heard:
            arguments["input_features"] = torch.cat([file.features for file in self.heard]).to(dtype)
            arguments["input_features_mask"] = torch.cat([file.mask for file in self.heard])
        return arguments

    def patch_counts(self) -> list[int]:
        return [] if self.grids is None else self.grids.prod(1).tolist()


def prepare(directory: Path) -> Inputs:
    """Follow request.json: preprocess pictures and sounds, repeat each placeholder per row in its place."""
    request = json.loads((directory / "request.json").read_text())
    inputs, counts = Inputs(torch.tensor([])), {}
    if "images" in request:
        processor = Glm4vImageProcessor.from_pretrained(directory)
        assert processor.backend == "torchvision"
        images = [Image.open(directory / name) for name in request["images"]]
        features = processor(images=images, return_tensors="pt")
        inputs.patches, inputs.grids = features["pixel_values"], features["image_grid_thw"]
        counts[configs.IMAGE] = iter([count // MERGED for count in inputs.patch_counts()])
    if "audio" in request:
        files = [sounds.read(directory / name) for name in request["audio"]]
        extractor = audio.extractor(directory)
        inputs.heard = [audio.hear(sounds.floats(samples), extractor) for samples in files]
        counts[configs.AUDIO] = iter([file.tokens for file in inputs.heard])
    ids = []
    for token in request["input_ids"]:
        ids += [token] * (next(counts[token]) if token in counts else 1)
    inputs.ids = torch.tensor([ids])
    return inputs


@contextmanager
def recorded_rope(module) -> Iterator[list]:
    """Rotation is a plain function of the modeling file, out of reach of hooks: wrap it instead."""
    original, calls = module.apply_rotary_pos_emb, []

    def record(*args, **kwargs):
        q, k = original(*args, **kwargs)
        calls.append((q, k))
        return q, k

    module.apply_rotary_pos_emb = record
    try:
        yield calls
    finally:
        module.apply_rotary_pos_emb = original


class Recorder:
    """Forward hooks that file each module's output under its golden name."""

    def __init__(self) -> None:
        self.seen: dict[str, torch.Tensor] = {}
        self.handles = []

    def output(self, module: torch.nn.Module, name: str) -> None:
        def hook(_module, _args, out):
            self.seen[name] = out[0] if isinstance(out, tuple) else out

        self.handles.append(module.register_forward_hook(hook))

    def argument(self, module: torch.nn.Module, name: str, key: str | int) -> None:
        def hook(_module, args, kwargs):
            self.seen[name] = args[key] if isinstance(key, int) else kwargs[key]

        self.handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()


def attach(model: PreTrainedModel, case: Case) -> Recorder:
    recorder = Recorder()
    decoder = getattr(model.model, "language_model", model.model)
    recorder.argument(decoder.rotary_emb, "position_ids", "position_ids")
    recorder.argument(decoder.layers[0], "text.embeds", 0)
    recorder.output(decoder.layers[0].self_attn, "text.layer.0.attn")
    recorder.output(decoder.layers[0].mlp, "text.layer.0.mlp")
    for i, layer in enumerate(decoder.layers):
        recorder.output(layer, f"text.layer.{i}")
    recorder.output(decoder.norm, "text.norm")
    if case.pictures:
        tower = model.model.visual
        for name in ["patch_embed", "post_conv_layernorm", "embeddings", "post_layernorm", "downsample", "merger"]:
            recorder.output(getattr(tower, name), f"vision.{name}")
        for i, block in enumerate(tower.blocks):
            recorder.output(block, f"vision.block.{i}")
    if case.sounds:
        tower = model.model.audio_tower
        # GELU is a function here: what it made is what the next module takes.
        recorder.argument(tower.conv2, "audio.conv1", 0)
        recorder.argument(tower.layers[0], "audio.conv2", 0)
        for i, layer in enumerate(tower.layers):
            recorder.output(layer, f"audio.layer.{i}")
        recorder.output(tower.norm, "audio.norm")
        recorder.output(model.model.multi_modal_projector, "audio.projector")
    return recorder


def modeling(case: Case):
    """The modeling file whose functions the decoder calls."""
    return {"glm4": modeling_glm4, "asr": modeling_llama}.get(case.config, modeling_glm4v)


def heard_stages(seen: dict[str, torch.Tensor], heard: list[audio.Heard]) -> dict[str, torch.Tensor]:
    """The audio stages by file and window, of long windows only the frames that `audio.rows` lists."""
    out = {}
    seen["audio.conv1"] = seen["audio.conv1"].transpose(1, 2)
    frames = seen["audio.conv2"].shape[1]
    # 7 has no factor in common with the four frames of a token.
    rows = torch.arange(frames) if frames <= LONGEST_WINDOW else torch.arange(0, frames, 7)
    out["audio.rows"] = rows
    windows = iter(range(len(seen["audio.norm"])))
    for i, file in enumerate(heard):
        for w, kept in enumerate(file.rows()):
            place = next(windows)
            if frames <= LONGEST_WINDOW:
                out[f"audio.log_mel.{i}.{w}"] = file.features[w]
            for name, value in seen.items():
                part = value[place]
                if name == "audio.projector":
                    part = part[:kept]
                else:  # before the stride of two, frame 2r is where row r comes from
                    part = part[2 * rows if name == "audio.conv1" else rows]
                out[f"{name}.{i}.{w}"] = part
    return out


@torch.no_grad()
def logits(model: PreTrainedModel, inputs: Inputs, ids: torch.Tensor | None = None) -> torch.Tensor:
    """Logits (n, v) of one uncached pass over the prompt, or over `ids` that continue it."""
    arguments = inputs.arguments(inputs.ids if ids is None else ids, model.dtype)
    return model(**arguments, use_cache=False).logits[0]


@torch.no_grad()
def evaluate(model: PreTrainedModel, case: Case, inputs: Inputs) -> dict[str, torch.Tensor]:
    """Every tensor of expected.safetensors except the greedy ids."""
    recorder = attach(model, case)
    with recorded_rope(modeling(case)) as rotated:
        out = {"input_ids": inputs.ids[0], "logits": logits(model, inputs)}
    recorder.remove()

    positions = recorder.seen.pop("position_ids")
    out["position_ids"] = positions.reshape(-1, inputs.ids.shape[1]).expand(3, -1)
    q, k = rotated[0]
    out["text.layer.0.q_rope"] = q[0].transpose(0, 1)  # (n, h, d)
    out["text.layer.0.k_rope"] = k[0].transpose(0, 1)

    counts = inputs.patch_counts()
    if counts:
        for i, rows in enumerate(inputs.patches.split(counts)):
            out[f"patches.{i}"] = rows
    if inputs.heard:
        seen = recorder.seen
        out |= heard_stages({name: seen.pop(name) for name in list(seen) if name.startswith("audio.")}, inputs.heard)
    for name, value in recorder.seen.items():
        if not name.startswith("vision."):
            out[name] = value[0]
            continue
        rows = value.flatten(1)  # the downsampling convolution leaves two axes of one
        merged = name in ("vision.downsample", "vision.merger")
        sizes = [count // MERGED for count in counts] if merged else counts
        for i, part in enumerate(rows.split(sizes)):
            out[f"{name}.{i}"] = part
    return {name: value.contiguous().clone() for name, value in out.items()}


@torch.no_grad()
def greedy(model: PreTrainedModel, case: Case, inputs: Inputs) -> tuple[torch.Tensor, float]:
    """Greedy ids (N,) and the smallest lead of a chosen id over the runner-up, in logit sds.

    `generate` decodes with a cache; the uncached passes beside it give the leads and prove that
    both ways agree.
    """
    model.generation_config.eos_token_id = None
    produced = model.generate(
        **inputs.arguments(inputs.ids, model.dtype),
        do_sample=False,
        max_new_tokens=configs.GREEDY,
        pad_token_id=configs.EOS,
    )[0, inputs.ids.shape[1] :]
    if any(token >= configs.IMAGE_START for token in produced.tolist()):
        raise ValueError(f"{case.name}: the model greedily opens an image, a video or a sound; change the seed")
    ids, leads = inputs.ids, []
    for token in produced:
        last = logits(model, inputs, ids)[-1]
        best = last.topk(2)
        assert best.indices[0] == token, "cached and uncached decoding disagree"
        leads.append(((best.values[0] - best.values[1]) / last.std()).item())
        ids = torch.cat([ids, token.view(1, 1)], 1)
    assert len(produced) == configs.GREEDY
    return produced.clone(), min(leads)
