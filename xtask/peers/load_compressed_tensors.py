"""Load what `cargo xtask export --format compressed-tensors` wrote with Hugging Face transformers.

    cargo xtask export --model DENSE --out QUANTISED --format compressed-tensors --precision int8
    autoglm logits --model DENSE --precision int8 --request request.json --out ours.safetensors
    python xtask/peers/load_compressed_tensors.py QUANTISED DENSE request.json [ours.safetensors]

Needs what goldens/requirements.txt lists, and `pip install compressed-tensors` (0.15 or newer).

The package reads the weights, undoes their compression and runs the model in f32, quantising the
inputs of maps where the file says so. Prints how far weights and logits are from those of the dense
checkpoint, ‖difference‖ / ‖dense‖; how far the logits move when only the weights are quantised, which
is all there is to W4A16 and not to W8A8; and, where they are given, how far our own quantised logits are.
Exits with 1 if a tensor is missing or left over, a quantised weight is further than --weights from the
dense one, or the logits are further than --logits.
"""

import argparse
from pathlib import Path

import compare_logits
import torch
import transformers
from safetensors.torch import load_file


def relative(got: torch.Tensor, want: torch.Tensor) -> float:
    """‖got − want‖ / ‖want‖."""
    return ((got.double() - want.double()).norm() / want.double().norm()).item()


def decompressed(model: transformers.PreTrainedModel, inputs: dict) -> torch.Tensor:
    """Logits (n, v); afterwards the weights are floats again, because the package decompresses a module
    when it is first called."""
    return compare_logits.evaluate(model, inputs)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quantised", type=Path, metavar="QUANTISED")
    parser.add_argument("dense", type=Path, metavar="DENSE", help="the checkpoint it was made of")
    parser.add_argument("request", type=Path, metavar="REQUEST.json", help="as for `autoglm logits`")
    parser.add_argument("ours", type=Path, nargs="?", metavar="OURS.safetensors", help="its --out, quantised")
    parser.add_argument("--weights", type=float, default=0.15, help="largest error of a weight (default %(default)s)")
    parser.add_argument("--logits", type=float, default=0.3, help="largest error of the logits (default %(default)s)")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    dense = compare_logits.load_model(arguments.dense)
    inputs = compare_logits.prepare(arguments.dense, arguments.request, dense.config)
    want, _ = compare_logits.evaluate(dense, inputs)
    quantised = compare_logits.load_model(arguments.quantised)
    got = decompressed(quantised, inputs)

    schemes = {name for name, module in quantised.named_modules() if hasattr(module, "quantization_scheme")}
    weights = dict(dense.named_parameters())
    errors = {}
    for name, module in quantised.named_modules():
        if name in schemes:
            errors[name] = relative(module.weight, weights[f"{name}.weight"])
    with torch.no_grad():
        for name in errors:
            weights[f"{name}.weight"].copy_(quantised.get_submodule(name).weight)
    only, _ = compare_logits.evaluate(dense, inputs)
    worst = max(errors, key=errors.get)
    print(f"quantised   {len(errors)} maps; {sorted({name.split('.layers.')[0] for name in errors})}")
    print(f"weights     {errors[worst]:.4f} at most ({worst})")
    print(f"logits      {relative(got, want):.4f} from the dense ones")
    print(f"            {relative(only, want):.4f} with the same weights and no other quantisation, {relative(got, only):.1e} apart")
    chosen = (got.argmax(1) == want.argmax(1)).float().mean().item()
    print(f"best ids    {100 * chosen:.1f} % of the rows choose the same")
    if arguments.ours:
        ours = load_file(arguments.ours)["logits"]
        print(f"ours        {relative(ours, want):.4f} from the dense ones, {relative(ours, got):.4f} from these")
    if not errors[worst] <= arguments.weights or not relative(got, want) <= arguments.logits:
        raise SystemExit("too far from the dense checkpoint")


if __name__ == "__main__":
    main()
