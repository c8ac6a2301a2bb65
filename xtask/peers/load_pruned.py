"""Do other programs read what `cargo xtask prune --heads` writes, and if not, do they say so?

    cargo xtask prune --model models/autoglm-tiny --drop vision --heads 2 --out TEXT
    cargo xtask prune --model models/autoglm-tiny --heads 2 --out EYES
    python xtask/peers/load_pruned.py TEXT EYES

Opens each checkpoint with transformers and says whether `"standard"` in its prune.json is true: a standard one loads
with every tensor, the others must be refused and not be loaded by halves. Logits of a standard one are held against
ours by compare_logits.py. Needs what goldens/requirements.txt lists. Exits with 1 where prune.json is wrong.
"""

import argparse
import json
from pathlib import Path

import torch
import transformers

import compare_logits


def opens(directory: Path) -> str | None:
    """Why transformers does not open it; nothing where it does."""
    try:
        model = compare_logits.load_model(directory)
        with torch.no_grad():
            model(input_ids=torch.arange(8)[None])
    except (Exception, SystemExit) as failure:
        # The last line names what is wrong with which tensor.
        return f"{type(failure).__name__}: {str(failure).strip().splitlines()[-1]}"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", type=Path, nargs="+", metavar="DIR", help="what `cargo xtask prune` wrote")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    wrong = []
    for directory in arguments.checkpoints:
        standard = json.loads((directory / "prune.json").read_text())["standard"]
        failure = opens(directory)
        print(f"{directory}: standard {standard}, {f'refused, {failure}' if failure else 'loaded'}")
        if standard is not (failure is None):
            wrong.append(str(directory))
    if wrong:
        raise SystemExit(f"prune.json does not say what transformers does: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
