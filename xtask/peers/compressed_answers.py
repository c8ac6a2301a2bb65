"""Hold transformers' greedy answers on a compressed-tensors copy of the tiny checkpoint against ours in the same precision.

    cargo xtask export --model models/autoglm-tiny --out QUANTISED --format compressed-tensors --precision int8
    python xtask/peers/compressed_answers.py QUANTISED models/autoglm-tiny --autoglm target/release/autoglm

Both are asked what `models/autoglm-tiny/eval` asks on its 100 screens, to answer at once; transformers reads QUANTISED, we
quantise DENSE while it is opened. Prints how many answers are the same to the letter, and how many taps of each are
inside the icon. Needs what goldens/requirements.txt lists, and `pip install compressed-tensors`.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import transformers
from PIL import Image
from transformers import AutoProcessor

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "models" / "autoglm-tiny"
sys.path.insert(0, str(TINY))

import evaluate  # noqa: E402, it lies beside the checkpoint
from screens import HEIGHT, WIDTH  # noqa: E402


def ours(arguments: argparse.Namespace, image: Path, prompt: str) -> str:
    command = [arguments.autoglm, "run", "--model", arguments.dense, "--precision", arguments.precision, "--no-think"]
    ran = subprocess.run([*command, "--image", image, prompt], capture_output=True, text=True, check=True)
    return ran.stdout.removesuffix("\n")


def inside(text: str, box: list[float]) -> bool:
    tap = evaluate.TAP.search(text)
    if tap is None:
        return False
    x, y = int(tap[1]) / 1000 * WIDTH, int(tap[2]) / 1000 * HEIGHT
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quantised", type=Path, metavar="QUANTISED")
    parser.add_argument("dense", type=Path, metavar="DENSE", help="the checkpoint it was made of")
    parser.add_argument("--autoglm", type=Path, default=ROOT / "target" / "release" / "autoglm")
    parser.add_argument("--precision", default="int8", help="ours (default %(default)s)")
    parser.add_argument("--count", type=int, default=100)
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model = evaluate.Eyes.from_pretrained(arguments.quantised, dtype="float32", attn_implementation="eager").eval()
    processor = AutoProcessor.from_pretrained(arguments.quantised)
    same, hits = 0, [0, 0]
    asked = json.loads((TINY / "eval" / "eval.json").read_text())["screens"][: arguments.count]
    for screen in asked:
        path = TINY / "eval" / screen["file"]
        question = evaluate.Question(Image.open(path).convert("RGB"), {}, "", screen["prompt"])
        theirs = evaluate.answer(model, processor, question, quick=True, longest=60).text
        mine = ours(arguments, path, screen["prompt"])
        same += mine == theirs
        for which, text in enumerate([theirs, mine]):
            hits[which] += inside(text, screen["box"])
    print(f"{same} of {len(asked)} answers are the same; taps inside the icon: {hits[0]} theirs, {hits[1]} ours")


if __name__ == "__main__":
    main()
