"""Turns a trained f32 directory into the published f16 one: `python pack.py SRC [DST]`.

DST is this directory unless told otherwise. Weights, config.json, generation_config.json and
tokenizer.json come from SRC. What does not depend on a run, how pictures are prepared and how turns are
written, lies here as files of its own and is copied.
"""

import argparse
import shutil
from pathlib import Path

import torch
from transformers import Glm4vForConditionalGeneration

HERE = Path(__file__).resolve().parent
FIXED_FILES = ["chat_template.jinja", "preprocessor_config.json", "tokenizer_config.json"]
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


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("trained", type=Path, metavar="SRC")
    arguments.add_argument("packed", type=Path, metavar="DST", nargs="?", default=HERE)
    options = arguments.parse_args()
    pack(options.trained, options.packed)


if __name__ == "__main__":
    main()
