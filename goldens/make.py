"""Regenerate the goldens: `python goldens/make.py [NAME…]`.

A name is a case (see configs.py), or `components`, `keep`, or `chat`. Without names all of them are made.
"""

import argparse
import os
from pathlib import Path

# One thread: sums are then formed in one order, and two runs write the same bytes.
os.environ["OMP_NUM_THREADS"] = "1"

import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

import chat  # noqa: E402
import checkpoint  # noqa: E402
import configs  # noqa: E402
import keep  # noqa: E402
import logmel  # noqa: E402
import positions  # noqa: E402
import resizing  # noqa: E402
import stages  # noqa: E402

ROOT = Path(__file__).parent
# A smaller lead could be overturned by another order of summation; choose another seed then.
SMALLEST_LEAD = 0.02
# Git hosts and reviewers both prefer small files.
LARGEST_FILE = 2_000_000


def make_case(case: configs.Case) -> None:
    directory = ROOT / "cases" / case.name
    checkpoint.write(case, directory)
    inputs = stages.prepare(directory)
    model = checkpoint.read(case, directory)
    expected = stages.evaluate(model, case, inputs)
    expected["greedy_ids"], lead = stages.greedy(model, case, inputs)

    logits = expected["logits"]
    noise = (stages.logits(checkpoint.read(case, directory, torch.float64), inputs) - logits).abs().max() / logits.std()
    ids = expected["greedy_ids"].tolist()
    print(
        f"{case.name:18} n {len(logits):3}  logits sd {logits.std():.2f}  smallest lead {lead:.3f} sd  "
        f"f64 differs by {noise:.1e} sd  greedy {ids}",
        flush=True,
    )
    if lead < SMALLEST_LEAD:
        raise ValueError(f"{case.name}: the greedy ids hang on {lead:.1e} sd; change the seed")
    if case.eos_ids != configs.EOS_IDS and not set(case.eos_ids) & set(ids[:-1]):
        raise ValueError(f"{case.name}: none of its own EOS ids {case.eos_ids} is reached greedily")
    save_file(expected, directory / "expected.safetensors")
    for path in directory.iterdir():
        path.chmod(0o644)  # safetensors writes for its owner alone
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"{path} is larger than {LARGEST_FILE} bytes")


def make_components() -> None:
    folder = ROOT / "components"
    folder.mkdir(exist_ok=True)
    resizing.write_sizes(folder / "smart_resize.json")
    resizing.write_resized(folder)
    positions.write_mrope(folder / "mrope.json")
    positions.write_position_table(folder / "pos_embed.safetensors")
    positions.write_rope(folder / "rope.safetensors")
    logmel.write(folder)
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)


def make_chat() -> None:
    chat.write(ROOT.parent / "models" / "autoglm-tiny", ROOT / "components" / "chat.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    names = parser.parse_args().names
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)

    jobs = {case.name: (lambda case=case: make_case(case)) for case in configs.CASES}
    jobs |= {"components": make_components, "keep": lambda: keep.make(ROOT / "components"), "chat": make_chat}
    unknown = sorted(set(names) - set(jobs))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(jobs)}")
    for name in names or jobs:
        jobs[name]()


if __name__ == "__main__":
    main()
