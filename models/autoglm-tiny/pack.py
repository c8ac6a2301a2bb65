"""Turns what was trained into the published f16 directory.

    python pack.py SRC [DST]            the model of `train.py`, which has no ears
    python pack.py --ears SRC [DST]     the ears of `listen.py`, into the model that is already there

DST is this directory unless told otherwise. Weights, config.json, generation_config.json and
tokenizer.json come from SRC. What does not depend on a run, how pictures and sounds are prepared and how
turns are written, lies here as files of its own and is copied.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import Glm4vForConditionalGeneration

import ears

HERE = Path(__file__).resolve().parent
FIXED_FILES = ["chat_template.jinja", "preprocessor_config.json", "processor_config.json", "tokenizer_config.json"]
# safetensors writes for its owner alone.
READABLE = 0o644


def copy_fixed_files(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    if directory.resolve() != HERE:
        for name in FIXED_FILES:
            shutil.copyfile(HERE / name, directory / name)


def pack(trained: Path, packed: Path) -> None:
    copy_fixed_files(packed)
    # f16 rather than bf16: every weight is far inside its range, and it rounds eight times finer.
    model = Glm4vForConditionalGeneration.from_pretrained(trained, dtype=torch.float16)
    model.save_pretrained(packed)
    shutil.copyfile(trained / "tokenizer.json", packed / "tokenizer.json")
    (packed / "model.safetensors").chmod(READABLE)


def pack_ears(trained: Path, packed: Path) -> None:
    """Add the ears, or put them in the place of other ones; every other tensor keeps its bytes."""
    weights = load_file(packed / "model.safetensors")
    weights = {name: weight for name, weight in weights.items() if not name.startswith(ears.TENSORS)}
    for name, weight in load_file(trained / "ears.safetensors").items():
        weights[name] = weight.to(torch.float16)
    save_file(weights, packed / "model.safetensors", metadata={"format": "pt"})
    (packed / "model.safetensors").chmod(READABLE)

    config = json.loads((packed / "config.json").read_text())
    hearing = ears.configuration(config["text_config"]["hidden_size"])
    hearing.audio_config.dtype = torch.float16
    tokenizer = Tokenizer.from_file(str(packed / "tokenizer.json"))
    config["audio_config"] = hearing.to_diff_dict()["audio_config"]
    config["audio_token_id"] = tokenizer.token_to_id("<|audio|>")
    config["audio_start_token_id"] = tokenizer.token_to_id("<|begin_of_audio|>")
    config["audio_end_token_id"] = tokenizer.token_to_id("<|end_of_audio|>")
    (packed / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("trained", type=Path, metavar="SRC")
    arguments.add_argument("packed", type=Path, metavar="DST", nargs="?", default=HERE)
    arguments.add_argument("--ears", action="store_true", help="SRC holds ears alone")
    options = arguments.parse_args()
    if options.ears:
        pack_ears(options.trained, options.packed)
    else:
        pack(options.trained, options.packed)


if __name__ == "__main__":
    main()
