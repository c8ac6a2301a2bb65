"""Prove that the goldens notice: break the model the ways a port breaks and watch the numbers move.

`python goldens/sabotage.py [CASE…]` prints, for each case and each deliberate mistake, how far the
logits move at most, in standard deviations of the right logits. A golden that a mistake leaves
within tolerance belongs to a test that cannot fail, so a move below its floor ends with an error.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
import transformers
from transformers import PreTrainedModel
from transformers.models.glm4v import modeling_glm4v
from transformers.models.llama import modeling_llama

import checkpoint
import configs
import sabotage_audio
import stages
from breakage import argument, half_split, interleaved, output
from configs import Case

ROOT = Path(__file__).parent
# Ten times the tolerance of 2e-3 sd that logits with images are held to.
FLOOR = 0.02
# The two GELUs differ by 5e-4 at most, which the decoder swallows: judged where it is made.
GELU_FLOOR = 5e-4

Mistake = Callable[[], AbstractContextManager]


def scattered_groups(x: torch.Tensor, n_rep: int) -> torch.Tensor:
    """Query head i reads kv head i mod kv_heads instead of i // n_rep."""
    return x.repeat(1, n_rep, 1, 1)


def decoder(model: PreTrainedModel) -> torch.nn.Module:
    return getattr(model.model, "language_model", model.model)


@contextmanager
def positions(model: PreTrainedModel, change: Callable) -> Iterator[None]:
    """Change the position ids (3, 1, n) on their way into the rotary tables."""

    def hook(_module, args, kwargs):
        return args, kwargs | {"position_ids": change(kwargs["position_ids"])}

    handle = decoder(model).rotary_emb.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def without(norm: torch.nn.Module) -> AbstractContextManager:
    return output(norm, lambda args, _out: args[0])


def unbiased(linear: torch.nn.Linear) -> AbstractContextManager:
    return output(linear, lambda _args, out: out - linear.bias)


def tower_angles(order: Callable) -> AbstractContextManager:
    """Reorder the (h, w) coordinates that the tower's rotary angles are made of."""
    rotary = modeling_glm4v.Glm4vVisionRotaryEmbedding
    original = rotary.forward
    return patch.object(rotary, "forward", lambda self, x, ids: original(self, x, order(ids)))


def raster_table() -> AbstractContextManager:
    """Add the position table in reading order although the patches come in merge blocks."""
    embeddings = modeling_glm4v.Glm4vVisionEmbeddings
    original = embeddings.forward

    def forward(self, rows, lengths, shapes, _h, _w):
        h = torch.cat([torch.arange(y).repeat_interleave(x) for _, y, x in shapes.tolist()])
        w = torch.cat([torch.arange(x).repeat(y) for _, y, x in shapes.tolist()])
        return original(self, rows, lengths, shapes, h, w)

    return patch.object(embeddings, "forward", forward)


def section_moved(model: PreTrainedModel) -> AbstractContextManager:
    """Give the first angle of h to w, as a section list read from the wrong end would."""
    rotary = decoder(model).rotary_emb
    t, h, w = rotary.mrope_section
    return patch.object(rotary, "mrope_section", [t, h - 1, w + 1])


@contextmanager
def swapped(mlp: torch.nn.Module) -> Iterator[None]:
    mlp.gate_proj, mlp.up_proj = mlp.up_proj, mlp.gate_proj
    yield
    mlp.gate_proj, mlp.up_proj = mlp.up_proj, mlp.gate_proj


def llama_mistakes(model: PreTrainedModel, case: Case) -> dict[str, Mistake]:
    mistakes = {
        "no rope": lambda: positions(model, torch.zeros_like),
        "positions doubled": lambda: positions(model, lambda ids: 2 * ids),
        "rope interleaved": lambda: patch.object(modeling_llama, "rotate_half", interleaved),
        "no mask": lambda: patch.object(modeling_llama, "create_causal_mask", lambda **_: None),
        "gate and up swapped": lambda: swapped(decoder(model).layers[0].mlp),
        "no norm before mlp": lambda: without(decoder(model).layers[0].post_attention_layernorm),
    }
    if case.text.kv_heads > 1:
        mistakes["kv head i mod n"] = lambda: patch.object(modeling_llama, "repeat_kv", scattered_groups)
    return mistakes


def text_mistakes(model: PreTrainedModel, case: Case) -> dict[str, Mistake]:
    modeling = stages.modeling(case)
    rotate = "rotate_half" if case.config == "glm4" else "rotate_half_llm"
    layer = decoder(model).layers[0]
    mistakes = {
        "no rope": lambda: positions(model, torch.zeros_like),
        "positions doubled": lambda: positions(model, lambda ids: 2 * ids),
        "rope half-split": lambda: patch.object(modeling, rotate, half_split),
        "no mask": lambda: patch.object(modeling, "create_causal_mask", lambda **_: None),
        "gate and up swapped": lambda: output(
            layer.mlp.gate_up_proj, lambda _args, out: torch.cat(out.chunk(2, -1)[::-1], -1)
        ),
        "no k bias": lambda: unbiased(layer.self_attn.k_proj),
        "no v bias": lambda: unbiased(layer.self_attn.v_proj),
        "no norm after attention": lambda: without(layer.post_self_attn_layernorm),
        "no norm after mlp": lambda: without(layer.post_mlp_layernorm),
    }
    if case.text.kv_heads > 1:
        mistakes["kv head i mod n"] = lambda: patch.object(modeling, "repeat_kv", scattered_groups)
    return mistakes


def vision_mistakes(model: PreTrainedModel) -> dict[str, Mistake]:
    tower = model.model.visual
    return {
        "positions 0, 1, 2, …": lambda: positions(model, lambda ids: torch.arange(ids.shape[-1]).expand_as(ids)),
        "mrope h = w = t": lambda: positions(model, lambda ids: ids[:1].expand(3, -1, -1)),
        "mrope h and w swapped": lambda: positions(model, lambda ids: ids[[0, 2, 1]]),
        "mrope section moved": lambda: section_moved(model),
        "vision rope interleaved": lambda: patch.object(modeling_glm4v, "rotate_half", interleaved),
        "vision h and w swapped": lambda: tower_angles(lambda ids: ids.flip(-1)),
        "no position table": lambda: without(tower.embeddings),
        "table in raster order": raster_table,
        "merge block transposed": lambda: argument(tower.downsample, lambda x: x.transpose(2, 3)),
        "no norm after conv": lambda: without(tower.post_conv_layernorm),
        "no norm before merge": lambda: without(tower.post_layernorm),
    }


def gelu_difference(model: PreTrainedModel, case: Case, inputs: stages.Inputs) -> float:
    """How far the tanh form of GELU moves the first picture's rows, in their sds."""
    right = stages.evaluate(model, case, inputs)["vision.merger.0"]
    with patch.object(model.model.visual.merger, "act1", torch.nn.GELU(approximate="tanh")):
        wrong = stages.evaluate(model, case, inputs)["vision.merger.0"]
    return ((wrong - right).abs().max() / right.std()).item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="CASE")
    names = parser.parse_args().names
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)

    unnoticed = []

    def report(case: Case, mistake: str, moved: float, floor: float) -> None:
        print(f"{case.name:18} {mistake:24} {moved:8.4f} sd", flush=True)
        if moved < floor:
            unnoticed.append(f"{case.name}: {mistake}")

    for case in configs.CASES:
        if names and case.name not in names:
            continue
        directory = ROOT / "cases" / case.name
        inputs = stages.prepare(directory)
        model = checkpoint.read(case, directory)
        right = stages.logits(model, inputs)
        mistakes = (llama_mistakes if case.config == "asr" else text_mistakes)(model, case)
        if case.pictures:
            mistakes |= vision_mistakes(model)
            report(case, "tanh gelu (merger rows)", gelu_difference(model, case, inputs), GELU_FLOOR)
        for mistake, apply in mistakes.items():
            with apply():
                moved = (stages.logits(model, inputs) - right).abs().max() / right.std()
            report(case, mistake, moved.item(), FLOOR)
        if case.sounds:
            right_stages = stages.evaluate(model, case, inputs)
            for mistake, apply in sabotage_audio.mishearings(model, case, directory, inputs).items():
                stage, floor = sabotage_audio.JUDGED_AT.get(mistake, ("logits", FLOOR))
                with apply() as misheard:
                    wrong = stages.evaluate(model, case, misheard)[stage]
                moved = (wrong - right_stages[stage]).abs().max() / right_stages[stage].std()
                report(case, mistake, moved.item(), floor)
        assert torch.equal(stages.logits(model, inputs), right), "a mistake outlived its context"
    if unnoticed:
        raise SystemExit("unnoticed: " + "; ".join(unnoticed))


if __name__ == "__main__":
    main()
